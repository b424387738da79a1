// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Devices whose packets begin with the IP header, and those that have others below them.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Context as _;
use lab::{
    need_lab,
    shown::ProgramRow,
    tun::{self, TunWire},
    wait,
    wire::{AskSpec, Family},
};

use crate::{
    bed::{Bed, PROTOCOLS, Way},
    devices::at_devices,
    reach, restart,
};

/// TRP-12, MSQ-04, NOEP-01: a client behind a device without Ethernet headers is served as
/// any other one: by pods of the node and by those of the other one, to which its packets get a
/// header that they did not have, and whose replies lose theirs. Nobody else has these programs.
#[test]
fn trp_12_a_client_behind_a_tun_device_is_served() {
    need_lab!();
    let mut bed = Bed::with(|spec| spec.arg("--devices").arg("eth0,tun0"));
    assert_eq!(programs(&bed, 1), BTreeSet::from(["tc_egress", "tc_ingress"].map(str::to_owned)));
    let wire = TunWire::between(bed.served.lab.client(), bed.node(1), "tun0").unwrap();
    let rows = at_devices(&bed.served, &["eth0", "tun0"]);
    let at_tun: BTreeSet<_> = rows
        .iter()
        .filter(|row| row.device.as_deref() == Some("tun0"))
        .map(|row| (row.program.as_str(), row.position, row.kind.as_deref()))
        .collect();
    let once = |name| (name, Some(1), Some("tcx"));
    assert_eq!(at_tun, BTreeSet::from([once("tc_egress_l3"), once("tc_ingress_l3")]));
    through_tun(&bed);
    serves(&bed);
    reach::carries_large_requests(&bed);
    let spec = bed.served.spec().arg("--devices").arg("eth0,tun0");
    bed.expose(&bed.pods(), |_| {});
    let before = ids(&bed);
    restart::survives(&mut bed, &spec);
    assert_eq!(ids(&bed), before, "the next agent goes on with the same programs");
    drop(wire);
    at_devices(&bed.served, &["eth0"]);
    assert_eq!(programs(&bed, 1), BTreeSet::from(["tc_egress", "tc_ingress"].map(str::to_owned)));
}

/// A device whose packets begin with something else is left alone, and said so with what can be
/// done; the others serve.
#[test]
fn a_device_with_other_headers_is_left_out_and_said() {
    need_lab!();
    let bed = Bed::with(|spec| spec.arg("--devices").arg("eth0,odd0"));
    let odd = tun::of_link_type(bed.node(1), "odd0", INFINIBAND).unwrap();
    let said = wait::for_value(Duration::from_secs(10), "the device that is left out", || {
        let issues = bed.agent(1).verb(&["show", "issues"])?.stdout;
        let line = issues.lines().find(|line| line.contains("device odd0")).map(str::to_owned);
        line.with_context(|| issues)
    });
    let said = said.unwrap();
    assert!(said.contains("link type 32") && said.contains("--devices"), "{said}");
    at_devices(&bed.served, &["eth0"]);
    drop(odd);
    wait::until(Duration::from_secs(10), "the issue to go with the device", || {
        !bed.agent(1).verb(&["show", "issues"]).unwrap().stdout.contains("device odd0")
    })
    .unwrap();
}

/// Every way in by which policy Cluster lets the client reach every pod; nobody answers without
/// endpoints.
fn serves(bed: &Bed) {
    let pods = bed.pods();
    bed.expose(&pods, |_| {});
    for (way, family) in Way::ALL.into_iter().flat_map(|way| Family::BOTH.map(|it| (way, it))) {
        for protocol in PROTOCOLS {
            let to = (protocol, way.at(bed.node(1), family));
            let seen = reach::answering(bed, bed.node(1), to, pods.len());
            assert_eq!(seen.len(), pods.len(), "{protocol} {way:?} {family:?}");
        }
    }
    bed.expose(&[], |_| {});
    for family in Family::BOTH {
        let to = Way::Vip.at(bed.node(1), family);
        for ask in [AskSpec::tcp(to), AskSpec::udp(to)] {
            let error = bed.client.ask(ask).unwrap_err();
            assert_eq!(error.name, "ECONNREFUSED", "{to}");
        }
    }
}

/// Client and first node talk to each other by their tun devices alone.
fn through_tun(bed: &Bed) {
    let (client, node) = (bed.served.lab.client(), bed.node(1));
    for family in Family::BOTH {
        let (from, to) = (client.address(family), node.address(family));
        for way in Way::ALL {
            let to = way.at(node, family).ip();
            client.ip(&format!("route replace {to} dev tun0 src {from}")).unwrap();
        }
        node.ip(&format!("route replace {from} dev tun0 src {to}")).unwrap();
    }
}

/// The programs of devices that are there on a node, attached or not.
fn programs(bed: &Bed, node: usize) -> BTreeSet<String> {
    let rows = bed.agent(node).programs().unwrap();
    rows.into_iter().map(|row| row.program).filter(|name| name.starts_with("tc_")).collect()
}

/// What is attached to devices of the first node.
fn ids(bed: &Bed) -> BTreeSet<(String, u32)> {
    let rows = wait::for_value(Duration::from_secs(10), "programs at both devices", || {
        let rows: Vec<ProgramRow> = bed.agent(1).programs()?;
        let rows: Vec<_> = rows.into_iter().filter(|row| row.device.is_some()).collect();
        anyhow::ensure!(rows.len() == 4, "{rows:?}");
        Ok(rows)
    });
    rows.unwrap().into_iter().map(|row| (row.program, row.id)).collect()
}

/// ARPHRD_INFINIBAND.
const INFINIBAND: u16 = 32;
