// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the maps hold against what they should hold, element by element, in words.
//!
//! Both sides have the same indexes: the maps as the agent left them, or as a plan would leave
//! them. Names come from the side that has them.

use std::{collections::BTreeMap, fmt};

use lb_common::{
    addr::Addr,
    backend::Backend,
    key::FrontendValue,
    maps,
    range::{CidrKey, RangeKey},
    service::{Algorithm, Empty, Service, SetWord},
    slot::Slot,
};

use super::{port::Frontend, tables::Tables};

/// One thing that is not as it should be.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Difference {
    /// The map.
    pub map: &'static str,
    /// Whose element it is.
    pub object: String,
    /// What is the matter with it.
    pub problem: String,
}

/// The maps that are compared.
pub const COMPARED: [&str; 11] = [
    maps::BACKENDS,
    maps::FRONTENDS4,
    maps::FRONTENDS6,
    maps::MEMBERS,
    maps::NAMES,
    maps::NODE_ADDRS,
    maps::NODEPORTS,
    maps::SERVICES,
    maps::SERVICE_CIDRS,
    maps::SLOTS,
    maps::SOURCE_RANGES,
];

/// Everything in which the kernel's tables are not those that are wanted: what clients meet
/// first, what nobody uses last. Empty if and only if they are equal.
pub fn differences(wanted: &Tables, kernel: &Tables) -> Vec<Difference> {
    if wanted == kernel {
        return Vec::new();
    }
    let comparison = Comparison { wanted, kernel };
    let mut found = Vec::new();
    comparison.frontends(&mut found);
    comparison.addresses(&mut found);
    comparison.services(&mut found);
    comparison.slots(&mut found);
    comparison.backends(&mut found);
    comparison.keyed(&mut found);
    found
}

/// The two sides.
struct Comparison<'a> {
    wanted: &'a Tables,
    kernel: &'a Tables,
}

/// What each side has at a key.
type Sides<V> = (Option<V>, Option<V>);

