// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The measuring loops, inside a pod.

use std::{
    hint::black_box,
    io::{self, BufRead as _, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use lab::wait::monotonic_ns;
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{Outcome, Task};

/// Does what standard input asks for, until it ends.
pub(crate) fn run() -> Result<()> {
    pin(PROBE_CPU)?;
    for line in io::stdin().lock().lines() {
        let task = serde_json::from_str(&line?).context("an unknown task")?;
        let outcome =
            perform(task).unwrap_or_else(|error| Outcome::Failed { error: format!("{error:#}") });
        println!("{}", serde_json::to_string(&outcome)?);
    }
    Ok(())
}

/// Keeps the calling thread, and what it starts, on one processor: moving about is most of
/// the noise. Where there is only one, that is it.
pub(crate) fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    let cpus = thread::available_parallelism()?.get();
    set.set(cpu.min(cpus - 1))?;
    sched_setaffinity(Pid::from_raw(0), &set).context("pinning to a processor")
}

/// One task.
fn perform(task: Task) -> Result<Outcome> {
    match task {
        Task::Connections { to, count } => median(&to, count, connection),
        Task::Kept { to, count } => kept(&to, count),
        Task::Datagrams { to, count } => datagrams(&to, count),
        Task::ConnectCalls { to, count, listen } => connect_calls(&to, count, listen),
        Task::Reconnects { to, count } => reconnects(&to, count),
        Task::Stream { to, pieces } => stream(&to, pieces),
        Task::Await { to, limit_ms } => sweep(&[to], limit_ms),
        Task::Sweep { to, limit_ms } => sweep(&to, limit_ms),
    }
}

/// The median of `count` timed rounds, each to one of `to`: by chance, as a proxy chooses,
/// since two rounds with the same partner are quicker than two with different ones.
fn median(
    to: &[SocketAddr],
    count: u32,
    mut round: impl FnMut(&SockAddr) -> io::Result<Duration>,
) -> Result<Outcome> {
    ensure!(!to.is_empty(), "nobody to talk to");
    let targets: Vec<SockAddr> = to.iter().map(|address| (*address).into()).collect();
    let mut times = Vec::with_capacity(count as usize);
    let mut chance = monotonic_ns() | 1;
    for _ in 0..count {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        let place = usize::try_from((chance >> 32) % targets.len() as u64).unwrap_or_default();
        times.push(round(targets.get(place).context("a place in the list")?)?);
    }
    times.sort_unstable();
    let at = |place: usize| times.get(place).context("no round at all");
    let [ns, late_ns] = [at(times.len() / 2)?, at(times.len() * 99 / 100)?];
    Ok(Outcome::Median { ns: ns.as_secs_f64() * 1e9, late_ns: late_ns.as_secs_f64() * 1e9 })
}

/// A new connection, a byte there, a byte back. It ends with a reset: nothing lingers in
/// TIME_WAIT, so ports do not run out.
fn connection(to: &SockAddr) -> io::Result<Duration> {
    let started = Instant::now();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.connect(to)?;
    let mut stream = TcpStream::from(socket);
    exchange(&mut stream)?;
    drop(stream);
    Ok(started.elapsed())
}

/// A byte there, a byte back.
fn exchange(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(&[1])?;
    stream.read_exact(&mut [0])
}

/// Exchanges on one connection.
fn kept(to: &[SocketAddr], count: u32) -> Result<Outcome> {
    let first = to.first().context("nobody to talk to")?;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_read_timeout(Some(LIMIT))?;
    socket.connect(&(*first).into())?;
    let mut stream = TcpStream::from(socket);
    exchange(&mut stream)?;
    median(to, count, |_| {
        let started = Instant::now();
        exchange(&mut stream)?;
        Ok(started.elapsed())
    })
}

/// Exchanges on one unconnected UDP socket. A reply must come from whom it was asked.
fn datagrams(to: &[SocketAddr], count: u32) -> Result<Outcome> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(LIMIT))?;
    median(to, count, |target| {
        let target = target.as_socket().ok_or_else(|| io::Error::other("no internet address"))?;
        let started = Instant::now();
        socket.send_to(&[1], target)?;
        let (_, from) = socket.recv_from(&mut [0; 16])?;
        let took = started.elapsed();
        if from != target {
            return Err(io::Error::other(format!("asked {target}, answered by {from}")));
        }
        Ok(took)
    })
}

