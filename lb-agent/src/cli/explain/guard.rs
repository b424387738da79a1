// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `explain` says of source ranges.

use lb_common::{
    addr::Addr,
    range::{Admission, Guard, RangeKey},
};

use super::question::From;
use crate::{cli::output::range as range_text, plan::tables::Tables};

/// The ranges of a service port, or the one that admits the client, with the rule.
pub(super) fn ranges(tables: &Tables, id: u32, from: From) -> (String, &'static str) {
    let client = match from {
        From::Address(address, _) => Some(Addr::from(address)),
        From::Host => Some(Guard::NODE),
        From::Pod | From::Outside => None,
    };
    let admitted = client.and_then(|client| tables.admitted_by(&RangeKey::client(id, client)));
    match admitted {
        Some((range, Admission::LISTED)) if from != From::Host => {
            (format!("{} admits this client", range_text(&range)), "LB-06")
        }
        Some((_, Admission::VIP)) => {
            ("a range admits this node, so its own load balancer addresses too".to_owned(), "LB-09")
        }
        Some((_, Admission::NODE)) => {
            ("a range admits this node's address, which its processes have".to_owned(), "LB-06")
        }
        _ => {
            let listed = tables.ranges_of(id).filter(|(_, why)| *why == Admission::LISTED);
            let listed: Vec<_> = listed.map(|(range, _)| range_text(&range)).collect();
            (format!("only clients in {} are admitted", listed.join(", ")), "LB-06")
        }
    }
}

/// The verdict on a client that no range admits.
pub(super) fn blocked(name: &str, from: From) -> String {
    let client = match from {
        From::Address(address, _) => address.to_string(),
        From::Host | From::Pod | From::Outside => "this node's own address".to_owned(),
    };
    format!("gets no answer: {client} is in none of loadBalancerSourceRanges of {name} (LB-06)")
}
