// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Starts [`crate::inside::serve`] in a place.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::{lines::Lines, place::Place, process::Process};

/// What a server answers on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServeSpec {
    /// Name to answer with; empty: the place's.
    pub name: String,
    /// Ports that answer lines, HTTP and datagrams.
    pub ports: Vec<u16>,
    /// Ports that give bytes back.
    pub raw_ports: Vec<u16>,
    /// Ports that compare a stream: [`crate::inside::bulk`].
    pub bulk_ports: Vec<u16>,
    /// Ports for very many connections.
    pub crowd_ports: Vec<u16>,
}

/// A server that may not listen yet.
pub(crate) struct Starting {
    place: Place,
    process: Process,
    lines: Lines,
}

impl ServeSpec {
    /// Lines, HTTP and datagrams on these ports, in the place's name.
    pub fn on(ports: &[u16]) -> Self {
        Self { ports: ports.to_vec(), ..Self::default() }
    }
}

impl Place {
    /// Starts a server here and waits until it listens: on a node, it is a
    /// host process. It is killed when dropped.
    ///
    /// # Errors
    /// When it does not listen within five seconds, as when a port is taken.
    pub fn serve(&self, spec: &ServeSpec) -> Result<Process> {
        self.start_serving(spec)?.listening()
    }

    /// Starts a server without waiting: many start side by side so.
    pub(crate) fn start_serving(&self, spec: &ServeSpec) -> Result<Starting> {
        let name = if spec.name.is_empty() { &self.name } else { &spec.name };
        let mut command = self.inside("serve")?;
        command.args(["--name", name]);
        for (flag, ports) in [
            ("--port", &spec.ports),
            ("--raw-port", &spec.raw_ports),
            ("--bulk-port", &spec.bulk_ports),
            ("--crowd-port", &spec.crowd_ports),
        ] {
            command.args(ports.iter().flat_map(|port| [flag.to_owned(), port.to_string()]));
        }
        let log = self.logs.join(format!("{}-serve.log", self.name));
        let (process, lines) = Lines::of(&format!("server in {}", self.name), command, log)?;
        Ok(Starting { place: self.clone(), process, lines })
    }
}

impl Starting {
    /// Waits for the line that says that it listens.
    pub(crate) fn listening(mut self) -> Result<Process> {
        let line = self.lines.next_line(START_LIMIT);
        line.with_context(|| {
            format!("server in {}; {}", self.place.name, self.process.log_tail())
        })?;
        Ok(self.process)
    }
}

/// How long a server may take until it listens.
const START_LIMIT: Duration = Duration::from_secs(5);