impl Comparison<'_> {
    fn frontends(&self, found: &mut Vec<Difference>) {
        let both = pairs(
            self.wanted.frontends().map(|it| (it, self.wanted.frontend(&it))),
            self.kernel.frontends().map(|it| (it, self.kernel.frontend(&it))),
        );
        for (frontend, (wanted, kernel)) in both {
            let named = wanted.flatten().or(kernel.flatten()).map_or(0, |value| value.service);
            let problem = match (wanted.flatten(), kernel.flatten()) {
                (Some(_), None) => "missing in the kernel".to_owned(),
                (None, Some(_)) => "in the kernel, and nobody's".to_owned(),
                (Some(wanted), Some(kernel)) if wanted.service == kernel.service => {
                    "has the tag of another key, so that nobody finds it".to_owned()
                }
                (Some(_), Some(kernel)) => self.leads_to(kernel),
                (None, None) => continue,
            };
            let map = match frontend {
                Frontend::V4(_) => maps::FRONTENDS4,
                Frontend::V6(_) => maps::FRONTENDS6,
                Frontend::NodePort { .. } => maps::NODEPORTS,
            };
            let object = format!("{} {}", self.owner(named), dialled(&frontend));
            found.push(Difference { map, object, problem });
        }
    }

    fn leads_to(&self, kernel: FrontendValue) -> String {
        format!("leads to {} in the kernel (index {})", self.owner(kernel.service), kernel.service)
    }

    fn addresses(&self, found: &mut Vec<Difference>) {
        let (wanted, kernel) = (&self.wanted.node_addresses, &self.kernel.node_addresses);
        for address in wanted.symmetric_difference(kernel) {
            let problem = presence(wanted.contains(address));
            let object = format!("NodePorts on {address}");
            found.push(Difference { map: maps::NODE_ADDRS, object, problem });
        }
    }

    fn services(&self, found: &mut Vec<Difference>) {
        let both = pairs(self.wanted.services.iter(), self.kernel.services.iter());
        for (index, (wanted, kernel)) in both {
            let (wanted, kernel) = (wanted.unwrap_or_default(), kernel.unwrap_or_default());
            let problem = record_problem(&wanted, &kernel);
            found.push(Difference { map: maps::SERVICES, object: self.record(index), problem });
        }
    }

    /// A line for each record whose sets have other slots than they should, and one for all that
    /// no record uses.
    fn slots(&self, found: &mut Vec<Difference>) {
        let differing = pairs(self.wanted.slots.iter(), self.kernel.slots.iter());
        let mut differing: BTreeMap<u32, Sides<Slot>> = differing;
        for (index, record) in self.wanted.services.iter() {
            for set in [record.inside, record.outside] {
                let of_set = set.base..set.base.saturating_add(set.count());
                let indexes: Vec<_> = differing.range(of_set).map(|(slot, _)| *slot).collect();
                let sides: Vec<_> =
                    indexes.iter().filter_map(|slot| differing.remove(slot)).collect();
                let Some((wanted, kernel)) = sides.first() else { continue };
                let place = |slot: &Option<Slot>, tables: &Tables| match slot {
                    Some(slot) => backend_name(&tables.backends.at(slot.backend)),
                    None => "nothing".to_owned(),
                };
                let problem = format!(
                    "{} of {} slots differ: {} instead of {} in the first of them",
                    sides.len(),
                    set.count(),
                    place(kernel, self.kernel),
                    place(wanted, self.wanted),
                );
                found.push(Difference { map: maps::SLOTS, object: self.record(index), problem });
            }
        }
        if !differing.is_empty() {
            let problem = format!("{} slots differ that no Service uses", differing.len());
            found.push(Difference { map: maps::SLOTS, object: "free slots".to_owned(), problem });
        }
    }

    fn backends(&self, found: &mut Vec<Difference>) {
        let both = pairs(self.wanted.backends.iter(), self.kernel.backends.iter());
        for (index, (wanted, kernel)) in both {
            let (wanted, kernel) = (wanted.unwrap_or_default(), kernel.unwrap_or_default());
            let named = if wanted == Backend::default() { &kernel } else { &wanted };
            let object = format!("{} (index {index})", backend_name(named));
            let problem = backend_problem(&wanted, &kernel);
            found.push(Difference { map: maps::BACKENDS, object, problem });
        }
    }

    /// The maps whose elements are there or not, and rarely change.
    fn keyed(&self, found: &mut Vec<Difference>) {
        let Self { wanted, kernel } = self;
        for (id, (wanted, kernel)) in pairs(of(&wanted.names), of(&kernel.names)) {
            let name = wanted.or(kernel).map(ToString::to_string);
            let object = name.unwrap_or_else(|| format!("service id {id}"));
            found.push(Difference { map: maps::NAMES, object, problem: side(wanted, kernel) });
        }
        for (key, (wanted, kernel)) in pairs(of(&wanted.members), of(&kernel.members)) {
            let backend = backend_name(&self.wanted.backends.at(key.backend));
            let object = format!("affinity of {} for {backend}", self.name(key.service_id));
            found.push(Difference { map: maps::MEMBERS, object, problem: side(wanted, kernel) });
        }
        let ranges = (wanted.source_ranges.iter(), kernel.source_ranges.iter());
        for (key, (wanted, kernel)) in pairs(ranges.0, ranges.1) {
            let RangeKey { guard, .. } = *key;
            let range = prefix(guard.address, key.bits());
            let object = format!("{} source range {range}", self.name(guard.service_id));
            let problem = side(wanted, kernel);
            found.push(Difference { map: maps::SOURCE_RANGES, object, problem });
        }
        let cidrs = (wanted.service_cidrs.iter(), kernel.service_cidrs.iter());
        for (key, (wanted, kernel)) in pairs(cidrs.0, cidrs.1) {
            let CidrKey { address, prefix_len, .. } = *key;
            let object = prefix(address, prefix_len);
            let problem = side(wanted, kernel);
            found.push(Difference { map: maps::SERVICE_CIDRS, object, problem });
        }
    }

    /// The service port of a record, with its kind.
    fn record(&self, index: u32) -> String {
        let record = self.wanted.services.at(index);
        let record =
            if record == Service::default() { self.kernel.services.at(index) } else { record };
        format!("{} {} (index {index})", self.name(record.id), record.flags().kind().name())
    }

    /// The service port of a record.
    fn owner(&self, index: u32) -> String {
        let record = self.wanted.services.at(index);
        let id = if record.id == 0 { self.kernel.services.at(index).id } else { record.id };
        self.name(id)
    }

    fn name(&self, id: u32) -> String {
        let name = self.wanted.names.get(&id).or_else(|| self.kernel.names.get(&id));
        name.map_or_else(|| format!("service id {id}"), ToString::to_string)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.map, self.object, self.problem)
    }
}

