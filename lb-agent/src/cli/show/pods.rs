// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `show pods`: a row for each pod whose sockets are left alone, and one for each namespace that
//! is left alone and no pod's that the agent knows.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::{
    cli::output::{self, Format, Row},
    datapath::view::View,
    run::state::{self, PodLine},
};

/// A pod, or a network namespace.
#[derive(Debug, Serialize)]
struct PodRow {
    /// Namespace and name; empty for a network namespace of no known pod.
    pod: String,
    /// Why it is left alone.
    mark: String,
    /// Its addresses.
    addresses: Vec<String>,
    /// The devices at which its packets are translated; none where they are not.
    devices: Vec<String>,
    /// The cookie of its network namespace, if this kernel has it.
    namespace: Option<u64>,
    /// Whether sockets of that namespace are left alone; if not, the hooks see none of them, or
    /// they are served as ever since no device was found.
    bypassed: bool,
}

/// Prints the pods.
pub(super) fn print(view: &View, format: Format) -> anyhow::Result<()> {
    output::print(&rows(state::pods(view.root())?, &view.bypassed()?), format)
}

fn rows(pods: Vec<PodLine>, bypassed: &BTreeSet<u64>) -> Vec<PodRow> {
    let known: BTreeSet<_> = pods.iter().filter_map(|pod| pod.namespace).collect();
    let of_pod = |pod: PodLine| PodRow {
        pod: pod.pod,
        mark: pod.mark,
        addresses: pod.addresses.iter().map(ToString::to_string).collect(),
        devices: pod.devices,
        namespace: pod.namespace,
        bypassed: pod.namespace.is_some_and(|cookie| bypassed.contains(&cookie)),
    };
    let of_namespace = |cookie: &u64| PodRow {
        pod: String::new(),
        mark: String::new(),
        addresses: Vec::new(),
        devices: Vec::new(),
        namespace: Some(*cookie),
        bypassed: true,
    };
    let pods = pods.into_iter().map(of_pod);
    pods.chain(bypassed.difference(&known).map(of_namespace)).collect()
}

impl Row for PodRow {
    const TITLES: &'static [&'static str] =
        &["POD", "LEFT ALONE BY", "ADDRESSES", "DEVICE", "NAMESPACE", "SOCKETS"];

    fn cells(&self) -> Vec<String> {
        let device = if self.devices.is_empty() { "none" } else { "" };
        vec![
            self.pod.clone(),
            self.mark.clone(),
            self.addresses.join(" "),
            format!("{device}{}", self.devices.join(" ")),
            self.namespace.map_or_else(|| "not seen".to_owned(), |cookie| cookie.to_string()),
            if self.bypassed { "left alone" } else { "served if seen" }.to_owned(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pod_and_each_stray_namespace_has_a_row() {
        let pod = |name: &str, namespace| PodLine {
            pod: format!("default/{name}"),
            mark: "label".to_owned(),
            addresses: vec!["10.244.1.7".parse().unwrap(), "fd00::7".parse().unwrap()],
            devices: vec!["veth7".to_owned()],
            namespace,
        };
        let lost = PodLine { devices: Vec::new(), ..pod("lost", None) };
        let rows = rows(vec![pod("a", Some(5)), lost], &BTreeSet::from([5, 9]));
        let cells: Vec<_> = rows.iter().map(|row| row.cells().join("|")).collect();
        assert_eq!(
            cells,
            [
                "default/a|label|10.244.1.7 fd00::7|veth7|5|left alone",
                "default/lost|label|10.244.1.7 fd00::7|none|not seen|served if seen",
                "||||9|left alone",
            ]
            .map(|text| text.replace("||||9", "|||none|9"))
        );
    }
}
