// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Executes ops: stores into arrays one by one, runs of writes to one hash map in one call.

use std::{io, mem::offset_of};

use bytemuck::Pod;
use lb_common::{
    addr::Addr,
    backend::Backend,
    config::Config,
    maps::{self, NodePort, node_port_of},
    name::ServiceName,
    range::CidrRule,
    service::Service,
};

use super::super::{
    Error, Failed,
    arrays::Array,
    hashes::Hash,
    maps::Maps,
    syscall::{self, BatchFailed},
};
use crate::plan::op::Op;

/// Executes the first op of a list with those that can go with it; how many that were.
pub(super) fn execute(maps: &mut Maps, ops: &[Op]) -> Result<usize, Failed> {
    let Some(first) = ops.first() else { return Ok(0) };
    admit(&mut maps.config, ops);
    match first {
        Op::Name { .. } => run(&mut maps.names, maps::NAMES, ops, |op| match op {
            Op::Name { id, text } => Some((*id, text.as_deref().map(ServiceName::new))),
            _ => None,
        }),
        Op::Member { .. } => run(&mut maps.members, maps::MEMBERS, ops, |op| match op {
            Op::Member { key, member } => Some((*key, *member)),
            _ => None,
        }),
        Op::Frontend4 { .. } => run(&mut maps.frontends4, maps::FRONTENDS4, ops, |op| match op {
            Op::Frontend4 { key, value } => Some((*key, *value)),
            _ => None,
        }),
        Op::Frontend6 { .. } => run(&mut maps.frontends6, maps::FRONTENDS6, ops, |op| match op {
            Op::Frontend6 { key, value } => Some((*key, *value)),
            _ => None,
        }),
        Op::NodeAddress { .. } => {
            run(&mut maps.node_addresses, maps::NODE_ADDRS, ops, |op| match op {
                Op::NodeAddress { address, present } => Some((*address, present.then_some(1))),
                _ => None,
            })
        }
        Op::SourceRange { .. } => {
            run(&mut maps.source_ranges, maps::SOURCE_RANGES, ops, |op| match op {
                Op::SourceRange { key, admission } => Some((*key, *admission)),
                _ => None,
            })
        }
        Op::ServiceCidr { .. } => {
            run(&mut maps.service_cidrs, maps::SERVICE_CIDRS, ops, |op| match op {
                Op::ServiceCidr { key, rule } => Some((*key, *rule)),
                _ => None,
            })
        }
        Op::Grace => {
            syscall::wait_for_grace();
            Ok(1)
        }
        store_op => match store(maps, store_op) {
            None => Ok(1),
            // As a full hash map would say it.
            Some(map) => Err(fail(0, "update", map, io::Error::from_raw_os_error(libc::E2BIG))),
        },
    }
}

/// Makes the programs look for the frontends that the ops at the start of a list add, before
/// they are there.
fn admit(config: &mut Array<Config>, ops: &[Op]) {
    for op in ops.iter().take(LONGEST_RUN) {
        match op {
            Op::Frontend4 { key, value: Some(_) } => config.admit(Addr::from_v4(key.address)),
            Op::Frontend6 { key, value: Some(_) } => config.admit(key.address),
            // Its free addresses are nobody's, and still not passed (CIP-05).
            Op::ServiceCidr { key, rule: Some(CidrRule::SERVICE_CIDR) } => {
                config.admit_prefix(key.address, key.prefix_len);
            }
            _ => return,
        }
    }
}

/// Executes an op on an array. The array's name if the index is past its end.
fn store(maps: &mut Maps, op: &Op) -> Option<&'static str> {
    let Maps { services, slots, backends, node_ports, config, .. } = maps;
    let (map, stored) = match *op {
        Op::Backend { index, life, address, flags } => {
            let backend = Backend::new(life, address, flags);
            (maps::BACKENDS, backends.write(index, &backend))
        }
        Op::Life { index, life } => {
            const LIFE: usize = offset_of!(Backend, life);
            (maps::BACKENDS, backends.write_word(index, LIFE, life.to_word()))
        }
        Op::BackendFlags { index, flags } => {
            const FLAGS: usize = offset_of!(Backend, flags);
            let word = bytemuck::cast([flags.bits(), 0]);
            (maps::BACKENDS, backends.write_word(index, FLAGS, word))
        }
        Op::Slots { base, slots: ref region } => {
            (maps::SLOTS, slots.write_from(base, region) == region.len())
        }
        Op::Service { index, ref record } => (maps::SERVICES, services.write(index, record)),
        Op::Rules { index, flags, affinity_secs } => {
            const FLAGS: usize = offset_of!(Service, flags);
            let word = bytemuck::cast([flags.bits(), affinity_secs]);
            (maps::SERVICES, services.write_word(index, FLAGS, word))
        }
        Op::Inside { index, set } => {
            const INSIDE: usize = offset_of!(Service, inside);
            (maps::SERVICES, services.write_word(index, INSIDE, set.to_word()))
        }
        Op::Outside { index, set } => {
            const OUTSIDE: usize = offset_of!(Service, outside);
            (maps::SERVICES, services.write_word(index, OUTSIDE, set.to_word()))
        }
        Op::NodePort { index, ipv6, service } => {
            config.admit_node_port(node_port_of(index));
            let port = node_ports.read(index).map(|port| NodePort {
                service4: if ipv6 { port.service4 } else { service },
                service6: if ipv6 { service } else { port.service6 },
            });
            (maps::NODEPORTS, port.is_some_and(|port| node_ports.write(index, &port)))
        }
        Op::Name { .. }
        | Op::Member { .. }
        | Op::Frontend4 { .. }
        | Op::Frontend6 { .. }
        | Op::SourceRange { .. }
        | Op::ServiceCidr { .. }
        | Op::NodeAddress { .. }
        | Op::Grace => return None,
    };
    (!stored).then_some(map)
}

/// Executes the run of ops at the start of a list that either all put or all remove
/// elements of one map.
fn run<K: Pod, V: Pod>(
    hash: &mut Hash<K, V>,
    map: &'static str,
    ops: &[Op],
    element: impl Fn(&Op) -> Option<(K, Option<V>)>,
) -> Result<usize, Failed> {
    let mut elements = ops.iter().map_while(element).peekable();
    let removes = elements.peek().is_some_and(|(_, value)| value.is_none());
    if removes {
        let run = elements.map_while(|(key, value)| value.is_none().then_some(key));
        let keys: Vec<K> = run.take(LONGEST_RUN).collect();
        finish(keys.len(), hash.remove_all(&keys), "delete from", map)
    } else {
        let run = elements.map_while(|(key, value)| Some((key, value?)));
        let (keys, values): (Vec<K>, Vec<V>) = run.take(LONGEST_RUN).unzip();
        finish(keys.len(), hash.put_all(&keys, &values), "update", map)
    }
}

fn finish(
    count: usize,
    result: Result<(), BatchFailed>,
    operation: &'static str,
    map: &'static str,
) -> Result<usize, Failed> {
    match result {
        Ok(()) => Ok(count),
        Err(failed) => Err(fail(failed.done, operation, map, failed.source)),
    }
}

fn fail(done: usize, operation: &'static str, map: &'static str, source: io::Error) -> Failed {
    Failed { done, source: Error::Map { operation, map, source } }
}

/// Bounds the memory of a batch: names have 192 bytes.
const LONGEST_RUN: usize = 16_384;
