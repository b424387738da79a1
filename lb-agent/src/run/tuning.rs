// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What kube-proxy sets for the node and its own process when it starts: conntrack's sysctls
//! and the OOM score (CT-10, CFG-04).
//!
//! Sluice's own sockets need no conntrack, but the node's other flows do, and operators size
//! it through kube-proxy. A value that cannot be set is told, and nothing else.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::config::kube_proxy::Conntrack;

/// A file below /proc or /sys, and the number that it gets.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Write {
    path: PathBuf,
    value: i64,
}

/// Where the files are.
#[derive(Clone, Copy, Debug)]
struct Roots<'a> {
    /// /proc/sys/net/netfilter: of the network namespace of whoever looks.
    netfilter: &'a Path,
    /// /sys/module/nf_conntrack/parameters/hashsize: of the whole machine.
    hashsize: &'a Path,
}

/// Sets what is asked for, where the node has conntrack.
pub(super) fn tune(conntrack: &Conntrack) {
    let roots = Roots { netfilter: Path::new(NETFILTER), hashsize: Path::new(HASHSIZE) };
    if !roots.netfilter.join("nf_conntrack_max").exists() {
        tracing::info!("this node has no conntrack: its sysctls are left alone");
        return;
    }
    for (path, error) in roots.apply(conntrack, cpus()) {
        tracing::warn!(path = %path.display(), %error, "a sysctl cannot be set");
    }
}

/// What conntrack's table is to hold, 0 for what it does (CT-10).
pub(super) fn conntrack_max(conntrack: &Conntrack) -> u64 {
    max(conntrack, cpus()).unsigned_abs()
}

/// Sets how ready the kernel is to kill this process when memory is short.
pub(super) fn set_oom_score(score: i64) {
    if let Err(error) = put(Path::new(OOM_SCORE), score) {
        tracing::warn!(path = OOM_SCORE, score, %error, "the OOM score cannot be set");
    }
}

impl Roots<'_> {
    /// Sets them; what could not be set, and why.
    fn apply(&self, conntrack: &Conntrack, cpus: u64) -> Vec<(PathBuf, io::Error)> {
        let mut failed = Vec::new();
        let max = max(conntrack, cpus);
        if max > 0 {
            // The table must have a bucket for every four entries.
            let (sysctl, least) = (self.netfilter.join("nf_conntrack_max"), max / 4);
            let result = put(&sysctl, max).map_err(|error| (sysctl, error)).and_then(|()| {
                let hashsize = || (self.hashsize.to_owned(), get(self.hashsize));
                match hashsize() {
                    (_, Ok(now)) if now >= least => Ok(()),
                    (path, Ok(_)) => put(&path, least).map_err(|error| (path, error)),
                    (path, Err(error)) => Err((path, error)),
                }
            });
            failed.extend(result.err());
        }
        for Write { path, value } in self.timeouts(conntrack) {
            failed.extend(put(&path, value).err().map(|error| (path, error)));
        }
        failed
    }

    fn timeouts(&self, conntrack: &Conntrack) -> Vec<Write> {
        let secs = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        let values = [
            ("nf_conntrack_tcp_timeout_established", secs(conntrack.tcp_established)),
            ("nf_conntrack_tcp_timeout_close_wait", secs(conntrack.tcp_close_wait)),
            ("nf_conntrack_tcp_be_liberal", conntrack.tcp_be_liberal.into()),
            ("nf_conntrack_udp_timeout", secs(conntrack.udp)),
            ("nf_conntrack_udp_timeout_stream", secs(conntrack.udp_stream)),
        ];
        let wanted = values.into_iter().filter(|(_, value)| *value > 0);
        wanted.map(|(name, value)| Write { path: self.netfilter.join(name), value }).collect()
    }
}

fn cpus() -> u64 {
    std::thread::available_parallelism().map_or(1, usize::from) as u64
}

/// CT-10: so much for each processor, a million at most; at least `min`, unless it is capped.
fn max(conntrack: &Conntrack, cpus: u64) -> i64 {
    let scaled = conntrack.max_per_core.saturating_mul(cpus);
    let max = match scaled {
        0 => 0,
        LIMIT.. => LIMIT,
        scaled => scaled.max(conntrack.min),
    };
    i64::try_from(max).unwrap_or(i64::MAX)
}

