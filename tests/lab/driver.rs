// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sockets in a pod, commanded from a test.
//!
//! cgroup membership belongs to a process, so a socket that a node's hooks
//! should see is opened by a process of the pod: `lab-pod drive`. A driver
//! speaks to it ([`crate::wire`]); each method is one command.

use std::{
    io::Write as _,
    net::SocketAddr,
    path::Path,
    process::ChildStdin,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::{
    lines::Lines,
    place::Place,
    process::Process,
    wire::{
        Answer, AskSpec, Attempt, CrowdReport, CrowdSpec, Family, HoldReport, HoldSpec, Kind,
        LoadReport, LoadSpec, Reply, Request, Sock, SocketError, SocketSpec, SurveySpec, Task,
    },
};

/// A process in a place that opens sockets on command. Commands run one after
/// another; loads and holds run beside them. Dropping it kills the process.
#[derive(Debug)]
pub struct Driver {
    pipe: Mutex<Pipe>,
}

/// The process and both directions of talk with it.
#[derive(Debug)]
struct Pipe {
    process: Process,
    requests: ChildStdin,
    replies: Lines,
}

/// What a command gives, or the system call that failed.
pub type Outcome<T> = Result<T, SocketError>;

impl Driver {
    /// Starts one in `place`.
    pub fn start(place: &Place) -> Result<Self> {
        let command = place.inside("drive")?;
        let log = place.logs.join(format!("{}-drive.log", place.name));
        let (mut process, replies) = Lines::of(&format!("driver in {}", place.name), command, log)?;
        let requests = process.child().stdin.take().context("a piped child has an input")?;
        Ok(Self { pipe: Mutex::new(Pipe { process, requests, replies }) })
    }

    /// Process id, to look its sockets up.
    pub fn pid(&self) -> u32 {
        self.lock().process.pid()
    }

    /// Kills the process: the kernel closes its sockets.
    pub fn kill(&self) -> Result<()> {
        self.lock().process.kill().map(drop)
    }

    /// `socket(2)`, with options and `bind(2)` as the spec asks.
    pub fn open_with(&self, spec: SocketSpec) -> Outcome<Sock> {
        self.opened(&Request::Open { spec })
    }

    /// A plain socket whose cookie, masked, is one of `places`: its record in
    /// the agent's SOCKETS belongs where another's is. Opens and closes up to
    /// a million until it has one.
    pub fn open_at(&self, kind: Kind, family: Family, mask: u64, places: &[u64]) -> Outcome<Sock> {
        let spec = SocketSpec::new(kind, family);
        self.opened(&Request::OpenAt { spec, mask, places: places.to_vec() })
    }

    /// Uses up this many socket cookies.
    pub fn burn_cookies(&self, count: u64) -> Outcome<()> {
        self.done(&Request::BurnCookies { count })
    }

    /// A plain socket.
    pub fn open(&self, kind: Kind, family: Family) -> Outcome<Sock> {
        self.open_with(SocketSpec::new(kind, family))
    }

    /// A socket bound to `address`.
    pub fn bound(&self, kind: Kind, address: SocketAddr) -> Outcome<Sock> {
        self.open_with(SocketSpec {
            bind: Some(address),
            ..SocketSpec::new(kind, Family::of(address))
        })
    }

    /// `connect(2)`.
    pub fn connect(&self, sock: Sock, to: SocketAddr) -> Outcome<()> {
        self.done(&Request::Connect { sock, to })
    }

    /// `connect(2)` to `AF_UNSPEC`: takes a datagram socket's peer away.
    pub fn dissolve(&self, sock: Sock) -> Outcome<()> {
        self.done(&Request::Dissolve { sock })
    }

    /// `listen(2)`.
    pub fn listen(&self, sock: Sock) -> Outcome<()> {
        self.done(&Request::Listen { sock })
    }

    /// `accept4(2)` with an address.
    pub fn accept(&self, sock: Sock) -> Outcome<(Sock, SocketAddr)> {
        match self.call(&Request::Accept { sock })? {
            Reply::Accepted { sock, from } => Ok((sock, from)),
            other => Err(unexpected(&other)),
        }
    }

    /// `send(2)` of a text.
    pub fn send(&self, sock: Sock, data: &str) -> Outcome<()> {
        self.done(&Request::Send { sock, data: data.to_owned() })
    }

    /// `sendto(2)` of a text.
    pub fn send_to(&self, sock: Sock, to: SocketAddr, data: &str) -> Outcome<()> {
        self.done(&Request::SendTo { sock, to, data: data.to_owned() })
    }

    /// `recvfrom(2)`: text (a stream that ended gives an empty one) and, for
    /// UDP, the source.
    pub fn recv_from(&self, sock: Sock) -> Outcome<(String, Option<SocketAddr>)> {
        match self.call(&Request::RecvFrom { sock })? {
            Reply::Bytes { data, from } => Ok((data, from)),
            other => Err(unexpected(&other)),
        }
    }

    /// `getpeername(2)`.
    pub fn peer_name(&self, sock: Sock) -> Outcome<SocketAddr> {
        self.address(&Request::PeerName { sock })
    }

    /// `getsockname(2)`.
    pub fn sock_name(&self, sock: Sock) -> Outcome<SocketAddr> {
        self.address(&Request::SockName { sock })
    }

    /// `SO_COOKIE`: the socket's name in the agent's SOCKETS map.
    pub fn cookie(&self, sock: Sock) -> Outcome<u64> {
        match self.call(&Request::Cookie { sock })? {
            Reply::Cookie { cookie } => Ok(cookie),
            other => Err(unexpected(&other)),
        }
    }

    /// `shutdown(2)` of the sending half.
    pub fn shutdown_write(&self, sock: Sock) -> Outcome<()> {
        self.done(&Request::ShutdownWrite { sock })
    }

    /// `close(2)`.
    pub fn close(&self, sock: Sock) -> Outcome<()> {
        self.done(&Request::Close { sock })
    }

    /// `dup(2)`: another descriptor of the same socket.
    pub fn duplicate(&self, sock: Sock) -> Outcome<Sock> {
        self.opened(&Request::Duplicate { sock })
    }

    /// Hands another driver a descriptor of a socket of this one (`SCM_RIGHTS`), through a
    /// Unix socket at `path`, which must not exist. Gives the other one's name of it.
    pub fn hand_over(&self, sock: Sock, to: &Self, path: &Path) -> Outcome<Sock> {
        to.done(&Request::OpenInbox { path: path.to_owned() })?;
        self.done(&Request::HandOver { sock, path: path.to_owned() })?;
        to.opened(&Request::TakeOver)
    }

    /// A request-response with the lab's server on a new socket.
    pub fn ask(&self, spec: AskSpec) -> Outcome<Answer> {
        match self.call(&Request::Ask { spec })? {
            Reply::Answer { answer } => Ok(answer),
            other => Err(unexpected(&other)),
        }
    }

    /// Many exchanges at once, each survey's own attempts one after another; the
    /// attempts of each, in the order of `specs`.
    pub fn survey(&self, specs: Vec<SurveySpec>) -> Outcome<Vec<Vec<Attempt>>> {
        match self.call(&Request::Survey { specs })? {
            Reply::Survey { attempts } => Ok(attempts),
            other => Err(unexpected(&other)),
        }
    }

    /// Starts a load; it runs on while other commands are given.
    pub fn load(&self, spec: LoadSpec) -> Outcome<Task> {
        self.started(&Request::Load { spec })
    }

    /// What a load has done so far.
    pub fn load_report(&self, task: Task) -> Outcome<LoadReport> {
        self.load_result(task, false)
    }

    /// Ends a load early; gives its last report.
    pub fn stop_load(&self, task: Task) -> Outcome<LoadReport> {
        self.load_result(task, true)
    }

    /// Runs a load to its end, at most `limit`; then stops it. Asks seldom: the
    /// machine is the load's.
    pub fn finish_load(&self, task: Task, limit: Duration) -> Outcome<LoadReport> {
        let started = Instant::now();
        loop {
            // The report that says so is the one with the log.
            let report = self.load_report(task)?;
            if report.ended {
                return Ok(report);
            }
            if started.elapsed() > limit {
                let report = self.stop_load(task)?;
                let late = format!("a load ran longer than {} s: {report:?}", limit.as_secs());
                return Err(SocketError::named("driver", late));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Opens connections that live on.
    pub fn hold(&self, spec: HoldSpec) -> Outcome<Task> {
        self.started(&Request::Hold { spec })
    }

    /// What held connections have seen so far.
    pub fn hold_report(&self, task: Task) -> Outcome<HoldReport> {
        self.hold_result(task, false)
    }

    /// Closes held connections; gives their last report.
    pub fn stop_hold(&self, task: Task) -> Outcome<HoldReport> {
        self.hold_result(task, true)
    }

    /// Opens very many connections; says how many have answered.
    pub fn crowd(&self, spec: CrowdSpec) -> Outcome<(Task, CrowdReport)> {
        self.crowd_result(&Request::Crowd { spec })
    }

    /// One exchange on each connection of a crowd.
    pub fn crowd_echo(&self, task: Task) -> Outcome<CrowdReport> {
        self.crowd_result(&Request::CrowdEcho { task }).map(|(_, report)| report)
    }

    /// The report of a crowd.
    fn crowd_result(&self, request: &Request) -> Outcome<(Task, CrowdReport)> {
        match self.call(request)? {
            Reply::Crowd { task, report } => Ok((task, report)),
            other => Err(unexpected(&other)),
        }
    }

    /// One command, one reply.
    fn call(&self, request: &Request) -> Outcome<Reply> {
        let broken = |error: String| SocketError::named("driver", error);
        let mut line = serde_json::to_string(request).map_err(|error| broken(error.to_string()))?;
        line.push('\n');
        let mut pipe = self.lock();
        pipe.requests.write_all(line.as_bytes()).map_err(|error| broken(error.to_string()))?;
        let reply =
            pipe.replies.next_line(REPLY_LIMIT).map_err(|error| broken(format!("{error:#}")))?;
        match serde_json::from_str(&reply).map_err(|error| broken(format!("{error} in {reply}")))? {
            Reply::Failed { error } => Err(error),
            reply => Ok(reply),
        }
    }

    /// A command without a result.
    fn done(&self, request: &Request) -> Outcome<()> {
        match self.call(request)? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// A command that gives a socket.
    fn opened(&self, request: &Request) -> Outcome<Sock> {
        match self.call(request)? {
            Reply::Opened { sock } => Ok(sock),
            other => Err(unexpected(&other)),
        }
    }

    /// A command that gives an address.
    fn address(&self, request: &Request) -> Outcome<SocketAddr> {
        match self.call(request)? {
            Reply::Address { address } => Ok(address),
            other => Err(unexpected(&other)),
        }
    }

    /// A command that starts something.
    fn started(&self, request: &Request) -> Outcome<Task> {
        match self.call(request)? {
            Reply::Started { task } => Ok(task),
            other => Err(unexpected(&other)),
        }
    }

    /// The report of a load.
    fn load_result(&self, task: Task, stop: bool) -> Outcome<LoadReport> {
        match self.call(&Request::LoadReport { task, stop })? {
            Reply::Load { report } => Ok(report),
            other => Err(unexpected(&other)),
        }
    }

    /// The report of held connections.
    fn hold_result(&self, task: Task, stop: bool) -> Outcome<HoldReport> {
        match self.call(&Request::HoldReport { task, stop })? {
            Reply::Hold { report } => Ok(report),
            other => Err(unexpected(&other)),
        }
    }

    /// The pipe, whatever a panicking test did to its lock.
    fn lock(&self) -> std::sync::MutexGuard<'_, Pipe> {
        self.pipe.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reply that does not belong to its request: a fault of the lab.
fn unexpected(reply: &Reply) -> SocketError {
    SocketError::named("driver", format!("unexpected reply {reply:?}"))
}

/// Time between two looks at a load.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Longest wait for a reply: more than any chain of blocking calls in one
/// command takes with the usual two seconds each.
const REPLY_LIMIT: Duration = Duration::from_secs(40);
