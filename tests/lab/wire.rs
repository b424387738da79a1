// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a [`crate::driver::Driver`] and its `lab-pod drive` process say to each
//! other: one JSON object a line, one reply to each request.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// An address family, in tests that do everything twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// `AF_INET`.
    V4,
    /// `AF_INET6`; the socket also dials `::ffff:a.b.c.d`.
    V6,
}

/// A kind of socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `SOCK_STREAM`, TCP.
    Tcp,
    /// `SOCK_STREAM`, `IPPROTO_MPTCP`.
    Mptcp,
    /// `SOCK_DGRAM`, UDP.
    Udp,
    /// `SOCK_DGRAM`, ICMP of the family: what `ping` opens.
    Ping,
    /// `SOCK_RAW`, `IPPROTO_UDP`: no UDP socket, though it sends UDP packets.
    RawUdp,
}

/// How to open a socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketSpec {
    /// TCP, MPTCP or UDP.
    pub kind: Kind,
    /// IPv4 or IPv6.
    pub family: Family,
    /// `bind(2)` to this first.
    pub bind: Option<SocketAddr>,
    /// `TCP_FASTOPEN_CONNECT`: the first send carries the SYN.
    pub fast_open: bool,
    /// Limit of each blocking call, milliseconds.
    pub timeout_ms: u64,
}

/// One request-response with the lab's server on a socket of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskSpec {
    /// The socket.
    pub socket: SocketSpec,
    /// Whom to dial.
    pub to: SocketAddr,
    /// UDP: `sendto` on an unconnected socket instead of `connect`.
    pub unconnected: bool,
}

/// A stream of requests, each on a new socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadSpec {
    /// What one request is.
    pub ask: AskSpec,
    /// Whom the requests dial, in turn; none: `ask.to` always.
    pub targets: Vec<SocketAddr>,
    /// Requests a second; 0: as fast as the workers can.
    pub rate: u32,
    /// End after this many requests.
    pub requests: Option<u64>,
    /// End after this time, milliseconds.
    pub duration_ms: u64,
    /// Threads.
    pub workers: u32,
    /// Whether the report lists every request.
    pub log: bool,
}

/// Connections that live on and exchange a line now and then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldSpec {
    /// How each begins.
    pub ask: AskSpec,
    /// How many.
    pub connections: u32,
    /// Time between two exchanges of one connection, milliseconds.
    pub every_ms: u64,
}

/// Very many connections to crowd ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrowdSpec {
    /// Whom, in turn.
    pub to: Vec<SocketAddr>,
    /// How many.
    pub connections: u32,
}

/// One exchange of each connection of a crowd.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrowdReport {
    /// Those that were answered.
    pub answered: u32,
    /// Those that were not, by why.
    pub errors: BTreeMap<String, u32>,
}

/// The same exchanges again and again, each on a socket of its own: who answers?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SurveySpec {
    /// What one exchange is, in turn.
    pub asks: Vec<AskSpec>,
    /// How often each; a survey ends early when one times out, or a few fail.
    pub times: u32,
    /// Time between two exchanges, milliseconds.
    pub idle_ms: u64,
}

/// One exchange of a survey.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// What the server said, or the system call that failed.
    pub outcome: Result<Echo, SocketError>,
    /// Time that it took, milliseconds.
    pub elapsed_ms: u64,
}

/// A socket of a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sock(pub u32);

/// A load or hold that runs in a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Task(pub u32);

/// One command to a driver.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "each is one system call of that name, or a `Driver` method's arguments"
)]
pub enum Request {
    Open { spec: SocketSpec },
    OpenAt { spec: SocketSpec, mask: u64, places: Vec<u64> },
    BurnCookies { count: u64 },
    Connect { sock: Sock, to: SocketAddr },
    Dissolve { sock: Sock },
    Listen { sock: Sock },
    Accept { sock: Sock },
    Send { sock: Sock, data: String },
    SendTo { sock: Sock, to: SocketAddr, data: String },
    RecvFrom { sock: Sock },
    PeerName { sock: Sock },
    SockName { sock: Sock },
    Cookie { sock: Sock },
    ShutdownWrite { sock: Sock },
    Close { sock: Sock },
    Duplicate { sock: Sock },
    HandOver { sock: Sock, path: PathBuf },
    OpenInbox { path: PathBuf },
    TakeOver,
    Ask { spec: AskSpec },
    Survey { specs: Vec<SurveySpec> },
    Load { spec: LoadSpec },
    LoadReport { task: Task, stop: bool },
    Hold { spec: HoldSpec },
    HoldReport { task: Task, stop: bool },
    Crowd { spec: CrowdSpec },
    CrowdEcho { task: Task },
}

/// The answer to one command.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is the result of a `Driver` method")]
pub enum Reply {
    Done,
    Opened { sock: Sock },
    Accepted { sock: Sock, from: SocketAddr },
    Bytes { data: String, from: Option<SocketAddr> },
    Address { address: SocketAddr },
    Cookie { cookie: u64 },
    Answer { answer: Answer },
    Survey { attempts: Vec<Vec<Attempt>> },
    Started { task: Task },
    Load { report: LoadReport },
    Hold { report: HoldReport },
    Crowd { task: Task, report: CrowdReport },
    Failed { error: SocketError },
}

/// What the lab's server says of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    /// Name of the pod that answered.
    pub pod: String,
    /// The client's address as the server's socket saw it.
    pub client: SocketAddr,
    /// The request, without its line end.
    pub text: String,
}

