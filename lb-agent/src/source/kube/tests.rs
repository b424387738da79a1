// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::{collections::BTreeSet, convert::Infallible, sync::Mutex};

use http::{Request, Response};
use kube::client::Body;

use super::*;

mod rights;

#[tokio::test]
async fn svc_01_svc_08_eps_01_nothing_but_what_is_needed_is_watched() {
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let (sender, _receiver) = mpsc::channel(1);
    let (told, mut asked) = mpsc::channel(10);
    let mut tasks = JoinSet::new();
    let client = |_: Answered| {
        let (seen, told) = (seen.clone(), told.clone());
        let server = tower::service_fn(move |request: Request<Body>| {
            let uri = request
                .uri()
                .to_string()
                .replace("%21", "!")
                .replace("%2F", "/")
                .replace("%3D", "=");
            let parts = uri
                .split(['?', '&'])
                .filter(|part| part.contains('/') || part.contains("Selector"));
            seen.lock().unwrap().insert(parts.collect::<Vec<_>>().join(" "));
            let told = told.clone();
            async move {
                told.send(()).await.unwrap();
                std::future::pending::<Result<Response<Body>, Infallible>>().await
            }
        });
        Ok(Client::new(server, "default"))
    };
    start(client, &"n1".into(), &sender, &Reporter::new().0, &mut tasks).unwrap();
    for _ in 0..4 {
        asked.recv().await.unwrap();
    }
    let seen: Vec<_> = seen.lock().unwrap().iter().cloned().collect();
    assert_eq!(
        seen,
        [
            "/api/v1/nodes fieldSelector=metadata.name=n1",
            "/api/v1/services fieldSelector=spec.clusterIP!=None \
             labelSelector=!service.kubernetes.io/service-proxy-name",
            "/apis/discovery.k8s.io/v1/endpointslices \
             labelSelector=!service.kubernetes.io/headless",
            "/apis/networking.k8s.io/v1/servicecidrs",
        ]
    );
}
