// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What compiling and planning cost: by change, and of a whole cluster.
//!
//! Run with `cargo bench -p lb-agent --bench plan`. Goals: one changed slice costs at most
//! 1.5 times as much among 100 000 Services as among 10 000; a cluster of 10 000 Services
//! with 20 000 endpoints compiles in under 40 ms.

use std::{
    net::{IpAddr, Ipv4Addr},
    num::NonZeroU16,
    sync::Arc,
};

use divan::{Bencher, black_box};
use lb_agent::{
    model::{
        Family, ObjectName,
        endpoint::{Conditions, Endpoint, EndpointPort, EndpointSlice},
        node::Node,
        service::{Choice, Service, ServicePort, TrafficPolicy},
        snapshot::{Snapshot, Touched},
    },
    plan::{
        desired::{Desired, compile},
        diff::Planner,
        op::Op,
    },
};
use lb_common::protocol::Protocol;

fn main() {
    divan::main();
}

/// A slice of one Service changes: from the snapshot to confirmed ops, its leftovers too. The
/// Services take turns, so that what is touched is in no cache: what grows with the cluster
/// here and not in the next benchmark is the memory's distance, not work.
#[divan::bench(args = [10_000, 100_000], sample_count = 200, sample_size = 50)]
fn one_changed_slice(bencher: Bencher<'_, '_>, services: u32) {
    let mut world = World::new(services);
    let mut round = 0_u32;
    bencher.bench_local(|| {
        round += 1;
        // A stride that meets every Service once before it meets one again.
        let service = round.wrapping_mul(7_919) % services;
        world.change(service, round)
    });
}

/// The same of one Service again and again: the work alone.
#[divan::bench(args = [10_000, 100_000], sample_count = 200, sample_size = 50)]
fn one_changed_slice_again(bencher: Bencher<'_, '_>, services: u32) {
    let mut world = World::new(services);
    let mut round = 0_u32;
    bencher.bench_local(|| {
        round += 1;
        world.change(services / 2, round)
    });
}

#[divan::bench(args = [10_000, 50_000], sample_count = 10)]
fn compile_all(bencher: Bencher<'_, '_>, services: u32) {
    let snapshot = cluster(services);
    bencher.bench_local(|| compile(black_box(&snapshot)));
}

/// From nothing to a list of all ops.
#[divan::bench(args = [10_000, 50_000], sample_count = 10)]
fn compile_and_plan_all(bencher: Bencher<'_, '_>, services: u32) {
    let snapshot = cluster(services);
    bencher.bench_local(|| {
        let (desired, _) = compile(black_box(&snapshot));
        let capacities = desired.demand().capacities();
        let mut planner = Planner::restore(lb_agent::plan::tables::Tables::default(), capacities);
        planner.plan_all(&desired, &|_| 0)
    });
}

/// A restart, or the comparison that a timer asks for: nothing is different.
#[divan::bench(args = [10_000], sample_count = 10)]
fn restore_and_plan_nothing(bencher: Bencher<'_, '_>, services: u32) {
    let world = World::new(services);
    let capacities = world.desired.demand().capacities();
    bencher.with_inputs(|| world.planner.tables().clone()).bench_local_values(|tables| {
        let mut planner = Planner::restore(tables, capacities);
        let ops = planner.plan_all(&world.desired, &|_| 0);
        assert!(ops.is_empty());
        planner
    });
}

/// A cluster that is served.
struct World {
    snapshot: Snapshot,
    desired: Desired,
    planner: Planner,
}

impl World {
    fn new(services: u32) -> Self {
        let snapshot = cluster(services);
        let (desired, _) = compile(&snapshot);
        let capacities = desired.demand().capacities();
        let mut planner = Planner::restore(lb_agent::plan::tables::Tables::default(), capacities);
        let ops = planner.plan_all(&desired, &|_| 0);
        planner.confirm(&ops);
        assert!(!planner.is_full());
        Self { snapshot, desired, planner }
    }

    /// One of the Service's two endpoints is replaced.
    fn change(&mut self, service: u32, round: u32) -> Vec<Op> {
        let slice = slice(service, [service * 2, 0x80_0000 + round % 0x1_0000]);
        let name = slice.service.clone();
        let of = self.snapshot.slices.entry(name.clone()).or_default();
        of.insert(Arc::new(slice));
        let changed = self.desired.update(&self.snapshot, &Touched::one(name));
        let mut ops = self.planner.plan(&self.desired, &changed, &|_| 0);
        self.planner.confirm(&ops);
        let leftovers = self.planner.retire();
        self.planner.confirm(&leftovers);
        ops.extend(leftovers);
        assert!(!ops.is_empty());
        ops
    }
}

/// Services with a ClusterIP, one port and two endpoints of their own.
fn cluster(services: u32) -> Snapshot {
    let mut snapshot = Snapshot { node: Node::named("here"), ..Snapshot::default() };
    for index in 0..services {
        let slice = slice(index, [index * 2, index * 2 + 1]);
        let name = slice.service.clone();
        let service = Service {
            name: name.clone(),
            created_secs: 1,
            cluster_ips: vec![address(0x0a60_0000 + index)],
            external_ips: Vec::new(),
            load_balancer_ips: Vec::new(),
            source_ranges: Vec::new(),
            internal_policy: TrafficPolicy::Cluster,
            external_policy: TrafficPolicy::Cluster,
            affinity_secs: None,
            choice: Choice::Random,
            health_check_node_port: None,
            ports: vec![ServicePort {
                name: "http".into(),
                protocol: Protocol::TCP,
                port: PORT,
                node_port: None,
            }],
        };
        snapshot.slices.insert(name.clone(), [slice].into_iter().collect());
        snapshot.services.insert(name, Arc::new(service));
    }
    snapshot
}

/// A Service's one slice; endpoints are numbers in 11.0.0.0/8.
fn slice(service: u32, endpoints: [u32; 2]) -> EndpointSlice {
    let endpoint = |number| Endpoint {
        address: address(0x0b00_0000 + number),
        conditions: Conditions::default(),
        node: Some("there".into()),
        for_zones: Vec::new(),
        for_nodes: Vec::new(),
    };
    EndpointSlice {
        name: ObjectName::new("default", format!("service-{service}-x7k2p")),
        service: ObjectName::new("default", format!("service-{service}")),
        family: Family::V4,
        ports: vec![EndpointPort { name: "http".into(), protocol: Protocol::TCP, port: PORT }],
        endpoints: endpoints.map(endpoint).into(),
        triggered: None,
    }
}

fn address(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(number).into()
}

const PORT: NonZeroU16 = NonZeroU16::new(80).unwrap();
