// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Medians, quartiles and ratios of paired rounds.

use serde::Serialize;

/// Where the middle half of some values lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Quartiles {
    /// A quarter of the values are below.
    pub(crate) low: f64,
    /// Half of them are.
    pub(crate) median: f64,
    /// Three quarters are.
    pub(crate) high: f64,
}

impl Quartiles {
    /// Of some values; zeros for none.
    pub(crate) fn of(values: &[f64]) -> Self {
        Self {
            low: percentile(values, 25.0),
            median: percentile(values, 50.0),
            high: percentile(values, 75.0),
        }
    }

    /// Of each value divided by its baseline of the same round.
    pub(crate) fn of_ratios(values: &[f64], baseline: &[f64]) -> Self {
        let ratios: Vec<_> =
            values.iter().zip(baseline).map(|(value, base)| value / base).collect();
        Self::of(&ratios)
    }

    /// All three in another unit.
    pub(crate) fn scaled(self, factor: f64) -> Self {
        Self { low: self.low * factor, median: self.median * factor, high: self.high * factor }
    }
}

/// The value below which `percent` of a hundred values are, between two neighbours in
/// proportion.
pub(crate) fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return 0.0;
    };
    let mut place = percent / 100.0 * f64::from(u32::try_from(last).unwrap_or(u32::MAX));
    for pair in sorted.windows(2) {
        if let [one, next] = pair
            && place < 1.0
        {
            return one + (next - one) * place;
        }
        place -= 1.0;
    }
    sorted.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-9
    }

    #[test]
    fn percentiles_lie_between_neighbours() {
        let values = [4.0, 1.0, 3.0, 2.0, 5.0];
        assert!(close(percentile(&values, 50.0), 3.0));
        assert!(close(percentile(&values, 0.0), 1.0));
        assert!(close(percentile(&values, 100.0), 5.0));
        assert!(close(percentile(&values, 90.0), 4.6));
        assert!(close(percentile(&[7.0], 99.0), 7.0));
        assert!(close(percentile(&[], 50.0), 0.0));
    }

    #[test]
    fn a_ratio_is_taken_inside_its_round() {
        // A machine that slows down by half between two rounds changes no ratio.
        let ratios = Quartiles::of_ratios(&[11.0, 22.0, 44.0], &[10.0, 20.0, 40.0]);
        assert!(close(ratios.median, 1.1) && close(ratios.low, 1.1) && close(ratios.high, 1.1));
    }
}
