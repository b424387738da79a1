// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Links that carry less than their neighbours, and who finds out (RFC 1191, RFC 8201).

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    process::Command,
    time::Duration,
};

use lab::{netns::Netns, place::Place, pod::Pod, wait, wire::Family};
use nix::{
    errno::Errno,
    getsockopt_impl, libc, setsockopt_impl, sockopt_impl,
    sys::socket::{getsockopt, setsockopt, sockopt::IpMtu},
};

use crate::{
    offloads, raw,
    road::{DATAGRAMS, Road},
};

sockopt_impl!(Discover, SetOnly, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::c_int);
sockopt_impl!(Discover6, SetOnly, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::c_int);
sockopt_impl!(Ipv6Mtu, GetOnly, libc::IPPROTO_IPV6, libc::IPV6_MTU, libc::c_int);

/// One datagram socket at each end, which sends no pieces.
struct Ends {
    family: Family,
    client: UdpSocket,
    served: UdpSocket,
}

/// A link of 1400 bytes between the router and the client, then one before the pod: streams
/// come through, and who sends datagrams that are too large learns how large they may be.
pub(crate) fn links_are_found_out(road: &Road, pod: &Pod) {
    let client = road.bed.served.lab.client();
    for (family, to) in road.entries() {
        let own = client.address(family);
        let _narrow = Route::set(&road.router(), own, "dev br0", "");
        if road.few_entries().contains(&(family, to)) {
            offloads::pour(client, to);
            forget(pod);
        }
        let ends = Ends::meet(road, pod, family, to);
        ends.learns(&ends.served, &ends.client, to);
        forget(pod);
    }
    let own = road.bed.served.lab.node(&pod.node).unwrap();
    for (family, to) in road.entries() {
        let way = format!("dev {}", pod.veth);
        let source = format!("src {}", own.address(family));
        let _narrow = Route::set(&own.netns, pod.address(family), &way, &source);
        if road.few_entries().contains(&(family, to)) {
            offloads::pour(client, to);
            forget(client);
        }
        let ends = Ends::meet(road, pod, family, to);
        ends.learns(&ends.client, &ends.served, to);
        forget(client);
    }
}

impl Ends {
    /// Both ends, connected to each other through a frontend.
    fn meet(road: &Road, pod: &Pod, family: Family, to: SocketAddr) -> Self {
        let place: &Place = road.bed.served.lab.client();
        let open = |at: SocketAddr| {
            let socket = UdpSocket::bind(at).unwrap();
            socket.set_read_timeout(Some(raw::PATIENCE)).unwrap();
            let only = libc::IP_PMTUDISC_DO;
            match family {
                Family::V4 => setsockopt(&socket, Discover, &only),
                Family::V6 => setsockopt(&socket, Discover6, &only),
            }
            .unwrap();
            socket
        };
        let client = place.run(|| open(place.at(family, 0))).unwrap();
        let served = pod.run(|| open(pod.at(family, DATAGRAMS))).unwrap();
        client.connect(to).unwrap();
        client.send(b"hello").unwrap();
        let (_, seen) = served.recv_from(&mut [0; 64]).unwrap();
        served.connect(seen).unwrap();
        Self { family, client, served }
    }

    /// One end learns what a packet may have; one of that size arrives.
    fn learns(&self, sender: &UdpSocket, receiver: &UdpSocket, to: SocketAddr) {
        let head = if self.family == Family::V4 { 28 } else { 48 };
        let what = format!("{:?} to learn of the link towards {to}", sender.local_addr());
        let sent = sender.send(&[0; LARGE]);
        assert_eq!(sent.ok(), Some(LARGE), "nobody knows yet: {what}");
        let mtu = || match self.family {
            Family::V4 => getsockopt(sender, IpMtu),
            Family::V6 => getsockopt(sender, Ipv6Mtu),
        };
        wait::until(Duration::from_secs(2), &what, || mtu() == Ok(NARROW)).unwrap();
        // Once for the error that came, once for who does not listen.
        for error in [sender.take_error().unwrap(), sender.send(&[0; LARGE]).err()] {
            assert_eq!(error.unwrap().raw_os_error(), Some(Errno::EMSGSIZE as i32), "{what}");
        }
        let payload = raw::noise(3, usize::try_from(NARROW).unwrap() - head);
        sender.send(&payload).unwrap();
        let mut got = [0; 2048];
        let len = receiver.recv(&mut got).unwrap();
        assert!(got[..len] == payload[..], "{len} other bytes");
    }
}

/// A narrow route, wide again when dropped.
struct Route {
    netns: Netns,
    wide: Vec<String>,
}

impl Route {
    /// Has a namespace send less to an address. `rest` is of the route that was there; empty:
    /// there was none.
    fn set(netns: &Netns, to: IpAddr, way: &str, rest: &str) -> Self {
        let route = |line: String| {
            let mut command = Command::new("ip");
            command.args(["-n", netns.name(), "route"]).args(line.split(' '));
            command
        };
        let line = format!("replace {to} {way} {rest} mtu {NARROW}");
        assert!(route(line.replace("  ", " ")).status().unwrap().success());
        let wide = if rest.is_empty() {
            format!("del {to}")
        } else {
            format!("replace {to} {way} {rest}")
        };
        Self { netns: netns.clone(), wide: wide.split(' ').map(str::to_owned).collect() }
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        let mut command = Command::new("ip");
        let _ = command.args(["-n", self.netns.name(), "route"]).args(&self.wide).status();
    }
}

/// Has a place forget what it has learned of paths.
fn forget(place: &Place) {
    for family in ["-4", "-6"] {
        let mut command = Command::new("ip");
        command.args(["-n", place.netns.name(), family, "route", "flush", "cache"]);
        assert!(command.status().unwrap().success());
    }
}

/// Bytes of a packet on the narrow link.
const NARROW: libc::c_int = 1400;
/// Bytes of a datagram that only fits the others.
const LARGE: usize = 1440;
