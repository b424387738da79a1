// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where ClusterIPs are, so that what goes there and to no frontend can be told from all else
//! with one look-up (CIP-04 to CIP-06).
//!
//! SERVICE_CIDRS holds every ServiceCIDR, and for ClusterIPs that are in none of them the
//! longest prefix of each family that holds them all: no Service changes it as long as all
//! ClusterIPs are where they belong.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::{
    addr::Addr,
    range::{CidrKey, CidrRule},
};

use super::port::Frontend;

/// ServiceCIDRs, ClusterIPs outside of them, and what follows for SERVICE_CIDRS.
#[derive(Clone, Debug, Default)]
pub struct ClusterIps {
    cidrs: BTreeSet<CidrKey>,
    outside: BTreeSet<Addr>,
    rules: BTreeMap<CidrKey, CidrRule>,
}

impl ClusterIps {
    /// What SERVICE_CIDRS should hold.
    pub const fn rules(&self) -> &BTreeMap<CidrKey, CidrRule> {
        &self.rules
    }

    /// The ServiceCIDRs are now these. `known` is every frontend.
    pub fn put_cidrs<'a>(
        &mut self,
        cidrs: BTreeSet<CidrKey>,
        known: impl Iterator<Item = &'a Frontend>,
    ) {
        if self.cidrs == cidrs {
            return;
        }
        self.cidrs = cidrs;
        self.outside.clear();
        for frontend in known {
            self.put(frontend, true);
        }
    }

    /// A frontend is there, or gone; only those for all ports of a ClusterIP matter.
    pub fn put(&mut self, frontend: &Frontend, is_known: bool) {
        let Some(address) = frontend.any_port_of() else { return };
        if !is_known {
            self.outside.remove(&address);
        } else if !self.cidrs.iter().any(|cidr| cidr.contains(address)) {
            self.outside.insert(address);
        }
    }

    /// Draws the conclusions; whether they are others than before.
    pub fn settle(&mut self) -> bool {
        let inside = self.cidrs.iter().map(|cidr| (*cidr, CidrRule::SERVICE_CIDR));
        let rest = families().into_iter().filter_map(|(first, last)| {
            let mut own = self.outside.range(first..=last);
            let first = own.next()?;
            Some((common(*first, *own.next_back().unwrap_or(first)), CidrRule::CLUSTER_IPS))
        });
        let rules = rest.chain(inside).collect();
        let changed = self.rules != rules;
        self.rules = rules;
        changed
    }
}

/// The longest prefix that two addresses have in common.
fn common(one: Addr, other: Addr) -> CidrKey {
    let [one, other] = [one, other].map(|address| u128::from_be_bytes(address.octets));
    let bits = (one ^ other).leading_zeros();
    let mask = u128::MAX.checked_shl(Addr::BITS - bits).unwrap_or(0);
    CidrKey::prefix(Addr { octets: (one & mask).to_be_bytes() }, bits)
}

/// The first and last address of each family, in the order of addresses; what is below the
/// mapped ones is no Service's.
fn families() -> [(Addr, Addr); 2] {
    let at = |high: u128, low: u32| Addr { octets: (high << 32 | u128::from(low)).to_be_bytes() };
    let mapped = 0xffff_u128;
    let last = Addr { octets: [u8::MAX; 16] };
    [(at(mapped, 0), at(mapped, u32::MAX)), (at(mapped + 1, 0), last)]
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn any_port(text: &str) -> Frontend {
        Frontend::any_port(text.parse::<IpAddr>().unwrap()).unwrap()
    }

    fn shown(ips: &ClusterIps) -> Vec<(String, u32, u32)> {
        let rules = ips.rules().iter();
        rules.map(|(key, rule)| (key.address.to_string(), key.prefix_len, rule.rule)).collect()
    }

    #[test]
    fn cip_06_cluster_ips_outside_of_every_service_cidr_have_a_prefix_of_their_own() {
        let mut ips = ClusterIps::default();
        for text in ["10.96.0.1", "10.96.3.7", "fd00:96::1"] {
            ips.put(&any_port(text), true);
        }
        assert!(ips.settle());
        let six = ("fd00:96::1".to_owned(), 128, 2);
        assert_eq!(shown(&ips), [("10.96.0.0".to_owned(), 96 + 22, 2), six.clone()]);
        assert!(!ips.settle(), "nothing new");
        let cidr = CidrKey::prefix("10.96.0.0".parse::<IpAddr>().unwrap().into(), 96 + 24);
        let known = [any_port("10.96.0.1"), any_port("10.96.3.7"), any_port("fd00:96::1")];
        ips.put_cidrs([cidr].into(), known.iter());
        ips.settle();
        let four = ("10.96.3.7".to_owned(), 128, 2);
        assert_eq!(shown(&ips), [("10.96.0.0".to_owned(), 96 + 24, 1), four, six]);
        for frontend in &known {
            ips.put(frontend, false);
        }
        ips.settle();
        assert_eq!(shown(&ips), [("10.96.0.0".to_owned(), 96 + 24, 1)]);
    }

    #[test]
    fn addresses_of_all_kinds_have_nothing_in_common() {
        let mut ips = ClusterIps::default();
        for text in ["1.0.0.1", "203.0.113.1", "2001:db8::1", "fd00::1"] {
            ips.put(&any_port(text), true);
        }
        ips.settle();
        assert_eq!(shown(&ips), [("::".to_owned(), 0, 2), ("0.0.0.0".to_owned(), 96, 2)]);
    }
}
