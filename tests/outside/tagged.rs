// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Frames with an 802.1Q tag on a device: their VLAN's device gets them next, and serves them.

use std::{net::SocketAddr, os::fd::AsRawFd as _, time::Duration};

use etherparse::{PacketBuilder, SingleVlanHeader, VlanHeader, VlanId, VlanPcp};
use lab::{
    need_lab,
    place::Place,
    wait,
    wire::{AskSpec, Family},
};
use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{LinkAddr, MsgFlags, sendto},
};
use socket2::{Domain, Socket, Type};

use crate::bed::{Bed, Way};

/// A frame of a VLAN is none of the base device's: nothing is translated, no flow begins. A
/// tag of VLAN 0 only has a priority (IEEE 802.1Q 9.6), and the device's own stack takes it.
#[test]
fn a_frame_of_a_vlan_is_left_to_the_vlans_device() {
    need_lab!();
    let bed = Bed::start();
    let pods = bed.pods();
    bed.expose(&pods, |_| {});
    let to = Way::Vip.at(bed.node(1), Family::V4);
    // So that the neighbour is known.
    bed.client.ask(AskSpec::udp(to)).unwrap();
    let client = bed.served.lab.client();
    let node = bed.node(1).run(|| station("eth0")).unwrap();
    client.run(|| tell(client, node, to, 100, 50_100)).unwrap();
    client.run(|| tell(client, node, to, 0, 50_000)).unwrap();
    let of = |port: u16| {
        let flows = bed.agent(1).verb(&["show", "flows", "-o", "json"]).unwrap().stdout;
        flows.contains(&format!("{}:{port}", client.v4))
    };
    wait::until(Duration::from_secs(5), "the flow of the untagged VLAN", || of(50_000)).unwrap();
    assert!(!of(50_100), "a frame of VLAN 100 began a flow");
}

/// Sends one datagram with a tag.
fn tell(client: &Place, node: LinkAddr, to: SocketAddr, vlan: u16, port: u16) {
    let SocketAddr::V4(to) = to else { unreachable!("an address of IPv4") };
    let own = station("eth0");
    let tag = SingleVlanHeader {
        pcp: VlanPcp::try_new(5).unwrap(),
        drop_eligible_indicator: false,
        vlan_id: VlanId::try_new(vlan).unwrap(),
        ether_type: etherparse::EtherType::IPV4,
    };
    let builder = PacketBuilder::ethernet2(own.addr().unwrap(), node.addr().unwrap())
        .vlan(VlanHeader::Single(tag))
        .ipv4(client.v4.octets(), to.ip().octets(), 64)
        .udp(port, to.port());
    let mut frame = Vec::new();
    builder.write_to_vec(&mut frame, b"a question").unwrap();
    let socket = Socket::new(Domain::PACKET, Type::RAW, None).unwrap();
    let sent = sendto(socket.as_raw_fd(), &frame, &own, MsgFlags::empty()).unwrap();
    assert_eq!(sent, frame.len());
}

/// The link-layer address of a device.
fn station(device: &str) -> LinkAddr {
    let mut all = getifaddrs().unwrap().filter(|one| one.interface_name == device);
    all.find_map(|one| one.address?.as_link_addr().copied()).unwrap()
}
