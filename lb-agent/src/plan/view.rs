// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What clients get, without indexes and regions: by it tables are compared with what is
//! desired, and with each other.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::{
    addr::Addr,
    range::{Guard, RangeKey},
    service::{Empty, FrontendKind, ServiceFlags, SetWord},
};

use super::{
    desired::Desired,
    eligible::Role,
    place::KINDS,
    port::{Frontend, Port},
    tables::Tables,
};
use crate::model::Family;

/// What each frontend leads to.
pub(crate) type View = BTreeMap<Frontend, Outcome>;

/// What one frontend leads to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) kind: FrontendKind,
    pub(crate) affinity_secs: Option<u32>,
    pub(crate) inside: Clients,
    pub(crate) outside: Clients,
    /// Those of [`strangers`] that source ranges let in; `None` for everybody.
    pub(crate) admitted: Option<BTreeSet<Addr>>,
}

/// What a client gets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Clients {
    Refused,
    Dropped,
    /// Address and port (host order) of each backend.
    Served(BTreeSet<(Addr, u16)>),
}

/// Some clients: in several ranges, in one, in none; the node, and a VIP.
pub(crate) fn strangers() -> impl Iterator<Item = Addr> {
    let texts = [
        "192.0.2.10",
        "192.0.2.77",
        "10.0.0.1",
        "10.9.9.9",
        "172.16.0.1",
        "198.51.100.1",
        "2001:db8::5",
        "2001:db8::10",
        "2001:db8:1::5",
    ];
    let addresses = texts.map(|text| text.parse::<std::net::IpAddr>().unwrap().into());
    addresses.into_iter().chain([Guard::NODE])
}

/// What clients get from tables.
pub(crate) fn of_tables(tables: &Tables) -> View {
    let clients = |set: SetWord| match (set.count(), set.on_empty()) {
        (0, Empty::Refuse) => Clients::Refused,
        (0, Empty::Drop) => Clients::Dropped,
        (count, _) => Clients::Served(
            (0..count)
                .map(|offset| {
                    let backend = tables.backends.at(tables.slots.at(set.base + offset).backend);
                    (backend.address, backend.life.port.to_host())
                })
                .collect(),
        ),
    };
    let outcome = |frontend: Frontend| {
        let record = tables.services.at(tables.frontend(&frontend).unwrap().service);
        let sticky = record.flags().contains(ServiceFlags::AFFINITY);
        let outcome = Outcome {
            name: tables.names.get(&record.id).map_or("?", |name| name).to_owned(),
            kind: record.flags().kind(),
            affinity_secs: sticky.then_some(record.affinity_secs),
            inside: clients(record.inside),
            outside: clients(record.outside),
            admitted: record.flags().contains(ServiceFlags::SOURCE_RANGES).then(|| {
                let admits = |address: &Addr| {
                    tables.admitted_by(&RangeKey::client(record.id, *address)).is_some()
                };
                strangers().filter(admits).collect()
            }),
        };
        (frontend, outcome)
    };
    tables.frontends().map(outcome).collect()
}

/// What clients should get.
pub(crate) fn of_desired(desired: &Desired) -> View {
    let outcome = |frontend: &Frontend| {
        let claim = desired.winner(frontend).unwrap();
        (*frontend, of_port(desired.port(&claim.owner.name).unwrap(), claim.kind))
    };
    desired.frontends().map(outcome).collect()
}

/// What each service port leads to, by name, family and kind of frontend.
pub(crate) fn ports_of(desired: &Desired) -> BTreeMap<(String, bool, FrontendKind), Outcome> {
    let ports = desired.port_names().map(|name| desired.port(name).unwrap());
    let kinds = ports.flat_map(|port| KINDS.map(|kind| (port, kind)));
    kinds
        .map(|(port, kind)| {
            let name = &port.owner.name;
            let key = (name.text.to_string(), name.family == Family::V6, kind);
            (key, of_port(port, kind))
        })
        .collect()
}

fn of_port(port: &Port, kind: FrontendKind) -> Outcome {
    let clients = |set: Role| {
        let members = port.members(set);
        let served: BTreeSet<_> =
            members.map(|candidate| (candidate.address, candidate.port.to_host())).collect();
        match (served.is_empty(), port.empty(set) == SetWord::DROP) {
            (false, _) => Clients::Served(served),
            (true, false) => Clients::Refused,
            (true, true) => Clients::Dropped,
        }
    };
    let (inside, outside) = port.sets(kind);
    Outcome {
        name: port.owner.name.text.to_string(),
        kind,
        affinity_secs: Some(port.affinity_secs).filter(|secs| *secs != 0),
        inside: clients(inside),
        outside: clients(outside),
        admitted: port.admitted.as_ref().filter(|_| kind == FrontendKind::LoadBalancer).map(
            |admitted| {
                let inside = |it: &Addr| admitted.iter().any(|(key, _)| key.contains(*it));
                strangers().filter(inside).collect()
            },
        ),
    }
}
