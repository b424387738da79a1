// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The events of a watch become changes.

use kube::{Resource, runtime::watcher::Event};
use tokio::time::Instant;

use crate::{
    model::change::{Change, Listing, Object},
    source::convert::object_name,
};

/// Takes up the events of one watch, in order.
pub(super) trait Follower<K>: Send {
    /// What the event changes, if it is known by now. A list says nothing until its end, then
    /// everything (SYN-01).
    fn take(&mut self, event: Event<K>) -> Option<Change>;

    /// What is to be said when the server has no such objects, or does not give them. `None`:
    /// they cannot be done without, or something was said already.
    fn refused(&mut self) -> Option<Change> {
        None
    }

    /// What does not work without such objects; `None`: nothing does.
    fn lost_without(&self) -> Option<&'static str> {
        None
    }

    /// When [`Self::expire`] is to be called, if at all.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// What is to be said when the deadline has passed.
    fn expire(&mut self) -> Option<Change> {
        None
    }
}

type Convert<K, T> = Box<dyn Fn(&K) -> Object<T> + Send + Sync>;

/// Follows objects of which there may be any number.
pub(super) struct Objects<K, T> {
    convert: Convert<K, T>,
    change: fn(Object<T>) -> Change,
    listing: fn(Vec<Object<T>>) -> Listing,
    /// What was listed so far.
    listed: Vec<Object<T>>,
    /// What does not work without them, if they can be done without.
    lost: Option<&'static str>,
    /// Whether a list, or that there is none, was said.
    said: bool,
}

impl<K, T> Objects<K, T> {
    pub(super) fn new(
        convert: impl Fn(&K) -> Object<T> + Send + Sync + 'static,
        change: fn(Object<T>) -> Change,
        listing: fn(Vec<Object<T>>) -> Listing,
    ) -> Self {
        let convert = Box::new(convert);
        Self { convert, change, listing, listed: Vec::new(), lost: None, said: false }
    }

    /// Objects that a server need not have; `lost` says what does not work then.
    pub(super) fn optional(mut self, lost: &'static str) -> Self {
        self.lost = Some(lost);
        self
    }
}

impl<K: Resource, T: Send> Follower<K> for Objects<K, T> {
    fn take(&mut self, event: Event<K>) -> Option<Change> {
        match event {
            // Also where an earlier list was broken off.
            Event::Init => {
                self.listed = Vec::new();
                None
            }
            Event::InitApply(object) => {
                self.listed.push((self.convert)(&object));
                None
            }
            Event::InitDone => {
                self.said = true;
                let listing = (self.listing)(std::mem::take(&mut self.listed));
                Some(Change::Replace(Box::new(listing)))
            }
            Event::Apply(object) => Some((self.change)((self.convert)(&object))),
            Event::Delete(object) => Some((self.change)(Object::gone(object_name(object.meta())))),
        }
    }

    fn refused(&mut self) -> Option<Change> {
        if self.lost.is_none() || std::mem::replace(&mut self.said, true) {
            return None;
        }
        Some(Change::Replace(Box::new((self.listing)(Vec::new()))))
    }

    fn lost_without(&self) -> Option<&'static str> {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use k8s_openapi::api::core::v1 as core;
    use serde_json::json;

    use super::*;
    use crate::{
        model::{ObjectName, service::Service, snapshot::Snapshot},
        source::convert::service,
    };

    fn objects() -> Objects<core::Service, Service> {
        Objects::new(service, Change::Service, |services| Listing {
            services: Some(services),
            ..Listing::default()
        })
    }

    fn object(name: &str) -> core::Service {
        serde_json::from_value(json!({
            "metadata": {"namespace": "default", "name": name},
            "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]},
        }))
        .unwrap()
    }

    fn names(snapshot: &Snapshot) -> Vec<String> {
        let names: BTreeSet<_> = snapshot.services.keys().map(ToString::to_string).collect();
        names.into_iter().collect()
    }

    #[test]
    fn syn_01_a_relist_is_one_change_at_its_end() {
        let mut follower = objects();
        let mut snapshot = Snapshot::default();
        let mut take = |event| follower.take(event).map(|change| snapshot.apply(change)).is_some();
        assert!(!take(Event::Init));
        assert!(!take(Event::InitApply(object("a"))));
        // The list is broken off and begins again.
        assert!(!take(Event::Init));
        assert!(!take(Event::InitApply(object("b"))));
        assert!(!take(Event::InitApply(object("c"))));
        assert!(take(Event::InitDone));
        assert!(take(Event::Apply(object("d"))));
        assert!(take(Event::Delete(object("b"))));
        assert_eq!(names(&snapshot), ["default/c", "default/d"]);

        let mut take = |event| follower.take(event).map(|change| snapshot.apply(change)).is_some();
        assert!(!take(Event::Init));
        assert!(!take(Event::InitApply(object("e"))));
        assert!(take(Event::InitDone));
        assert_eq!(names(&snapshot), ["default/e"]);
        assert!(snapshot.services.contains_key(&ObjectName::new("default", "e")));
    }
}
