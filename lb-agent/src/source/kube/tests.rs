// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the watches ask for first, of an API server that never answers.

use std::convert::Infallible;

use http::{Request, Response, Uri};
use kube::client::Body;

use super::*;

mod rights;

/// The first request of each watch, with these RuntimeClasses named.
async fn first_requests(classes: &BTreeSet<String>) -> Vec<Uri> {
    let (sender, _receiver) = mpsc::channel(1);
    let (told, mut asked) = mpsc::channel(10);
    let mut tasks = JoinSet::new();
    let client = |_: Answered| {
        let told = told.clone();
        let server = tower::service_fn(move |request: Request<Body>| {
            let told = told.clone();
            async move {
                told.send(request.uri().clone()).await.unwrap();
                std::future::pending::<Result<Response<Body>, Infallible>>().await
            }
        });
        Ok(Client::new(server, "default"))
    };
    start(client, (&"n1".into(), classes), &sender, &Reporter::new().0, &mut tasks).unwrap();
    let mut requests = Vec::new();
    for _ in 0..tasks.len() {
        requests.push(asked.recv().await.unwrap());
    }
    requests
}

#[tokio::test]
async fn svc_01_svc_08_eps_01_nothing_but_what_is_needed_is_watched() {
    let narrowed = |uri: Uri| {
        let uri = uri.to_string().replace("%21", "!").replace("%2F", "/").replace("%3D", "=");
        let parts = uri.split(['?', '&']);
        let parts = parts.filter(|part| part.contains('/') || part.contains("Selector"));
        parts.collect::<Vec<_>>().join(" ")
    };
    let none = BTreeSet::new();
    let mut seen: Vec<_> = first_requests(&none).await.into_iter().map(narrowed).collect();
    seen.sort();
    assert_eq!(
        seen,
        [
            "/api/v1/nodes fieldSelector=metadata.name=n1",
            "/api/v1/pods fieldSelector=spec.nodeName=n1 labelSelector=sluice.dev/socket-lb=false",
            "/api/v1/services fieldSelector=spec.clusterIP!=None \
             labelSelector=!service.kubernetes.io/service-proxy-name",
            "/apis/discovery.k8s.io/v1/endpointslices \
             labelSelector=!service.kubernetes.io/headless",
            "/apis/networking.k8s.io/v1/servicecidrs",
        ]
    );
    let named = BTreeSet::from(["kata".to_owned()]);
    let mut pods = first_requests(&named).await.into_iter().map(narrowed);
    assert!(pods.any(|it| it == "/api/v1/pods fieldSelector=spec.nodeName=n1"));
}
