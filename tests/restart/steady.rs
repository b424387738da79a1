// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Traffic that nothing may disturb.

use lab::{
    driver::Driver,
    served::vip,
    wire::{AskSpec, Family, HoldSpec, LoadSpec, Task},
};

/// Two hundred requests a second to Service 10, which has two pods, and five held connections.
pub(crate) struct Steady<'a> {
    driver: &'a Driver,
    load: Task,
    hold: Task,
}

impl<'a> Steady<'a> {
    pub(crate) fn start(driver: &'a Driver) -> Self {
        let ask = AskSpec::tcp(vip(Family::V4, 10));
        let load = driver.load(LoadSpec::paced(ask.clone(), 200, 300_000)).unwrap();
        let hold = driver.hold(HoldSpec { ask, connections: 5, every_ms: 20 }).unwrap();
        Self { driver, load, hold }
    }

    /// Ends it: nothing failed, and no held connection was broken. The number of requests.
    pub(crate) fn finish(self) -> u64 {
        let load = self.driver.stop_load(self.load).unwrap();
        assert_eq!((load.failed, load.pods.len()), (0, 2), "{load:?}");
        let hold = self.driver.stop_hold(self.hold).unwrap();
        assert!(hold.breaks.is_empty() && hold.open == 0, "{hold:?}");
        load.ok
    }
}
