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

    /// Puts a slice in the place of the one of its name, or beside the others.
    pub fn insert(&mut self, slice: Arc<EndpointSlice>) {
        match self.place(&slice.name) {
            Ok(place) => {
                if let Some(known) = self.slices.get_mut(place) {
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
