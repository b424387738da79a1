// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `explain` says of an address that is no frontend: what is the matter with it, as far
//! as the maps know.

use lb_common::{addr::Addr, counter::Counter, range::CidrRule, verdict::Verdict};

use super::question::{From, Target};
use crate::{cli::output, plan::tables::Tables};

/// What was looked at, what was found, and the rule.
pub(super) type Step = (&'static str, String, &'static str);

/// Whether a verdict is about a Service.
pub(super) const fn is_somebodys(verdict: &Verdict) -> bool {
    !matches!(verdict, Verdict::Pass(_))
        && !matches!(verdict.reason(), Counter::RefusedUnknownPort | Counter::DroppedFreeAddress)
}

/// The verdict in one line. `serves`: the address has frontends, with other ports.
pub(super) fn verdict(
    tables: &Tables,
    target: Target,
    from: From,
    reason: Counter,
    serves: bool,
) -> String {
    let address = target.address.ip();
    match reason {
        Counter::RefusedUnknownPort => format!(
            "is refused: {address} is a ClusterIP, but not with this port and protocol (CIP-04)"
        ),
        Counter::DroppedFreeAddress => {
            let cidr = tables.cidr_of(address.into()).map(|(cidr, _)| cidr).unwrap_or_default();
            let cidr = output::prefix(cidr.address, cidr.prefix_len);
            format!(
                "gets no answer: {address} is in ServiceCIDR {cidr}, and no Service has it (CIP-05)"
            )
        }
        Counter::PassNodePortElsewhere if from == From::Outside && address.is_loopback() => {
            "passes untouched: loopback of a client outside is the client itself (NP-05)".to_owned()
        }
        Counter::PassNodePortElsewhere if from != From::Host && address.is_loopback() => {
            "passes untouched: loopback in a pod is the pod, not the node (NP-05)".to_owned()
        }
        Counter::PassNodePortElsewhere => format!(
            "passes untouched: {} is a NodePort, but {address} is not one of this node's NodePort addresses (NP-07)",
            target.address.port(),
        ),
        _ if serves => format!(
            "passes untouched: {address} is a Service's address, but not with this port and protocol (CIP-04)"
        ),
        _ => "passes untouched: no Service has this address and port (SOC-10)".to_owned(),
    }
}

/// What else is worth knowing.
pub(super) fn steps(tables: &Tables, target: Target, reason: Counter, serves: bool) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    if reason == Counter::PassNodePortElsewhere {
        let addresses: Vec<_> = tables.node_addresses.iter().map(Addr::to_string).collect();
        steps.push(("node ports", format!("answer on {}", addresses.join(", ")), "NP-02"));
    }
    if reason == Counter::DroppedFreeAddress {
        let found = "a Service of another proxy (label service.kubernetes.io/service-proxy-name) is not known here; --guard-cluster-ips=false leaves its address alone";
        steps.push(("unknown", found.to_owned(), "SVC-02"));
    } else if reason == Counter::PassNoFrontend && !serves {
        let cidrs = tables.service_cidrs.iter();
        let cidrs = cidrs.filter(|(_, rule)| **rule == CidrRule::SERVICE_CIDR);
        let cidrs: Vec<_> =
            cidrs.map(|(cidr, _)| output::prefix(cidr.address, cidr.prefix_len)).collect();
        if !cidrs.is_empty() && !target.address.ip().is_loopback() {
            steps.push(("ClusterIPs", format!("are in {}", cidrs.join(", ")), "CIP-05"));
        }
        let found = "the maps hold what is served here: no load balancer address with ipMode Proxy, no Service of another proxy (label service.kubernetes.io/service-proxy-name), no externalIP while --external-ips=false";
        steps.push(("unknown", found.to_owned(), "LB-02, SVC-02, XIP-04"));
    }
    steps
}
