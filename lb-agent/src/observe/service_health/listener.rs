// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One listening socket of a health-check node port, and what it answers.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderName, HeaderValue, Response},
};
use nix::sys::socket::{setsockopt, sockopt::Ipv6V6Only};
use tokio::{
    net::{TcpListener, TcpSocket},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    model::ObjectName,
    observe::{health::Health, http},
};

/// A socket that answers.
#[derive(Debug)]
pub(super) struct Listener {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// What it answers from.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// Whose port it is.
    pub(super) service: ObjectName,
    /// Ready endpoints on this node.
    pub(super) count: Arc<AtomicUsize>,
    /// How the agent fares.
    pub(super) health: Arc<Health>,
}

impl Listener {
    /// Listens and answers every path and method alike (HCN-03).
    pub(super) fn open(address: SocketAddr, answer: Answer) -> io::Result<Self> {
        let listener = listen(address)?;
        let stop = CancellationToken::new();
        let router = Router::new().fallback(reply).with_state(answer);
        let task = tokio::spawn(http::serve(listener, router, stop.clone()));
        Ok(Self { stop, task })
    }

    /// Returns when the socket is closed. Idle connections are closed, a reply that is on
    /// its way is finished.
    pub(super) async fn close(mut self) {
        self.stop.cancel();
        self.task.abort();
        // Cancelled or ended: the socket is gone either way.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.cancel();
        self.task.abort();
    }
}

/// A socket of one family alone: IPv4 has its own (HCN-02).
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        let socket = TcpSocket::new_v6()?;
        setsockopt(&socket, Ipv6V6Only, &true)?;
        socket
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// HCN-03 to HCN-05, byte for byte as kube-proxy writes it.
async fn reply(State(answer): State<Answer>) -> Response<Body> {
    let count = answer.count.load(Ordering::Relaxed);
    let alive = answer.health.is_alive();
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": {},\n\t\t\"name\": {}\n\t}},\n\t\"localEndpoints\": {count},\n\t\"serviceProxyHealthy\": {alive}\n}}",
        text(&answer.service.namespace),
        text(&answer.service.name),
    );
    let mut reply = http::json((count != 0 && alive, body));
    reply.headers_mut().insert(WEIGHT, HeaderValue::from(count));
    reply
}

/// How many connections may wait to be accepted: as Go asks for, and as the kernel allows.
const BACKLOG: u32 = 4096;

/// What load balancers weigh the node by (HCN-04).
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");
