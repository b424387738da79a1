// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The same objects through a real API server, made as a person makes them.

use std::{net::IpAddr, path::Path};

use anyhow::{Context as _, Result, ensure};
use lab::{Lab, cluster::Cluster, id::RunId, netns, pod::Pod};

use crate::screen::Screen;

/// Makes a Deployment whose pods are the lab's, and two Services; gives the ClusterIPs of
/// `web` and the IPv4 one of `idle`.
pub(super) fn publish(
    screen: &mut Screen,
    cluster: &Cluster,
    lab: &Lab,
) -> Result<([IpAddr; 2], IpAddr)> {
    let pods = lab.pods();
    let replicas = format!("--replicas={}", pods.len());
    let create = ["create", "deployment", "web", "--image=lab-pod", &replicas];
    show(screen, cluster, &create)?;
    // The lab plays kubelet: it binds each Pod object to a pod that runs, and reports it.
    for (object, pod) in cluster.pending("app=web", pods.len())?.iter().zip(&pods) {
        cluster.adopt(object, pod)?;
    }
    screen.command("kubectl apply -f services.yaml   # ipFamilyPolicy: RequireDualStack");
    screen.block(&cluster.kubectl_apply(SERVICES)?);
    show(screen, cluster, &["get", "services,endpointslices"])?;
    let ips = |name| addresses(cluster, name);
    let (web, empty) = (ips("web")?, ips("idle")?);
    Ok((
        [*web.first().context("web has no ClusterIP")?, *web.get(1).context("web has no IPv6")?],
        *empty.first().context("idle has no ClusterIP")?,
    ))
}

/// Deletes a pod's object; it goes on serving until its grace period ends.
pub(super) fn terminate(cluster: &Cluster, pod: &Pod) -> Result<String> {
    let object = object_of(cluster, pod)?;
    cluster.terminate(&object)?;
    Ok(format!("kubectl delete pod {object} --wait=false   # {}", pod.name))
}

/// Removes a terminating pod's object, as its kubelet does at the end.
pub(super) fn forget(cluster: &Cluster, pod: &Pod) -> Result<()> {
    cluster.forget_pod(&object_of(cluster, pod)?)
}

/// A lab that was removed left no namespace behind.
pub(super) fn nothing_left(id: &RunId) -> Result<()> {
    let left = netns::with_prefix(&id.prefix());
    ensure!(left.is_empty(), "left behind: {left:?}");
    let pins = Path::new("/sys/fs/bpf").join(id.prefix());
    ensure!(!pins.exists(), "left behind: {}", pins.display());
    Ok(())
}

/// Runs kubectl and shows what it prints.
fn show(screen: &mut Screen, cluster: &Cluster, args: &[&str]) -> Result<()> {
    screen.command(&format!("kubectl {}", args.join(" ")));
    screen.table(&cluster.kubectl(args.iter().copied())?);
    Ok(())
}

/// A Service's ClusterIPs, IPv4 first.
fn addresses(cluster: &Cluster, service: &str) -> Result<Vec<IpAddr>> {
    let path = "jsonpath={.spec.clusterIPs[*]}";
    let text = cluster.kubectl(["get", "service", service, "-o", path])?;
    let parsed = text.split_whitespace().map(str::parse);
    let mut ips: Vec<IpAddr> =
        parsed.collect::<Result<_, _>>().with_context(|| format!("{service} has {text:?}"))?;
    ips.sort();
    Ok(ips)
}

/// The Pod object that stands for a pod: the one with its address.
fn object_of(cluster: &Cluster, pod: &Pod) -> Result<String> {
    let path = "jsonpath={range .items[*]}{.metadata.name} {.status.podIP}{\"\\n\"}{end}";
    let text = cluster.kubectl(["get", "pods", "-o", path])?;
    let ip = pod.v4.to_string();
    let found = text.lines().filter_map(|line| line.split_once(' ')).find(|(_, at)| *at == ip);
    found.map(|(name, _)| name.to_owned()).with_context(|| format!("no Pod object has {ip}"))
}

/// Both Services.
const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: { name: web }
spec:
  selector: { app: web }
  ipFamilyPolicy: RequireDualStack
  ports:
    - { name: tcp, protocol: TCP, port: 80, targetPort: 8080 }
    - { name: udp, protocol: UDP, port: 80, targetPort: 8080 }
---
apiVersion: v1
kind: Service
metadata: { name: idle }
spec:
  selector: { app: nobody }
  ports:
    - { name: tcp, protocol: TCP, port: 80, targetPort: 8080 }
";
