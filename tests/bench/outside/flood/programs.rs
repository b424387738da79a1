// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs the flood's programs: at the fabric's end of nodes' links, and at nodes' devices.

use std::{
    net::SocketAddrV4,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::Map,
    programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp},
};
use lab::{
    netns::Netns,
    node::Node,
    place::{self, Place},
};
use lb_agent::datapath::{arrays::Array, syscall};
use lb_common::{be::Be16, maps::LAYOUT_VERSION};
use nix::net::if_::if_nametoindex;

use super::{FAR, How, Passed, Sent, frame};
use crate::probe::{PORT, inside};

#[path = "../../../../lb-ebpf/src/flood/order.rs"]
mod told;

pub(super) use told::{FRAMES, WORDS};

/// The programs, and the map that says what they do.
pub(super) struct Programs {
    object: Ebpf,
    order: Array<told::Order>,
    fabric: Netns,
}

impl Programs {
    /// Loads them.
    pub(super) fn load(fabric: Netns) -> Result<Self> {
        let path = place::binary("../bpf/bpfel-unknown-none/release/flood", "LB_FLOOD")?;
        let mut object = EbpfLoader::new().btf(None).load_file(path)?;
        for name in [FLOOD, SINK, BACK] {
            program(&mut object, name)?.load()?;
        }
        let Some(Map::Array(order)) = object.map("ORDER") else {
            bail!("the flood's object has no ORDER");
        };
        let order = Array::map(order.fd(), 1)?;
        Ok(Self { object, order, fabric })
    }

    /// Makes a node's link ready: its device takes frames, and what leaves by it ends at the
    /// fabric. Dropping what is returned ends the latter.
    pub(super) fn prepare(&mut self, one: &Passed<'_>) -> Result<OwnedFd> {
        receive_offload(one.node, true)?;
        let sink = program(&mut self.object, SINK)?.fd()?.as_fd();
        let attach = || syscall::link_create_xdp(sink, one.port);
        self.fabric.run(attach)?.context("the sink at the fabric's end of a link")
    }

    /// A turn: nanoseconds for what arrived of what is sent, and percent that did not. Others
    /// are sent before.
    pub(super) fn pass(&mut self, one: &Passed<'_>, [sent, before]: [Sent; 2]) -> Result<[f64; 2]> {
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
        // Flows begin, and the node learns where the next hops are.
        let mut tries = 0..TRIES;
        loop {
            let [made, arrived, _] = self.send(one, before, before.warm_up())?;
            if arrived > made / 2.0 {
                break;
            }
            ensure!(tries.next().is_some(), "{arrived} of {made} arrive");
        }
        let [made, arrived, ns] = self.send(one, sent, sent.frames())?;
        Ok([ns / arrived, 100.0 * (1.0 - arrived / made)])
    }

    /// Sends so many frames: how many datagrams or connections they made, how many of them
    /// arrived, and the nanoseconds that it took. The kernel leaves out the time in which the
    /// processor does something else.
    fn send(&mut self, one: &Passed<'_>, sent: Sent, frames: u32) -> Result<[f64; 3]> {
        let to = SocketAddrV4::new(one.node.v4, FAR);
        let (heads, connects) = match sent {
            Sent::Datagrams(from) => (frame::datagram(one.station, from, to), 0),
            Sent::Connections(from) => (frame::connection(one.station, from, to), 1),
        };
        let server = if one.how == How::Back { FAR } else { PORT };
        let told = told::Order {
            heads,
            connects,
            flows: sent.flows() - 1,
            server: Be16::from_host(server),
            dialled: Be16::from_host(FAR),
            ..told::Order::default()
        };
        self.order.write(0, &told);
        let frame = [0; frame::LEN];
        let len = u32::try_from(frame.len())?;
        // struct xdp_md: where the data ends, and the device that it came by.
        let context: [u8; 24] = bytemuck::cast([0, len, 0, one.port, 0, 0]);
        let flood = program(&mut self.object, FLOOD)?;
        let ran = self.fabric.run(|| {
            inside::pin(CPU)?;
            let ran = flood.test_run(TestRunOptions {
                data_in: Some(&frame),
                ctx_in: Some(&context),
                repeat: frames,
                attrs: TestRunAttrs::new().xdp_live_frames(told::BATCH),
                ..TestRunOptions::default()
            })?;
            anyhow::Ok(ran)
        })??;
        let told = self.order.read(0).context("an order")?;
        let [made, arrived] = [told.made, told.taken].map(u32::try_from);
        let ns = ran.duration.as_secs_f64() * 1e9 * f64::from(frames);
        Ok([f64::from(made?) / sent.frames_each(), f64::from(arrived?), ns])
    }
}

impl Sent {
    /// Frames of a turn.
    const fn frames(self) -> u32 {
        match self {
            Self::Datagrams(_) => 100_000,
            // All rounds together must not want for ports of the node's address.
            Self::Connections(_) => 512 * 4,
        }
    }

    /// Frames of what comes before it.
    const fn warm_up(self) -> u32 {
        match self {
            Self::Datagrams(_) => 8192,
            Self::Connections(_) => 256,
        }
    }

    /// Flows, a power of two: source ports whose upper four bits are the first one's.
    const fn flows(self) -> u64 {
        match self {
            Self::Datagrams(_) => 1024,
            Self::Connections(_) => 512,
        }
    }

    /// Frames for each datagram, or each connection.
    const fn frames_each(self) -> f64 {
        match self {
            Self::Datagrams(_) => 1.0,
            Self::Connections(_) => 4.0,
        }
    }
}

/// Turns a device's receive offload on or off: with it, frames that are no packets yet can be
/// sent to a veth device.
pub(super) fn receive_offload(node: &Node, on: bool) -> Result<()> {
    let state = if on { "on" } else { "off" };
    node.output("ethtool", ["-K", DEVICE, "gro", state]).map(drop)
}

/// The address of a node's device.
pub(super) fn station(node: &Node) -> Result<[u8; 6]> {
    let text = node.output("ip", ["-o", "link", "show", DEVICE])?;
    let mut words = text.split_whitespace().skip_while(|word| *word != "link/ether");
    let address = words.nth(1).context("a device with an address")?;
    let bytes: Vec<u8> =
        address.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<_, _>>()?;
    bytes.try_into().ok().context("an address of six bytes")
}

/// Runs a program in front of a node's stack until what is returned is dropped.
fn attach_at(node: &Place, program: BorrowedFd<'_>) -> Result<OwnedFd> {
    let attach = || syscall::link_create_xdp(program, if_nametoindex(DEVICE)?);
    node.run(attach)?.context("attaching a program to a node's device")
}

fn program<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = object.program_mut(name).with_context(|| format!("no program {name}"))?;
    Ok(program.try_into()?)
}

/// The programs, by name.
const FLOOD: &str = "flood";
const SINK: &str = "sink";
const BACK: &str = "turn_back";
/// A node's device.
const DEVICE: &str = "eth0";
/// The processor that does all of it.
const CPU: usize = 0;
/// How often it is tried to begin.
const TRIES: u32 = 50;