/// The keys at which the sides differ.
fn pairs<K: Ord, V: PartialEq>(
    wanted: impl Iterator<Item = (K, V)>,
    kernel: impl Iterator<Item = (K, V)>,
) -> BTreeMap<K, Sides<V>> {
    let mut both: BTreeMap<K, Sides<V>> = BTreeMap::new();
    for (key, value) in wanted {
        both.entry(key).or_insert((None, None)).0 = Some(value);
    }
    for (key, value) in kernel {
        both.entry(key).or_insert((None, None)).1 = Some(value);
    }
    both.retain(|_, (wanted, kernel)| wanted != kernel);
    both
}

fn of<K: Copy, V>(map: &foldhash::HashMap<K, V>) -> impl Iterator<Item = (K, &V)> {
    map.iter().map(|(key, value)| (*key, value))
}

fn side<V>(wanted: Option<V>, kernel: Option<V>) -> String {
    match (wanted, kernel) {
        (Some(_), Some(_)) => "has another value in the kernel".to_owned(),
        (wanted, _) => presence(wanted.is_some()),
    }
}

fn presence(is_wanted: bool) -> String {
    if is_wanted { "missing in the kernel" } else { "in the kernel, and nobody's" }.to_owned()
}

fn record_problem(wanted: &Service, kernel: &Service) -> String {
    if *kernel == Service::default() {
        return "missing in the kernel".to_owned();
    }
    let mut problems = Vec::new();
    for (who, wanted, kernel) in [
        ("clients inside the cluster", wanted.inside, kernel.inside),
        ("clients outside", wanted.outside, kernel.outside),
    ] {
        if wanted != kernel {
            problems.push(format!("{who} get {} instead of {}", set(kernel), set(wanted)));
        }
    }
    if wanted.flags != kernel.flags {
        let (kernel, wanted) = (kernel.flags(), wanted.flags());
        problems.push(format!("flags are {kernel:?} instead of {wanted:?}"));
    }
    if wanted.affinity_secs != kernel.affinity_secs {
        let (kernel, wanted) = (kernel.affinity_secs, wanted.affinity_secs);
        problems.push(format!("affinity is {kernel} s instead of {wanted} s"));
    }
    if problems.is_empty() {
        problems.push("is another's record in the kernel".to_owned());
    }
    problems.join("; ")
}

/// What a set word says.
fn set(set: SetWord) -> String {
    match (set.count(), set.on_empty(), set.algorithm()) {
        (0, Empty::Refuse, _) => "a refusal".to_owned(),
        (0, Empty::Drop, _) => "silence".to_owned(),
        (count, _, Algorithm::Random) => format!("{count} backends at slot {}", set.base),
        (count, _, Algorithm::Maglev) => {
            format!("a Maglev table of {count} slots at slot {}", set.base)
        }
    }
}

fn backend_problem(wanted: &Backend, kernel: &Backend) -> String {
    if *kernel == Backend::default() {
        return "missing in the kernel".to_owned();
    }
    if *wanted == Backend::default() {
        return "in the kernel, and nobody's".to_owned();
    }
    let mut problems = Vec::new();
    let (one, other) = (backend_name(kernel), backend_name(wanted));
    if one != other {
        problems.push(format!("is {one}"));
    }
    let (one, other) = (kernel.life.state().name(), wanted.life.state().name());
    if one != other {
        problems.push(format!("is {one} instead of {other}"));
    }
    if kernel.flags != wanted.flags {
        let (kernel, wanted) = (kernel.flags(), wanted.flags());
        problems.push(format!("flags are {kernel:?} instead of {wanted:?}"));
    }
    if problems.is_empty() {
        let (one, other) = (kernel.life.generation, wanted.life.generation);
        problems.push(format!("is of generation {one} instead of {other}"));
    }
    problems.join(", ")
}

fn backend_name(backend: &Backend) -> String {
    let Backend { life, address, .. } = backend;
    let address = std::net::SocketAddr::new(address.to_ip(), life.port.to_host());
    format!("{address}/{}", life.protocol)
}

fn dialled(frontend: &Frontend) -> String {
    match frontend {
        Frontend::V4(key) if key.is_any_port() => {
            format!("{}, its other ports", Addr::from_v4(key.address))
        }
        Frontend::V6(key) if key.is_any_port() => format!("{}, its other ports", key.address),
        Frontend::V4(_) | Frontend::V6(_) | Frontend::NodePort { .. } => frontend.to_string(),
    }
}

/// A prefix; the maps count 96 bits more of an IPv4 one.
fn prefix(address: Addr, bits: u32) -> String {
    let more = if address.to_v4().is_some() { Addr::V4_BITS } else { 0 };
    format!("{address}/{}", bits.saturating_sub(more))
}
