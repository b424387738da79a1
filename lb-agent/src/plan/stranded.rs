// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Service ports that a Local policy leaves without endpoints on this node (MET-08).

use std::ops::{AddAssign, SubAssign};

use lb_common::service::FrontendKind;

use super::{eligible::Role, port::Port};
use crate::model::{Family, service::TrafficPolicy};

/// How many service ports have endpoints, but none here though their policy is Local. Those
/// without any endpoint do not count.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stranded {
    ipv4: Policies,
    ipv6: Policies,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Policies {
    internal: usize,
    external: usize,
}

impl Stranded {
    /// What one service port adds.
    pub fn of(port: &Port) -> Self {
        let stranded = port.endpoints.somewhere && port.members(Role::LOCAL).next().is_none();
        let has_external = port.claims.iter().any(|(_, kind)| *kind != FrontendKind::ClusterIp);
        let internal = stranded && port.internal == TrafficPolicy::Local;
        let external = stranded && has_external && port.external == TrafficPolicy::Local;
        let policies = Policies { internal: internal.into(), external: external.into() };
        match port.owner.name.family {
            Family::V4 => Self { ipv4: policies, ..Self::default() },
            Family::V6 => Self { ipv6: policies, ..Self::default() },
        }
    }

    /// Those whose internalTrafficPolicy is Local.
    pub const fn internal(&self, family: Family) -> usize {
        self.policies(family).internal
    }

    /// Those whose externalTrafficPolicy is Local.
    pub const fn external(&self, family: Family) -> usize {
        self.policies(family).external
    }

    const fn policies(&self, family: Family) -> &Policies {
        match family {
            Family::V4 => &self.ipv4,
            Family::V6 => &self.ipv6,
        }
    }
}

impl AddAssign for Stranded {
    fn add_assign(&mut self, other: Self) {
        for (sum, more) in [(&mut self.ipv4, other.ipv4), (&mut self.ipv6, other.ipv6)] {
            sum.internal += more.internal;
            sum.external += more.external;
        }
    }
}

impl SubAssign for Stranded {
    fn sub_assign(&mut self, other: Self) {
        for (sum, less) in [(&mut self.ipv4, other.ipv4), (&mut self.ipv6, other.ipv6)] {
            sum.internal -= less.internal;
            sum.external -= less.external;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::rules::Rules,
        plan::{
            compile::compile_service,
            fixture::{endpoint, node, service, slice},
        },
    };

    /// The counts of `default/web` with these endpoints, both policies Local.
    fn stranded(endpoints: Vec<crate::plan::fixture::Build>) -> (usize, usize) {
        let mut web = service("web", &["10.96.0.1"], &["http=80"]);
        web.external_ips = vec!["192.0.2.1".parse().unwrap()];
        (web.internal_policy, web.external_policy) = (TrafficPolicy::Local, TrafficPolicy::Local);
        let slice = slice("a", &["http=80"], endpoints);
        let slices = [slice].into_iter().collect();
        let ports = compile_service(&web, &slices, &node("here", ""), Rules::default());
        let mut sum = Stranded::default();
        for port in &ports {
            sum += Stranded::of(port);
        }
        assert_eq!((sum.internal(Family::V6), sum.external(Family::V6)), (0, 0));
        (sum.internal(Family::V4), sum.external(Family::V4))
    }

    #[test]
    fn met_08_endpoints_elsewhere_only_count_and_none_at_all_do_not() {
        assert_eq!(stranded(vec![endpoint("10.0.0.1").on("there")]), (1, 1));
        assert_eq!(stranded(vec![endpoint("10.0.0.1").on("here")]), (0, 0));
        assert_eq!(stranded(vec![endpoint("10.0.0.1").on("here").draining()]), (0, 0));
        assert_eq!(stranded(vec![]), (0, 0));
        assert_eq!(stranded(vec![endpoint("10.0.0.1").on("there").down()]), (0, 0));
    }

    #[test]
    fn met_08_a_cluster_policy_and_a_service_without_external_frontends_do_not_count() {
        let mut web = service("web", &["10.96.0.1"], &["http=80"]);
        web.external_policy = TrafficPolicy::Local;
        let slice = slice("a", &["http=80"], vec![endpoint("10.0.0.1").on("there")]);
        let slices = [slice].into_iter().collect();
        for port in compile_service(&web, &slices, &node("here", ""), Rules::default()) {
            assert_eq!(Stranded::of(&port), Stranded::default());
        }
    }
}
