// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The table of rooms: what each part of the product may touch.
//!
//! Words are as in ARCHITECTURE.md. A room is a folder or a few files; the agent's rooms may also
//! not use certain other rooms of the agent.

/// A part of the product with rules of its own.
pub(crate) struct Room {
    /// Its name in messages.
    pub(crate) name: &'static str,
    /// The files that belong to it: paths from the workspace's folder, without `.rs`.
    pub(crate) places: &'static [&'static str],
    /// Which crates it may use.
    pub(crate) crates: Crates,
    /// Paths it must not use, and why: `crate::x` for modules of its own crate.
    pub(crate) never: &'static [(&'static str, &'static str)],
}

/// Which crates a room may use.
pub(crate) enum Crates {
    /// These and no others.
    Only(&'static [&'static str]),
    /// Any but these.
    Except(&'static [&'static str]),
}

impl Room {
    /// Whether the room holds this file.
    pub(crate) fn holds(&self, file: &str) -> bool {
        let file = file.strip_suffix(".rs").unwrap_or(file);
        self.places.iter().any(|place| {
            file.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}

/// Every room. The first that holds a file decides.
pub(crate) const ROOMS: &[Room] = &[
    Room {
        name: "lb-common",
        places: &["lb-common/src"],
        crates: Crates::Only(&["core", "bytemuck", "bitflags"]),
        never: &[],
    },
    Room {
        name: "lb-ebpf",
        places: &["lb-ebpf/src"],
        crates: Crates::Only(&[
            "core",
            "lb_common",
            "aya_ebpf",
            "aya_log_ebpf",
            "bytemuck",
            "network_types",
        ]),
        never: &[],
    },
    Room {
        name: "source",
        places: &["lb-agent/src/source"],
        crates: Crates::Except(&["lb_common", "aya", "aya_obj"]),
        never: &[
            ("crate::plan", SOURCE_GIVES),
            ("crate::datapath", SOURCE_GIVES),
            ("crate::reconcile", SOURCE_GIVES),
            ("crate::cli", SOURCE_GIVES),
            ("crate::run", SOURCE_GIVES),
        ],
    },
    Room {
        name: "model, fnv",
        places: &["lb-agent/src/model", "lb-agent/src/fnv"],
        crates: Crates::Only(PURE_CRATES),
        never: PURE_MODEL,
    },
    Room {
        name: "plan",
        places: &["lb-agent/src/plan"],
        crates: Crates::Only(PURE_CRATES),
        never: PURE,
    },
    Room {
        name: "datapath",
        places: &["lb-agent/src/datapath"],
        crates: Crates::Except(&["kube", "k8s_openapi"]),
        never: &[
            ("crate::model", DATAPATH_WRITES),
            ("crate::source", DATAPATH_WRITES),
            ("crate::reconcile", DATAPATH_WRITES),
            ("crate::cli", DATAPATH_WRITES),
            ("crate::run", DATAPATH_WRITES),
            ("crate::plan::compile", DATAPATH_WRITES),
            ("crate::plan::eligible", DATAPATH_WRITES),
            ("crate::plan::topology", DATAPATH_WRITES),
            ("crate::plan::maglev", DATAPATH_WRITES),
        ],
    },
    Room {
        name: "observe",
        places: &["lb-agent/src/observe"],
        crates: Crates::Except(&["aya", "aya_obj"]),
        never: &[("crate::cli", "observing is below the command line: pass values in")],
    },
    Room {
        name: "reconcile, run, cli",
        places: &[
            "lb-agent/src/reconcile",
            "lb-agent/src/run",
            "lb-agent/src/cli",
            "lb-agent/src/sockets",
            "lb-agent/src/flows",
            "lb-agent/src/pods",
        ],
        crates: Crates::Except(&["aya", "aya_obj", "k8s_openapi"]),
        never: &[],
    },
    Room {
        name: "entrance",
        places: &["lb-agent/src/lib", "lb-agent/src/main", "lb-agent/src/config"],
        crates: Crates::Except(&["aya", "aya_obj", "kube", "k8s_openapi"]),
        never: &[],
    },
];

/// The only files with unsafe code.
pub(crate) const UNSAFE: &[&str] = &[
    "lb-ebpf/src/packet/headers.rs",
    "lb-ebpf/src/packet/sctp.rs",
    "lb-ebpf/src/packet/snat.rs",
    "lb-ebpf/src/sock/address.rs",
    "lb-ebpf/src/kernel.rs",
    "lb-ebpf/src/maps.rs",
    "lb-ebpf/src/collect/main.rs",
    "lb-ebpf/src/flood/main.rs",
    "lb-agent/src/datapath/wire.rs",
    "lb-agent/src/datapath/arrays.rs",
    "lb-agent/src/datapath/syscall.rs",
];

/// The only files that turn byte orders into each other.
pub(crate) const BYTE_ORDER: &[&str] = &["lb-common/src/be.rs", "lb-common/src/addr.rs"];

const PURE_CRATES: &[&str] =
    &["std", "core", "lb_common", "ipnet", "thiserror", "bitflags", "foldhash"];

/// What model must not use: what plan must not, and plan itself.
const PURE_MODEL: &[(&str, &str)] = &[
    ("crate::plan", MODEL_IS_FIRST),
    ("crate::source", DATA_IN),
    ("crate::datapath", DATA_IN),
    ("crate::reconcile", DATA_IN),
    ("crate::observe", DATA_IN),
    ("crate::cli", DATA_IN),
    ("crate::run", DATA_IN),
    ("std::env", DATA_IN),
    ("std::fs", DATA_IN),
    ("std::process", DATA_IN),
    ("std::thread", DATA_IN),
    ("Instant::now", TIME_IN),
    ("SystemTime::now", TIME_IN),
];

const PURE: &[(&str, &str)] = &[
    ("crate::source", DATA_IN),
    ("crate::datapath", DATA_IN),
    ("crate::reconcile", DATA_IN),
    ("crate::observe", DATA_IN),
    ("crate::cli", DATA_IN),
    ("crate::run", DATA_IN),
    ("std::env", DATA_IN),
    ("std::fs", DATA_IN),
    ("std::process", DATA_IN),
    ("std::thread", DATA_IN),
    ("Instant::now", TIME_IN),
    ("SystemTime::now", TIME_IN),
];

const SOURCE_GIVES: &str = "a source gives snapshots and knows nothing of what becomes of them";
const DATAPATH_WRITES: &str = "the datapath writes what a plan says and decides nothing";
const MODEL_IS_FIRST: &str = "values do not know how they are compiled: move it to plan";
const DATA_IN: &str = "data in, data out: let the caller read it and pass the value";
const TIME_IN: &str = "time is an argument";
