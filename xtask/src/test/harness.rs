// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs test harnesses under a time limit and reads what they print.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::{
    command,
    test::tally::{Reading, Tally},
};

/// Runs `cargo test` and shows its output, less the chatter of tests that passed.
///
/// # Errors
///
/// When cargo cannot be started; a failing test is not an error but a count.
pub(crate) fn run(cargo_test: &mut Command, target: &str, show_output: bool) -> Result<Tally> {
    let mut child = cargo_test
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("`{}` cannot be started", command::line(cargo_test)))?;
    let stdout = child.stdout.take().context("the harness has no standard output")?;
    let mut reading = Reading::new(target, show_output);
    let reader = thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if reading.line(&line) {
                println!("{line}");
            }
        }
        reading
    });
    let success = wait(&mut child)?;
    let reading =
        reader.join().map_err(|_| anyhow::anyhow!("reading the harness's output failed"))?;
    Ok(reading.finish(success))
}

/// Waits for the harness; one that outlives the limit is ended with everything it started, so
/// that a test that hangs costs minutes and not the whole run.
fn wait(child: &mut Child) -> Result<bool> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if started.elapsed() > LIMIT {
            eprintln!("test: no end after {} s; ending it", LIMIT.as_secs());
            for pid in descendants(child.id()) {
                command::output(&mut kill(pid));
            }
            child.kill()?;
            child.wait()?;
            return Ok(false);
        }
        thread::sleep(POLL);
    }
}

/// Ends a process. A shell has a `kill` of its own, and a small Debian no other.
fn kill(pid: u32) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "kill -KILL \"$0\"", &pid.to_string()]);
    command
}

/// The processes that `ancestor` started, directly or not.
fn descendants(ancestor: u32) -> Vec<u32> {
    let mut parents: Vec<(u32, u32)> = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let stat = fs::read_to_string(entry.path().join("stat")).ok();
        if let (Some(pid), Some(parent)) = (pid, stat.as_deref().and_then(parent)) {
            parents.push((pid, parent));
        }
    }
    let mut family = vec![ancestor];
    let mut next = 0;
    while let Some(&member) = family.get(next) {
        family.extend(parents.iter().filter(|(_, parent)| *parent == member).map(|(pid, _)| pid));
        next += 1;
    }
    family.split_off(1)
}

/// The parent in a line of `/proc/<pid>/stat`: `pid (name) state parent …`; a name may hold
/// anything, so its end is the last parenthesis.
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

const LIMIT: Duration = Duration::from_mins(20);
const POLL: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{descendants, kill, parent};

    #[test]
    fn a_name_with_parentheses_does_not_hide_the_parent() {
        assert_eq!(parent("17 (a) b) S 4 17 17 0"), Some(4));
    }

    #[test]
    fn children_of_children_are_found() {
        let mut shell = Command::new("sh").args(["-c", "sleep 5 & wait"]).spawn().unwrap();
        let found = (0..200).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            descendants(shell.id()).len() == 1
        });
        for pid in descendants(shell.id()) {
            assert!(kill(pid).status().unwrap().success());
        }
        shell.wait().unwrap();
        assert!(found);
    }
}
