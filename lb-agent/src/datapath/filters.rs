// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Programs at devices of a kernel without tcx (before Linux 6.6): filters of the clsact qdisc,
//! which stay when the process that made them ends, as tc-bpf(8) says.
//!
//! A filter has a place: a priority, by which filters run, and a handle. Ours has always the
//! same one, so that the next program takes the place of the last without a gap.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd, AsRawFd as _},
};

use bytemuck::{Pod, Zeroable};
use lb_common::be::Be16;
use rtnetlink::{
    packet_core::{
        NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NetlinkDeserializable,
        NetlinkHeader,
    },
    packet_route::{
        RouteNetlinkMessage,
        tc::{TcAttribute, TcBpfFlags, TcFilterBpfOption, TcHandle, TcHeader, TcMessage, TcOption},
    },
    sys::protocols::NETLINK_ROUTE,
};

use super::{device::attribute, netlink::Netlink};

/// A conversation about the filters of the namespace in which it was opened.
pub struct Filters(Netlink);

/// Which way packets go that a filter sees.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Direction {
    /// In, before netfilter.
    Ingress,
    /// Out, after it.
    Egress,
}

/// A filter at a device.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Filter {
    /// The kernel's name for what decides: `bpf` for a program.
    pub kind: String,
    /// The program's id; 0 if it is none.
    pub program: u32,
    /// Whether it is in the place that is ours.
    pub is_in_our_place: bool,
}

impl Filters {
    /// Opens a conversation in the calling thread's namespace.
    pub fn open() -> io::Result<Self> {
        Netlink::open(NETLINK_ROUTE).map(Self)
    }

    /// The filters of a device, in the order in which they run; none also if the device has no
    /// clsact qdisc. `NotFound`: there is no such device.
    pub fn all(&mut self, index: u32, direction: Direction) -> io::Result<Vec<Filter>> {
        let request = message(index, parent(direction));
        let mut found = Vec::new();
        let answer = self.0.ask(
            RouteNetlinkMessage::GetTrafficFilter(request),
            NLM_F_DUMP,
            |answer: Answer| found.extend(answer.filter()),
        );
        match answer {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(Vec::new()),
            result => result.map(|()| found),
        }
    }

    /// Makes a program run at a device, in our place among its filters: before others on the way
    /// in, after them on the way out. It takes the place of the one that runs there, if one
    /// does. Whether the device got its clsact qdisc by that.
    ///
    /// # Errors
    /// `NotFound`: the kernel has no clsact, or no filters of programs. `ENODEV`: no device.
    pub fn put(
        &mut self,
        program: impl AsFd,
        name: &str,
        index: u32,
        direction: Direction,
    ) -> io::Result<bool> {
        let is_new = self.make_qdisc(index)?;
        let mut filter = message(index, parent(direction));
        filter.header.handle = TcHandle::from(HANDLE);
        filter.header.info = place(direction);
        filter.attributes.push(TcAttribute::Kind(KIND.to_owned()));
        let options = [
            TcFilterBpfOption::ProgFd(program.as_fd().as_raw_fd().cast_unsigned()),
            TcFilterBpfOption::ProgName(name.to_owned()),
            TcFilterBpfOption::Flags(TcBpfFlags::from_bits_retain(DIRECT_ACTION)),
        ];
        filter.attributes.push(TcAttribute::Options(options.map(TcOption::Bpf).to_vec()));
        let request = RouteNetlinkMessage::NewTrafficFilter(filter);
        self.say(request, NLM_F_CREATE | NLM_F_REPLACE)?;
        Ok(is_new)
    }

    /// Ends what runs in our place. Nothing there is no error.
    pub fn remove(&mut self, index: u32, direction: Direction) -> io::Result<()> {
        let mut filter = message(index, parent(direction));
        filter.header.handle = TcHandle::from(HANDLE);
        filter.header.info = place(direction);
        filter.attributes.push(TcAttribute::Kind(KIND.to_owned()));
        absent(self.say(RouteNetlinkMessage::DelTrafficFilter(filter), 0))
    }

    /// Removes a device's clsact qdisc with all filters. Nothing there is no error.
    pub fn remove_qdisc(&mut self, index: u32) -> io::Result<()> {
        absent(self.say(RouteNetlinkMessage::DelQueueDiscipline(qdisc(index)), 0))
    }

