// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A test's own node: a cgroup, a network namespace with loopback, a directory of pins.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use lab::{
    cgroup,
    driver::Driver,
    netns::{Batch, Netns},
    place::{Place, PlaceKind},
};
use lb_agent::datapath::{
    Datapath as _,
    kernel::Kernel,
    load::{self, HOOKS, LoadError, Options},
    syscall::{self, LinkDescription},
};
use lb_agent::plan::op::Op;
use lb_common::{
    addr::Addr,
    backend::{BackendFlags, Life, State},
    be::{Be16, Be32},
    key::{FrontendKey4, FrontendValue},
    maps::Capacities,
    protocol::Protocol,
    service::{Algorithm, FrontendKind, Service, ServiceFlags, SetWord},
    slot::Slot,
};

/// The node. Dropping it removes all that it has.
pub(crate) struct Bed {
    pub(crate) place: Place,
    pub(crate) options: Options,
    _logs: tempfile::TempDir,
}

impl Bed {
    /// A node, or why none can be made here.
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("sluice-test-{}-{number}", process::id());
        let logs = tempfile::tempdir().unwrap();
        let place = Place {
            name: name.clone(),
            kind: PlaceKind::Pod,
            netns: Netns::named(&name),
            cgroup: cgroup::mount_point().unwrap().join(&name),
            v4: Ipv4Addr::LOCALHOST,
            v6: Ipv6Addr::LOCALHOST,
            logs: logs.path().to_owned(),
        };
        let options = Options {
            bpf_root: Path::new("/sys/fs/bpf").join(&name),
            cgroup_root: place.cgroup.clone(),
            allow_foreign: false,
        };
        // Before anything exists, so that a panic on the way removes what does.
        let bed = Self { place, options, _logs: logs };
        Batch::default().line(format!("netns add {name}")).run().unwrap();
        bed.place.ip("link set lo up").unwrap();
        cgroup::create(&bed.place.cgroup).unwrap();
        bed
    }

    /// Opens the datapath as the node's agent would.
    pub(crate) fn open(&self) -> Result<Kernel, LoadError> {
        self.open_with(&SMALL)
    }

    /// Opens it with other sizes.
    pub(crate) fn open_with(&self, wanted: &Capacities) -> Result<Kernel, LoadError> {
        self.place.run(|| Kernel::open(&self.options, wanted)).unwrap()
    }

    /// A process in the node's cgroup and namespace that opens sockets.
    pub(crate) fn driver(&self) -> Driver {
        self.place.driver().unwrap()
    }

    /// A pin below the directory of this layout.
    pub(crate) fn pin(&self, path: &str) -> PathBuf {
        let layout = format!("v{}", lb_common::maps::LAYOUT_VERSION);
        self.options.bpf_root.join(layout).join(path)
    }

    /// What each link runs, by the hook's name.
    pub(crate) fn links(&self) -> Vec<(&'static str, LinkDescription)> {
        let describe = |hook: &load::Hook| {
            let link = syscall::object_get(&self.pin("links").join(hook.name)).unwrap();
            (hook.name, syscall::describe_link(link).unwrap())
        };
        HOOKS.iter().map(describe).collect()
    }

    /// Runs bpftool; its words are cut at blanks.
    pub(crate) fn bpftool(words: &str) {
        let output = process::Command::new("bpftool").args(words.split(' ')).output().unwrap();
        assert!(output.status.success(), "bpftool {words}: {output:?}");
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let cleaned = [
            load::unload(&self.options.bpf_root).err().map(|error| error.to_string()),
            cgroup::remove(&self.place.cgroup).err().map(|error| error.to_string()),
            Batch::default()
                .line(format!("netns del {}", self.place.netns.name()))
                .run()
                .err()
                .map(|error| error.to_string()),
        ];
        for failure in cleaned.into_iter().flatten() {
            eprintln!("clean-up: {failure}");
        }
        let left = fs::exists(&self.options.bpf_root).unwrap_or(true);
        assert!(!left || std::thread::panicking(), "pins are left");
    }
}

/// A ClusterIP with one backend, as ops in the order of a plan. All its indexes are `index`.
pub(crate) fn cluster_ip(
    index: u32,
    (address, port): (Ipv4Addr, u16),
    (backend, backend_port): (Ipv4Addr, u16),
    protocol: Protocol,
) -> Vec<Op> {
    let (port, backend_port) = (Be16::from_host(port), Be16::from_host(backend_port));
    let key = FrontendKey4::new(Be32 { bytes: address.octets() }, port, protocol);
    let life = Life { generation: 1, state: State::Active as u8, protocol, port: backend_port };
    let address4 = Be32 { bytes: backend.octets() };
    let slot = Slot { address4, port: backend_port, _pad: 0, backend: index, generation: 1 };
    let set = SetWord::new(index, 1, Algorithm::Random).unwrap();
    let flags = ServiceFlags::from(FrontendKind::ClusterIp);
    let record = Service {
        inside: set,
        outside: set,
        flags,
        id: index,
        generation: 1,
        ..Service::default()
    };
    vec![
        Op::Backend { index, life, address: Addr::from(backend), flags: BackendFlags::LOCAL },
        Op::Slots { base: index, slots: Box::new([slot]) },
        Op::Name { id: index, text: Some(format!("default/service-{index}:http").into()) },
        Op::Service { index, record: Box::new(record) },
        Op::Frontend4 { key, value: Some(FrontendValue { service: index, tag: key.tag() }) },
    ]
}

/// Executes ops that must all succeed.
pub(crate) fn apply(kernel: &mut Kernel, ops: &[Op]) {
    kernel.apply(ops).unwrap();
}

/// Sizes that are quick to make.
pub(crate) const SMALL: Capacities = Capacities {
    frontends: 1 << 10,
    services: 1 << 10,
    slots: 1 << 12,
    backends: 1 << 10,
    sockets: 1 << 12,
    sockets_over: 1 << 8,
    affinity: 1 << 10,
};
