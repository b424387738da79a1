// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The EndpointSlices of one Service.

use std::sync::Arc;

use super::{ObjectName, endpoint::EndpointSlice};

/// A Service's slices, in the order of their names. Nearly every Service has one or two: a
/// tree would take half a kilobyte for each.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Slices {
    slices: Vec<Arc<EndpointSlice>>,
}

impl Slices {
    /// The slice of a name.
    pub fn get(&self, name: &ObjectName) -> Option<&Arc<EndpointSlice>> {
        self.slices.get(self.place(name).ok()?)
    }

    /// Puts a slice in the place of the one of its name, whose texts it shares, or beside the
    /// others.
    pub fn insert(&mut self, mut slice: Arc<EndpointSlice>) {
        match self.place(&slice.name) {
            Ok(place) => {
                if let Some(known) = self.slices.get_mut(place) {
                    if let Some(fresh) = Arc::get_mut(&mut slice) {
                        fresh.share(known);
                    }
                    *known = slice;
                }
            }
            Err(place) => {
                self.slices.reserve_exact(1);
                self.slices.insert(place, slice);
            }
        }
    }

    /// Takes a slice away.
    pub fn remove(&mut self, name: &ObjectName) {
        if let Ok(place) = self.place(name) {
            self.slices.remove(place);
        }
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &EndpointSlice> + Clone {
        self.slices.iter().map(|slice| &**slice)
    }

    fn place(&self, name: &ObjectName) -> Result<usize, usize> {
        self.slices.binary_search_by(|slice| slice.name.cmp(name))
    }
}

impl FromIterator<EndpointSlice> for Slices {
    fn from_iter<T: IntoIterator<Item = EndpointSlice>>(slices: T) -> Self {
        let mut all = Self::default();
        for slice in slices {
            all.insert(Arc::new(slice));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Family, endpoint::EndpointPort};

    fn slice(port: &str) -> EndpointSlice {
        let name = ObjectName::new("default", "web-1");
        let service = ObjectName::new("default", "web");
        let port = EndpointPort {
            name: port.into(),
            protocol: crate::model::Protocol::TCP,
            port: std::num::NonZeroU16::MIN,
        };
        let (ports, endpoints) = (vec![port], Vec::new());
        EndpointSlice { name, service, family: Family::V4, ports, endpoints, triggered: None }
    }

    #[test]
    fn a_new_version_shares_the_texts_that_did_not_change_and_no_others() {
        let mut slices: Slices = [slice("http")].into_iter().collect();
        let before = slices.iter().next().unwrap().clone();
        slices.insert(Arc::new(slice("www")));
        let after = slices.iter().next().unwrap();
        assert_eq!(*after, slice("www"));
        assert!(Arc::ptr_eq(&after.service.name, &before.service.name));
        assert!(Arc::ptr_eq(&after.name.namespace, &before.name.namespace));
    }
}
