// SPDX-License-Identifier: Apache-2.0 OR MIT
use proptest::prelude::*;

use super::*;
use crate::{model::snapshot::Snapshot, source::manifests::parse::parse};

const FILES: [&str; 3] = ["a.yaml", "b.yaml", "c.yaml"];

/// What is done to a file: it holds these objects, by number and version, or is gone.
type Step = (usize, Option<Vec<(u8, u8)>>);

fn step() -> impl Strategy<Value = Step> {
    let objects = proptest::collection::vec((0..4u8, 1..4u8), 0..4);
    (0..FILES.len(), proptest::option::weighted(0.8, objects))
}

/// Objects 0 and 1 are Services, 2 is a slice, 3 is this node.
fn text(objects: &[(u8, u8)]) -> String {
    let object = |(which, version): &(u8, u8)| match which {
        0 | 1 => format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s{which}}}\n\
             spec: {{clusterIP: 10.96.0.{version}}}\n"
        ),
        2 => format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
             metadata: {{name: x, labels: {{kubernetes.io/service-name: s{version}}}}}\n\
             endpoints: []\n"
        ),
        _ => format!(
            "apiVersion: v1\nkind: Node\n\
             metadata: {{name: n1, labels: {{topology.kubernetes.io/zone: z{version}}}}}\n"
        ),
    };
    objects.iter().map(object).collect::<Vec<_>>().join("---\n")
}

fn snapshot_of(listing: Listing) -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.apply(Change::Replace(Box::new(listing)));
    snapshot
}

proptest! {
    /// Whatever happened to the files before, what they hold now decides alone.
    #[test]
    fn changes_of_files_equal_a_first_look_at_them(steps in proptest::collection::vec(step(), 0..12)) {
        let mut merged = Merged::new("n1".into(), BTreeSet::new());
        let mut snapshot = snapshot_of(merged.listing());
        let mut files = BTreeMap::new();
        for (at, objects) in steps {
            let path = Path::new(FILES[at]);
            if let Some(objects) = objects {
                merged.put(path, parse(&text(&objects)).unwrap());
                files.insert(path, objects);
            } else {
                merged.remove(path);
                files.remove(path);
            }
            for change in merged.take_changes() {
                prop_assert!(!snapshot.apply(change).is_empty());
            }
            let mut first = Merged::new("n1".into(), BTreeSet::new());
            for (path, objects) in files.iter().rev() {
                first.put(path, parse(&text(objects)).unwrap());
            }
            prop_assert_eq!(&snapshot, &snapshot_of(first.listing()));
            prop_assert_eq!(merged.problems(), first.problems());
            prop_assert_eq!(merged.take_changes(), []);
        }
    }
}
