// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The process metrics that every Prometheus client library has, read from /proc/self at
//! each scrape: dashboards of kube-proxy show them.

use std::{fmt, fs};

use nix::unistd::{SysconfVar, sysconf};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// Reads /proc/self.
#[derive(Debug)]
pub(super) struct ProcessCollector;

/// What /proc/self says of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Usage {
    /// Processor time, in seconds.
    cpu_secs: f64,
    /// Resident and virtual memory, in bytes.
    resident: u64,
    virtual_memory: u64,
    /// Open descriptors.
    fds: u64,
    /// How many it may have open, and how much memory it may map, in bytes.
    max_fds: u64,
    max_virtual_memory: u64,
    /// When it started, in seconds since 1970.
    started_secs: f64,
}

/// When this process started, in seconds since 1970.
pub(super) fn started_secs() -> Option<f64> {
    Usage::read().map(|usage| usage.started_secs)
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(usage) = Usage::read() else { return Ok(()) };
        let help = "Total user and system CPU time spent in seconds";
        let counter = encoder.encode_descriptor("cpu_seconds", help, None, MetricType::Counter)?;
        ConstCounter::new(usage.cpu_secs).encode(counter)?;
        for (name, help, value) in [
            ("max_fds", "Maximum number of open file descriptors", usage.max_fds),
            ("open_fds", "Number of open file descriptors", usage.fds),
            ("resident_memory_bytes", "Resident memory size in bytes", usage.resident),
            ("virtual_memory_bytes", "Virtual memory size in bytes", usage.virtual_memory),
            ("virtual_memory_max_bytes", VIRTUAL_MAX, usage.max_virtual_memory),
        ] {
            let gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(gauge)?;
        }
        let gauge =
            encoder.encode_descriptor("start_time_seconds", STARTED, None, MetricType::Gauge)?;
        ConstGauge::new(usage.started_secs).encode(gauge)
    }
}

impl Usage {
    /// `None` where /proc is not mounted.
    fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let booted = fs::read_to_string("/proc/stat").ok()?;
        let booted = booted.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()?;
        let fds = fs::read_dir("/proc/self/fd").ok()?.count() as u64;
        let limits = fs::read_to_string("/proc/self/limits").ok()?;
        Self::parse(&stat, &limits, booted, fds)
    }

    /// Fields of proc_pid_stat(5), counted after the name, which may hold anything; and soft
    /// limits of proc_pid_limits(5).
    fn parse(stat: &str, limits: &str, booted_secs: f64, fds: u64) -> Option<Self> {
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let constant = |name| sysconf(name).ok()?.and_then(|value| u32::try_from(value).ok());
        let ticks_a_second = f64::from(constant(SysconfVar::CLK_TCK)?);
        let page = u64::from(constant(SysconfVar::PAGE_SIZE)?);
        #[expect(clippy::cast_precision_loss, reason = "exact for 2^52 ticks: a million years")]
        let seconds = |ticks: u64| ticks as f64 / ticks_a_second;
        Some(Self {
            cpu_secs: seconds(field(14)? + field(15)?),
            resident: field(24)? * page,
            virtual_memory: field(23)?,
            fds,
            max_fds: limit(limits, "Max open files")?,
            max_virtual_memory: limit(limits, "Max address space")?,
            started_secs: booted_secs + seconds(field(22)?),
        })
    }
}

/// A soft limit; the largest number where there is none.
fn limit(limits: &str, name: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// What the series of the address space's limit is about.
const VIRTUAL_MAX: &str = "Maximum amount of virtual memory available in bytes";

/// What the start time's series is about.
pub(super) const STARTED: &str = "Start time of the process since unix epoch in seconds";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_after_a_name_that_holds_anything() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 3 0 1000 4096 2 9";
        let limits = "Max open files            1024     4096      files     \n\
                      Max address space         unlimited unlimited bytes\n";
        let usage = Usage::parse(stat, limits, 5.0, 4).unwrap();
        let expected = Usage {
            cpu_secs: 2.0,
            resident: 8192,
            virtual_memory: 4096,
            fds: 4,
            max_fds: 1024,
            max_virtual_memory: u64::MAX,
            started_secs: 15.0,
        };
        assert_eq!(usage, expected);
        assert!(Usage::read().unwrap().resident > 1 << 20);
    }
}
