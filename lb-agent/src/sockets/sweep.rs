// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One search: records first, then the sockets of each namespace.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
};

use lb_common::{
    addr::Addr,
    backend::{Backend, State},
    be::Be16,
    counter::Counter,
    protocol::Protocol,
    socket::{Dialled, Held, SocketRecord},
};

use crate::{
    datapath::{
        self,
        conntrack::Conntrack,
        diag::{Connected, Diag},
        kernel,
        load::{self, LoadError},
        maps::Maps,
        netns::{Netns, Subtree},
        syscall,
    },
    plan::stale::{Ledger, Peer, Search},
};

/// Sockets by cookie, with the backend that each one is connected to.
pub(super) type Known = BTreeMap<u64, Peer>;

/// What a search came to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Found {
    /// Disconnected sockets that had an IPv4 peer.
    pub(super) v4: u64,
    /// And an IPv6 one.
    pub(super) v6: u64,
    /// Namespaces that were looked into.
    pub(super) namespaces: usize,
    /// Sockets that another proxy's translation leads to endpoints, for as long as it lasts.
    pub(super) led: usize,
}

/// Why a search failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SweepError {
    /// The maps cannot be opened.
    #[error(transparent)]
    Open(#[from] LoadError),
    /// A map cannot be read or written.
    #[error(transparent)]
    Map(#[from] datapath::Error),
    /// A small map cannot be read.
    #[error("cannot read which addresses and namespaces count: {0}")]
    Place(#[from] io::Error),
}

/// What is looked for in each namespace.
struct Wanted<'a> {
    ledger: &'a Ledger,
    pending: &'a Known,
    node_addresses: BTreeSet<Addr>,
    bypassed: BTreeSet<u64>,
    /// Those whose sockets the programs see.
    cgroups: BTreeSet<u64>,
}

/// Looks for what has lost its backend, and disconnects it. Costs a look at BACKEND_LOAD if
/// no socket can be concerned. What is left in `pending` was in no namespace.
pub(super) fn sweep(
    bpf_root: &Path,
    cgroup_root: &Path,
    ledger: &Ledger,
    search: &Search,
    pending: &mut Known,
) -> Result<Found, SweepError> {
    let mut maps = load::open_pinned(bpf_root)?;
    if is_used(&maps, search) {
        // A program that read the old set may not have written its record yet.
        syscall::wait_for_grace();
        pending.extend(outdate(&maps, ledger)?);
    }
    if pending.is_empty() && !search.is_first {
        return Ok(Found::default());
    }
    let tree = Subtree::of(cgroup_root);
    let namespaces = tree.namespaces(MAX_NAMESPACES);
    let mut found = Found { namespaces: namespaces.len(), ..Found::default() };
    let mut disconnected = Vec::new();
    let wanted = Wanted {
        ledger,
        pending,
        node_addresses: keys(maps.node_addresses.dump()?),
        bypassed: keys(maps.bypass.dump()?),
        cgroups: tree.cgroups,
    };
    let mut conntrack = Conntrack::open().ok();
    for namespace in &namespaces {
        let mut is_led = |socket: &Connected| {
            let backend = conntrack.as_mut().and_then(|it| it.translated(socket.own, socket.peer));
            let is_led = backend.is_some_and(|backend| !ledger.is_stale(&socket.peer, &backend));
            found.led += usize::from(is_led);
            is_led
        };
        match wanted.disconnect_in(namespace, &mut is_led) {
            Ok(sockets) => disconnected.extend(sockets),
            Err(error) => tracing::debug!(%error, ?namespace, "cannot look into a namespace"),
        }
    }
    for Connected { cookie, peer, .. } in &disconnected {
        pending.remove(cookie);
        *(if peer.0.to_v4().is_some() { &mut found.v4 } else { &mut found.v6 }) += 1;
    }
    if !disconnected.is_empty() {
        kernel::count(&mut maps, Counter::Destroyed, found.v4 + found.v6)?;
    }
    Ok(found)
}

impl Wanted<'_> {
    /// Disconnects what must be in one namespace. `is_led` tells sockets that reach an endpoint
    /// although no program has translated them.
    fn disconnect_in(
        &self,
        namespace: &Netns,
        is_led: &mut impl FnMut(&Connected) -> bool,
    ) -> io::Result<Vec<Connected>> {
        let open = || Ok((syscall::netns_cookie()?, Diag::open()?));
        let (cookie, mut diag) = namespace.run(open)?;
        let is_bypassed = self.bypassed.contains(&cookie);
        let mut sockets = diag.connected()?;
        sockets.retain(|socket| {
            self.is_ours(socket) || self.is_older(socket, is_bypassed) && !is_led(socket)
        });
        let mut disconnected = Vec::with_capacity(sockets.len());
        for socket in sockets {
            if diag.destroy(&socket)? {
                disconnected.push(socket);
            }
        }
        Ok(disconnected)
    }

    /// One of ours that is still connected to what its record names.
    fn is_ours(&self, socket: &Connected) -> bool {
        self.pending.get(&socket.cookie) == Some(&socket.peer)
    }

    /// One that dialled a frontend and was let through, because frontend or programs were not
    /// there yet.
    fn is_older(&self, socket: &Connected, is_bypassed: bool) -> bool {
        let Connected { cookie, peer, cgroup, .. } = socket;
        !self.pending.contains_key(cookie)
            && !is_bypassed
            && cgroup.is_some_and(|cgroup| self.cgroups.contains(&cgroup))
            && self.ledger.is_untranslated(peer, &self.node_addresses)
    }
}

