// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pieces of packets: the first has the ports, which FRAGMENTS tells of the others.
//!
//! A piece that is here before the first one cannot be held; it is put at the end of this CPU's
//! queue and met again, for as long as [`lb_common::fragment::WAIT_NS`].

use aya_ebpf::programs::TcContext;
use lb_common::{
    counter::Counter,
    fragment::{FragmentKey, FragmentPorts},
    protocol::Protocol,
};

use super::{
    headers::Bytes,
    parse::{self, Network, Parsed},
};
use crate::{kernel, maps};

/// Puts down the packet that a fragment is, as [`parse::put_down`].
#[inline(never)]
pub(super) fn read(bytes: Bytes) -> u32 {
    parse::put_down(parsed(bytes))
}

#[inline(always)]
fn parsed(bytes: Bytes) -> Result<Parsed, Counter> {
    let network = parse::header(bytes)?;
    // A changed port of SCTP changes the checksum by the whole packet's length, which the first
    // piece does not tell.
    if !matches!(network.protocol, Protocol::TCP | Protocol::UDP) {
        return Err(Counter::PassFragment);
    }
    if network.piece.offset == 0 { first(bytes, &network) } else { later(bytes, &network) }
}

/// Reads the first fragment, and remembers its ports for the others. It must have the whole
/// transport header (RFC 1858 3, RFC 7112 5).
#[inline(always)]
fn first(bytes: Bytes, network: &Network) -> Result<Parsed, Counter> {
    let parsed = network.with_transport(bytes)?;
    let is_ours =
        maps::may_be_frontend_address(network.destination) || maps::flow(&parsed.key).is_some();
    if is_ours {
        let ports = FragmentPorts {
            since_ns: kernel::now_ns(),
            source_port: parsed.key.source_port,
            destination_port: parsed.key.destination_port,
            _pad: 0,
        };
        maps::remember_fragment(&key(network), &ports);
    }
    Ok(parsed)
}

/// Reads another fragment. One that begins within the transport header of TCP would overlap the
/// first one's (RFC 1858 4).
#[inline(always)]
fn later(bytes: Bytes, network: &Network) -> Result<Parsed, Counter> {
    network.check_len(bytes, 1)?;
    if network.piece.offset == 1 && network.protocol == Protocol::TCP {
        return Err(Counter::PassMalformed);
    }
    let now_ns = kernel::now_ns();
    let key = key(network);
    match maps::fragment(&key) {
        Some(ports) if ports.are_known(now_ns) => {
            Ok(network.later((ports.source_port, ports.destination_port)))
        }
        Some(waited) if waited.may_wait(now_ns) => Err(round(now_ns)),
        Some(waited) if waited.is_given_up(now_ns) => Err(Counter::PassFragment),
        before if maps::may_be_frontend_address(network.destination) => {
            let early = FragmentPorts { since_ns: now_ns, ..FragmentPorts::default() };
            if before.is_none() {
                maps::remember_early_fragment(&key, &early);
            } else {
                maps::remember_fragment(&key, &early);
            }
            Err(round(now_ns))
        }
        _ => Err(Counter::PassFragment),
    }
}

/// Puts a piece at the end of this CPU's queue: the action.
#[inline(always)]
pub(super) fn wait(context: &TcContext) -> i32 {
    maps::count(Counter::FragmentWaited);
    Bytes(context.skb.skb).take_in_again()
}

/// Another round, if this CPU is not busy with them.
#[inline(always)]
fn round(now_ns: u64) -> Counter {
    if maps::admit_round(now_ns) { Counter::FragmentWaited } else { Counter::PassFragment }
}

#[inline(always)]
fn key(network: &Network) -> FragmentKey {
    FragmentKey {
        source: network.source,
        destination: network.destination,
        id: network.piece.id,
        protocol: network.protocol,
        _pad: [0; 3],
    }
}
