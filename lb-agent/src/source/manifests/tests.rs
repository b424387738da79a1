// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The directory for real: files in a temporary one, changes by the kernel's own word.

use std::{collections::BTreeSet, fs, io::Write as _, os::unix::fs::symlink, time::Duration};

use tempfile::TempDir;
use tokio::{sync::watch, task::JoinSet};

use super::*;
use crate::{
    model::{ObjectName, snapshot::Snapshot},
    source::status::Status,
};

/// A source that runs on a directory, and the snapshot of what it said.
struct Running {
    directory: TempDir,
    messages: mpsc::Receiver<Message>,
    status: watch::Receiver<Status>,
    snapshot: Snapshot,
    _tasks: JoinSet<()>,
}

impl Running {
    /// Starts on `manifests`, a directory below the temporary one, with these files.
    async fn start(files: &[(&str, &str)]) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("manifests");
        fs::create_dir(&path).unwrap();
        for (name, text) in files {
            fs::write(path.join(name), text).unwrap();
        }
        let (sender, messages) = mpsc::channel(100);
        let (reporter, status) = Reporter::new();
        let mut tasks = JoinSet::new();
        let source = Manifests::open(&path, "n1".into(), BTreeSet::new()).unwrap();
        tasks.spawn(source.run(sender, reporter));
        let snapshot = Snapshot::default();
        let mut running = Self { directory, messages, status, snapshot, _tasks: tasks };
        running.take().await;
        running
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("manifests").join(name)
    }

    async fn take(&mut self) {
        let message = tokio::time::timeout(BOUND, self.messages.recv()).await;
        let Message::Change(change) = message.expect("a change in time").unwrap() else { panic!() };
        self.snapshot.apply(change);
    }

    /// Takes changes until the Services are these.
    async fn until(&mut self, names: &[&str]) {
        let names: BTreeSet<_> = names.iter().map(|it| ObjectName::new("default", *it)).collect();
        while self.snapshot.services.keys().cloned().collect::<BTreeSet<_>>() != names {
            self.take().await;
        }
    }

    /// Waits until what is told is exactly this, each with the file's name alone.
    async fn until_told(&mut self, expected: &[&str]) {
        let root = format!("{}/manifests/", self.directory.path().display());
        let told = |status: &Status| -> Vec<String> {
            status.failures.values().map(|it| it.chain().replace(&root, "")).collect()
        };
        let right = self.status.wait_for(|status| {
            let told = told(status);
            told.len() == expected.len() && told.iter().zip(expected).all(|(a, b)| a.starts_with(b))
        });
        let right = tokio::time::timeout(BOUND, right).await.is_ok();
        assert!(right, "{:?}", told(&self.status.borrow()));
    }

    fn cluster_ip(&self, name: &str) -> String {
        let service = &self.snapshot.services[&ObjectName::new("default", name)];
        service.cluster_ips[0].to_string()
    }
}

fn service(name: &str, last: u8) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
         spec: {{clusterIP: 10.96.0.{last}, ports: [{{port: 80}}]}}\n"
    )
}

fn slice(name: &str, of: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: {name}, labels: {{kubernetes.io/service-name: {of}}}}}\n\
         addressType: IPv4\nports: [{{port: 8080}}]\nendpoints: [{{addresses: [10.244.1.2]}}]\n"
    )
}

#[tokio::test]
async fn files_that_are_made_changed_and_deleted_are_followed() {
    let mut running = Running::start(&[("a.yaml", &service("a", 1)), ("notes.txt", "x: [")]).await;
    running.until(&["a"]).await;

    fs::write(running.path("b.yml"), format!("{}---\n{}", service("b", 2), slice("b-1", "b")))
        .unwrap();
    running.until(&["a", "b"]).await;
    while running.snapshot.slices.is_empty() {
        running.take().await;
    }

    fs::write(running.path("a.yaml"), service("a", 9)).unwrap();
    running.take().await;
    assert_eq!(running.cluster_ip("a"), "10.96.0.9");

    fs::write(running.path("tmp"), service("a", 10)).unwrap();
    fs::rename(running.path("tmp"), running.path("a.yaml")).unwrap();
    running.take().await;
    assert_eq!(running.cluster_ip("a"), "10.96.0.10");

    fs::remove_file(running.path("b.yml")).unwrap();
    running.until(&["a"]).await;
    while !running.snapshot.slices.is_empty() {
        running.take().await;
    }
    assert!(running.status.borrow().failures.is_empty());
}

#[tokio::test]
async fn a_file_that_is_being_written_keeps_its_last_good_version() {
    let mut running = Running::start(&[("a.yaml", &service("a", 1)), ("b.yaml", "")]).await;
    running.until(&["a"]).await;
    let mut file = fs::File::create(running.path("a.yaml")).unwrap();
    file.write_all(service("half", 2).as_bytes()).unwrap();
    file.flush().unwrap();
    // Another file's change makes the directory be looked at; the half-written one must wait.
    fs::write(running.path("b.yaml"), service("b", 3)).unwrap();
    running.until(&["a", "b"]).await;
    file.write_all(b"---\n").unwrap();
    file.write_all(service("whole", 4).as_bytes()).unwrap();
    drop(file);
    running.until(&["b", "half", "whole"]).await;
}

