// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reading what a test harness prints: results, and the reasons of tests that did not test.
//!
//! A test that cannot run on this machine prints `SKIP <why>` and returns; the harness then calls
//! it passed. We run harnesses with `--show-output`, find those lines, and count such a test as
//! skipped.

use std::ops::AddAssign;

/// What one or more runs came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Tests that ran and held.
    pub(crate) passed: usize,
    /// Tests, checks and builds that did not.
    pub(crate) failed: usize,
    /// Tests that did not run, each with its reason.
    pub(crate) skips: Vec<Skip>,
}

/// A test that did not run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Skip {
    /// `target::path::of::test`, or the name of a whole level.
    pub(crate) test: String,
    /// Its own words.
    pub(crate) why: String,
}

/// Follows the output of one run of cargo's harnesses line by line.
pub(crate) struct Reading {
    target: String,
    show_output: bool,
    section: Section,
    /// As the harness counts: tests that said SKIP are among them.
    passed: usize,
    said_skip: usize,
    failed: usize,
    skips: Vec<Skip>,
    finished: bool,
}

/// Which part of a harness's output we are in.
enum Section {
    /// Progress, failures and results.
    Plain,
    /// Output of tests that passed: whose, once the first heading was seen.
    Successes(Option<String>),
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skips.extend(other.skips);
    }
}

impl Reading {
    /// Starts reading the output of `target`; `show_output` lets the output of passed tests
    /// through instead of hiding all but the SKIP lines.
    pub(crate) fn new(target: &str, show_output: bool) -> Self {
        Self {
            target: target.to_owned(),
            show_output,
            section: Section::Plain,
            passed: 0,
            said_skip: 0,
            failed: 0,
            skips: Vec::new(),
            finished: false,
        }
    }

    /// Takes one line in and says whether a person should see it.
    pub(crate) fn line(&mut self, line: &str) -> bool {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.section = Section::Plain;
            self.finished = true;
            self.passed += count(result, "passed");
            self.failed += count(result, "failed");
            return true;
        }
        match line {
            "successes:" => {
                self.section = Section::Successes(None);
                return false;
            }
            "failures:" => {
                self.section = Section::Plain;
                return true;
            }
            _ => {}
        }
        if let Section::Successes(test) = &mut self.section {
            if let Some(heading) = heading(line) {
                *test = Some(heading.to_owned());
                return self.show_output;
            }
            let test = test.clone();
            return self.success_line(line, test.as_deref());
        }
        if let Some((test, why)) = ignored(line) {
            self.skip(test, why);
        }
        true
    }

    /// What the run came to, given its exit status. One that ended without a result was killed
    /// or never built: that is a failure too.
    pub(crate) fn finish(self, success: bool) -> Tally {
        let unexplained = if success { !self.finished } else { self.failed == 0 };
        Tally {
            passed: self.passed.saturating_sub(self.said_skip),
            failed: self.failed + usize::from(unexplained),
            skips: self.skips,
        }
    }

    /// A line that a passed test printed.
    fn success_line(&mut self, line: &str, test: Option<&str>) -> bool {
        let Some(test) = test else { return false };
        if let Some(why) = line.strip_prefix("SKIP") {
            if self.skip(test, why.trim_start_matches([':', ' '])) {
                self.said_skip += 1;
            }
            return true;
        }
        self.show_output && !line.is_empty()
    }

    /// Notes a skip; false if this test has one already, since the first reason is the one that
    /// stopped it.
    fn skip(&mut self, test: &str, why: &str) -> bool {
        let test = format!("{}::{test}", self.target);
        let new = self.skips.iter().all(|skip| skip.test != test);
        if new {
            self.skips.push(Skip { test, why: why.to_owned() });
        }
        new
    }
}

/// The number before `what` in `ok. 3 passed; 0 failed; 1 ignored; …`.
fn count(result: &str, what: &str) -> usize {
    result
        .split([';', '.'])
        .find_map(|part| part.trim().strip_suffix(what)?.trim().parse().ok())
        .unwrap_or(0)
}

/// `test a::b ... ignored, only by hand` → (`a::b`, `only by hand`).
fn ignored(line: &str) -> Option<(&str, &str)> {
    let (test, why) = line.strip_prefix("test ")?.split_once(" ... ignored")?;
    let why = why.trim_start_matches([',', ' ']);
    Some((test, if why.is_empty() { "marked #[ignore]" } else { why }))
}

/// `---- sockets::udp stdout ----` → `sockets::udp`.
fn heading(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?.strip_suffix(" stdout ----")
}

#[cfg(test)]
mod tests {
    use super::{Reading, Skip, Tally};

    const OUTPUT: &str = "
running 4 tests
test a ... ok
test b ... ok
test c ... FAILED
test d ... ignored, only by hand

successes:

---- b stdout ----
looking for MPTCP
SKIP this kernel has no MPTCP
SKIP a second reason

successes:
    a
    b

failures:

---- c stdout ----
SKIP is no excuse for a failure

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s
";

    fn read(output: &str, success: bool) -> (Tally, Vec<&str>) {
        let mut reading = Reading::new("sockets", false);
        let shown = output.lines().filter(|line| reading.line(line)).collect();
        (reading.finish(success), shown)
    }

    #[test]
    fn a_test_that_says_skip_is_not_passed() {
        let (tally, shown) = read(OUTPUT, false);
        let skip = |test: &str, why: &str| Skip { test: test.to_owned(), why: why.to_owned() };
        assert_eq!(
            tally,
            Tally {
                passed: 1,
                failed: 1,
                skips: vec![
                    skip("sockets::d", "only by hand"),
                    skip("sockets::b", "this kernel has no MPTCP"),
                ],
            }
        );
        assert!(shown.contains(&"SKIP this kernel has no MPTCP"));
        assert!(shown.contains(&"---- c stdout ----"), "the output of failures is shown");
        assert!(!shown.contains(&"looking for MPTCP"), "that of passed tests is not");
    }

    #[test]
    fn a_run_without_a_result_is_a_failure() {
        assert_eq!(read("error: could not compile", false).0.failed, 1);
        assert_eq!(read("running 3 tests\ntest a ... ok", false).0.failed, 1);
        assert_eq!(read("", true).0.failed, 1);
    }

    #[test]
    fn several_harnesses_of_one_run_add_up() {
        let line = "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(read(&format!("{line}\n{line}"), true).0.passed, 6);
    }
}
