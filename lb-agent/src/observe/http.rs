// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The two HTTP servers: health on every address, metrics on loopback by default.

use std::{io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{Response, StatusCode, header},
    routing::get,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{health::Health, metrics::Metrics};

/// A server's address cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("{flag} {address}: {source}; give another address, or an empty one for no server")]
pub struct BindError {
    /// The flag that gave the address.
    pub flag: &'static str,
    /// The address.
    pub address: SocketAddr,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

/// Binds a server's address, so that a mistake shows before anything else starts.
pub async fn bind(flag: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError { flag, address, source })
}

/// Serves `/healthz`, `/livez` and `/readyz` until cancelled (HLZ-01, HLZ-05).
pub async fn serve_health(listener: TcpListener, health: Arc<Health>, stop: CancellationToken) {
    let router = Router::new()
        .route("/healthz", get(async |State(health): State<Arc<Health>>| json(health.healthz())))
        .route("/livez", get(async |State(health): State<Arc<Health>>| json(health.livez())))
        .route("/readyz", get(async |State(health): State<Arc<Health>>| json(health.readyz())))
        .with_state(health);
    serve(listener, router, stop).await;
}

/// Serves `/metrics` and a plain `/healthz` until cancelled.
pub async fn serve_metrics(listener: TcpListener, metrics: Arc<Metrics>, stop: CancellationToken) {
    let router = Router::new()
        .route("/metrics", get(async |State(metrics): State<Arc<Metrics>>| text(metrics.encode())))
        .route("/healthz", get(async || "ok"))
        .with_state(metrics);
    serve(listener, router, stop).await;
}

async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "http server stopped");
    }
}

/// A health reply, with the headers of HLZ-02.
fn json((healthy, body): (bool, String)) -> Response<Body> {
    let mut reply = Response::new(Body::from(body));
    if !healthy {
        *reply.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    reply
}

/// The metrics page, in the `OpenMetrics` text format.
fn text(body: String) -> Response<Body> {
    let mut reply = Response::new(Body::from(body));
    let value = header::HeaderValue::from_static(
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
    );
    reply.headers_mut().insert(header::CONTENT_TYPE, value);
    reply
}
