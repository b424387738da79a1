// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The packet path's programs, packet by packet: BPF_PROG_TEST_RUN hands one in and shows the
//! action and what became of it. Packets are built and judged by `etherparse`, which shares no
//! code with the programs.

#[cfg(test)]
mod any;
#[cfg(test)]
mod bare;
#[cfg(test)]
#[path = "../programs/bed.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod bed;
#[cfg(test)]
mod cost;
#[cfg(test)]
mod crowd;
#[cfg(test)]
mod direct;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod frame;
#[cfg(test)]
mod maglev;
#[cfg(test)]
mod many;
#[cfg(test)]
mod mtu;
#[cfg(test)]
mod node;
#[cfg(test)]
mod odd;
#[cfg(test)]
mod pieces;
#[cfg(test)]
mod rows;
#[cfg(test)]
mod seen;
#[cfg(test)]
mod states;
#[cfg(test)]
mod table;
#[cfg(test)]
mod world;
#[cfg(test)]
mod xdp;
