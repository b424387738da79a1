// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs one watch for ever: streaming lists where the server has them, pages otherwise, and
//! a wait after each error.

use std::{fmt::Debug, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt as _};
use kube::{
    Api,
    runtime::watcher::{self, Event, watcher},
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep, sleep_until},
};

use super::{
    follower::Follower,
    pace::{MIN_DELAY, Pace},
};
use crate::source::{
    batch::Message,
    error::{ABSENT, Error, Resource, Verb},
    status::{Place, Reporter},
};

/// One watch.
pub(super) struct Watch<K, F> {
    pub(super) api: Api<K>,
    /// Its selectors.
    pub(super) config: watcher::Config,
    pub(super) resource: Resource,
    pub(super) follower: F,
    /// Told of each answer of the server to any watch: one that waits then need not.
    pub(super) answered: Arc<Notify>,
}

/// Why following a stream ended.
enum End {
    /// Nobody wants the changes any more.
    Receiver,
    /// The server has no streaming lists.
    Unsupported,
}

/// How lists are asked for.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Lists {
    Streaming,
    Pages,
}

impl<K, F> Watch<K, F>
where
    K: kube::Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    F: Follower<K>,
{
    /// Sends what changes until the receiver ends.
    pub(super) async fn run(mut self, messages: mpsc::Sender<Message>, reporter: Reporter) {
        let config = self.config.clone().timeout(WATCH_SECS);
        let streaming = watcher(self.api.clone(), config.clone().streaming_lists());
        let end = self.follow(Lists::Streaming, streaming, &messages, &reporter).await;
        if let End::Receiver = end {
            return;
        }
        tracing::info!(resource = %self.resource, "no streaming lists; asking for pages");
        let pages = watcher(self.api.clone(), config.page_size(PAGE));
        self.follow(Lists::Pages, pages, &messages, &reporter).await;
    }

    async fn follow(
        &mut self,
        lists: Lists,
        events: impl Stream<Item = watcher::Result<Event<K>>> + Send,
        messages: &mpsc::Sender<Message>,
        reporter: &Reporter,
    ) -> End {
        let mut events = std::pin::pin!(events);
        let mut pace = Pace::new();
        loop {
            let deadline = self.follower.deadline();
            let change = tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => {
                        let hurry = pace.event(&event);
                        let change = self.follower.take(event);
                        if !hurry {
                            self.wait(pace.delay()).await;
                        }
                        change
                    }
                    Some(Err(error)) if lists == Lists::Streaming && is_refused_list(&error) => {
                        return End::Unsupported;
                    }
                    Some(Err(error)) => {
                        pace.error(is_gone(&error));
                        let instead = is_denied(&error).then(|| self.follower.refused()).flatten();
                        self.failed(error, reporter);
                        if instead.is_none() {
                            self.wait(pace.delay()).await;
                        }
                        instead
                    }
                    // The watcher never ends by itself.
                    None => return End::Receiver,
                },
                // A server before 1.27 takes the request for a plain watch: no list ends.
                () = sleep(STALL), if pace.is_listing() && lists == Lists::Streaming => {
                    return End::Unsupported;
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    self.follower.expire()
                }
            };
            if let Some(change) = change
                && messages.send(Message::Change(change)).await.is_err()
            {
                return End::Receiver;
            }
        }
    }

    /// Waits before another attempt; not for long once the server answers anybody.
    async fn wait(&self, delay: Duration) {
        sleep(MIN_DELAY).await;
        tokio::select! {
            () = sleep(delay.saturating_sub(MIN_DELAY)) => {}
            () = self.answered.notified() => {}
        }
    }

    /// Tells of an error, unless it only says that the watch is too old and begins anew.
    fn failed(&self, error: watcher::Error, reporter: &Reporter) {
        let resource = self.resource;
        if is_gone(&error) {
            tracing::debug!(%resource, "the watch is too old; listing again");
            return;
        }
        let verb = match error {
            watcher::Error::InitialListFailed(_) => Verb::List,
            watcher::Error::WatchStartFailed(_)
            | watcher::Error::WatchError(_)
            | watcher::Error::WatchFailed(_)
            | watcher::Error::NoResourceVersion => Verb::Watch,
        };
        let error = match (status(&error), self.follower.lost_without()) {
            (Some(status), Some(lost)) if is_denied(&error) => {
                let (code, message) = (status.code, status.message.clone());
                Error::Without { resource, verb, code, message, lost }
            }
            (Some(status), _) => {
                let (code, message) = (status.code, status.message.clone());
                Error::Refused { resource, verb, code, message }
            }
            (None, _) => Error::Watch { resource, verb, source: Box::new(error) },
        };
        reporter.failed(&Place::Resource(resource), error);
    }
}

/// What the API server answered, if it answered.
fn status(error: &watcher::Error) -> Option<&kube::core::Status> {
    match error {
        watcher::Error::WatchError(status)
        | watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => Some(status),
        _ => None,
    }
}

fn is_gone(error: &watcher::Error) -> bool {
    status(error).is_some_and(|status| status.code == GONE)
}

/// The server will not give such objects, however often it is asked.
fn is_denied(error: &watcher::Error) -> bool {
    status(error).is_some_and(|status| matches!(status.code, 403 | ABSENT))
}

/// A server whose WatchList feature is off calls `sendInitialEvents` invalid.
fn is_refused_list(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(_))
        && status(error).is_some_and(|status| matches!(status.code, 400 | 422))
}

/// HTTP 410: the resource version is not in the server's memory any more.
const GONE: u16 = 410;

/// How long one watch request runs. A server that says nothing any more is noticed 5 s later;
/// one that answers no PING, or a connection that died silently, sooner (`transport`).
const WATCH_SECS: u32 = 120;

/// Objects in a page; a page of whole objects is in memory at once.
const PAGE: u32 = 200;

/// A streaming list that is silent this long is none.
const STALL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
