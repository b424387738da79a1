// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Small datagrams by the million through each column's node, all on one processor.
//!
//! ```text
//! BPF_PROG_TEST_RUN makes frames ──> veth ──> eth0 of a node ──> eth0 ──> veth ──> a sink
//! ```
//!
//! No sender's or receiver's stack has a part in it. What the frames, the veth pair and the
//! sink cost is known from a node that sends each frame back as it came, and is taken off in a
//! table of its own.

use std::{
    net::SocketAddrV4,
    os::fd::{AsFd as _, OwnedFd},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf, EbpfLoader,
    programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp},
};
use lab::{
    netns::Netns,
    node::Node,
    place::{self, Place},
    proxy::Proxy,
};
use lb_agent::datapath::{arrays::Array, syscall};
use lb_common::{be::Be16, maps::LAYOUT_VERSION};
use nix::net::if_::if_nametoindex;

use super::{BASELINE, Backend, FAR};
use crate::{
    bed::{Bed, Column},
    probe::{PORT, inside},
    report::{Line, Row, Section},
    rounds::{order, say},
    stats::{Quartiles, percentile},
};
use frame::Frame;

mod frame;
#[path = "../../../lb-ebpf/src/flood/order.rs"]
mod told;

/// Somebody whom the frames pass.
struct Passed<'a> {
    name: String,
    how: How,
    node: &'a Node,
    /// What the frames are like.
    frame: Frame,
    /// The fabric's end of the node's link.
    port: u32,
    /// The port that datagrams arrive at.
    arrives_at: u16,
    /// Nanoseconds of each round for a datagram that arrived, and percent that did not.
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

/// The flood's programs.
struct Programs {
    object: Ebpf,
    order: Array<told::Order>,
    fabric: Netns,
}

/// Both tables, and what did not arrive. The first column is what others are compared with.
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
    let links = links.collect::<Result<Vec<_>>>()?;
    for round in 0..=ROUNDS {
        for place in order(passed.len(), round) {
            let Some(one) = passed.get_mut(place) else { continue };
            let measured = programs.pass(one).with_context(|| one.name.clone())?;
            if round > 0 {
                one.rounds.push(measured);
            }
        }
    }
    drop(links);
    for one in &passed {
        receive_offload(one.node, false)?;
    }
    Ok(sections(&passed))
}

impl<'a> Passed<'a> {
    fn new(bed: &'a Bed, column: &'a Column, how: How) -> Result<Self> {
        let node = &column.node;
        let to = SocketAddrV4::new(node.v4, FAR);
        let port = bed.fabric().run(|| if_nametoindex(node.name.as_str()))??;
        let name = match how {
            How::Back => "back as it came".to_owned(),
            How::Proxy(Proxy::Sluice) => column.name().replacen("Sluice", "Sluice tc", 1),
            How::Proxy(_) => column.name(),
            How::Xdp => column.name().replacen("Sluice", "Sluice XDP", 1),
        };
        let arrives_at = if how == How::Back { FAR } else { PORT };
        let frame = Frame::new(station(node)?, bed.client().v4, to);
        Ok(Self { name, how, node, frame, port, arrives_at, rounds: Vec::new() })
    }

    fn column(&self, which: usize) -> Vec<f64> {
        self.rounds.iter().filter_map(|values| values.get(which).copied()).collect()
    }
}

impl Programs {
    fn load(fabric: Netns) -> Result<Self> {
        let path = place::binary("../bpf/bpfel-unknown-none/release/flood", "LB_FLOOD")?;
        let mut object = EbpfLoader::new().btf(None).load_file(path)?;
        for name in [FLOOD, SINK, BACK] {
            program(&mut object, name)?.load()?;
        }
        let Some(aya::maps::Map::Array(order)) = object.map("ORDER") else {
            anyhow::bail!("the flood's object has no ORDER");
        };
        let order = Array::map(order.fd(), 1)?;
        Ok(Self { object, order, fabric })
    }

    /// Makes a node's link ready: its device takes frames, and what leaves by it ends at the
    /// fabric. Dropping what is returned ends the latter.
    fn prepare(&mut self, one: &Passed<'_>) -> Result<OwnedFd> {
        receive_offload(one.node, true)?;
        let sink = program(&mut self.object, SINK)?.fd()?.as_fd();
        let attach = || syscall::link_create_xdp(sink, one.port);
        self.fabric.run(attach)?.context("the sink at the fabric's end of a link")
    }

    /// A round: nanoseconds for a datagram that arrived, and percent that did not.
    fn pass(&mut self, one: &Passed<'_>) -> Result<[f64; 2]> {
        let _link = match one.how {
            How::Back => {
                let back = program(&mut self.object, BACK)?.fd()?.as_fd();
                Some(attach_at(one.node, back)?)
            }
            How::Xdp => {
                let path = format!("v{LAYOUT_VERSION}/programs/xdp_ingress");
                let path = one.node.bpf_root.join(path);
                let ours = syscall::object_get(&path)
                    .with_context(|| format!("opening {}", path.display()))?;
                Some(attach_at(one.node, ours.as_fd())?)
            }
            How::Proxy(_) => None,
        };
        // Flows begin, and the node learns where the next hop is.
        let mut tries = 0..TRIES;
        while self.send(one, WARM_UP)?.1 < u64::from(WARM_UP) / 2 {
            ensure!(tries.next().is_some(), "hardly a datagram arrives");
        }
        let started = Instant::now();
        let (made, taken) = self.send(one, FRAMES)?;
        let ns = started.elapsed().as_secs_f64() * 1e9;
        let (made, taken) = (to_float(made)?, to_float(taken)?);
        Ok([ns / taken, 100.0 * (1.0 - taken / made)])
    }

