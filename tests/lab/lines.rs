// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A child's standard output, line by line and bounded in time.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{process::Process, wait};

/// Lines that a child prints, read by a thread that ends with the child.
#[derive(Debug)]
pub(crate) struct Lines {
    receiver: Receiver<String>,
}

impl Lines {
    /// Starts `command` with its standard input as it has it, its standard
    /// output read here and its errors in `log`.
    pub(crate) fn of(label: &str, mut command: Command, log: PathBuf) -> Result<(Process, Self)> {
        let file = File::options().create(true).append(true).open(&log);
        let file = file.with_context(|| format!("opening log {}", log.display()))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file);
        let mut process = Process::spawn_piped(label, command, log)?;
        let stdout = process.child().stdout.take().context("a piped child has an output")?;
        let (sender, receiver) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok((process, Self { receiver }))
    }

    /// The next line.
    ///
    /// # Errors
    /// When none comes within `limit`, or the child closed its output.
    pub(crate) fn next_line(&mut self, limit: Duration) -> Result<String> {
        match self.receiver.recv_timeout(wait::patient(limit)) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => bail!("no line within {:.1} s", limit.as_secs_f64()),
            Err(RecvTimeoutError::Disconnected) => bail!("it ended without a line"),
        }
    }
}
