// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What others want to know of the loop, and of nobody else.

use lb_common::backend::{Backend, State};
use tokio::sync::{mpsc, oneshot};

use super::Reconciler;
use crate::{
    datapath::Datapath,
    plan::{difference::Difference, port::PortName},
};

/// A question, with where the answer goes.
#[derive(Debug)]
pub enum Question {
    /// Which endpoints a service port does not use.
    LeftOut(LeftOutQuestion),
    /// In what the kernel's maps are not what they should be.
    Differences {
        /// Whether it is to be repaired at once, and not when the timer comes round.
        repair: bool,
        /// What differed before.
        reply: oneshot::Sender<Result<Comparison, String>>,
    },
}

/// Which endpoints a service port does not use.
#[derive(Debug)]
pub struct LeftOutQuestion {
    /// The service port.
    pub name: PortName,
    /// Of its local set, or of its cluster set.
    pub local: bool,
    /// A line an endpoint.
    pub reply: oneshot::Sender<Vec<String>>,
}

/// The kernel's maps against what they should be.
#[derive(Debug)]
pub struct Comparison {
    /// What differs.
    pub differences: Vec<Difference>,
    /// Service ports in the kernel.
    pub service_ports: usize,
    /// Frontends there.
    pub frontends: usize,
    /// Backends that get new connections.
    pub backends: usize,
    /// What could not be written at the last try, or found no room.
    pub waiting: Vec<String>,
}

/// Where questions go.
pub type QuestionSender = mpsc::Sender<Question>;

impl Question {
    /// Whether the maps are to be compared and repaired after it.
    pub(super) const fn wants_repair(&self) -> bool {
        matches!(self, Self::Differences { repair: true, .. })
    }

    /// Answers it. Whoever asked may have gone.
    pub(super) fn answer<D: Datapath>(self, reconciler: &mut Reconciler<D>) {
        match self {
            Self::LeftOut(LeftOutQuestion { name, local, reply }) => {
                drop(reply.send(reconciler.left_out(&name, local)));
            }
            Self::Differences { reply, .. } => {
                let answer = Comparison::of(reconciler);
                drop(reply.send(answer));
            }
        }
    }
}

impl Comparison {
    fn of<D: Datapath>(reconciler: &mut Reconciler<D>) -> Result<Self, String> {
        let (differences, tables) = reconciler.differences().map_err(|error| error.to_string())?;
        let is_active = |backend: &Backend| backend.life.state() == State::Active;
        Ok(Self {
            differences,
            service_ports: tables.names.len(),
            frontends: tables.frontends().filter(|it| !it.is_any_port()).count(),
            backends: tables.backends.iter().filter(|(_, it)| is_active(it)).count(),
            waiting: reconciler.held_up.iter().map(ToString::to_string).collect(),
        })
    }
}