    /// Whether there was none.
    fn make_qdisc(&mut self, index: u32) -> io::Result<bool> {
        let request = RouteNetlinkMessage::NewQueueDiscipline(qdisc(index));
        match self.say(request, NLM_F_CREATE | NLM_F_EXCL) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn say(&mut self, request: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.0.ask(request, NLM_F_ACK | flags, |_: Answer| ())
    }
}

impl Direction {
    /// As people say it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// Whether the kernel has clsact and filters of programs, both of which may be modules that it
/// loads for that. Tried on the loopback device of a new namespace.
///
/// # Errors
/// `NotFound` if it has not; else why it cannot be tried.
pub fn probe() -> io::Result<()> {
    let tried = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
        let mut filters = Filters::open()?;
        filters.make_qdisc(LOOPBACK)?;
        let mut filter = message(LOOPBACK, parent(Direction::Ingress));
        filter.header.info = place(Direction::Ingress);
        filter.attributes.push(TcAttribute::Kind(KIND.to_owned()));
        match filters.say(RouteNetlinkMessage::NewTrafficFilter(filter), NLM_F_CREATE) {
            // It knows the kind, and misses the program.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            result => result,
        }
    });
    tried.join().unwrap_or_else(|_| Err(io::Error::other("a thread in a namespace panicked")))
}

/// A message of RTM_NEWTFILTER, read as far as it matters here: the attributes of other kinds
/// of filters are not for us to understand.
struct Answer(Vec<u8>);

/// `struct tcmsg` (`include/uapi/linux/rtnetlink.h`).
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Head {
    family: u32,
    index: u32,
    handle: u32,
    parent: u32,
    /// Priority in the upper half.
    info: u32,
}

impl Answer {
    /// The filter; `None` for the head of a priority, which has no handle.
    fn filter(&self) -> Option<Filter> {
        let (head, rest) = self.0.split_at_checked(size_of::<Head>())?;
        let head: Head = bytemuck::pod_read_unaligned(head);
        if head.handle == 0 {
            return None;
        }
        let kind = attribute(rest, TCA_KIND)?;
        let kind = CStr::from_bytes_until_nul(kind).ok()?.to_string_lossy().into_owned();
        if kind == "u32" && head.handle & U32_NODE == 0 {
            // A table of such filters, none itself.
            return None;
        }
        let program = attribute(rest, TCA_OPTIONS).and_then(|it| attribute(it, TCA_BPF_ID));
        let program = program.filter(|_| kind == KIND).and_then(|id| id.try_into().ok());
        let program = program.map_or(0, u32::from_ne_bytes);
        let ours = [Direction::Ingress, Direction::Egress].map(|it| place(it) >> 16);
        let is_in_our_place =
            kind == KIND && head.handle == HANDLE && ours.contains(&(head.info >> 16));
        Some(Filter { kind, program, is_in_our_place })
    }
}

impl NetlinkDeserializable for Answer {
    type Error = std::convert::Infallible;

    fn deserialize(_header: &NetlinkHeader, payload: &[u8]) -> Result<Self, Self::Error> {
        Ok(Self(payload.to_vec()))
    }
}

/// Nothing there is what was wanted.
fn absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) => Ok(()),
        result => result,
    }
}

fn message(index: u32, parent: TcHandle) -> TcMessage {
    let index = index.cast_signed();
    let header = TcHeader { index, parent, ..TcHeader::default() };
    TcMessage::from_parts(header, Vec::new())
}

fn qdisc(index: u32) -> TcMessage {
    let mut qdisc = message(index, TcHandle::CLSACT);
    qdisc.header.handle = TcHandle { major: u16::MAX, minor: 0 };
    qdisc.attributes.push(TcAttribute::Kind("clsact".to_owned()));
    qdisc
}

fn parent(direction: Direction) -> TcHandle {
    let minor = match direction {
        Direction::Ingress => TcHandle::MIN_INGRESS,
        Direction::Egress => TcHandle::MIN_EGRESS,
    };
    TcHandle { major: u16::MAX, minor }
}

/// Priority and protocol, as `tcm_info` has them: the protocol in network order.
fn place(direction: Direction) -> u32 {
    let priority = match direction {
        Direction::Ingress => FIRST,
        Direction::Egress => LAST,
    };
    u32::from(priority) << 16 | u32::from(EVERY_PROTOCOL.to_wire())
}

/// The priority that is before all others.
const FIRST: u16 = 1;
/// After all those that the kernel gives (49152 and less).
const LAST: u16 = 0xfff0;
/// Of ours among the filters of its priority.
const HANDLE: u32 = 0x51ce;
/// ETH_P_ALL.
const EVERY_PROTOCOL: Be16 = Be16::from_host(3);
/// TC_U32_NODE: the part of a handle of kind u32 that is 0 for a table.
const U32_NODE: u32 = 0xfff;
/// Filters that are programs.
const KIND: &str = "bpf";
/// TCA_BPF_FLAG_ACT_DIRECT: what the program returns is done.
const DIRECT_ACTION: u32 = 1;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_ID: u16 = 11;
/// The index of the loopback device.
const LOOPBACK: u32 = 1;