/// Pieces on one connection, until the other end has read the last.
fn stream(to: &[SocketAddr], pieces: u32) -> Result<Outcome> {
    let target = to.first().context("nobody to talk to")?;
    let mut stream = TcpStream::connect(target)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let piece = vec![0; PIECE];
    let started = Instant::now();
    for _ in 0..pieces {
        stream.write_all(&piece)?;
    }
    stream.shutdown(Shutdown::Write)?;
    io::copy(&mut stream, &mut io::sink())?;
    Ok(Outcome::Sent { packets: pieces.into(), ns: started.elapsed().as_secs_f64() * 1e9 })
}

/// `connect(2)` to a listener of this process; accepting and closing are not timed.
fn connect_calls(to: &[SocketAddr], count: u32, listen: u16) -> Result<Outcome> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, listen))?;
    median(to, count, |target| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_linger(Some(Duration::ZERO))?;
        let started = Instant::now();
        socket.connect(target)?;
        let took = started.elapsed();
        drop(listener.accept()?);
        Ok(took)
    })
}

/// `connect(2)` on a UDP socket, timed in batches, as one call is about as short as a look
/// at the clock.
fn reconnects(to: &[SocketAddr], count: u32) -> Result<Outcome> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    let targets: Vec<SockAddr> = to.iter().map(|address| (*address).into()).collect();
    let outcome = median(to, count / BATCH, |_| {
        let started = Instant::now();
        for target in targets.iter().cycle().take(BATCH as usize) {
            black_box(socket.connect(target))?;
        }
        Ok(started.elapsed())
    })?;
    match outcome {
        Outcome::Median { ns, late_ns } => {
            let [ns, late_ns] = [ns, late_ns].map(|ns| ns / f64::from(BATCH));
            Ok(Outcome::Median { ns, late_ns })
        }
        other => Ok(other),
    }
}

/// Connects to each until it succeeds, with a pause after each failure.
fn sweep(to: &[SocketAddr], limit_ms: u64) -> Result<Outcome> {
    let started = Instant::now();
    let limit = Duration::from_millis(limit_ms);
    let (mut first_ns, mut last_ns) = (None, 0);
    for target in to {
        while let Err(error) = reached(*target) {
            if started.elapsed() > limit {
                bail!("{target} did not answer within {limit_ms} ms: {error}");
            }
            thread::sleep(PAUSE);
        }
        last_ns = monotonic_ns();
        first_ns.get_or_insert(last_ns);
    }
    Ok(Outcome::Happened { first_ns: first_ns.context("nobody to reach")?, last_ns })
}

/// Whether a connection is made at once. One that would take longer is none: nobody
/// answers, and the SYN goes again only after a second.
fn reached(to: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.connect_timeout(&to.into(), AT_ONCE)
}

/// The processor of probes.
const PROBE_CPU: usize = 0;
/// The processor of partners: the same, so that a round is work alone, without waking
/// another processor up.
pub(super) const PARTNER_CPU: usize = 0;
/// Longest wait for an answer.
const LIMIT: Duration = Duration::from_secs(2);
/// Longest time that a connection may take in a sweep.
const AT_ONCE: Duration = Duration::from_millis(20);
/// Pause after a failed connection.
const PAUSE: Duration = Duration::from_micros(200);
/// Bytes of one write of a stream.
pub(super) const PIECE: usize = 128 << 10;
/// Calls between two looks at the clock.
const BATCH: u32 = 20;
