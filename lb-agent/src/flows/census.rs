// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What one reading of FLOWS came to: pure.

use lb_common::flow::{Phase, Visit};

/// Flows by phase and by what is left of their time, and what was taken out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Census {
    /// Elements of FLOWS that are there still: two for each flow.
    pub halves: u64,
    /// Flows that were taken out, each with whatever halves it had.
    pub removed: u64,
    /// Flows that are there still, have one half only, and are in a phase that would not pass.
    one_way: u64,
    /// Flows that are there still, in the order of [`Phase::ALL`].
    phases: [u64; Phase::ALL.len()],
    /// Of these, how many are over in so many seconds unless something comes; the last for all
    /// that have longer.
    due: [u64; 1 << 8],
}

impl Default for Census {
    fn default() -> Self {
        Self { halves: 0, removed: 0, one_way: 0, phases: [0; Phase::ALL.len()], due: [0; 1 << 8] }
    }
}

impl Census {
    /// Counts what was found at some elements.
    pub fn take(&mut self, visits: &[Visit]) {
        for visit in visits {
            if visit.is_over() {
                self.removed += 1;
                continue;
            }
            let Some(phase) = visit.phase() else { continue };
            let is_one_way = visit.is_one_way();
            self.halves += if is_one_way { 1 } else { 2 };
            self.one_way += u64::from(is_one_way && !phase.is_passing());
            for count in [
                self.phases.get_mut(phase as usize),
                self.due.get_mut(usize::from(visit.left_secs)),
            ]
            .into_iter()
            .flatten()
            {
                *count += 1;
            }
        }
    }

    /// Each phase, and the flows in it.
    pub fn phases(&self) -> impl Iterator<Item = (Phase, u64)> {
        Phase::ALL.into_iter().zip(self.phases)
    }

    /// Flows in phases that pass, and those that are kept no longer than these.
    pub fn passing(&self) -> u64 {
        let phases = self.phases().filter(|(phase, _)| phase.is_passing());
        self.one_way + phases.map(|(_, count)| count).sum::<u64>()
    }

    /// Flows that are over so many seconds later, if nothing has come for them.
    pub fn due_after(&self, secs: u64) -> u64 {
        let known = self.due.len() - 1;
        let secs = usize::try_from(secs).unwrap_or(usize::MAX);
        self.due.iter().take(secs.min(known)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_counted_once_and_by_when_they_are_over() {
        const SECOND: u64 = 1_000_000_000;
        let mut census = Census::default();
        census.take(&[
            Visit::of(Phase::Established, SECOND, 86_400),
            Visit::COUNTED,
            Visit::of(Phase::SynSent, 110 * SECOND, 120),
            Visit::COUNTED,
            Visit::of(Phase::Closed, 11 * SECOND, 10),
            Visit::of(Phase::Established, SECOND, 86_400).one_way(),
        ]);
        assert_eq!((census.halves, census.removed, census.passing()), (5, 1, 2));
        assert_eq!((census.due_after(10), census.due_after(11)), (0, 1));
        assert_eq!(census.due_after(100_000), 1, "how long a connection has is not known");
        let established = census.phases().find(|(phase, _)| *phase == Phase::Established);
        assert_eq!(established, Some((Phase::Established, 2)));
    }
}