/// Whether BACKEND_LOAD knows of a socket that may be concerned: one that uses an endpoint
/// that left, or any, if it is not known which ones did.
fn is_used(maps: &Maps, search: &Search) -> bool {
    let used = |index| maps.backend_load.read(index).is_some_and(|load| load.sockets != 0);
    let backends = (0..).zip(maps.backends.iter());
    let mut udp = backends.filter(|(_, backend)| backend.life.protocol == Protocol::UDP);
    udp.any(|(index, backend)| {
        (search.is_first || search.left.contains(&peer_of(&backend))) && used(index)
    })
}

/// Has each socket choose anew whose frontend does not lead to its backend any more: at its
/// next datagram, or when it connects again. Gives those that are connected.
///
/// A record in SOCKETS_OVER cannot be changed beside a program. Its socket is free when its
/// backend is dead, which is before the last try.
fn outdate(maps: &Maps, ledger: &Ledger) -> Result<Known, SweepError> {
    let stale = |dialled: &Dialled, port: Be16| {
        backend_of(maps, dialled).filter(|it| ledger.is_stale(&(dialled.address, port), it))
    };
    let mut places = kernel::socket_places(maps)?;
    let mut connected = Known::new();
    for index in 0..places.len() {
        let Some(record) = places.read_record(index) else { continue };
        if let Some(backend) = stale_half(&record, Held::CONNECTED, stale) {
            places.outdate(index, Held::CONNECTED, &record.connected);
            connected.insert(record.owner, backend);
        }
        if stale_half(&record, Held::DATAGRAM, stale).is_some() {
            places.outdate(index, Held::DATAGRAM, &record.datagram);
        }
    }
    let over = kernel::over_records(maps)?.into_iter().filter_map(|(_, record)| {
        Some((record.owner, stale_half(&record, Held::CONNECTED, stale)?))
    });
    connected.extend(over);
    Ok(connected)
}

/// The backend of a half of a record, if the half is there and stale.
fn stale_half(
    record: &SocketRecord,
    half: Held,
    stale: impl Fn(&Dialled, Be16) -> Option<Peer>,
) -> Option<Peer> {
    let SocketRecord { connected, connected_port, datagram, datagram_port, .. } = record;
    match half {
        _ if !record.held().contains(half) => None,
        Held::CONNECTED => stale(connected, *connected_port),
        _ => stale(datagram, *datagram_port),
    }
}

/// The UDP backend that a half of a record names. A dead one keeps its address until no
/// socket uses its index any more; of another generation nothing is known.
fn backend_of(maps: &Maps, dialled: &Dialled) -> Option<Peer> {
    let backend = maps.backends.read(dialled.backend)?;
    let (life, held) = (backend.life, dialled.generation);
    let is_same = match life.state() {
        State::Dead => life.generation == held.wrapping_add(1),
        State::Free | State::Active | State::Terminating => life.generation == held,
    };
    (life.protocol == Protocol::UDP && is_same).then(|| peer_of(&backend))
}

const fn peer_of(backend: &Backend) -> Peer {
    (backend.address, backend.life.port)
}

fn keys<K: Ord, V>(elements: Vec<(K, V)>) -> BTreeSet<K> {
    elements.into_iter().map(|(key, _)| key).collect()
}

/// More than the pods of any node.
const MAX_NAMESPACES: usize = 4096;
