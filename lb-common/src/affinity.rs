// SPDX-License-Identifier: Apache-2.0 OR MIT
//! AFFINITY and MEMBERS: ClientIP stickiness (AFF-01 to AFF-11).

use bytemuck::{Pod, Zeroable};

use crate::{addr::Addr, be::Be32};

/// Key of AFFINITY, 24 bytes.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct AffinityKey {
    /// Who the client is: its address, or [`AffinityKey::namespace`] for a socket whose
    /// source the kernel has not chosen yet (SOC-07).
    pub client: Addr,
    /// [`Service::id`](crate::service::Service::id): one pin for all frontends of a
    /// service port (AFF-03).
    pub service_id: u32,
    /// Always 0.
    pub _pad: u32,
}

/// Value of AFFINITY, 16 bytes.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct AffinityPin {
    /// Index into BACKENDS.
    pub backend: u32,
    /// The generation of that index which is meant.
    pub generation: u32,
    /// When the client last opened a connection, in nanoseconds of CLOCK_MONOTONIC.
    pub last_seen_ns: u64,
}

/// Key of MEMBERS, 8 bytes: is this backend in that service port's sets? A pin is only
/// good while it is (AFF-05). Filled for Services with affinity only.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Pod, Zeroable)]
#[repr(C)]
pub struct MemberKey {
    /// [`Service::id`](crate::service::Service::id).
    pub service_id: u32,
    /// Index into BACKENDS.
    pub backend: u32,
}

/// Value of MEMBERS, 8 bytes: bit sets of frontend kinds, `1 << FrontendKind`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct Member {
    /// Kinds whose inside set holds the backend.
    pub inside: u32,
    /// Kinds whose outside set holds the backend.
    pub outside: u32,
}

impl AffinityKey {
    /// The identity of a client that is a whole network namespace: all sockets of a pod
    /// whose source address is not chosen yet. The prefix is the discard-only block
    /// 0100::/64 (RFC 6666), which no client address can have.
    #[inline(always)]
    pub const fn namespace(cookie: u64) -> Addr {
        let [high, low]: [Be32; 2] = bytemuck::must_cast(cookie.to_be_bytes());
        Addr::from_words([DISCARD_ONLY, Be32::ZERO, high, low])
    }

    /// The namespace's cookie, if the client is a namespace.
    pub fn namespace_cookie(&self) -> Option<u64> {
        let [prefix, zero, high, low] = self.client.to_words();
        let is_namespace = prefix == DISCARD_ONLY && zero == Be32::ZERO;
        is_namespace.then(|| u64::from(high.to_host()) << 32 | u64::from(low.to_host()))
    }

    /// A key from its parts.
    #[inline(always)]
    pub const fn new(client: Addr, service_id: u32) -> Self {
        Self { client, service_id, _pad: 0 }
    }
}

impl AffinityPin {
    /// Whether the pin still holds at `now_ns` for a Service with this timeout.
    ///
    /// A `now_ns` before the pin (another CPU wrote it a moment ago) counts as fresh.
    #[inline(always)]
    pub const fn holds(&self, now_ns: u64, timeout_secs: u32) -> bool {
        now_ns.saturating_sub(self.last_seen_ns) < timeout_secs as u64 * 1_000_000_000
    }
}

/// First 32 bits of the discard-only block.
const DISCARD_ONLY: Be32 = Be32::from_host(0x0100_0000);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aff_01_a_pin_holds_until_its_timeout() {
        let pin = AffinityPin { backend: 1, generation: 1, last_seen_ns: 5_000_000_000 };
        assert!(pin.holds(5_000_000_000, 10));
        assert!(pin.holds(14_999_999_999, 10));
        assert!(!pin.holds(15_000_000_000, 10));
        assert!(pin.holds(4_000_000_000, 10), "written by another CPU a moment ago");
        assert!(pin.holds(u64::from(u32::MAX) * 1_000_000_000, u32::MAX));
    }

    #[test]
    fn a_namespace_is_no_client_address() {
        assert_eq!(AffinityKey::namespace(7).to_v4(), None);
        assert_ne!(AffinityKey::namespace(7), AffinityKey::namespace(8));
        let cookie = 0x0102_0304_0506_0708;
        let key = AffinityKey::new(AffinityKey::namespace(cookie), 1);
        assert_eq!(key.namespace_cookie(), Some(cookie));
        let key = AffinityKey::new(Addr::from_v4(Be32::from_host(0x0a00_0001)), 1);
        assert_eq!(key.namespace_cookie(), None);
    }
}
