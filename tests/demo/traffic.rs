// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Many requests through one frontend, and who answered them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context as _, Result, ensure};
use lab::{driver::Driver, pod::Pod, wire::AskSpec};

use crate::http::{self, Answered};

/// How a request is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// HTTP on a TCP connection of its own.
    Http,
    /// A datagram from a connected socket.
    UdpConnected,
    /// A datagram from an unconnected socket.
    UdpUnconnected,
}

/// What became of a number of requests to one frontend.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    /// How they were made.
    pub(crate) manner: Manner,
    /// The frontend.
    pub(crate) dialled: SocketAddr,
    /// Answers by pod.
    pub(crate) pods: BTreeMap<String, u32>,
    /// Failures by message.
    pub(crate) failures: BTreeMap<String, u32>,
    /// Peers that the client saw.
    pub(crate) peers: BTreeSet<SocketAddr>,
    /// Clients that the servers saw.
    pub(crate) clients: BTreeSet<IpAddr>,
    /// Whether each server saw the client's very own address and port.
    pub(crate) untouched: bool,
}

impl Manner {
    /// What a table calls it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTP over TCP",
            Self::UdpConnected => "UDP, connected",
            Self::UdpUnconnected => "UDP, sendto",
        }
    }
}

impl Tally {
    /// Makes `count` requests, one after the other, each on a new socket.
    pub(crate) fn of(driver: &Driver, manner: Manner, dialled: SocketAddr, count: u32) -> Self {
        let mut tally = Self {
            manner,
            dialled,
            pods: BTreeMap::new(),
            failures: BTreeMap::new(),
            peers: BTreeSet::new(),
            clients: BTreeSet::new(),
            untouched: true,
        };
        for _ in 0..count {
            match ask(driver, manner, dialled) {
                Ok(answered) => tally.add(answered),
                Err(error) => *tally.failures.entry(format!("{error:#}")).or_default() += 1,
            }
        }
        tally
    }

    /// Requests that were answered.
    pub(crate) fn answered(&self) -> u32 {
        self.pods.values().sum()
    }

    /// Nothing failed, every pod of `pods` got a fair part, and the peer was always the
    /// frontend.
    ///
    /// # Errors
    /// What is otherwise.
    pub(crate) fn check(&self, pods: &[Pod], count: u32) -> Result<()> {
        ensure!(self.failures.is_empty(), "requests failed: {:?}", self.failures);
        ensure!(self.answered() == count, "{} of {count} were answered", self.answered());
        for pod in pods {
            let answers = self.pods.get(&pod.name).copied().unwrap_or_default();
            let fair = count / u32::try_from(pods.len()).unwrap_or(1).max(1);
            // Five standard deviations below the mean, roughly: chance does not do that.
            let least = fair * 2 / 5;
            ensure!(answers >= least, "{} answered only {answers} of {count}", pod.name);
        }
        let peers: Vec<_> = self.peers.iter().collect();
        ensure!(peers == [&self.dialled], "the peer was {peers:?}, not {}", self.dialled);
        Ok(())
    }

    /// Counts one answer.
    fn add(&mut self, answered: Answered) {
        self.untouched &= answered.echo.client.port() == answered.local.port();
        *self.pods.entry(answered.echo.pod).or_default() += 1;
        self.peers.insert(answered.peer);
        self.clients.insert(answered.echo.client.ip());
    }
}

/// One request.
fn ask(driver: &Driver, manner: Manner, to: SocketAddr) -> Result<Answered> {
    let spec = match manner {
        Manner::Http => return http::request(driver, to),
        Manner::UdpConnected => AskSpec::udp(to),
        Manner::UdpUnconnected => AskSpec::udp_unconnected(to),
    };
    let answer = driver.ask(spec)?;
    let peer = answer.peer.or(answer.from).context("a datagram without a source")?;
    Ok(Answered { echo: answer.echo, peer, local: answer.local })
}
