// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which events are wanted.

use std::net::IpAddr;

use lb_common::{
    counter::Counter,
    event::{Event, EventKind},
};

use super::filter::{Filter, reason};

fn event(from: &str, counter: Counter) -> Event {
    let mut event = Event { counter: counter.index(), ..Event::default() };
    event.kind = EventKind::Dropped as u8;
    event.key.source = from.parse::<IpAddr>().unwrap().into();
    event
}

#[test]
fn what_is_asked_for_is_taken_and_nothing_else() {
    let dropped = event("203.0.113.7", Counter::DroppedSourceRange);
    assert!(Filter::default().takes_event(&dropped));
    let from = |text: &str| Filter { from: Some(text.parse().unwrap()), ..Filter::default() };
    assert!(from("203.0.113.7").takes_event(&dropped));
    assert!(from("::ffff:203.0.113.7").takes_event(&dropped));
    assert!(!from("203.0.113.8").takes_event(&dropped));
    let because = |name| Filter { reason: Some(reason(name).unwrap()), ..Filter::default() };
    assert!(because("dropped_source_range").takes_event(&dropped));
    assert!(!because("dropped_no_port").takes_event(&dropped));
    assert!(reason("weather").is_err());
}

#[test]
fn a_service_is_named_as_a_whole() {
    let filter = Filter { service: Some("default/web".to_owned()), ..Filter::default() };
    assert!(filter.takes_service(Some("default/web:http/TCP")));
    assert!(filter.takes_service(Some("default/web/TCP")));
    assert!(!filter.takes_service(Some("default/web-2:http/TCP")));
    assert!(!filter.takes_service(None));
    assert!(Filter::default().takes_service(None));
}