/// Writes a number, unless it is there.
fn put(path: &Path, value: i64) -> io::Result<()> {
    if get(path).is_ok_and(|now| now == value) {
        return Ok(());
    }
    fs::write(path, value.to_string())?;
    tracing::info!(path = %path.display(), value, "set");
    Ok(())
}

fn get(path: &Path) -> io::Result<i64> {
    let text = fs::read_to_string(path)?;
    text.trim().parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// More would take too much memory on a machine with many processors.
const LIMIT: u64 = 1 << 20;
const NETFILTER: &str = "/proc/sys/net/netfilter";
const HASHSIZE: &str = "/sys/module/nf_conntrack/parameters/hashsize";
const OOM_SCORE: &str = "/proc/self/oom_score_adj";

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::config::kube_proxy::Settings;

    fn conntrack(max_per_core: u64, min: u64) -> Conntrack {
        Conntrack { max_per_core, min, ..Settings::default().effective().conntrack }
    }

    #[test]
    fn ct_10_the_maximum_is_scaled_capped_and_floored() {
        for (per_core, min, cpus, wanted) in [
            (32_768, 131_072, 2, 131_072),
            (32_768, 131_072, 8, 262_144),
            (32_768, 131_072, 64, 1_048_576),
            (0, 131_072, 8, 0),
            (1, 2_000_000, 2, 2_000_000),
            (600_000, 2_000_000, 2, 1_048_576),
        ] {
            assert_eq!(max(&conntrack(per_core, min), cpus), wanted, "{per_core} {min} {cpus}");
        }
    }

    #[test]
    fn ct_10_the_sysctls_get_kube_proxys_defaults_and_what_is_0_stays() {
        let directory = TempDir::new().unwrap();
        let hashsize = directory.path().join("hashsize");
        let file = |name: &str| directory.path().join(name);
        for name in [
            "max",
            "tcp_timeout_established",
            "tcp_timeout_close_wait",
            "tcp_be_liberal",
            "udp_timeout",
        ] {
            fs::write(file(&format!("nf_conntrack_{name}")), "7\n").unwrap();
        }
        fs::write(&hashsize, "7\n").unwrap();
        let roots = Roots { netfilter: directory.path(), hashsize: &hashsize };
        assert!(roots.apply(&conntrack(32_768, 131_072), 4).is_empty());
        let value = |name: &str| get(&file(&format!("nf_conntrack_{name}"))).unwrap();
        assert_eq!((value("max"), get(&hashsize).unwrap()), (131_072, 32_768));
        assert_eq!(value("tcp_timeout_established"), 86_400);
        assert_eq!(value("tcp_timeout_close_wait"), 3_600);
        assert_eq!((value("tcp_be_liberal"), value("udp_timeout")), (7, 7));
        // A larger table stays, and a maximum of 0 leaves both.
        fs::write(&hashsize, "900000").unwrap();
        assert!(roots.apply(&conntrack(65_536, 0), 4).is_empty());
        assert_eq!((value("max"), get(&hashsize).unwrap()), (262_144, 900_000));
        assert!(roots.apply(&conntrack(0, 500_000), 4).is_empty());
        assert_eq!(value("max"), 262_144);
    }

    #[test]
    fn what_cannot_be_set_is_told_and_the_rest_is_set() {
        let directory = TempDir::new().unwrap();
        let close_wait = directory.path().join("nf_conntrack_tcp_timeout_close_wait");
        fs::create_dir(directory.path().join("nf_conntrack_max")).unwrap();
        fs::write(&close_wait, "7").unwrap();
        let nowhere = directory.path().join("none/hashsize");
        let roots = Roots { netfilter: directory.path(), hashsize: &nowhere };
        let failed = roots.apply(&conntrack(32_768, 0), 1);
        assert!(failed.iter().any(|(path, _)| path.ends_with("nf_conntrack_max")), "{failed:?}");
        assert_eq!(get(&close_wait).unwrap(), 3_600);
    }
}
