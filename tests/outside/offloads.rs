// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Devices that cut segments and sum packets, devices that do not, and datagrams without a sum.

use std::{
    net::{SocketAddr, UdpSocket},
    process::Command,
    time::Duration,
};

use etherparse::IpNumber;
use lab::{
    place::{Place, bounded_output},
    pod::Pod,
    wire::Family,
};

use crate::{
    raw::{self, Raw},
    road::{DATAGRAMS, Road},
};

/// A stream and a datagram with all offloads off, and with all on; a datagram without a
/// checksum arrives without one, and its answer too.
pub(crate) fn make_no_difference(road: &Road, pod: &Pod) {
    for (sending, receiving) in [("off", "off"), ("on", "on")] {
        set(road, pod, sending, receiving);
        for (family, to) in road.few_entries() {
            pour(road.bed.served.lab.client(), to);
            echoes(road, pod, family, to);
        }
    }
    // As a veth device is made.
    set(road, pod, "on", "off");
    for (family, to) in road.entries() {
        if family == Family::V4 {
            bare_datagrams_stay_bare(road, pod, to);
        }
    }
}

/// By every entry once, so that all on the way know each other's addresses.
pub(crate) fn echo_all(road: &Road, pod: &Pod) {
    for (family, to) in road.entries() {
        echoes(road, pod, family, to);
    }
}

/// Megabytes each way, every byte compared.
pub(crate) fn pour(client: &Place, to: SocketAddr) {
    let mut command = client.inside("pour").unwrap();
    command.args([to.to_string(), MEBIBYTES.to_string()]);
    let (code, _, error) = bounded_output(command, STREAM_LIMIT).unwrap();
    assert_eq!(code, Some(0), "a stream to {to}: {error}");
}

/// A datagram of one packet and its answer.
fn echoes(road: &Road, pod: &Pod, family: Family, to: SocketAddr) {
    let client = road.bed.served.lab.client();
    let asking = client.run(|| UdpSocket::bind(client.at(family, 0))).unwrap().unwrap();
    let served = pod.run(|| UdpSocket::bind(pod.at(family, DATAGRAMS))).unwrap().unwrap();
    for socket in [&asking, &served] {
        socket.set_read_timeout(Some(raw::PATIENCE)).unwrap();
    }
    let (payload, mut got) = (raw::noise(5, 1001), [0; 2048]);
    asking.send_to(&payload, to).unwrap();
    let (len, seen) = served.recv_from(&mut got).unwrap();
    assert_eq!((&got[..len], seen.ip()), (&payload[..], road.seen_by(pod, family)));
    served.send_to(&payload, seen).unwrap();
    let (len, from) = asking.recv_from(&mut got).unwrap();
    assert_eq!((&got[..len], from), (&payload[..], to));
}

/// RFC 768: zero says that there is no checksum.
fn bare_datagrams_stay_bare(road: &Road, pod: &Pod, to: SocketAddr) {
    let client = road.bed.served.lab.client();
    let open = || (Raw::sender(Family::V4), Raw::of(IpNumber::UDP, Family::V4));
    let (there, here) = (client.run(open).unwrap(), pod.run(open).unwrap());
    // So that nobody says that the port is closed.
    let own = client.at(Family::V4, 46_000);
    let _asking = client.run(|| UdpSocket::bind(own)).unwrap().unwrap();
    let served = pod.at(Family::V4, DATAGRAMS);
    let _served = pod.run(|| UdpSocket::bind(served)).unwrap().unwrap();
    let bare = |from, to| {
        let mut packet = raw::datagram(from, to, 64, b"without a sum");
        packet[26..28].fill(0);
        packet
    };
    there.0.send(&bare(own, to), to.ip());
    let (from, got) = here.1.receive().unwrap();
    assert_eq!((&got[6..8], &got[8..]), (&[0, 0][..], &b"without a sum"[..]));
    let seen = SocketAddr::new(from, u16::from_be_bytes([got[0], got[1]]));
    here.0.send(&bare(served, seen), seen.ip());
    let (from, got) = there.1.receive().unwrap();
    assert_eq!((&got[6..8], &got[8..]), (&[0, 0][..], &b"without a sum"[..]));
    assert_eq!((from, &got[..2]), (to.ip(), &to.port().to_be_bytes()[..]));
}

/// What devices of the client, the nodes and the pod do.
fn set(road: &Road, pod: &Pod, sending: &str, receiving: &str) {
    let lab = &road.bed.served.lab;
    let own = lab.node(&pod.node).unwrap();
    let nodes = lab.nodes().iter().map(|node| (&node.place, "eth0"));
    let ends = [(lab.client(), "eth0"), (&pod.place, "eth0"), (&own.place, pod.veth.as_str())];
    for (place, device) in nodes.chain(ends) {
        let mut ethtool = Command::new("ethtool");
        ethtool.args(["-K", device, "tx", sending, "sg", sending, "tso", sending]);
        ethtool.args(["gso", sending, "gro", receiving]);
        let output = place.run(|| ethtool.output()).unwrap().unwrap();
        assert!(output.status.success(), "{} {output:?}", place.name);
    }
}

/// Each way.
const MEBIBYTES: u32 = 2;
const STREAM_LIMIT: Duration = Duration::from_secs(30);
