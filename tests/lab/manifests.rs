// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A directory of YAML files for `lb-agent run --manifests`: a cluster's
//! objects without a cluster.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Service;
use serde::Serialize;
use serde_json::Value;

use crate::{
    Lab,
    node::Node,
    objects::{self, Backing},
    place::Place,
    pod::Pod,
};

/// The directory. Each file appears by a rename, so no reader sees half of one.
#[derive(Clone, Debug)]
pub struct Manifests {
    dir: PathBuf,
}

/// A Service and its endpoints, in one file. Change it, then [`Exposed::write`].
#[derive(Clone, Debug)]
pub struct Exposed {
    manifests: Manifests,
    nodes: Vec<Node>,
    /// The Service as it will be written next.
    pub service: Service,
    /// Its endpoints as they will be written next.
    pub backings: Vec<Backing>,
}

impl Manifests {
    /// A directory in the lab's own, with its Nodes in `nodes.yaml`.
    pub fn of(lab: &Lab) -> Result<Self> {
        let dir = lab.dir().join("manifests");
        fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        let manifests = Self { dir };
        let nodes: Vec<_> = lab.nodes().iter().map(objects::node).collect();
        manifests.write("nodes", &nodes)?;
        Ok(manifests)
    }

    /// What `--manifests` gets.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes `<name>.yaml` with these objects; replaces what it held.
    pub fn write<T: Serialize>(&self, name: &str, objects: &[T]) -> Result<()> {
        let text = serde_saphyr::to_string_multiple(objects)
            .with_context(|| format!("writing objects of {name} as YAML"))?;
        self.write_text(name, &text)
    }

    /// Writes `<name>.yaml` with this text, sound YAML or not.
    pub fn write_text(&self, name: &str, text: &str) -> Result<()> {
        let partial = self.dir.join(format!(".{name}.partial"));
        let path = self.dir.join(format!("{name}.yaml"));
        fs::write(&partial, text).with_context(|| format!("writing {}", partial.display()))?;
        fs::rename(&partial, &path).with_context(|| format!("renaming to {}", path.display()))
    }

    /// Removes `<name>.yaml`.
    pub fn remove(&self, name: &str) -> Result<()> {
        let path = self.dir.join(format!("{name}.yaml"));
        fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))
    }

    /// Writes a Service with ready pods as endpoints.
    pub fn expose(&self, lab: &Lab, service: Service, pods: &[Pod]) -> Result<Exposed> {
        let mut exposed = Exposed {
            manifests: self.clone(),
            nodes: lab.nodes().to_vec(),
            service,
            backings: Vec::new(),
        };
        pods.iter().try_for_each(|pod| exposed.add(pod))?;
        exposed.write()?;
        Ok(exposed)
    }
}

impl Exposed {
    /// Adds a pod, ready. Not written yet.
    pub fn add(&mut self, pod: &Pod) -> Result<()> {
        let node = self.nodes.iter().find(|node| node.name == pod.node);
        let node = node.with_context(|| format!("{} is on no node of the lab", pod.name))?;
        self.backings.push(Backing::ready(pod, node));
        Ok(())
    }

    /// The endpoint of a pod.
    pub fn backing(&mut self, pod: &Place) -> Result<&mut Backing> {
        let found = self.backings.iter_mut().find(|backing| backing.name == pod.name);
        found.with_context(|| format!("{} is no endpoint", pod.name))
    }

    /// Marks a pod as terminating, still serving. Not written yet.
    pub fn drain(&mut self, pod: &Place) -> Result<()> {
        self.backing(pod).map(Backing::drain)
    }

    /// Takes a pod out. Not written yet.
    pub fn take_out(&mut self, pod: &Place) {
        self.backings.retain(|backing| backing.name != pod.name);
    }

    /// Writes Service and slices, in one file that appears at once.
    pub fn write(&self) -> Result<()> {
        let mut objects = vec![to_value(&self.service)?];
        for slice in objects::slices(&self.service, &self.backings) {
            objects.push(to_value(&slice)?);
        }
        self.manifests.write(&self.file(), &objects)
    }

    /// Removes the file: Service and endpoints are gone.
    pub fn withdraw(&self) -> Result<()> {
        self.manifests.remove(&self.file())
    }

    /// Name of its file.
    fn file(&self) -> String {
        format!("service-{}", self.service.metadata.name.as_deref().unwrap_or_default())
    }
}

/// An object of any kind, with its kind and version.
fn to_value(object: &impl Serialize) -> Result<Value> {
    serde_json::to_value(object).context("an object does not become JSON")
}
