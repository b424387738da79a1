// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From a kubeconfig or a service account, and perhaps the API server's own address, to
//! clients.

use std::{path::PathBuf, sync::Arc};

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

use super::{requests::AnswerSink, transport};
use crate::source::{
    Master,
    error::{Error, Resource},
    status::{Place, Reporter},
};

/// A configuration that was read once and makes clients.
#[derive(Clone, Debug)]
pub(in crate::source) struct ClientMaker {
    config: Config,
    /// For messages: the file, or the service account.
    origin: String,
    /// Told of each answer to any client.
    answers: AnswerSink,
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
    master: Option<Master>,
) -> Result<ClientMaker, Error> {
    let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
    let config = match Kubeconfig::read_from(&path) {
        Ok(file) => Config::from_custom_kubeconfig(file, &options).await,
        Err(error) => Err(error),
    };
    match config {
        Ok(config) => Ok(ClientMaker::new(config, path.display().to_string(), master)),
        Err(source) => Err(Error::Kubeconfig { path, context, source: Box::new(source) }),
    }
}

/// Reads the service account of this pod. Without `master`, its API server is a ClusterIP,
/// which must not be needed before it is served: only a fallback (SYN-09).
///
/// # Errors
/// [`Error::InCluster`] outside a pod, or in one without a service account.
pub(in crate::source) fn in_cluster(master: Option<Master>) -> Result<ClientMaker, Error> {
    // Only the other one needs the Service's address in the environment.
    let config = if master.is_some() { Config::incluster_dns() } else { Config::incluster() };
    let config = config.map_err(|source| Error::InCluster { source })?;
    if master.is_none() {
        tracing::warn!(
            server = %config.cluster_url,
            "reaching the API server at the address in this pod's environment; if that is the \
             kubernetes Service, somebody else must serve it first: give --master"
        );
    }
    Ok(ClientMaker::new(config, "the service account".to_owned(), master))
}

impl ClientMaker {
    fn new(mut config: Config, origin: String, master: Option<Master>) -> Self {
        if let Some(Master(server)) = master {
            config.cluster_url = server;
        }
        Self { config, origin, answers: AnswerSink::default() }
    }

    /// Has clients tell of each answer, for metrics.
    pub(in crate::source) fn with_answers(self, answers: AnswerSink) -> Self {
        Self { answers, ..self }
    }

    /// A client that tells of each answer that is a success.
    ///
    /// # Errors
    /// [`Error::Client`] if certificates, credentials or a proxy cannot be used.
    pub(in crate::source) fn client(&self, answered: Answered) -> Result<Client, Error> {
        self.client_of(Some(answered))
    }

    /// A client that tells nobody.
    ///
    /// # Errors
    /// As [`ClientMaker::client`].
    pub(in crate::source) fn silent_client(&self) -> Result<Client, Error> {
        self.client_of(None)
    }

    fn client_of(&self, answered: Option<Answered>) -> Result<Client, Error> {
        let client = transport::client(&self.config, &self.answers, answered);
        client.map_err(|source| Error::Client {
            origin: self.origin.clone(),
            source: Box::new(source),
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    async fn told(text: Option<&str>, context: Option<&str>) -> String {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("config");
        if let Some(text) = text {
            std::fs::write(&path, text).unwrap();
        }
        let error =
            from_kubeconfig(path.clone(), context.map(str::to_owned), None).await.unwrap_err();
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

    async fn maker(master: Option<&str>) -> ClientMaker {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("config");
        std::fs::write(&path, FILE).unwrap();
        let master = master.map(|url| url.parse().unwrap());
        from_kubeconfig(path, Some("lab".to_owned()), master).await.unwrap()
    }

    fn answered() -> Answered {
        Answered { resource: Resource::Nodes, reporter: Reporter::new().0, waiting: Arc::default() }
    }

    #[tokio::test]
    async fn a_kubeconfig_makes_a_client() {
        assert!(maker(None).await.client(answered()).is_ok());
    }

    #[tokio::test]
    async fn syn_09_a_given_address_goes_before_the_files() {
        assert_eq!(maker(None).await.config.cluster_url, "https://127.0.0.1:6443/");
        let elsewhere = maker(Some("https://192.0.2.1:6443")).await;
        assert_eq!(elsewhere.config.cluster_url, "https://192.0.2.1:6443/");
        assert!(elsewhere.client(answered()).is_ok());
    }

    #[tokio::test]
    async fn a_proxy_is_refused_and_not_passed_by() {
        let mut maker = maker(None).await;
        maker.config.proxy_url = Some("http://192.0.2.2:3128".parse().unwrap());
        let error = maker.client(answered()).err().unwrap().chain();
        assert!(error.contains("192.0.2.2:3128"), "{error}");
    }
}
