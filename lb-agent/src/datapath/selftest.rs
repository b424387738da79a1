// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Do the programs really run? A connection to a canary says so: a frontend that exists for
//! this moment only and leads to a listener of ours.
//!
//! Being attached is no proof: a cgroup below the real root, or a tree that is mounted in a
//! private namespace, takes programs and never runs them for pods.

use std::{
    fs::OpenOptions,
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    path::PathBuf,
    time::Duration,
};

use lb_common::{
    addr::Addr,
    backend::{BackendFlags, Life, State},
    be::{Be16, Be32},
    key::{FrontendKey4, FrontendValue},
    maps::Capacities,
    protocol::Protocol,
    service::{Algorithm, FrontendKind, Service, ServiceFlags, SetWord},
    slot::Slot,
};

use super::{Failed, cgroup::Cgroup, kernel::Kernel, syscall};
use crate::plan::op::Op;

/// Why the programs do not do their work.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    /// The kernel does not run one of them for processes of the cgroup.
    #[error("the kernel does not run {hook} for processes of {}: it was detached, or another program took its place", cgroup.display())]
    Idle {
        /// The hook.
        hook: &'static str,
        /// The cgroup.
        cgroup: PathBuf,
    },
    /// The canary's connection came to nothing.
    #[error("a connection to the canary {canary} failed: {source}; the programs are attached to {} and do not see this node's sockets: is it the root of the host's cgroup2 tree?", cgroup.display())]
    Unreached {
        /// The canary's frontend.
        canary: SocketAddrV4,
        /// The cgroup.
        cgroup: PathBuf,
        /// The answer of connect(2) or getpeername(2).
        #[source]
        source: io::Error,
    },
    /// The connection was made, and its peer is not shown as what was dialled.
    #[error(
        "the canary {canary} was reached, but getpeername says {peer}: the reverse hooks do not run, or another balancer is at work"
    )]
    WrongPeer {
        /// The canary's frontend.
        canary: SocketAddrV4,
        /// What getpeername(2) said.
        peer: SocketAddr,
    },
    /// The canary could not be put into the maps.
    #[error("cannot place the canary: {source}")]
    Place {
        /// The op that failed.
        #[source]
        source: Failed,
    },
    /// There is nothing for the canary to reach.
    #[error("cannot listen on 127.0.0.1: {source}")]
    Listen {
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// Asks the kernel which programs run, then connects to a canary from a process that is in
/// our cgroup. Takes milliseconds, and a second if nothing answers.
pub fn run(kernel: &mut Kernel) -> Result<(), SelfTestError> {
    let cgroup = kernel.loader().cgroup().path().to_owned();
    if let Some(hook) = kernel.idle_hook() {
        return Err(SelfTestError::Idle { hook: hook.name, cgroup });
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .map_err(|source| SelfTestError::Listen { source })?;
    let port = listener.local_addr().map_err(|source| SelfTestError::Listen { source })?.port();
    let canary = SocketAddrV4::new(CANARY, port);
    let placed = kernel.apply_aside(&place(&kernel.sizes(), canary));
    let dialled = match placed {
        Ok(()) => {
            let answer = dial(kernel.loader().cgroup(), canary);
            answer.map_err(|source| SelfTestError::Unreached { canary, cgroup, source })
        }
        Err(source) => Err(SelfTestError::Place { source }),
    };
    let removed = kernel.apply_aside(&remove(&kernel.sizes(), canary));
    let peer = dialled?;
    removed.map_err(|source| SelfTestError::Place { source })?;
    if peer == SocketAddr::V4(canary) {
        Ok(())
    } else {
        Err(SelfTestError::WrongPeer { canary, peer })
    }
}

/// The canary's indexes: service, slot, backend. The last ones, which no plan uses; so what is
/// there is the canary of an agent that was killed.
const fn places(capacities: &Capacities) -> (u32, u32, u32) {
    (capacities.services - 1, capacities.slots - 1, capacities.backends - 1)
}

fn place(capacities: &Capacities, canary: SocketAddrV4) -> Vec<Op> {
    let (service, base, backend) = places(capacities);
    let port = Be16::from_host(canary.port());
    let life =
        Life { generation: GENERATION, state: State::Active as u8, protocol: Protocol::TCP, port };
    let address4 = Be32 { bytes: Ipv4Addr::LOCALHOST.octets() };
    let slot = Slot { address4, port, _pad: 0, backend, generation: GENERATION };
    let set = SetWord::new(base, 1, Algorithm::Random).unwrap_or_default();
    let flags = ServiceFlags::from(FrontendKind::ClusterIp).bits();
    let record = Service { inside: set, outside: set, flags, ..Service::default() };
    let key = key(canary);
    vec![
        Op::Backend {
            index: backend,
            life,
            address: Addr::from(Ipv4Addr::LOCALHOST),
            flags: BackendFlags::LOCAL,
        },
        Op::Slots { base, slots: Box::new([slot]) },
        Op::Service { index: service, record: Box::new(record) },
        Op::Frontend4 { key, value: Some(FrontendValue { service, tag: key.tag() }) },
    ]
}

fn remove(capacities: &Capacities, canary: SocketAddrV4) -> Vec<Op> {
    let (service, base, backend) = places(capacities);
    vec![
        Op::Frontend4 { key: key(canary), value: None },
        Op::Grace,
        Op::Service { index: service, record: Box::default() },
        Op::Slots { base, slots: Box::new([Slot::default()]) },
        Op::Backend {
            index: backend,
            life: Life::default(),
            address: Addr::ZERO,
            flags: BackendFlags::empty(),
        },
    ]
}

fn key(canary: SocketAddrV4) -> FrontendKey4 {
    let address = Be32 { bytes: canary.ip().octets() };
    FrontendKey4::new(address, Be16::from_host(canary.port()), Protocol::TCP)
}

/// Connects to the canary from inside the cgroup; the peer's address as the program sees it.
fn dial(cgroup: &Cgroup, canary: SocketAddrV4) -> io::Result<SocketAddr> {
    if cgroup.holds_caller() == Some(true) {
        return connect(canary);
    }
    let processes = OpenOptions::new().write(true).open(cgroup.path().join("cgroup.procs"))?;
    let answer = syscall::in_cgroup(&processes, || match connect(canary) {
        Ok(SocketAddr::V4(peer)) => i64::from(u32::from(*peer.ip())) << 16 | i64::from(peer.port()),
        Ok(SocketAddr::V6(_)) => -i64::from(libc::EAFNOSUPPORT),
        Err(error) => -i64::from(error.raw_os_error().unwrap_or(libc::ETIMEDOUT)),
    })?;
    match u64::try_from(answer) {
        Ok(peer) => {
            let [_, _, a, b, c, d, high, low] = peer.to_be_bytes();
            Ok(SocketAddr::from(([a, b, c, d], u16::from_be_bytes([high, low]))))
        }
        Err(_) => Err(io::Error::from_raw_os_error(i32::try_from(-answer).unwrap_or(libc::EINVAL))),
    }
}

/// No allocation, no lock: a copy of a single thread runs it, too.
fn connect(canary: SocketAddrV4) -> io::Result<SocketAddr> {
    TcpStream::connect_timeout(&canary.into(), PATIENCE)?.peer_addr()
}

/// The IPv4 dummy address (RFC 7600): nobody has it, no packet to it is routed.
const CANARY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);
/// Nobody outlives the canary who could mistake another backend for it.
const GENERATION: u32 = 1;
/// A connection over loopback takes microseconds.
const PATIENCE: Duration = Duration::from_secs(1);