    /// Sends so many frames: how many were made, and how many arrived.
    fn send(&mut self, one: &Passed<'_>, count: u32) -> Result<(u64, u64)> {
        let told = told::Order {
            head: one.frame.head(),
            flows: FLOWS - 1,
            port: Be16::from_host(one.arrives_at),
            ..told::Order::default()
        };
        self.order.write(0, &told);
        let frame = one.frame.bytes();
        let len = u32::try_from(frame.len())?;
        // struct xdp_md: where the data ends, and the device that it came by.
        let context: [u8; 24] = bytemuck::cast([0, len, 0, one.port, 0, 0]);
        let flood = program(&mut self.object, FLOOD)?;
        self.fabric.run(|| {
            inside::pin(CPU)?;
            flood.test_run(TestRunOptions {
                data_in: Some(&frame),
                ctx_in: Some(&context),
                repeat: count,
                attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
                ..TestRunOptions::default()
            })?;
            anyhow::Ok(())
        })??;
        let told = self.order.read(0).context("an order")?;
        Ok((told.made, told.taken))
    }
}

/// The tables.
fn sections(passed: &[Passed<'_>]) -> Vec<Section> {
    let back = passed.first().map(|one| one.column(0)).unwrap_or_default();
    let rates = |one: &Passed<'_>| one.column(0).iter().map(|ns| 1e6 / ns).collect();
    let alone = |one: &Passed<'_>| -> Vec<f64> {
        one.column(0).iter().zip(&back).map(|(ns, back)| ns - back).collect()
    };
    let others = passed.get(1..).unwrap_or_default();
    let table = |values: &dyn Fn(&Passed<'_>) -> Vec<f64>, is_rate: bool| -> Vec<Row> {
        let baseline = others.first().map(values).unwrap_or_default();
        let row = |(place, one): (usize, &Passed<'_>)| {
            let row = Row::new(&one.name, Quartiles::of(&values(one)));
            if place == 0 {
                return row;
            }
            let row = row.against(Quartiles::of_ratios(&values(one), &baseline));
            match one.how {
                How::Proxy(Proxy::Sluice) if is_rate => row.at_least(1.5),
                How::Xdp if is_rate => row.at_least(3.0),
                _ => row,
            }
        };
        others.iter().enumerate().map(row).collect()
    };
    let median =
        |which| passed.iter().map(move |one| Some(percentile(&one.column(which), 50.0))).collect();
    let lines = vec![
        Line::new("processor time of a datagram, all in all", "ns", median(0)),
        Line::new("sent, but did not arrive", "%", median(1)),
    ];
    let names = passed.iter().map(|one| one.name.clone()).collect();
    vec![
        Section::beside(BASELINE, &title("on one processor"), NOTE, "kpps", table(&rates, true)),
        Section::beside(BASELINE, &title("in the node alone"), ALONE, "ns", table(&alone, false)),
        Section::side("What the flood cost", COST, names, lines),
    ]
}

fn title(what: &str) -> String {
    format!("Small datagrams through a NodePort, {}, {what}", Backend::Remote.name())
}

/// Turns a device's receive offload on or off: with it, frames that are no packets yet can be
/// sent to a veth device.
fn receive_offload(node: &Node, on: bool) -> Result<()> {
    let state = if on { "on" } else { "off" };
    node.output("ethtool", ["-K", DEVICE, "gro", state]).map(drop)
}

/// Runs a program in front of a node's stack until what is returned is dropped.
fn attach_at(node: &Place, program: std::os::fd::BorrowedFd<'_>) -> Result<OwnedFd> {
    let attach = || syscall::link_create_xdp(program, if_nametoindex(DEVICE)?);
    node.run(attach)?.context("attaching a program to a node's device")
}

/// The address of a node's device.
fn station(node: &Node) -> Result<[u8; 6]> {
    let text = node.output("ip", ["-o", "link", "show", DEVICE])?;
    let mut words = text.split_whitespace().skip_while(|word| *word != "link/ether");
    let address = words.nth(1).context("a device with an address")?;
    let bytes: Vec<u8> =
        address.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<_, _>>()?;
    bytes.try_into().ok().context("an address of six bytes")
}

fn program<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = object.program_mut(name).with_context(|| format!("no program {name}"))?;
    Ok(program.try_into()?)
}

fn to_float(count: u64) -> Result<f64> {
    Ok(f64::from(u32::try_from(count)?))
}

/// The flood's programs, by name.
const FLOOD: &str = "flood";
const SINK: &str = "sink";
const BACK: &str = "turn_back";
/// A node's device.
const DEVICE: &str = "eth0";
/// The processor that does all of it.
const CPU: usize = 0;
/// Flows, a power of two, at most 4096.
const FLOWS: u64 = 1024;
/// Frames of a round, of what comes before it, and of a batch: fewer than a veth device queues.
const FRAMES: u32 = 200_000;
const WARM_UP: u32 = 8192;
const BATCH: u32 = 64;
/// How often it is tried to begin.
const TRIES: u32 = 50;
const ROUNDS: u32 = 15;
const NOTE: &str = "UDP with 18 bytes, 1024 flows of one client; frames are made by \
                    BPF_PROG_TEST_RUN, go through the node, and end where its link does, on one \
                    processor";
const ALONE: &str = "the same rounds, without what the frame, the link and the sink take: that \
                     is what a node takes that sends each frame back as it came";
const COST: &str = "a processor does nothing else, so its time is all of the CPU's";
