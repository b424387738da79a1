// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who may reach a Service's load balancer addresses (LB-06 to LB-09). Pure.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use ipnet::IpNet;
use lb_common::{
    addr::Addr,
    range::{Admission, CidrKey, Guard},
};

use crate::model::{Family, node::Node, service::Service};

/// The clients that a family's load balancer addresses admit, sorted; `None` for everybody:
/// there are no such addresses, or no ranges of this family (LB-08).
///
/// A host process whose source the kernel has not chosen yet is judged by the node's primary
/// address. One whose source is the VIP, since the VIP is an address of this node, may come
/// in if the node may (LB-09).
pub fn admitted(
    service: &Service,
    family: Family,
    node: &Node,
) -> Option<Arc<[(CidrKey, Admission)]>> {
    let of_family = |address: &IpAddr| Family::of(*address) == family;
    let mut vips = service.load_balancer_ips.iter().copied().filter(of_family).peekable();
    vips.peek()?;
    let ranges = service.source_ranges.iter().filter(|range| of_family(&range.addr()));
    let mut admitted: BTreeMap<_, _> =
        ranges.clone().map(|range| (prefix(range), Admission::LISTED)).collect();
    if admitted.is_empty() {
        return None;
    }
    let own = primary(family, node);
    if ranges.clone().any(|range| range.contains(&own)) {
        for vip in vips {
            admitted.entry(CidrKey::address(vip.into())).or_insert(Admission::VIP);
        }
        admitted.insert(CidrKey::address(Guard::NODE), Admission::NODE);
    }
    Some(admitted.into_iter().collect())
}

/// A network as the maps hold it: an IPv4 prefix is 96 bits longer.
pub fn prefix(network: &IpNet) -> CidrKey {
    let more = if network.addr().is_ipv4() { Addr::V4_BITS } else { 0 };
    CidrKey::prefix(network.network().into(), u32::from(network.prefix_len()) + more)
}

/// The node's address of a family; loopback if that is not known (LB-09).
fn primary(family: Family, node: &Node) -> IpAddr {
    let own = node.addresses.iter().copied().find(|address| Family::of(*address) == family);
    own.unwrap_or(match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixture::service;

    /// What a Service with these ranges and VIPs of both families admits.
    fn admits(ranges: &[&str], family: Family, node: &[&str]) -> Option<Vec<(String, u32)>> {
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let mut service = service("web", &["10.96.0.1", "fd00:96::1"], &["http=80"]);
        service.load_balancer_ips = parse(&["198.51.100.1", "2001:db8:1::1"]);
        service.source_ranges = ranges.iter().map(|text| text.parse().unwrap()).collect();
        let node = Node { addresses: parse(node), ..Node::named("n1") };
        let admitted = admitted(&service, family, &node)?;
        let text = |key: &CidrKey| format!("{}/{}", key.address, key.prefix_len);
        Some(admitted.iter().map(|(key, why)| (text(key), why.reason)).collect())
    }

    #[test]
    fn lb_06_lb_08_ranges_are_a_familys_own() {
        assert_eq!(
            admits(&["10.0.0.0/8", "192.0.2.1/32"], Family::V4, &["172.16.0.1"]),
            Some(vec![("10.0.0.0/104".to_owned(), 1), ("192.0.2.1/128".to_owned(), 1)])
        );
        assert_eq!(admits(&["10.0.0.0/8"], Family::V6, &[]), None);
        assert_eq!(admits(&[], Family::V4, &[]), None);
        assert_eq!(
            admits(&["10.0.0.0/8", "fd00::/8"], Family::V6, &[]),
            Some(vec![("fd00::/8".to_owned(), 1)])
        );
    }

    #[test]
    fn lb_09_where_the_node_may_come_in_its_vip_may() {
        let node = ["10.0.0.1", "fd00::1"];
        assert_eq!(
            admits(&["10.0.0.0/8"], Family::V4, &node),
            Some(vec![
                ("10.0.0.0/104".to_owned(), 1),
                ("198.51.100.1/128".to_owned(), 2),
                ("100::1/128".to_owned(), 3)
            ])
        );
        let unknown = admits(&["127.0.0.0/8"], Family::V4, &["fd00::1"]).unwrap();
        assert_eq!(unknown.len(), 3, "loopback stands for an unknown address: {unknown:?}");
    }
}
