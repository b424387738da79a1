// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Small datagrams and new connections by the million through each column's node, all on one
//! processor.
//!
//! ```text
//! BPF_PROG_TEST_RUN makes frames ──> veth ──> eth0 of a node ──> eth0 ──> veth ──> a sink
//! ```
//!
//! No client's or server's stack has a part in it: of a connection the sink answers the SYN and
//! the byte. What the frames, the veth pair and the sink cost is known for datagrams from a node
//! that sends each frame back as it came, and is taken off in a table of its own.

use std::{net::Ipv4Addr, os::fd::OwnedFd};

use anyhow::{Context as _, Result};
use lab::{node::Node, proxy::Proxy};
use nix::net::if_::if_nametoindex;

use self::programs::Programs;
use super::{BASELINE, Backend, FAR};
use crate::{
    bed::{Bed, Column},
    report::{Line, Row, Section},
    rounds::{order, say},
    stats::{Quartiles, percentile},
};

mod frame;
mod programs;

/// Somebody whom the frames pass.
struct Passed<'a> {
    name: String,
    how: How,
    node: &'a Node,
    /// The fabric's end of the node's link.
    port: u32,
    /// The address of the node's device.
    station: [u8; 6],
    /// Nanoseconds of each round for what arrived, and percent that did not.
    rounds: Vec<[f64; 2]>,
}

/// How a node has frames pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// As they came.
    Back,
    /// By what its proxy has programmed.
    Proxy(Proxy),
    /// The same, with Sluice's program in the driver.
    Xdp,
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// One client's datagrams, of flows that are there.
    Datagrams(Ipv4Addr),
    /// Connections of a client that has not been there: SYN, a byte there and back, RST.
    Connections(Ipv4Addr),
}

/// All tables. The first column is what others are compared with.
pub(super) fn run(bed: &Bed, columns: &[usize]) -> Result<Vec<Section>> {
    say(&format!("flood: {ROUNDS} rounds"));
    let mut programs = Programs::load(bed.fabric())?;
    let columns: Vec<&Column> =
        columns.iter().filter_map(|index| bed.columns.get(*index)).collect();
    let bare = bed.columns.first().context("a bare column")?;
    let mut passed = vec![Passed::new(bed, bare, How::Back)?];
    for column in columns {
        let proxy = column.proxy.context("a proxy")?;
        passed.push(Passed::new(bed, column, How::Proxy(proxy))?);
        if proxy == Proxy::Sluice {
            passed.push(Passed::new(bed, column, How::Xdp)?);
        }
    }
    let links = passed.iter().filter(|one| one.how != How::Xdp).map(|one| programs.prepare(one));
    let links: Vec<OwnedFd> = links.collect::<Result<_>>()?;
    let client = bed.client().v4;
    rounds(&mut programs, &mut passed, |_, _| [Sent::Datagrams(client); 2])?;
    let mut sections = datagrams(&passed);
    // Nothing answers what comes back as it came.
    passed.remove(0);
    for one in &mut passed {
        one.rounds.clear();
    }
    let from = |third, fourth| Sent::Connections(Ipv4Addr::new(198, 18, third, fourth));
    rounds(&mut programs, &mut passed, |round, place| [from(round, place), from(255, 255)])?;
    sections.push(connections(&passed));
    drop(links);
    for one in passed.iter().map(|one| one.node).chain([&bare.node]) {
        programs::receive_offload(one, false)?;
    }
    Ok(sections)
}