#[tokio::test]
async fn a_file_that_does_not_parse_keeps_its_last_good_version_and_is_told() {
    let mut running = Running::start(&[("a.yaml", &service("a", 1))]).await;
    running.until(&["a"]).await;
    fs::write(running.path("a.yaml"), format!("{}---\nkind: [\n", service("x", 2))).unwrap();
    running.until_told(&["a.yaml:6: "]).await;
    fs::write(running.path("b.yaml"), service("b", 3)).unwrap();
    running.until(&["a", "b"]).await;
    fs::write(running.path("a.yaml"), service("a", 4)).unwrap();
    running.take().await;
    assert_eq!(running.cluster_ip("a"), "10.96.0.4");
    running.until_told(&[]).await;
}

#[tokio::test]
async fn of_two_files_with_one_object_the_first_by_name_counts() {
    let mut running = Running::start(&[("b.yaml", &service("a", 2))]).await;
    assert_eq!(running.cluster_ip("a"), "10.96.0.2");
    fs::write(running.path("a.yaml"), format!("# first\n{}", service("a", 1))).unwrap();
    running.take().await;
    assert_eq!(running.cluster_ip("a"), "10.96.0.1");
    running.until_told(&["b.yaml:1: Service default/a stands in "]).await;
    fs::remove_file(running.path("a.yaml")).unwrap();
    running.take().await;
    assert_eq!(running.cluster_ip("a"), "10.96.0.2");
    running.until_told(&[]).await;
}

#[tokio::test]
async fn other_kinds_are_told_with_their_line_and_the_rest_served() {
    let text =
        format!("{}---\napiVersion: v1\nkind: Secret\nmetadata: {{name: p}}\n", service("a", 1));
    let mut running = Running::start(&[("a.yaml", &text)]).await;
    running.until(&["a"]).await;
    running.until_told(&["a.yaml:6: kind \"Secret\" of \"v1\" is not read here"]).await;
}

#[tokio::test]
async fn nod_01_only_the_node_of_our_name_counts() {
    let node = |name: &str, zone: &str| {
        format!(
            "apiVersion: v1\nkind: Node\n\
             metadata: {{name: {name}, labels: {{topology.kubernetes.io/zone: {zone}}}}}\n"
        )
    };
    let text = format!("{}---\n{}", node("n2", "b"), node("n1", "a"));
    let mut running = Running::start(&[("nodes.yaml", &text)]).await;
    assert_eq!(running.snapshot.node.zone.as_deref(), Some("a"));
    assert_eq!(&*running.snapshot.node.name, "n1");
    fs::remove_file(running.path("nodes.yaml")).unwrap();
    running.take().await;
    assert_eq!((&*running.snapshot.node.name, &running.snapshot.node.zone), ("n1", &None));
}

#[tokio::test]
async fn a_directory_that_is_replaced_is_followed_and_a_missing_one_keeps_what_was_served() {
    let mut running = Running::start(&[("a.yaml", &service("a", 1))]).await;
    running.until(&["a"]).await;
    let root = running.directory.path().to_owned();
    fs::create_dir(root.join("next")).unwrap();
    fs::write(root.join("next/b.yaml"), service("b", 2)).unwrap();
    fs::rename(root.join("manifests"), root.join("old")).unwrap();
    running.status.wait_for(|status| !status.failures.is_empty()).await.unwrap();
    assert_eq!(running.snapshot.services.len(), 1);
    fs::rename(root.join("next"), root.join("manifests")).unwrap();
    running.until(&["b"]).await;
    running.until_told(&[]).await;
    fs::write(running.path("c.yaml"), service("c", 3)).unwrap();
    running.until(&["b", "c"]).await;
}

#[tokio::test]
async fn a_symbolic_link_that_is_pointed_elsewhere_is_followed() {
    let root = TempDir::new().unwrap();
    for (version, last) in [("v1", 1), ("v2", 2)] {
        fs::create_dir(root.path().join(version)).unwrap();
        fs::write(root.path().join(version).join("a.yaml"), service("a", last)).unwrap();
    }
    let link = root.path().join("link");
    symlink("v1", &link).unwrap();
    let (sender, mut messages) = mpsc::channel(100);
    let mut tasks = JoinSet::new();
    let source = Manifests::open(&link, "n1".into(), BTreeSet::new()).unwrap();
    tasks.spawn(source.run(sender, Reporter::new().0));
    let mut snapshot = Snapshot::default();
    for (target, expected) in [("v2", "10.96.0.1"), ("v1", "10.96.0.2"), ("v2", "10.96.0.1")] {
        let message = tokio::time::timeout(BOUND, messages.recv()).await.unwrap().unwrap();
        let Message::Change(change) = message else { panic!() };
        snapshot.apply(change);
        let service = &snapshot.services[&ObjectName::new("default", "a")];
        assert_eq!(service.cluster_ips[0].to_string(), expected);
        symlink(target, root.path().join("new")).unwrap();
        fs::rename(root.path().join("new"), &link).unwrap();
    }
}

#[test]
fn a_directory_that_is_missing_at_the_start_is_an_error_that_names_it_and_its_flag() {
    let error = Manifests::open(Path::new("/nonexistent/manifests"), "n1".into(), BTreeSet::new())
        .err()
        .unwrap();
    let told = error.chain();
    assert!(told.contains("/nonexistent/manifests") && told.contains("--manifests"), "{told}");
}

/// The longest that any of this may take.
const BOUND: Duration = Duration::from_secs(10);
