// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Behaviour that an operator can read: each folder of `tests/golden` has a cluster and the
//! tables it becomes, as `lb-agent show` prints them. After that everything is deleted, and
//! nothing may be left.
//!
//! `cargo xtask bless` rewrites the expected tables; review the difference.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use lb_agent::{
    cli::show,
    datapath::fake::Fake,
    model::{
        change::{Change, Listing, NodeObject},
        rules::Rules,
    },
    plan::tables::Tables,
    reconcile::Reconciler,
    source::read_manifest,
};

/// The node that every case is seen from.
const NODE: &str = "node-1";

#[test]
fn golden() {
    let bless = std::env::var_os("SLUICE_BLESS").is_some();
    let mut wrong = Vec::new();
    let cases = cases();
    for case in &cases {
        let path = case.join("tables.txt");
        let actual = tables_of(case);
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if bless {
            fs::write(&path, actual).unwrap();
        } else if actual != expected {
            wrong.push(format!("{}\nexpected:\n{expected}\nactual:\n{actual}", path.display()));
        }
    }
    assert!(cases.len() >= 20, "only {} cases were found", cases.len());
    assert!(wrong.is_empty(), "{}\nif this is right: cargo xtask bless", wrong.join("\n"));
}

/// Every folder with a cluster, by name.
fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let entries = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> = entries.filter(|path| path.join("cluster.yaml").is_file()).collect();
    cases.sort();
    cases
}

/// What `show` prints for a case's cluster, with what is ignored below it.
fn tables_of(case: &Path) -> String {
    let text = fs::read_to_string(case.join("cluster.yaml")).unwrap();
    let (changes, problems) = read_manifest(&text, NODE)
        .unwrap_or_else(|problem| panic!("{}: {problem:?}", case.display()));
    let mut reconciler = Reconciler::new(Fake::new(1)).with_rules(Rules::NFTABLES);
    reconciler.take(changes);
    settle(&mut reconciler);
    let mut shown = show::text(&reconciler.datapath().tables);
    for (line, problem) in problems {
        write!(shown, "\nline {line}: {problem}").unwrap();
    }
    for issue in reconciler.issues() {
        write!(shown, "\n{issue}").unwrap();
    }
    delete_everything(&mut reconciler, case);
    format!("{}\n", shown.trim_end())
}

fn delete_everything(reconciler: &mut Reconciler<Fake>, case: &Path) {
    let nothing = Listing {
        services: Some(Vec::new()),
        slices: Some(Vec::new()),
        node: Some(NodeObject::default()),
        service_cidrs: Some(Vec::new()),
        pods: Some(Vec::new()),
    };
    reconciler.take([Change::Replace(Box::new(nothing)), Change::NodeAddresses([].into())]);
    settle(reconciler);
    let tables = &reconciler.datapath().tables;
    let left = show::text(tables);
    assert_eq!(left, show::text(&Tables::default()), "{}: left behind", case.display());
    assert!(tables.names.is_empty() && tables.members.is_empty(), "{}", case.display());
    assert!(tables.source_ranges.is_empty(), "{}", case.display());
    assert!(tables.service_cidrs.is_empty(), "{}", case.display());
}

fn settle(reconciler: &mut Reconciler<Fake>) {
    reconciler.sync().unwrap();
    while reconciler.has_leftovers() {
        if let Some(grace) = reconciler.part() {
            grace().unwrap();
        }
        reconciler.take_away().unwrap();
    }
}
