// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How often a CPU does what others could have it do without end.
//!
//! A token bucket in one number (ITU-T I.371's virtual scheduling): the time at which the bucket
//! is full again.

/// So much at once, and then one each interval.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// How many at once.
    pub burst: u64,
    /// Between two in the long run, in nanoseconds.
    pub interval_ns: u64,
}

impl Limit {
    /// ICMP errors that the packet path sends (RFC 1812 4.3.2.8, RFC 4443 2.4 f): as many as the
    /// kernel does by its defaults, `icmp_msgs_burst` and `icmp_msgs_per_sec`, but on each CPU.
    pub const ANSWERS: Self = Self { burst: 50, interval_ns: 1_000_000 };
    /// Rounds of fragments that wait for their first one: a tenth of a CPU at most.
    pub const ROUNDS: Self = Self { burst: 4_000, interval_ns: 10_000 };

    /// When the bucket is full again after one more at `now_ns`; `None` if it is empty.
    #[inline(always)]
    pub const fn admit(self, full_at_ns: u64, now_ns: u64) -> Option<u64> {
        let full_at_ns = if full_at_ns > now_ns { full_at_ns } else { now_ns };
        if full_at_ns - now_ns > (self.burst - 1) * self.interval_ns {
            return None;
        }
        Some(full_at_ns + self.interval_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit::ANSWERS;

    fn admitted(full_at_ns: &mut u64, now_ns: u64, asked: usize) -> usize {
        let admits =
            |_: &usize| LIMIT.admit(*full_at_ns, now_ns).map(|at| *full_at_ns = at).is_some();
        (0..asked).filter(admits).count()
    }

    #[test]
    fn a_burst_and_then_one_each_interval() {
        let (mut full_at_ns, start) = (0, 5_000_000_000);
        assert_eq!(admitted(&mut full_at_ns, start, 1000), 50);
        assert_eq!(admitted(&mut full_at_ns, start + LIMIT.interval_ns, 1000), 1);
        assert_eq!(admitted(&mut full_at_ns, start + 11 * LIMIT.interval_ns, 1000), 10);
        assert_eq!(admitted(&mut full_at_ns, start + 10_000 * LIMIT.interval_ns, 1000), 50);
    }

    #[test]
    fn a_clock_that_another_cpu_read_earlier_does_no_harm() {
        let mut full_at_ns = 0;
        assert_eq!(admitted(&mut full_at_ns, 1_000_000_000, 50), 50);
        assert_eq!(admitted(&mut full_at_ns, 999_000_000, 1), 0);
    }
}
