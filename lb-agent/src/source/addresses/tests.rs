// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;

/// Interface 1 is loopback, 2 holds the default routes, 3 is another network.
fn interfaces() -> Interfaces {
    let addresses = [
        (1, "127.0.0.1"),
        (1, "::1"),
        (2, "192.0.2.1"),
        (2, "192.0.2.2"),
        (2, "2001:db8::1"),
        (2, "fe80::1"),
        (3, "10.0.0.1"),
        (3, "fd00::1"),
    ];
    Interfaces {
        addresses: addresses.iter().map(|(index, it)| (*index, it.parse().unwrap())).collect(),
        default_routes: [(Family::V4, 2), (Family::V6, 2)].into(),
        links: [(1, "lo".into()), (2, "eth0".into()), (3, "eth1".into())].into(),
    }
}

fn node(addresses: &[&str]) -> Node {
    let addresses = addresses.iter().map(|it| it.parse().unwrap()).collect();
    Node { addresses, ..Node::named("n1") }
}

/// What a choice selects, without 127.0.0.1.
fn selected(choice: &str, node: &Node, interfaces: &Interfaces) -> Vec<String> {
    let choice = choice.parse().unwrap();
    let found =
        NodePortAddresses { choice, localhost: false, primary: None }.select(node, interfaces);
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn np_02_all_is_every_address_but_loopback_and_link_local() {
    assert_eq!(
        selected("all", &node(&[]), &interfaces()),
        ["10.0.0.1", "192.0.2.1", "192.0.2.2", "2001:db8::1", "fd00::1"]
    );
}

#[test]
fn np_03_primary_is_the_first_address_of_each_family() {
    let node = node(&["192.0.2.2", "192.0.2.1", "fd00::1", "2001:db8::1"]);
    assert_eq!(selected("primary", &node, &interfaces()), ["192.0.2.2", "fd00::1"]);
}

#[test]
fn np_03_primary_without_node_addresses_is_what_holds_the_default_route() {
    let found = selected("primary", &node(&[]), &interfaces());
    assert_eq!(found, ["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
    let mut one_route = interfaces();
    one_route.default_routes = [(Family::V4, 3)].into();
    let found = selected("primary", &node(&[]), &one_route);
    assert_eq!(found, ["10.0.0.1", "2001:db8::1", "fd00::1"]);
}

#[test]
fn np_04_a_family_that_the_node_or_the_list_lacks_is_unrestricted() {
    let found = selected("primary", &node(&["192.0.2.1"]), &interfaces());
    assert_eq!(found, ["192.0.2.1", "2001:db8::1", "fd00::1"]);
    let found = selected("192.0.2.0/24", &node(&[]), &interfaces());
    assert_eq!(found, ["192.0.2.1", "192.0.2.2", "2001:db8::1", "fd00::1"]);
}

#[test]
fn np_04_ranges_select_by_family_and_one_that_matches_nothing_selects_nothing() {
    let found = selected("10.0.0.0/8, 192.0.2.2/32,fd00::/8", &node(&[]), &interfaces());
    assert_eq!(found, ["10.0.0.1", "192.0.2.2", "fd00::1"]);
    let found = selected("203.0.113.0/24,fd00::/8", &node(&[]), &interfaces());
    assert_eq!(found, ["fd00::1"]);
    let found = selected("0.0.0.0/0,203.0.113.0/24,::/0", &node(&[]), &interfaces());
    assert_eq!(found, selected("all", &node(&[]), &interfaces()));
}

#[test]
fn np_05_localhost_is_127_0_0_1_where_the_choice_lets_it() {
    let with_localhost = |choice: &str| {
        let choice = choice.parse().unwrap();
        let found = NodePortAddresses { choice, localhost: true, primary: None }
            .select(&node(&[]), &interfaces());
        assert!(!found.contains(&"::1".parse().unwrap()));
        found.contains(&"127.0.0.1".parse().unwrap())
    };
    assert!(with_localhost("primary"));
    assert!(with_localhost("all"));
    assert!(with_localhost("fd00::/8"));
    assert!(with_localhost("127.0.0.0/8"));
    assert!(!with_localhost("192.0.2.0/24"));
    assert_eq!(selected("127.0.0.0/8,fd00::/8", &node(&[]), &interfaces()), ["fd00::1"]);
}

#[test]
fn np_07_an_address_that_is_not_local_is_not_taken() {
    let found = selected("primary", &node(&["203.0.113.1", "2001:db8::1"]), &interfaces());
    assert_eq!(found, ["2001:db8::1"]);
}

#[test]
fn cfg_05_a_choice_is_one_word_or_cidrs() {
    for text in ["primary", "all", "192.0.2.0/24,fd00::/8"] {
        assert_eq!(text.parse::<AddressChoice>().unwrap().to_string(), text);
    }
    assert_eq!("192.0.2.7/24".parse::<AddressChoice>().unwrap().to_string(), "192.0.2.0/24");
    for text in ["", "primary,192.0.2.0/24", "192.0.2.1", "PRIMARY"] {
        let told = text.parse::<AddressChoice>().unwrap_err().to_string();
        assert!(told.contains("CFG-05"), "{told}");
    }
}

#[test]
fn hcn_02_a_family_without_a_range_or_with_all_of_it_is_unrestricted() {
    for (text, families) in [
        ("primary", [false, false]),
        ("all", [true, true]),
        ("192.0.2.0/24", [false, true]),
        ("192.0.2.0/24,::/0", [false, true]),
        ("fd00::/8,10.0.0.0/8", [false, false]),
    ] {
        let addresses =
            NodePortAddresses { choice: text.parse().unwrap(), localhost: false, primary: None };
        assert_eq!(Family::ALL.map(|family| addresses.is_unrestricted(family)), families, "{text}");
    }
}

/// CFG-06: it binds nothing, and says nothing of the other family.
#[test]
fn cfg_06_bind_address_overrides_the_nodes_primary_address_of_its_family() {
    let interfaces = Interfaces {
        addresses: ["192.0.2.1", "192.0.2.2", "fd00::1"]
            .map(|address| (1, address.parse().unwrap()))
            .into(),
        ..Interfaces::default()
    };
    let node = node(&["192.0.2.1", "fd00::1"]);
    let select = |primary: &str| {
        let primary = Some(primary.parse().unwrap());
        let choice = AddressChoice::Primary;
        let found = NodePortAddresses { choice, localhost: false, primary };
        found.select(&node, &interfaces).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(select("192.0.2.2"), ["192.0.2.2", "fd00::1"]);
    assert_eq!(select("192.0.2.9"), ["fd00::1"], "not an address of this node");
}

/// The names of the devices that lead outside, and the node's own addresses there.
fn uplinks(choice: &UplinkChoice, node: &Node, interfaces: &Interfaces) -> (String, String) {
    let found = NodePortAddresses::default().uplinks(choice, node, interfaces);
    let names: Vec<_> = found.devices.values().map(ToString::to_string).collect();
    let v4 = found.v4.map(|it| it.to_string());
    let own: Vec<_> = v4.into_iter().chain(found.v6.map(|it| it.to_string())).collect();
    (names.join(" "), own.join(" "))
}

fn pair(devices: &str, own: &str) -> (String, String) {
    (devices.to_owned(), own.to_owned())
}

#[test]
fn clients_outside_come_through_default_routes_and_the_nodes_addresses() {
    let found = UplinkChoice::Found;
    let here = interfaces();
    assert_eq!(uplinks(&found, &node(&[]), &here), pair("eth0", "192.0.2.1 2001:db8::1"));
    let known = node(&["10.0.0.1", "fd00::1"]);
    assert_eq!(uplinks(&found, &known, &here), pair("eth0 eth1", "10.0.0.1 fd00::1"));
    let looped = node(&["127.0.0.1"]);
    assert_eq!(uplinks(&found, &looped, &here).0, "eth0", "loopback is no way outside");
    let mut isolated = here;
    isolated.default_routes.clear();
    assert_eq!(uplinks(&found, &node(&[]), &isolated).0, "");
}

#[test]
fn devices_can_be_named_and_need_not_be_there_yet() {
    let named = UplinkChoice::Named(vec!["eth1".to_owned(), "eth9".to_owned()]);
    let mut here = interfaces();
    assert_eq!(uplinks(&named, &node(&[]), &here).0, "eth1");
    here.links.insert(9, "eth9".into());
    assert_eq!(uplinks(&named, &node(&[]), &here).0, "eth1 eth9");
}
