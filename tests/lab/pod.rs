// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A pod: a place with real processes, on a node.

use std::{
    net::Ipv4Addr,
    ops::Deref,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;

use crate::{cgroup, netns::Batch, node::Node, place::Place, process::Process, server::ServeSpec};

/// One pod of the lab; clones are the same pod.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Name of its node.
    pub node: String,
    /// Its node's IPv4 address: `status.hostIP`.
    pub host: Ipv4Addr,
    /// The node's end of its veth pair.
    pub veth: String,
    /// Where its processes run.
    pub place: Place,
    /// Its server, while one runs.
    server: Arc<Mutex<Option<Process>>>,
}

impl Pod {
    /// A pod without processes; the lab has wired it.
    pub(crate) fn wired(node: &Node, veth: String, place: Place) -> Self {
        Self { node: node.name.clone(), host: node.place.v4, veth, place, server: Arc::default() }
    }

    /// Starts a server here that answers with the pod's name, and waits until
    /// it listens. One that ran before is stopped first.
    ///
    /// # Errors
    /// When it does not listen within five seconds.
    pub fn serve(&self, ports: &[u16]) -> Result<()> {
        self.stop_serving()?;
        self.adopt_server(self.place.serve(&ServeSpec::on(ports))?);
        Ok(())
    }

    /// Kills the server at once: clients see resets.
    pub fn stop_serving(&self) -> Result<()> {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        server.map_or(Ok(()), |mut server| server.kill().map(drop))
    }

    /// Pid of the server, while one runs.
    pub fn server_pid(&self) -> Option<u32> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(Process::pid)
    }

    /// Lets the server outlive this process (`lab up`).
    pub(crate) fn leave(&self) {
        if let Some(server) = self.server.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            server.leave();
        }
    }

    /// Keeps a server that was started here; the pod stops it when it ends.
    pub fn adopt_server(&self, server: Process) {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
    }

    /// Kills everything in the pod and takes it off the wire.
    pub(crate) fn destroy(&self) -> Result<()> {
        self.stop_serving()?;
        cgroup::remove(&self.place.cgroup)?;
        Batch::default().line(format!("netns del {}", self.place.netns.name())).run()
    }
}

impl Deref for Pod {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}
