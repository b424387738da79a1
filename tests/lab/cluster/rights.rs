// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The rights that the agent has in a cluster: those of `deploy/sluice.yaml`, and no others.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::{Cluster, User};

impl Cluster {
    /// The kubeconfig of the user `lb-agent`, which gets the rights of the deployment.
    pub fn agent_kubeconfig(&self) -> Result<PathBuf> {
        self.grant(&role()?)?;
        Ok(self.kubeconfig(User::Agent))
    }

    /// Gives the user `lb-agent` the rights of a ClusterRole named `sluice` instead of those
    /// that it had.
    pub fn grant(&self, role: &str) -> Result<()> {
        self.kubectl_apply(&format!("{role}\n---{BINDING}")).map(drop)
    }
}

/// The ClusterRole of the deployment.
///
/// # Errors
/// When the file holds none.
pub fn role() -> Result<String> {
    let mut objects = DEPLOYMENT.split("\n---\n");
    let role = objects.find(|object| object.contains("kind: ClusterRole\n"));
    Ok(role.context("deploy/sluice.yaml has no ClusterRole")?.to_owned())
}

/// What a cluster gets.
const DEPLOYMENT: &str = include_str!("../../../deploy/sluice.yaml");

/// The role of [`DEPLOYMENT`] for the user that the lab's agents are.
const BINDING: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: lb-agent }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: sluice }
subjects:
  - { apiGroup: rbac.authorization.k8s.io, kind: User, name: lb-agent }
";
