// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Clusters with objects that no API server would take, from the JSON to the maps: nothing
//! panics, and every healthy Service is served as if the others were not there.
//!
//! `SLUICE_HOSTILE_CLUSTERS` says how many clusters are tried; see CONTRIBUTING.md.

use std::{collections::BTreeSet, env};

use proptest::{prelude::*, sample::Index};
use serde_json::Value;

use super::{Reconciler, tests::settle};
use crate::{
    datapath::fake::Fake,
    model::change::Change,
    plan::view::{self, View},
    source::convert::fixture,
};

mod healthy;
mod objects;

/// Objects of a cluster.
#[derive(Debug)]
struct Cluster {
    healthy: Vec<Value>,
    hostile: Vec<Value>,
    /// The order in which they come: for each object its place among those before it.
    order: Vec<Index>,
    is_manifest: bool,
    /// How many come at once.
    batch: usize,
}

impl Cluster {
    /// The changes of these objects, in the cluster's order.
    fn changes<'a>(&self, objects: impl Iterator<Item = &'a Value>) -> Vec<Change> {
        let mut changes = Vec::new();
        for (object, index) in objects.zip(self.order.iter().cycle()) {
            if let Some(change) = fixture::change(object, self.is_manifest) {
                changes.insert(index.index(changes.len() + 1), change);
            }
        }
        changes
    }

    /// What healthy Services serve, with or without the hostile ones beside them.
    fn served(&self, has_hostile: bool) -> View {
        let hostile = self.hostile.iter().filter(|_| has_hostile);
        let changes = self.changes(self.healthy.iter().chain(hostile));
        let mut reconciler = Reconciler::new(Fake::new(1));
        reconciler.take([Change::NodeAddresses(node_addresses())]);
        for batch in changes.chunks(self.batch) {
            reconciler.take(batch.iter().cloned());
            reconciler.sync().unwrap();
        }
        settle(&mut reconciler);
        let tables = &reconciler.datapath().tables;
        assert_eq!(tables.check_refs(), Vec::new());
        let view = view::of_tables(tables);
        reconciler.take(changes.iter().filter_map(fixture::gone));
        settle(&mut reconciler);
        let tables = &reconciler.datapath().tables;
        assert_eq!(tables.frontends().count() + tables.names.len(), 0, "all are gone");
        view.into_iter().filter(|(_, outcome)| outcome.name.starts_with(healthy::PREFIX)).collect()
    }
}

fn cluster() -> impl Strategy<Value = Cluster> {
    let objects = (healthy::objects(), objects::hostile());
    let order = (proptest::collection::vec(any::<Index>(), 1..8), any::<bool>(), 1..8_usize);
    (objects, order).prop_map(|((healthy, hostile), (order, is_manifest, batch))| Cluster {
        healthy,
        hostile,
        order,
        is_manifest,
        batch,
    })
}

/// This node's addresses, on which NodePorts answer.
fn node_addresses() -> BTreeSet<std::net::IpAddr> {
    ["192.0.2.10", "2001:db8::10"].map(|text| text.parse().unwrap()).into()
}

fn config() -> ProptestConfig {
    let given = env::var("SLUICE_HOSTILE_CLUSTERS").ok().and_then(|text| text.parse().ok());
    ProptestConfig { cases: given.unwrap_or(256), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    /// COL-05, COL-06, COL-07, COL-08.
    #[test]
    fn col_05_a_healthy_service_is_served_whatever_stands_beside_it(cluster in cluster()) {
        let (alone, beside) = (cluster.served(false), cluster.served(true));
        prop_assert_eq!(alone, beside);
    }
}
