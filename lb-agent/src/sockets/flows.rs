// SPDX-License-Identifier: Apache-2.0 OR MIT
//! UDP flows of clients outside whose frontend does not lead to their backend any more: taken out
//! of FLOWS, so that the next datagram begins another.
//!
//! A program sees by itself when a flow's backend is gone. It does not see that one has left a
//! service port while another Service goes on with it.

use std::{io, path::Path};

use lb_common::{
    flow::{FlowEntry, FlowFlags, FlowKey},
    protocol::Protocol,
};

use crate::{
    datapath::{load, syscall},
    plan::stale::Ledger,
};

/// Takes out what is stale (CT-02): how many flows of IPv4, and of IPv6.
///
/// # Errors
/// The kernel's, for a map that cannot be read or written.
pub(super) fn forget(bpf_root: &Path, ledger: &Ledger) -> io::Result<(u64, u64)> {
    if !load::flows_pin(bpf_root).exists() {
        return Ok((0, 0));
    }
    let mut flows = load::open_flows(bpf_root).map_err(io::Error::other)?;
    // A program that read the old set may not have written its flow yet.
    syscall::wait_for_grace();
    let mut stale = Vec::new();
    flows.read_all(|keys, halves| {
        let found = keys.iter().zip(halves).filter(|(key, half)| is_stale(ledger, key, half));
        stale.extend(found.map(|(key, half)| (*key, half.other_key())));
        Ok(())
    })?;
    let v4 = stale.iter().filter(|(key, _)| key.source.to_v4().is_some()).count() as u64;
    let all = stale.len() as u64;
    let halves: Vec<_> = stale.into_iter().flat_map(|(key, other)| [key, other]).collect();
    flows.remove_all(&halves).map_err(|failed| failed.source)?;
    Ok((v4, all - v4))
}

/// Whether a half is the forward one of a flow of datagrams that must look for another backend.
fn is_stale(ledger: &Ledger, key: &FlowKey, half: &FlowEntry) -> bool {
    key.protocol == Protocol::UDP
        && !half.flags().contains(FlowFlags::REPLY)
        && ledger.is_stale(
            &(key.destination, key.destination_port),
            &(half.to.destination, half.to.destination_port),
        )
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, num::NonZeroU16};

    use lb_common::be::Be16;

    use super::*;
    use crate::{
        model::Family,
        plan::{
            port::{Frontend, PortName},
            stale::{Peer, Search, Served},
        },
    };

    fn at(text: &str) -> Peer {
        let at: SocketAddr = text.parse().unwrap();
        (at.ip().into(), Be16::from_host(at.port()))
    }

    /// CT-02, CT-07: by the service port that was dialled, whoever else has the endpoint.
    #[test]
    fn ct_02_a_flow_is_stale_when_its_own_port_has_lost_the_endpoint() {
        let mut ledger = Ledger::default();
        for (number, serving) in [(80, "10.1.0.2:8080"), (81, "10.1.0.1:8080")] {
            let number = NonZeroU16::new(number).unwrap();
            let frontend = Frontend::new([192, 0, 2, 1].into(), number, Protocol::UDP);
            let served =
                Served { frontends: [frontend.unwrap()].into(), serving: [at(serving)].into() };
            let name = PortName { text: number.to_string().into(), family: Family::V4 };
            ledger.update((name, Some(served)), &mut Search::default());
        }
        let stale = |dialled: &str, protocol, backend: &str, flags: FlowFlags| {
            let client = at("203.0.113.7:4000");
            let key = FlowKey::new(client, at(dialled), protocol);
            let to = FlowKey::new(client, at(backend), protocol);
            let half = FlowEntry { to, flags: flags.bits(), ..FlowEntry::default() };
            is_stale(&ledger, &key, &half)
        };
        let none = FlowFlags::empty();
        assert!(stale("192.0.2.1:80", Protocol::UDP, "10.1.0.1:8080", none));
        assert!(!stale("192.0.2.1:80", Protocol::UDP, "10.1.0.2:8080", none));
        assert!(!stale("192.0.2.1:81", Protocol::UDP, "10.1.0.1:8080", none));
        assert!(!stale("192.0.2.1:82", Protocol::UDP, "10.1.0.1:8080", none), "nobody's");
        assert!(!stale("192.0.2.1:80", Protocol::TCP, "10.1.0.1:8080", none));
        assert!(!stale("192.0.2.1:80", Protocol::UDP, "10.1.0.1:8080", FlowFlags::REPLY));
    }
}
