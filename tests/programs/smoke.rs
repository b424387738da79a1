// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One connection through hand-written maps.

use lab::wire::{Family, Kind};
use lb_agent::datapath::{Datapath as _, kernel, load::Outcome};
use lb_common::counter::Counter;
use serde_json::Value;

use crate::bed::{Bed, VIP, apply, await_load, connect, listen, web};

#[test]
fn a_connection_to_a_cluster_ip_reaches_the_backend_and_is_forgotten_when_closed() {
    let bed = Bed::new();
    let mut agent = bed.open().unwrap();
    assert_eq!(*agent.outcome(), Outcome::Fresh);
    apply(&mut agent, &web());
    agent.attach().unwrap();

    let pod = bed.driver();
    let listener = listen(&pod);
    let client = connect(&pod, VIP);
    let (accepted, from) = pod.accept(listener).unwrap();
    assert_eq!(pod.sock_name(client).unwrap(), from);
    assert_eq!(agent.load(1), 1);

    let records = kernel::sockets(agent.maps()).unwrap();
    assert_eq!(records.len(), 1, "the accepted socket has dialled nothing");
    assert_eq!(records[0].owner, pod.cookie(client).unwrap());
    assert_eq!(records[0].connected.address.to_ip(), VIP.0);
    assert_eq!(records[0].connected.backend, 1);

    pod.close(client).unwrap();
    pod.close(accepted).unwrap();
    await_load(&agent, 0);
    assert!(kernel::sockets(agent.maps()).unwrap().is_empty());
    let counters = kernel::counters(agent.maps()).unwrap();
    let of = |wanted| counters.iter().find(|(counter, _)| *counter == wanted).unwrap().1;
    assert_eq!(of(Counter::Translated), 1);
    assert_eq!(of(Counter::Released), 1);
}

#[test]
fn a_service_without_endpoints_refuses_and_others_pass() {
    let bed = Bed::new();
    let mut agent = bed.open().unwrap();
    apply(&mut agent, &web());
    let empty = lb_common::service::SetWord::REFUSE;
    apply(&mut agent, &[lb_agent::plan::op::Op::Inside { index: 1, set: empty }]);
    agent.attach().unwrap();

    let pod = bed.driver();
    let client = pod.open(Kind::Tcp, Family::V4).unwrap();
    assert_eq!(pod.connect(client, VIP.into()).unwrap_err().name, "ECONNREFUSED");
    let counters = kernel::counters(agent.maps()).unwrap();
    assert!(counters.contains(&(Counter::RefusedNoEndpoints, 1)));
    assert_eq!(agent.load(1), 0);
}

#[test]
fn bpftool_prints_the_maps_with_names_and_plain_numbers() {
    let bed = Bed::new();
    let (_agent, pod, _listener) = bed.serving();
    connect(&pod, VIP);
    let values = |map: &str| -> Vec<Value> {
        let dump: Value = serde_json::from_str(&bed.dump(map)).unwrap();
        let entries = dump.as_array().unwrap().iter();
        entries.map(|entry| entry["formatted"]["value"].clone()).collect()
    };
    let service = &values("SERVICES")[1];
    assert_eq!((&service["flags"], &service["id"]), (&Value::from(0), &Value::from(1)));
    let backend = &values("BACKENDS")[1];
    assert_eq!((&backend["flags"], &backend["life"]["state"]), (&Value::from(1), &Value::from(1)));
    assert_eq!(values("SLOTS")[1]["backend"], 1);
    assert_eq!(values("BACKEND_LOAD")[1]["sockets"], 1);
    let sockets = values("SOCKETS");
    let record = sockets.iter().find(|record| record["owner"] != 0).unwrap();
    assert_eq!(record["held"], 1, "{record}");
}
