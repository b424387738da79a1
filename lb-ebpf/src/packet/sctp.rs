// SPDX-License-Identifier: Apache-2.0 OR MIT
//! SCTP's ports, which its checksum covers and addresses not (RFC 9260 6.8).
#![expect(unsafe_code, reason = "a global function has a name of its own")]

use lb_common::{be::Be32, crc32c, flow::FlowKey};

use super::{
    forward,
    parse::{self, Packet},
};
use crate::maps;

/// Gives a packet the ports of a tuple: whether it could be done. A packet that the kernel is to
/// cut into several has their ports where no helper reaches.
#[inline(always)]
pub(super) fn rewrite_ports(packet: &Packet, to: &FlowKey) -> Option<()> {
    let (old, new) = (forward::ports(&packet.key), forward::ports(to));
    if old == new {
        return Some(());
    }
    let checksum: Be32 = packet.bytes.load(packet.transport + CHECKSUM)?;
    let len = parse::end(packet)?.checked_sub(packet.transport)?;
    if packet.bytes.is_gso() {
        return None;
    }
    packet.bytes.store_unsummed(packet.transport, &new)?;
    // Zero says that the device computes it (NETIF_F_SCTP_CRC).
    if checksum == Be32::ZERO {
        return Some(());
    }
    let checksum = replaced(checksum, old, new, len)?;
    packet.bytes.store_unsummed(packet.transport + CHECKSUM, &checksum)
}

/// The checksum with other ports. By words through SCRATCH: a function of its own, since it takes
/// 512 steps.
#[inline(always)]
fn replaced(checksum: Be32, old: Be32, new: Be32, len: u32) -> Option<Be32> {
    let change = sctp_change(old.to_wire() ^ new.to_wire(), len);
    maps::launder(Be32::from_wire(checksum.to_wire() ^ change))
}

/// What the checksum changes by. A global function: verifiers look into it once, and not again on
/// every way that leads here.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sctp_change(ports: u32, len: u32) -> u32 {
    let Ok(len) = u16::try_from(len) else {
        return 0;
    };
    crc32c::replaced(Be32::ZERO, Be32::ZERO, Be32::from_wire(ports), len).to_wire()
}

const CHECKSUM: u32 = 8;
