// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Connections that a scenario makes and that go on answering while its case changes; datagrams
//! that go on and are answered by another pod then.

use std::time::Duration;

use anyhow::Result;
use lab::wire::{HoldSpec, SocketError, Task};

use crate::{
    address::Book,
    bed::Bed,
    column::Column,
    measure,
    scenario::{Scenario, Standing},
};

/// All that are open.
#[derive(Debug, Default)]
pub(crate) struct Kept(Vec<Connection>);

/// One of them.
#[derive(Debug)]
struct Connection {
    /// Who made it.
    scenario: Scenario,
    task: Task,
}

impl Kept {
    /// How many there are.
    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    /// Makes those that scenarios of this step ask for.
    ///
    /// # Errors
    /// When a name means nothing, or a driver fails.
    pub(crate) fn begin(
        &mut self,
        bed: &Bed,
        book: &Book,
        scenarios: &[Scenario],
        column: Column,
    ) -> Result<()> {
        let is_asked = |scenario: &Scenario| {
            let row = &scenario.row;
            (row.kept || row.moves_to.is_some()) && scenario.standing(column) == Standing::Holds
        };
        let asked: Vec<_> = scenarios.iter().filter(|it| is_asked(it)).cloned().collect();
        let all: Vec<_> = (0..asked.len()).collect();
        for flow in measure::flows(bed, book, &asked, &all)? {
            let Some(scenario) = asked.get(flow.scenario) else { continue };
            let driver = &bed.client(&scenario.from)?.driver;
            for ask in flow.asks() {
                let task = driver.hold(HoldSpec { ask, connections: 1, every_ms: EVERY_MS })?;
                self.0.push(Connection { scenario: scenario.clone(), task });
            }
        }
        Ok(())
    }

    /// Ends all, after one more exchange of each: a line for each that did not live so long, or
    /// was not moved as it should be.
    ///
    /// # Errors
    /// When a driver fails.
    pub(crate) fn end(&self, bed: &Bed, column: Column) -> Result<Vec<String>> {
        std::thread::sleep(2 * Duration::from_millis(EVERY_MS));
        let mut broken = Vec::new();
        for Connection { scenario, task } in &self.0 {
            let report = bed.client(&scenario.from)?.driver.stop_hold(*task)?;
            let name = column.name();
            let moved = scenario.row.moves_to.as_ref().map(|pod| SocketError::answered_by(pod));
            match (report.breaks.first(), moved) {
                (None, None) => {}
                (Some(end), Some(moved)) if end.error == moved => {}
                (Some(end), _) => {
                    let (pod, error) = (end.pod.as_deref().unwrap_or("nobody"), &end.error);
                    broken.push(format!("{scenario}\n    {name}: sent to {pod}, then {error}"));
                }
                (None, Some(moved)) => {
                    broken.push(format!("{scenario}\n    {name}: never {moved}"));
                }
            }
        }
        Ok(broken)
    }
}

/// Time between two exchanges of one connection.
const EVERY_MS: u64 = 200;
