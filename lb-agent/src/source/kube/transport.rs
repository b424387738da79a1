// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The way to the API server: TCP that notices silence, TLS, HTTP/2 that notices a server
//! that hangs, credentials.
//!
//! kube's own client leaves a connection alone whose other end is gone without a word (a
//! cable, a firewall that forgot it), or whose server hangs while its kernel still answers. A
//! watch would wait on it until its request times out, two minutes later, and serve what was
//! true before. HTTP/1, which a server without TLS speaks, has nothing to ask a server with.

use std::time::Duration;

use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_timeout::TimeoutConnector;
use hyper_util::{
    client::legacy::{Builder, Client as Http, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Client, Config, Error,
    client::{Body, ClientBuilder, ConfigExt as _},
};
use tower::{BoxError, ServiceBuilder};

use super::{
    client::{Answered, telling},
    requests::{AnswerSink, Told},
};

/// A client on the way that a configuration describes; it knows no proxies. `answered` is told
/// of each answer that is a success, `answers` of every one.
///
/// # Errors
/// If certificates or credentials cannot be used, or a proxy is asked for.
pub(super) fn client(
    config: &Config,
    answers: &AnswerSink,
    answered: Option<Answered>,
) -> Result<Client, Error> {
    if let Some(proxy) = &config.proxy_url {
        return Err(Error::ProxyProtocolUnsupported { proxy_url: Box::new(proxy.clone()) });
    }
    let mut connector = TimeoutConnector::new(tls(config)?);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_write_timeout(config.write_timeout);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .layer_fn(|inner| Told::new(inner, answers.clone()))
        .service(asking_http().build::<_, Body>(connector));
    let builder = ClientBuilder::new(service, config.default_namespace.clone());
    Ok(match answered {
        Some(answered) => telling(builder, answered).build(),
        None => builder.build(),
    })
}

/// TLS as the configuration says, which offers HTTP/2 and HTTP/1: kube's own offers the latter
/// alone.
fn tls(config: &Config) -> Result<HttpsConnector<HttpConnector>, Error> {
    let mut builder = HttpsConnectorBuilder::new()
        .with_tls_config(config.rustls_client_config()?)
        .https_or_http();
    if let Some(name) = &config.tls_server_name {
        let name =
            name.clone().try_into().map_err(|error| Error::Service(BoxError::from(error)))?;
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    Ok(builder.enable_all_versions().wrap_connector(patient_tcp()))
}

/// HTTP that asks an HTTP/2 server that says nothing whether it is there.
fn asking_http() -> Builder {
    let mut http = Http::builder(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .http2_keep_alive_interval(ASK_AFTER)
        .http2_keep_alive_timeout(ASK_LIMIT)
        .http2_initial_stream_window_size(WINDOW)
        .http2_initial_connection_window_size(WINDOW);
    http
}

/// Connections that end when the other end is silent for [`SILENCE`], whether something was
/// sent or not.
fn patient_tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    // TLS is above it.
    tcp.enforce_http(false);
    tcp.set_keepalive(Some(PROBE_AFTER));
    tcp.set_keepalive_interval(Some(PROBE_INTERVAL));
    tcp.set_tcp_user_timeout(Some(SILENCE));
    tcp
}

/// The longest wait for a connection to the API server, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long nothing may come before the kernel asks whether the other end is there.
const PROBE_AFTER: Duration = Duration::from_secs(10);

/// Between two such questions.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// After so long without an answer the connection is given up. Linux ends keepalive by the
/// user timeout, where there is one, and not by the number of questions.
/// <https://github.com/torvalds/linux/blob/v6.12/net/ipv4/tcp_timer.c#L796-L806>
const SILENCE: Duration = Duration::from_secs(20);

/// How long nothing may come from a server before it is asked by an HTTP/2 PING. Go's client
/// for Kubernetes does the same after 30 s: `k8s.io/apimachinery/pkg/util/net/http.go`. Longer
/// than [`SILENCE`]: while a PING is on its way the kernel counts its retransmissions, and no
/// longer the silence before.
const ASK_AFTER: Duration = Duration::from_secs(25);

/// How long it may take to answer that; as Go's. A server that is merely busy answers at once,
/// since that is done below its handlers.
const ASK_LIMIT: Duration = Duration::from_secs(15);

/// What the server may send before it was read, in bytes: a connection has one watch. hyper's
/// own 2 and 5 MB would be memory that a first list takes for nothing.
const WINDOW: u32 = 1 << 20;
