// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The way to the API server: TCP that notices silence, TLS, credentials.
//!
//! kube's own client leaves a connection alone whose other end is gone without a word (a
//! cable, a firewall that forgot it). A watch would wait on it until its request times out,
//! two minutes later, and serve what was true before.

use std::time::Duration;

use hyper_timeout::TimeoutConnector;
use hyper_util::{
    client::legacy::{Client as Http, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::{
    Client, Config, Error,
    client::{Body, ClientBuilder, ConfigExt as _},
};
use tower::{BoxError, ServiceBuilder};

use super::client::{Answered, telling};

/// A client on the way that a configuration describes; it knows no proxies. `answered` is told
/// of each answer that is a success.
///
/// # Errors
/// If certificates or credentials cannot be used, or a proxy is asked for.
pub(super) fn client(config: &Config, answered: Option<Answered>) -> Result<Client, Error> {
    if let Some(proxy) = &config.proxy_url {
        return Err(Error::ProxyProtocolUnsupported { proxy_url: Box::new(proxy.clone()) });
    }
    let mut connector =
        TimeoutConnector::new(config.rustls_https_connector_with_connector(patient_tcp())?);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_write_timeout(config.write_timeout);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(Http::builder(TokioExecutor::new()).build::<_, Body>(connector));
    let builder = ClientBuilder::new(service, config.default_namespace.clone());
    Ok(match answered {
        Some(answered) => telling(builder, answered).build(),
        None => builder.build(),
    })
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
