// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The benchmarks of lb-agent's pure rooms, which need no lab: what `cargo bench` prints.

use std::{collections::BTreeMap, env, process::Command};

use anyhow::{Context as _, Result, ensure};

use crate::{
    report::{Line, Section},
    rounds::say,
    stats::{Quartiles, percentile},
};

/// One benchmark's median.
#[derive(Clone, Debug, PartialEq)]
struct Median {
    /// Names from the outermost group to the benchmark; the last may be its argument.
    path: Vec<String>,
    /// Nanoseconds.
    ns: f64,
}

/// Runs them and takes their figures over: a line for each benchmark, a column for each
/// size of cluster. None when there are no benchmarks. What is compared between sizes is run
/// several times in turn: how much of a cluster the cache holds differs from run to run.
pub(crate) fn run() -> Result<Option<Section>> {
    say("compile and plan: cargo bench of lb-agent");
    let mut runs = vec![run_once(None)?];
    for _ in 1..RUNS {
        runs.push(run_once(Some(COMPARED))?);
    }
    Ok(section(&runs))
}

/// The medians of one run; of all benchmarks, or of those whose name has these words.
fn run_once(filter: Option<&str>) -> Result<Vec<Median>> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    command.args(["bench", "--quiet", "--workspace", "--exclude", "lb-ebpf", "--bench", "plan"]);
    if let Some(filter) = filter {
        command.args(["--", filter]);
    }
    let output = command.output().context("starting `cargo bench`")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`cargo bench` failed: {}", errors.trim());
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

/// Benchmarks whose argument is a number of Services, side by side: the medians of runs, and
/// of the ratios within each run.
fn section(runs: &[Vec<Median>]) -> Option<Section> {
    let mut by_name: BTreeMap<String, BTreeMap<u32, Vec<f64>>> = BTreeMap::new();
    for Median { path, ns } in runs.iter().flatten() {
        let (size, names) = path.split_last()?;
        if let Ok(size) = size.replace('_', "").parse() {
            let sizes = by_name.entry(names.join(" ")).or_default();
            sizes.entry(size).or_default().push(*ns);
        }
    }
    let mut sizes: Vec<u32> = by_name.values().flat_map(BTreeMap::keys).copied().collect();
    sizes.sort_unstable();
    sizes.dedup();
    let mut lines = Vec::new();
    for (name, values) in &by_name {
        let of = |size: &u32| values.get(size).map(|ns| percentile(ns, 50.0) / 1e3);
        lines.push(Line::new(name, "µs", sizes.iter().map(of).collect()));
        let ends = sizes.first().zip(sizes.last()).filter(|_| sizes.len() > 1);
        let ends = ends.and_then(|(small, large)| values.get(small).zip(values.get(large)));
        if let Some((small, large)) = ends {
            let mut ratio = vec![None; sizes.len()];
            if let Some(first) = ratio.first_mut() {
                *first = Some(Quartiles::of_ratios(large, small).median);
            }
            // Only what follows one change must not grow with the cluster.
            let one_change = name.contains("change");
            let line = Line::new(&format!("{name}, largest by smallest"), "", ratio);
            lines.push(line.at_most(1.5, one_change));
        }
    }
    let columns = sizes.iter().map(|size| format!("{size} Services")).collect();
    let note =
        format!("in memory, without the kernel; medians of divan, for a change of {RUNS} runs");
    (!lines.is_empty()).then(|| Section::side("Compile and plan", &note, columns, lines))
}

/// The medians in divan's output: a tree of names, then columns apart by `│`, the third of
/// which is the median.
fn parse(text: &str) -> Vec<Median> {
    let mut medians = Vec::new();
    let mut path: Vec<String> = Vec::new();
    for line in text.lines() {
        let Some(name_at) = line.find(|mark: char| !matches!(mark, ' ' | '│' | '├' | '─' | '╰'))
        else {
            continue;
        };
        let depth = line.chars().take_while(|mark| !mark.is_alphanumeric()).count() / INDENT;
        let rest = line.get(name_at..).unwrap_or_default();
        let Some(name) = rest.split_whitespace().next() else {
            continue;
        };
        path.truncate(depth);
        path.push(name.trim_end_matches('│').to_owned());
        if let Some(ns) = rest.split('│').nth(2).and_then(nanoseconds) {
            medians.push(Median { path: path.clone(), ns });
        }
    }
    medians
}

/// A duration as divan prints it: `1.234 µs`.
fn nanoseconds(text: &str) -> Option<f64> {
    let (number, unit) = text.trim().split_once(' ')?;
    let factor = match unit.trim() {
        "ps" => 1e-3,
        "ns" => 1.0,
        "µs" | "μs" | "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

/// Runs of what is compared between sizes.
const RUNS: u32 = 7;
/// What the names of those benchmarks have in common.
const COMPARED: &str = "one_changed_slice";
/// Characters that each level of divan's tree moves a name to the right.
const INDENT: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_found_in_the_tree() {
        let text = "\
Timer precision: 20 ns
plan                  fastest       │ slowest       │ median        │ mean          │ samples │ iters
├─ one_change                       │               │               │               │         │
│  ├─ 10000           1.5 µs        │ 2 µs          │ 1.75 µs       │ 1.8 µs        │ 100     │ 100
│  ╰─ 100000          1.6 µs        │ 2 µs          │ 2.1 µs        │ 1.9 µs        │ 100     │ 100
╰─ whole              1.1 ms        │ 2 ms          │ 1.2 ms        │ 1.3 ms        │ 100     │ 100
";
        let medians = parse(text);
        let found: Vec<_> =
            medians.iter().map(|median| (median.path.join("/"), median.ns)).collect();
        assert_eq!(
            found,
            [
                ("plan/one_change/10000".to_owned(), 1750.0),
                ("plan/one_change/100000".to_owned(), 2100.0),
                ("plan/whole".to_owned(), 1_200_000.0),
            ]
        );
        assert!(section(&[medians]).is_some());
    }
}
