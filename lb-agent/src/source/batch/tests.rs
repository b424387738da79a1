// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::time::Duration;

use super::*;
use crate::{
    model::{
        ObjectName,
        change::{NodeObject, Object},
        service::Service,
        snapshot::{Snapshot, Touched},
    },
    source::addresses::AddressChoice,
};

fn gate() -> Gate {
    let node_ports =
        NodePortAddresses { choice: AddressChoice::Primary, localhost: false, primary: None };
    Gate::new(node_ports, UplinkChoice::Found)
}

fn services() -> Message {
    let listing = Listing { services: Some(Vec::new()), ..Listing::default() };
    Message::Change(Change::Replace(Box::new(listing)))
}

fn slices() -> Message {
    let listing = Listing { slices: Some(Vec::new()), ..Listing::default() };
    Message::Change(Change::Replace(Box::new(listing)))
}

fn service_cidrs() -> Message {
    let listing = Listing { service_cidrs: Some(Vec::new()), ..Listing::default() };
    Message::Change(Change::Replace(Box::new(listing)))
}

fn pods() -> Message {
    let listing = Listing { pods: Some(Vec::new()), ..Listing::default() };
    Message::Change(Change::Replace(Box::new(listing)))
}

fn object(addresses: &[&str]) -> NodeObject {
    let addresses = addresses.iter().map(|it| it.parse().unwrap()).collect();
    NodeObject { node: Node { addresses, ..Node::named("n1") }, issues: Vec::new() }
}

fn node(addresses: &[&str]) -> Message {
    let listing = Listing { node: Some(object(addresses)), ..Listing::default() };
    Message::Change(Change::Replace(Box::new(listing)))
}

fn interfaces(addresses: &[&str]) -> Message {
    let addresses = addresses.iter().map(|it| (1, it.parse().unwrap())).collect();
    Message::Interfaces(Interfaces { addresses, ..Interfaces::default() })
}

/// The end of a Service: any change will do.
fn change(name: &str) -> Change {
    Change::Service(Object::<Service>::gone(ObjectName::new("default", name)))
}

fn passed(gate: &mut Gate, message: Message) -> Vec<Change> {
    let mut batch = Vec::new();
    gate.pass(message, &mut batch);
    batch
}

#[test]
fn syn_01_nothing_leaves_before_everything_is_known_in_any_order() {
    let parts: [fn() -> Message; 6] =
        [services, slices, service_cidrs, pods, || node(&[]), || interfaces(&["192.0.2.1"])];
    for last in 0..parts.len() {
        let mut gate = gate();
        for part in (0..parts.len()).filter(|at| *at != last) {
            assert_eq!(passed(&mut gate, parts[part]()), []);
        }
        assert_eq!(passed(&mut gate, Message::Change(change("late"))), []);
        let batch = passed(&mut gate, parts[last]());
        let Change::Replace(listing) = &batch[0] else { panic!("{batch:?}") };
        assert!(listing.is_complete());
        assert_eq!(batch[1], change("late"));
        assert!(matches!(&batch[2], Change::Uplinks(_)), "{batch:?}");
        assert!(matches!(&batch[3], Change::NodeAddresses(_)), "{batch:?}");
        assert_eq!(batch.len(), 4);
    }
}

#[test]
fn a_relist_of_one_kind_before_all_are_listed_follows_the_first() {
    let mut gate = gate();
    for message in [services(), services(), slices(), service_cidrs(), pods(), node(&[])] {
        assert_eq!(passed(&mut gate, message), []);
    }
    let batch = passed(&mut gate, interfaces(&[]));
    let mut snapshot = Snapshot::default();
    assert_eq!(snapshot.apply(batch[0].clone()), Touched::All);
    let Change::Replace(again) = &batch[1] else { panic!("{batch:?}") };
    assert!(again.services.is_some() && again.slices.is_none());
}

#[test]
fn np_12_node_addresses_follow_the_interfaces_and_the_node() {
    let mut gate = gate();
    for message in [services(), slices(), service_cidrs(), pods(), node(&["192.0.2.1"])] {
        passed(&mut gate, message);
    }
    let addresses = |batch: Vec<Change>| match batch.into_iter().next_back() {
        Some(Change::NodeAddresses(found)) => found.iter().map(ToString::to_string).collect(),
        _ => vec!["unchanged".to_owned()],
    };
    let both = ["192.0.2.1", "192.0.2.2"];
    assert_eq!(addresses(passed(&mut gate, interfaces(&both))), ["192.0.2.1"]);
    assert_eq!(addresses(passed(&mut gate, interfaces(&["192.0.2.1"]))), ["unchanged"]);
    assert_eq!(addresses(passed(&mut gate, interfaces(&both))), ["unchanged"]);
    let moved = Message::Change(Change::Node(object(&["192.0.2.2"])));
    assert_eq!(addresses(passed(&mut gate, moved)), ["192.0.2.2"]);
    assert_eq!(addresses(passed(&mut gate, interfaces(&[]))), Vec::<String>::new());
}

#[tokio::test]
async fn changes_are_gathered_while_the_receiver_is_busy() {
    let (sender, inbox) = mpsc::channel(100);
    let (changes, mut receiver) = mpsc::channel(1);
    let (reporter, status) = Reporter::new();
    let gathering = Batcher::new(NodePortAddresses::default(), UplinkChoice::Found, reporter);
    let running = tokio::spawn(gathering.run(inbox, changes));
    for message in [services(), slices(), service_cidrs(), pods(), node(&[]), interfaces(&[])] {
        sender.send(message).await.unwrap();
    }
    let first = tokio::time::timeout(BOUND, receiver.recv()).await.unwrap().unwrap();
    assert!(matches!(first[0], Change::Replace(_)));
    assert!(status.borrow().listed);

    let names: Vec<_> = (0..50).map(|at| change(&at.to_string())).collect();
    for name in &names {
        sender.send(Message::Change(name.clone())).await.unwrap();
    }
    drop(sender);
    let mut batches = Vec::new();
    while let Some(batch) = tokio::time::timeout(BOUND, receiver.recv()).await.unwrap() {
        batches.push(batch);
    }
    assert!(batches.len() <= 3, "{} batches", batches.len());
    assert_eq!(batches.concat(), names);
    running.await.unwrap();
}

const BOUND: Duration = Duration::from_secs(10);
