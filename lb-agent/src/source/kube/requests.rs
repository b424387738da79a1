// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What became of each request to the API server, for metrics.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::{Request, Response};
use tower::Service;

/// One request that was answered, or failed on the way.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// GET, POST or PATCH.
    pub method: String,
    /// Host and port of the API server.
    pub host: String,
    /// The HTTP status; `None`: there was no answer.
    pub code: Option<u16>,
    /// From the request to the head of its answer.
    pub took: Duration,
    /// Whether it asked for a watch, whose answer has no end.
    pub is_watch: bool,
}

/// Takes answers. Must not block.
#[derive(Clone)]
pub struct AnswerSink(Arc<dyn Fn(&Answer) + Send + Sync>);

/// A service whose answers are told.
#[derive(Clone, Debug)]
pub(super) struct Told<S> {
    inner: S,
    sink: AnswerSink,
}

impl AnswerSink {
    /// One that calls `take`.
    pub fn new(take: impl Fn(&Answer) + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }
}

impl Default for AnswerSink {
    /// One that tells nobody.
    fn default() -> Self {
        Self::new(|_| ())
    }
}

impl fmt::Debug for AnswerSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnswerSink")
    }
}

impl<S> Told<S> {
    pub(super) const fn new(inner: S, sink: AnswerSink) -> Self {
        Self { inner, sink }
    }
}

impl<S, A, B> Service<Request<A>> for Told<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let uri = request.uri();
        let mut answer = Answer {
            method: request.method().to_string(),
            host: uri.authority().map(ToString::to_string).unwrap_or_default(),
            code: None,
            took: Duration::ZERO,
            is_watch: uri.query().is_some_and(|it| it.split('&').any(|part| part == "watch=true")),
        };
        let (sink, asked, response) = (self.sink.clone(), Instant::now(), self.inner.call(request));
        Box::pin(async move {
            let response = response.await;
            answer.code = response.as_ref().ok().map(|it| it.status().as_u16());
            answer.took = asked.elapsed();
            (sink.0)(&answer);
            response
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Mutex};

    use tower::ServiceExt as _;

    use super::*;

    async fn told(uri: &str, outcome: Result<u16, &'static str>) -> Answer {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let into = seen.clone();
        let sink = AnswerSink::new(move |answer| into.lock().unwrap().push(answer.clone()));
        let server = tower::service_fn(move |_: Request<()>| async move {
            outcome.map(|code| Response::builder().status(code).body(()).unwrap())
        });
        let answer = Told::new(server, sink).oneshot(Request::get(uri).body(()).unwrap()).await;
        assert_eq!(answer.is_ok(), outcome.is_ok());
        let mut seen = seen.lock().unwrap();
        assert_eq!(seen.len(), 1);
        seen.remove(0)
    }

    #[tokio::test]
    async fn each_request_is_told_once_with_its_status_or_none() -> Result<(), Infallible> {
        let list = told("https://192.0.2.1:6443/api/v1/services?limit=200", Ok(403)).await;
        assert_eq!((&*list.method, &*list.host), ("GET", "192.0.2.1:6443"));
        assert_eq!((list.code, list.is_watch), (Some(403), false));
        let watch = told("https://[2001:db8::1]/api/v1/services?a=b&watch=true", Ok(200)).await;
        assert_eq!((&*watch.host, watch.is_watch), ("[2001:db8::1]", true));
        assert_eq!(told("http://host/", Err("connection refused")).await.code, None);
        Ok(())
    }
}
