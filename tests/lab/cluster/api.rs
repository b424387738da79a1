// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Typed objects of the API server, from a test outside its namespace.

use std::{fmt, future::Future, path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use kube::{
    Client, Config, Resource,
    api::{DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::{ObjectList, Request},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
};

use crate::place::Place;

/// Calls to the API server, blocking. Connections are made by threads that
/// live in the control plane's namespace.
pub struct Api {
    client: Client,
    runtime: Runtime,
}

/// A kind of object that this client can handle.
pub trait Object:
    Resource<DynamicType = ()>
    + Serialize
    + DeserializeOwned
    + Clone
    + fmt::Debug
    + Send
    + Sync
    + 'static
{
}

impl<K> Object for K where
    K: Resource<DynamicType = ()>
        + Serialize
        + DeserializeOwned
        + Clone
        + fmt::Debug
        + Send
        + Sync
        + 'static
{
}

impl Api {
    /// A client by a kubeconfig, from within `place`.
    pub fn connect(place: &Place, kubeconfig: &Path) -> Result<Self> {
        let netns = place.netns.clone();
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .on_thread_start(move || {
                // Without it every connection fails, and says so.
                if let Err(error) = netns.enter() {
                    eprintln!("{error:#}");
                }
            })
            .build()
            .context("starting the client's threads")?;
        let config = Kubeconfig::read_from(kubeconfig)
            .with_context(|| format!("reading {}", kubeconfig.display()))?;
        let client = runtime.block_on(runtime.spawn(async move {
            let config =
                Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
            anyhow::Ok(Client::try_from(config)?)
        }));
        let client = client?.with_context(|| format!("a client by {}", kubeconfig.display()))?;
        Ok(Self { client, runtime })
    }

    /// The client, for what is not here. Its calls go through [`Api::run`].
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Runs a future on the threads that reach the API server.
    pub fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        self.runtime
            .block_on(self.runtime.spawn(future))
            .context("a call to the API server panicked")
    }

    /// Creates or changes an object (server-side apply).
    pub fn apply<K: Object>(&self, object: &K) -> Result<K> {
        let (path, name) = address_of(object)?;
        let request = Request::new(path).patch(&name, &field_owner(), &Patch::Apply(object))?;
        self.call(request, &format!("applying {} {name}", K::kind(&())))
    }

    /// Writes an object in place of the one that is there, whatever that holds (PUT).
    pub fn replace<K: Object>(&self, object: &K) -> Result<K> {
        let (path, name) = address_of(object)?;
        let body = serde_json::to_vec(object)?;
        let request = Request::new(path).replace(&name, &PostParams::default(), body)?;
        self.call(request, &format!("replacing {} {name}", K::kind(&())))
    }

    /// Writes an object's status: lists are replaced whole (JSON merge patch;
    /// server-side apply refuses a Node with two addresses of one type).
    pub fn write_status<K: Object>(&self, object: &K) -> Result<K> {
        let (path, name) = address_of(object)?;
        let request = Request::new(path).patch_subresource(
            "status",
            &name,
            &PatchParams::default(),
            &Patch::Merge(object),
        )?;
        self.call(request, &format!("writing status of {} {name}", K::kind(&())))
    }

    /// Sends part of an object, as JSON merge patch.
    pub fn merge<K: Object>(
        &self,
        namespace: Option<&str>,
        name: &str,
        part: &serde_json::Value,
    ) -> Result<K> {
        let request = Request::new(K::url_path(&(), namespace)).patch(
            name,
            &PatchParams::default(),
            &Patch::Merge(part),
        )?;
        self.call(request, &format!("changing {} {name}", K::kind(&())))
    }

    /// Creates many objects, sixteen at a time.
    pub fn create_all<K: Object>(&self, objects: Vec<K>) -> Result<()> {
        let client = self.client();
        let objects: Arc<[K]> = objects.into();
        self.run(async move {
            let mut tasks = JoinSet::new();
            for first in 0..CREATORS {
                let (client, objects) = (client.clone(), Arc::clone(&objects));
                tasks.spawn(async move {
                    for object in objects.iter().skip(first).step_by(CREATORS) {
                        create(&client, object).await?;
                    }
                    anyhow::Ok(())
                });
            }
            while let Some(done) = tasks.join_next().await {
                done??;
            }
            anyhow::Ok(())
        })?
    }

    /// An object by name; none when there is none.
    pub fn find<K: Object>(&self, namespace: Option<&str>, name: &str) -> Result<Option<K>> {
        let request = Request::new(K::url_path(&(), namespace)).get(name, &GetParams::default())?;
        let client = self.client();
        match self.run(async move { client.request::<K>(request).await })? {
            Ok(object) => Ok(Some(object)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {} {name}", K::kind(&()))),
        }
    }

    /// All objects of a kind with these labels (`a=b,c`; empty: all).
    pub fn list<K: Object>(&self, namespace: Option<&str>, labels: &str) -> Result<Vec<K>> {
        let request = Request::new(K::url_path(&(), namespace))
            .list(&ListParams::default().labels(labels))?;
        let list: ObjectList<K> = self.call(request, &format!("listing {}", K::plural(&())))?;
        Ok(list.items)
    }

    /// Deletes an object; `grace_secs` none: as its kind does.
    pub fn delete<K: Object>(
        &self,
        namespace: Option<&str>,
        name: &str,
        grace_secs: Option<u32>,
    ) -> Result<()> {
        let params = DeleteParams { grace_period_seconds: grace_secs, ..DeleteParams::default() };
        let request = Request::new(K::url_path(&(), namespace)).delete(name, &params)?;
        let client = self.client();
        let deleted = self.run(async move { client.request_text(request).await })?;
        deleted.map(drop).with_context(|| format!("deleting {} {name}", K::kind(&())))
    }

    /// Posts to a subresource, such as a pod's `binding`.
    pub fn post<K: Object>(
        &self,
        namespace: Option<&str>,
        name: &str,
        subresource: &str,
        body: &serde_json::Value,
    ) -> Result<serde_json::Value> {
        let body = serde_json::to_vec(body)?;
        let request = Request::new(K::url_path(&(), namespace)).create_subresource(
            subresource,
            name,
            &PostParams::default(),
            body,
        )?;
        self.call(request, &format!("posting {subresource} of {} {name}", K::kind(&())))
    }

    /// One request, one object.
    fn call<T>(&self, request: ::http::Request<Vec<u8>>, what: &str) -> Result<T>
    where
        T: DeserializeOwned + Send + 'static,
    {
        let client = self.client();
        self.run(async move { client.request(request).await })?.with_context(|| what.to_owned())
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

/// Creates one object.
async fn create<K: Object>(client: &Client, object: &K) -> Result<()> {
    let (path, name) = address_of(object)?;
    let body = serde_json::to_vec(object)?;
    let request = Request::new(path).create(&PostParams::default(), body)?;
    let created = client.request_text(request).await;
    created.map(drop).with_context(|| format!("creating {} {name}", K::kind(&())))
}

/// URL path of an object's kind, and the object's name.
fn address_of<K: Object>(object: &K) -> Result<(String, String)> {
    let meta = object.meta();
    let name = meta.name.clone().with_context(|| format!("a {} without a name", K::kind(&())))?;
    Ok((K::url_path(&(), meta.namespace.as_deref()), name))
}

/// Who owns the fields that the lab sets.
fn field_owner() -> PatchParams {
    PatchParams::apply("lab").force()
}

/// Creations at a time.
const CREATORS: usize = 16;
