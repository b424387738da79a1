// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From a kubeconfig or a service account to clients.

use std::{path::PathBuf, sync::Arc, time::Duration};

use http::{Request, Response};
use kube::{
    Client,
    client::{Body, ClientBuilder},
    config::{Config, KubeConfigOptions, Kubeconfig},
};
use tokio::sync::Notify;
use tower::{
    Service,
    util::{MapResponse, MapResponseLayer},
};

use crate::source::{
    error::{Error, Resource},
    status::{Place, Reporter},
};

/// A configuration that was read once and makes clients.
#[derive(Clone, Debug)]
pub(in crate::source) struct ClientMaker {
    config: Config,
    /// For messages: the file, or the service account.
    origin: String,
}

/// Whom a client tells that the API server answered.
#[derive(Clone, Debug)]
pub(in crate::source) struct Answered {
    /// What the client is for: its watch works again.
    pub(super) resource: Resource,
    pub(super) reporter: Reporter,
    /// The watches that wait for another attempt.
    pub(super) waiting: Arc<Notify>,
}

/// Reads a kubeconfig file.
///
/// # Errors
/// [`Error::Kubeconfig`] if the file, its context or what they refer to cannot be read.
pub(in crate::source) async fn from_kubeconfig(
    path: PathBuf,
    context: Option<String>,
) -> Result<ClientMaker, Error> {
    let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
    let config = match Kubeconfig::read_from(&path) {
        Ok(file) => Config::from_custom_kubeconfig(file, &options).await,
        Err(error) => Err(error),
    };
    match config {
        Ok(config) => Ok(ClientMaker::new(config, path.display().to_string())),
        Err(source) => Err(Error::Kubeconfig { path, context, source: Box::new(source) }),
    }
}

/// Reads the service account of this pod. Its API server is a ClusterIP, which must not be
/// needed before it is served: a kubeconfig with a real address is better (SYN-09).
///
/// # Errors
/// [`Error::InCluster`] outside a pod, or in one without a service account.
pub(in crate::source) fn in_cluster() -> Result<ClientMaker, Error> {
    let config = Config::incluster().map_err(|source| Error::InCluster { source })?;
    Ok(ClientMaker::new(config, "the service account".to_owned()))
}

impl ClientMaker {
    fn new(mut config: Config, origin: String) -> Self {
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        Self { config, origin }
    }

    /// A client that tells of each answer that is a success.
    ///
    /// # Errors
    /// [`Error::Client`] if certificates or credentials cannot be used.
    pub(in crate::source) fn client(&self, answered: Answered) -> Result<Client, Error> {
        let builder = ClientBuilder::try_from(self.config.clone()).map_err(|source| {
            Error::Client { origin: self.origin.clone(), source: Box::new(source) }
        })?;
        Ok(telling(builder, answered).build())
    }
}

impl Answered {
    fn tell(&self) {
        self.reporter.recovered(&Place::Resource(self.resource));
        self.waiting.notify_waiters();
    }
}

/// Makes a client tell of each answer that is a success.
pub(super) fn telling<S, B>(
    builder: ClientBuilder<S>,
    answered: Answered,
) -> ClientBuilder<MapResponse<S, impl Fn(Response<B>) -> Response<B> + Clone + Send + Sync>>
where
    S: Service<Request<Body>, Response = Response<B>>,
{
    let layer = MapResponseLayer::new(move |response: Response<B>| {
        if response.status().is_success() {
            answered.tell();
        }
        response
    });
    builder.with_layer(&layer)
}

/// The longest wait for a connection to the API server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    async fn told(text: Option<&str>, context: Option<&str>) -> String {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("config");
        if let Some(text) = text {
            std::fs::write(&path, text).unwrap();
        }
        let error = from_kubeconfig(path.clone(), context.map(str::to_owned)).await.unwrap_err();
        assert!(matches!(error, Error::Kubeconfig { .. }));
        error.chain().replace(&path.display().to_string(), "FILE")
    }

    const FILE: &str = "\
apiVersion: v1
kind: Config
current-context: lab
contexts: [{name: lab, context: {cluster: lab, user: lab}}]
clusters: [{name: lab, cluster: {server: 'https://127.0.0.1:6443'}}]
users: [{name: lab, user: {token: x}}]
";

    #[tokio::test]
    async fn a_kubeconfig_that_cannot_be_used_is_told_with_file_and_flag() {
        let missing = told(None, None).await;
        assert!(
            missing
                .starts_with("kubeconfig FILE cannot be used; give another file with --kubeconfig"),
            "{missing}"
        );
        assert!(missing.contains("No such file"), "{missing}");
        let context = told(Some(FILE), Some("other")).await;
        assert!(context.contains("with context \"other\" (--context)"), "{context}");
        let nonsense = told(Some("x: ["), None).await;
        assert!(nonsense.contains("YAML"), "{nonsense}");
    }

    #[tokio::test]
    async fn a_kubeconfig_makes_a_client() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("config");
        std::fs::write(&path, FILE).unwrap();
        let maker = from_kubeconfig(path, Some("lab".to_owned())).await.unwrap();
        let answered = Answered {
            resource: Resource::Nodes,
            reporter: Reporter::new().0,
            waiting: Arc::default(),
        };
        assert!(maker.client(answered).is_ok());
    }
}
