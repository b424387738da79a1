// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The two HTTP servers: health on every address, metrics on loopback by default.

use std::{io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, Response, StatusCode, header},
    routing::any,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    exposition::{CLASSIC, OPEN_METRICS, classic},
    health::Health,
    metrics::{Metrics, ProxyMetrics},
};

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

/// What the health server answers from.
#[derive(Clone, Debug)]
pub struct HealthPages {
    /// The answers.
    pub health: Arc<Health>,
    /// Counts them (MET-09).
    pub metrics: ProxyMetrics,
}

/// What the metrics server answers from.
#[derive(Clone, Debug)]
pub struct MetricsPages {
    /// `/metrics`, `/metrics/slis`.
    pub metrics: Arc<Metrics>,
    /// `/configz`: the effective configuration, as JSON.
    pub configz: Arc<str>,
}

/// Binds a server's address, so that a mistake shows before anything else starts.
pub async fn bind(flag: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError { flag, address, source })
}

/// Serves until cancelled; connections that are idle then are closed.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "http server stopped");
    }
}

/// A reply with a JSON body and the headers of HLZ-02 and HCN-04; 503 unless `good`.
pub fn json((good, body): (bool, String)) -> Response<Body> {
    let mut reply = page(body, "application/json");
    if !good {
        *reply.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    let nosniff = HeaderValue::from_static("nosniff");
    reply.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    reply
}

impl HealthPages {
    /// Answers `/healthz`, `/livez` and `/readyz` (HLZ-01, HLZ-05), every method alike as
    /// kube-proxy does: some balancers check with HEAD or OPTIONS.
    pub fn router(self) -> Router {
        Router::new()
            .route("/healthz", any(async |State(pages): State<Self>| pages.healthz()))
            .route(LIVEZ, any(async |State(pages): State<Self>| pages.livez()))
            .route(READYZ, any(async |State(pages): State<Self>| json(pages.health.readyz())))
            .fallback(async || not_found())
            .with_state(self)
    }

    fn healthz(&self) -> Response<Body> {
        let answer = self.health.healthz();
        self.metrics.answered_healthz(answer.0);
        json(answer)
    }

    fn livez(&self) -> Response<Body> {
        let answer = self.health.livez();
        self.metrics.answered_livez(answer.0);
        json(answer)
    }
}

impl MetricsPages {
    /// Answers what kube-proxy answers on its metrics address.
    pub fn router(self) -> Router {
        Router::new()
            .route("/metrics", any(metrics))
            .route("/metrics/slis", any(slis))
            .route("/healthz", any(ping))
            .route("/proxyMode", any(async || plain(PROXY_MODE)))
            .route("/configz", any(configz))
            .fallback(async || not_found())
            .with_state(self)
    }
}

async fn metrics(State(pages): State<MetricsPages>, headers: HeaderMap) -> Response<Body> {
    text(pages.metrics.encode(), &headers)
}

async fn slis(State(pages): State<MetricsPages>, headers: HeaderMap) -> Response<Body> {
    text(pages.metrics.encode_slis(), &headers)
}

async fn ping(State(pages): State<MetricsPages>) -> Response<Body> {
    pages.metrics.checked();
    plain("ok")
}

async fn configz(State(pages): State<MetricsPages>) -> Response<Body> {
    page(pages.configz.to_string(), "application/json")
}

/// A metrics page in the format that the client asks for.
fn text(body: String, asked: &HeaderMap) -> Response<Body> {
    let accept = asked.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if accept.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
        page(body, OPEN_METRICS)
    } else {
        page(classic(&body), CLASSIC)
    }
}

fn plain(body: &'static str) -> Response<Body> {
    let mut reply = page(body.to_owned(), "text/plain; charset=utf-8");
    let nosniff = HeaderValue::from_static("nosniff");
    reply.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    reply
}

/// The reply to a path that is no page.
fn not_found() -> Response<Body> {
    let mut reply = plain("404 page not found\n");
    *reply.status_mut() = StatusCode::NOT_FOUND;
    reply
}

fn page(body: String, kind: &'static str) -> Response<Body> {
    let mut reply = Response::new(Body::from(body));
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}

/// Whether the process should be restarted: for the liveness probe.
pub const LIVEZ: &str = "/livez";

/// Whether sockets on this node get what the cluster says: for the readiness probe.
pub const READYZ: &str = "/readyz";

/// What agents learn of how Services behave here: as with kube-proxy's nftables mode. See
/// docs/decisions.md.
const PROXY_MODE: &str = "nftables";