/// One request-response as the client saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// What the server said.
    pub echo: Echo,
    /// The client's own address, `getsockname(2)`.
    pub local: SocketAddr,
    /// Whom the client believes to talk to: `getpeername(2)`; none on an
    /// unconnected socket.
    pub peer: Option<SocketAddr>,
    /// UDP: source of the reply, `recvfrom(2)`.
    pub from: Option<SocketAddr>,
}

/// A system call that failed in a driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct SocketError {
    /// The system call, or `driver` when the process itself is at fault.
    pub call: String,
    /// Error number; 0 when there is none.
    pub errno: i32,
    /// Its name, such as `ECONNREFUSED`; `EOF` for a stream that ended.
    pub name: String,
}

/// What a load has done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadReport {
    /// Requests that were answered.
    pub ok: u64,
    /// Requests that were not.
    pub failed: u64,
    /// Whether it has ended.
    pub ended: bool,
    /// Answers by pod.
    pub pods: BTreeMap<String, u64>,
    /// Failures by what failed.
    pub errors: BTreeMap<String, u64>,
    /// `CLOCK_MONOTONIC` of the first failures, nanoseconds.
    pub first_failures_ns: Vec<u64>,
    /// Latency of answered requests, microseconds: 50th, 90th, 99th
    /// percentile and the longest.
    pub latency_us: [u32; 4],
    /// Every request in the order of its end, where asked for; only in the first
    /// report after the end.
    pub log: Vec<LoggedRequest>,
}

/// One request of a load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedRequest {
    /// `CLOCK_MONOTONIC` before the socket was opened, nanoseconds.
    pub start_ns: u64,
    /// `CLOCK_MONOTONIC` after the answer or failure, nanoseconds.
    pub end_ns: u64,
    /// Whom it dialled.
    pub to: SocketAddr,
    /// The pod that answered; none: it failed.
    pub pod: Option<String>,
}

/// What held connections have seen so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldReport {
    /// Connections that are open now.
    pub open: u32,
    /// Exchanges of all of them.
    pub exchanges: u64,
    /// Open or broken connections by pod.
    pub pods: BTreeMap<String, u64>,
    /// Connections that ended unasked.
    pub breaks: Vec<Break>,
}

/// The end of a held connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Break {
    /// Which, from 0.
    pub connection: u32,
    /// The pod at the other end; none when it was never established.
    pub pod: Option<String>,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub at_ns: u64,
    /// Why.
    pub error: SocketError,
}

impl Family {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address as it is dialled: `::ffff:a.b.c.d` is IPv6.
    pub const fn of(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(_) => Self::V4,
            SocketAddr::V6(_) => Self::V6,
        }
    }

    /// Its loopback address.
    pub const fn loopback(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Self::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
        }
    }
}

impl SocketSpec {
    /// An unbound socket whose calls take at most two seconds.
    pub const fn new(kind: Kind, family: Family) -> Self {
        Self { kind, family, bind: None, fast_open: false, timeout_ms: 2000 }
    }
}

impl AskSpec {
    /// A new TCP connection to `to`.
    pub const fn tcp(to: SocketAddr) -> Self {
        Self { socket: SocketSpec::new(Kind::Tcp, Family::of(to)), to, unconnected: false }
    }

    /// A connected UDP socket.
    pub const fn udp(to: SocketAddr) -> Self {
        Self { socket: SocketSpec::new(Kind::Udp, Family::of(to)), to, unconnected: false }
    }

    /// An unconnected UDP socket.
    pub const fn udp_unconnected(to: SocketAddr) -> Self {
        Self { socket: SocketSpec::new(Kind::Udp, Family::of(to)), to, unconnected: true }
    }
}

impl LoadSpec {
    /// `rate` requests a second for `duration_ms`.
    pub const fn paced(ask: AskSpec, rate: u32, duration_ms: u64) -> Self {
        Self { ask, targets: Vec::new(), rate, requests: None, duration_ms, workers: 8, log: false }
    }

    /// `requests` requests, as fast as four workers can, for at most 30 s.
    pub fn burst(ask: AskSpec, requests: u64) -> Self {
        Self { rate: 0, requests: Some(requests), workers: 4, ..Self::paced(ask, 0, 30_000) }
    }

    /// The request of that number.
    pub fn request(&self, number: u64) -> AskSpec {
        let index = usize::try_from(number).unwrap_or_default() % self.targets.len().max(1);
        let to = self.targets.get(index).copied().unwrap_or(self.ask.to);
        AskSpec { to, ..self.ask.clone() }
    }
}

impl SocketError {
    /// An error of the named system call. A blocking call that ran into its
    /// time limit says EAGAIN (EINPROGRESS in connect): ETIMEDOUT here.
    pub fn of(call: &str, error: &io::Error) -> Self {
        let errno = match error.raw_os_error() {
            Some(libc_again)
                if matches!(Errno::from_raw(libc_again), Errno::EAGAIN | Errno::EINPROGRESS) =>
            {
                Errno::ETIMEDOUT as i32
            }
            raw => raw.unwrap_or_default(),
        };
        let name = if errno == 0 {
            error.kind().to_string()
        } else {
            format!("{:?}", Errno::from_raw(errno))
        };
        Self { call: call.to_owned(), errno, name }
    }

    /// What ends a held connection that another pod answers.
    pub fn answered_by(pod: &str) -> Self {
        Self::named("hold", format!("now answered by {pod}"))
    }

    /// A failure without an error number.
    pub fn named(call: &str, name: impl Into<String>) -> Self {
        Self { call: call.to_owned(), errno: 0, name: name.into() }
    }
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, self.name)
    }
}
