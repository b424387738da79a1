// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a row of the packet table is, and how it is played.

use std::{collections::BTreeMap, fmt::Write as _};

use lb_common::counter::Counter;

use crate::{
    frame::{ETHERNET, GATEWAY, NODE, PEER, UPLINK},
    node::{Hook, Node, Ran},
};

/// A row: packets one after the other, with nothing remembered from the row before.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) steps: Vec<Step>,
}

/// One packet and what becomes of it.
#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) hook: Hook,
    pub(crate) packet: Vec<u8>,
    pub(crate) action: i32,
    pub(crate) becomes: Vec<u8>,
    pub(crate) counted: &'static [Counter],
}

impl Row {
    /// Plays the row on a node without flows.
    pub(crate) fn play(&self, node: &mut Node) {
        node.forget_flows();
        for (number, step) in self.steps.iter().enumerate() {
            let ran = node.run(step.hook, &step.packet);
            let place = format!("{}, packet {number} at {:?}", self.name, step.hook);
            let mut counted = BTreeMap::new();
            for counter in step.counted {
                *counted.entry(*counter).or_insert(0) += 1;
            }
            assert_eq!(ran.counted, counted, "{place}: what is counted");
            assert_eq!(ran.action, step.action, "{place}: the action");
            let becomes = with_way(&ran, step.becomes.clone());
            assert_eq!(hex(&ran.bytes), hex(&becomes), "{place}: the packet");
        }
    }
}

/// What a packet becomes whose next hop the program writes, if it knows it; else the kernel does,
/// as it sends the packet.
fn with_way(ran: &Ran, mut becomes: Vec<u8>) -> Vec<u8> {
    let (came, sent) = ([NODE, UPLINK].map(|to| [to, PEER].concat()), [GATEWAY, UPLINK].concat());
    if ran.action != REDIRECT || !ran.bytes.starts_with(&sent) {
        return becomes;
    }
    let had_none = becomes.starts_with(&[0; ETHERNET]);
    if had_none || came.iter().any(|came| becomes.starts_with(came)) {
        becomes[..sent.len()].copy_from_slice(&sent);
    }
    if had_none {
        let kind = if becomes[ETHERNET] >> 4 == 4 { IPV4 } else { IPV6 };
        becomes[sent.len()..ETHERNET].copy_from_slice(&kind);
    }
    becomes
}

/// Bytes as a person compares them, with a gap after the Ethernet header.
fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (at, byte) in bytes.iter().enumerate() {
        let gap = if at == ETHERNET { " " } else { "" };
        write!(text, "{gap}{byte:02x}").unwrap();
    }
    text
}

/// TC_ACT_UNSPEC: the next program, and the stack.
pub(crate) const NEXT: i32 = -1;
/// TC_ACT_SHOT.
pub(crate) const DROP: i32 = 2;
/// TC_ACT_REDIRECT.
pub(crate) const REDIRECT: i32 = 7;
/// EtherTypes.
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