/// All rounds, in each of which everybody has a turn: what is measured, and what is sent before.
fn rounds(
    programs: &mut Programs,
    passed: &mut [Passed<'_>],
    sent: impl Fn(u8, u8) -> [Sent; 2],
) -> Result<()> {
    for round in 0..=ROUNDS {
        for place in order(passed.len(), round.into()) {
            let Some(one) = passed.get_mut(place) else { continue };
            let sent = sent(round, u8::try_from(place)?);
            let measured = programs.pass(one, sent).with_context(|| one.name.clone())?;
            if round > 0 {
                one.rounds.push(measured);
            }
        }
    }
    Ok(())
}

impl<'a> Passed<'a> {
    fn new(bed: &'a Bed, column: &'a Column, how: How) -> Result<Self> {
        let node = &column.node;
        let port = bed.fabric().run(|| if_nametoindex(node.name.as_str()))??;
        let name = match how {
            How::Back => "back as it came".to_owned(),
            How::Proxy(Proxy::Sluice) => column.name().replacen("Sluice", "Sluice tc", 1),
            How::Proxy(_) => column.name(),
            How::Xdp => column.name().replacen("Sluice", "Sluice XDP", 1),
        };
        Ok(Self { name, how, node, port, station: programs::station(node)?, rounds: Vec::new() })
    }

    fn column(&self, which: usize) -> Vec<f64> {
        self.rounds.iter().filter_map(|values| values.get(which).copied()).collect()
    }

    /// Thousands a second of each round.
    fn rates(&self) -> Vec<f64> {
        self.column(0).iter().map(|ns| 1e6 / ns).collect()
    }
}

/// The tables of datagrams; the first is sent back as it came.
fn datagrams(passed: &[Passed<'_>]) -> Vec<Section> {
    let back = passed.first().map(|one| one.column(0)).unwrap_or_default();
    let others = passed.get(1..).unwrap_or_default();
    let alone = |one: &Passed<'_>| -> Vec<f64> {
        one.column(0).iter().zip(&back).map(|(ns, back)| ns - back).collect()
    };
    let rates = rows(others, Passed::rates, |one, row| match one.how {
        How::Proxy(Proxy::Sluice) => row.at_least(1.5),
        How::Xdp => row.at_least(3.0),
        How::Proxy(_) | How::Back => row,
    });
    let alone = rows(others, alone, |_, row| row);
    let median =
        |which| passed.iter().map(move |one| Some(percentile(&one.column(which), 50.0))).collect();
    let lines = vec![
        Line::new("processor time of a datagram, all in all", "ns", median(0)),
        Line::new("sent, but did not arrive", "%", median(1)),
    ];
    let names = passed.iter().map(|one| one.name.clone()).collect();
    let title = |what| format!("Small datagrams through a NodePort, {}, {what}", remote());
    vec![
        Section::beside(BASELINE, &title("on one processor"), NOTE, "kpps", rates),
        Section::beside(BASELINE, &title("in the node alone"), ALONE, "ns", alone),
        Section::side("What the flood cost", COST, names, lines),
    ]
}

/// The table of connections.
fn connections(passed: &[Passed<'_>]) -> Section {
    let rows = rows(passed, Passed::rates, |one, row| match one.how {
        How::Proxy(Proxy::Sluice) | How::Xdp => row.at_least(1.3),
        How::Proxy(_) | How::Back => row,
    });
    let title = format!("New connections through a NodePort, {}, on one processor", remote());
    Section::beside(BASELINE, &title, CONNECTIONS, "thousands a second", rows)
}

/// A row for each, with its ratio to the first one's.
fn rows<'a>(
    passed: &[Passed<'a>],
    values: impl Fn(&Passed<'a>) -> Vec<f64>,
    goal: impl Fn(&Passed<'a>, Row) -> Row,
) -> Vec<Row> {
    let baseline = passed.first().map(&values).unwrap_or_default();
    let row = |(place, one): (usize, &Passed<'a>)| {
        let row = Row::new(&one.name, Quartiles::of(&values(one)));
        if place == 0 {
            return row;
        }
        goal(one, row.against(Quartiles::of_ratios(&values(one), &baseline)))
    };
    passed.iter().enumerate().map(row).collect()
}

const fn remote() -> &'static str {
    Backend::Remote.name()
}

const ROUNDS: u8 = 21;
const NOTE: &str = "UDP with 18 bytes, 1024 flows of one client; frames are made by \
                    BPF_PROG_TEST_RUN, go through the node, and end where its link does, on one \
                    processor";
const ALONE: &str = "the same rounds, without what the frame, the link and the sink take: that \
                     is what a node takes that sends each frame back as it came";
const COST: &str = "a processor does nothing else, so its time is all of the CPU's";
const CONNECTIONS: &str = "SYN, SYN and ACK, ACK, a byte, a byte back, RST: six packets that the \
                           node forwards, made and answered as the datagrams are, so that no \
                           socket has a part in it; 512 connections a round, each of its \
                           own client's address and port";
