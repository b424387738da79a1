// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A test's own node: a cgroup, a network namespace with loopback, a directory of pins.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use lab::{
    cgroup,
    driver::Driver,
    netns::{Batch, Netns},
    place::{Place, PlaceKind},
    wait,
    wire::{Family, Kind, Sock},
};
use lb_agent::datapath::{
    Datapath as _,
    kernel::Kernel,
    load::{self, LoadError, Options, XdpChoice},
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
            no_tcx: false,
            xdp: XdpChoice::default(),
            limits: Capacities::MAXIMUM,
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

    /// An agent that serves [`VIP`], and a pod with a listener at [`BACKEND`] behind it.
    pub(crate) fn serving(&self) -> (Kernel, Driver, Sock) {
        let mut agent = self.open().unwrap();
        apply(&mut agent, &web());
        agent.attach().unwrap();
        let pod = self.driver();
        let listener = listen(&pod);
        (agent, pod, listener)
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
        load::socket_hooks().map(describe).collect()
    }

    /// Runs bpftool; its words are cut at blanks.
    pub(crate) fn bpftool(words: &str) -> String {
        let output = process::Command::new("bpftool").args(words.split(' ')).output().unwrap();
        assert!(output.status.success(), "bpftool {words}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A map as bpftool prints it, in JSON.
    pub(crate) fn dump(&self, map: &str) -> String {
        Self::bpftool(&format!("-j map dump pinned {}", self.pin("maps").join(map).display()))
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

/// A listener at [`BACKEND`].
pub(crate) fn listen(pod: &Driver) -> Sock {
    let listener = pod.bound(Kind::Tcp, BACKEND.into()).unwrap();
    pod.listen(listener).unwrap();
    listener
}

/// A connection that shows the ClusterIP it was made to.
pub(crate) fn connect(pod: &Driver, to: (Ipv4Addr, u16)) -> Sock {
    let client = pod.open(Kind::Tcp, Family::V4).unwrap();
    pod.connect(client, to.into()).unwrap();
    assert_eq!(pod.peer_name(client).unwrap(), to.into());
    client
}

/// Waits until the backend of [`web`] is counted for so many sockets.
pub(crate) fn await_load(agent: &Kernel, sockets: u64) {
    let what = format!("a load of {sockets}");
    wait::until(Duration::from_secs(5), &what, || agent.load(1) == sockets).unwrap();
}

/// [`VIP`] with [`BACKEND`] behind it; every index is 1.
pub(crate) fn web() -> Vec<Op> {
    cluster_ip(1, VIP, BACKEND, Protocol::TCP)
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
    let flags = ServiceFlags::from(FrontendKind::ClusterIp).bits();
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

/// Where a ClusterIP is dialled.
pub(crate) const VIP: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 96, 0, 1), 80);
/// Where its backend listens.
pub(crate) const BACKEND: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 8080);

/// Sizes that are quick to make.
pub(crate) const SMALL: Capacities = Capacities {
    frontends: 1 << 10,
    services: 1 << 10,
    slots: 1 << 12,
    backends: 1 << 10,
    members: 1 << 10,
    source_ranges: 1 << 10,
    sockets: 1 << 12,
    sockets_over: 1 << 8,
    affinity: 1 << 10,
    flows: 1 << 10,
};
