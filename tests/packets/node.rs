// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A node with Services in its maps, an uplink, and the programs of the packet path.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{IpAddr, SocketAddr},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{MapData, PerCpuArray, RingBuf},
    programs::{SchedClassifier, TestRun as _, TestRunOptions, TestRunResult, Xdp, XdpMode},
};
use lab::place;
use lb_agent::{
    datapath::{arrays::Array, hashes::Hash, kernel::Kernel, maps::SHAPES},
    plan::op::Op,
};
use lb_common::{
    addr::Addr,
    backend::{BackendFlags, Life, State},
    be::{Be16, Be32},
    config::Config,
    counter::Counter,
    event::Event,
    flow::{FlowEntry, FlowKey},
    key::{FrontendKey4, FrontendKey6, FrontendValue},
    maps::{self, Capacities, node_port_index},
    protocol::Protocol,
    range::{Admission, RangeKey},
    service::{Algorithm, FrontendKind, Service, ServiceFlags, SetWord},
    slot::Slot,
};

use crate::bed::{Bed, SMALL, apply};

/// The node. The thread that makes it moves into its namespace.
pub(crate) struct Node {
    ebpf: Ebpf,
    /// The programs of devices without Ethernet headers.
    bare: Option<Ebpf>,
    probe: Ebpf,
    /// The uplink's index.
    uplink: u32,
    agent: Kernel,
    flows: Hash<FlowKey, FlowEntry>,
    counters: PerCpuArray<MapData, u64>,
    config: Array<Config>,
    ring: RingBuf<MapData>,
    bed: Bed,
}

/// Which program a packet is handed to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hook {
    Ingress,
    /// The same at the uplink, where frames for its own station come in; packets of other runs
    /// are loopback's.
    Uplink,
    Egress,
    /// Of devices without Ethernet headers.
    BareIngress,
    BareEgress,
    /// In front of the stack.
    Xdp,
    /// A program that does nothing, to measure others by.
    Nothing,
}

/// What became of a packet.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) action: i32,
    pub(crate) bytes: Vec<u8>,
    /// What was counted, and how often.
    pub(crate) counted: BTreeMap<Counter, u64>,
}

/// A service port with one frontend.
pub(crate) struct Port {
    pub(crate) index: u32,
    pub(crate) frontend: SocketAddr,
    pub(crate) protocol: Protocol,
    pub(crate) serves: Serves,
    /// Whether only [`ADMITTED`] may come.
    pub(crate) guarded: bool,
}

/// Who serves a port.
#[derive(Clone, Copy)]
pub(crate) enum Serves {
    Here(SocketAddr),
    There(SocketAddr),
    /// The node, at a NodePort.
    ThereByNodePort(SocketAddr),
    Nobody,
    /// Only other nodes, and the policy is Local.
    NobodyHere,
}

impl Node {
    /// A node with these ports, and none of its own addresses known to the programs.
    pub(crate) fn new(ports: &[Port]) -> Self {
        Self::sized(ports, &SMALL)
    }

    /// The same with maps of other sizes.
    pub(crate) fn sized(ports: &[Port], sizes: &Capacities) -> Self {
        let bed = Bed::new();
        bed.place.netns.enter().unwrap();
        for line in UPLINK {
            bed.place.ip(line).unwrap();
        }
        for switch in FORWARDING {
            fs::write(switch, "1").unwrap();
        }
        let mut agent = bed.open_with(sizes).unwrap();
        for port in ports {
            apply(&mut agent, &port.ops());
        }
        let pin = |name: &str| MapData::from_pin(bed.pin("next/maps").join(name)).unwrap();
        let counters = aya::maps::Map::from_map_data(pin(maps::COUNTERS)).unwrap();
        let ring = aya::maps::Map::from_map_data(pin(maps::EVENTS)).unwrap();
        let mut node = Self {
            ebpf: load(&bed),
            bare: None,
            probe: load_probe(),
            uplink: nix::net::if_::if_nametoindex("uplink").unwrap(),
            agent,
            flows: Hash::new(pin(maps::FLOWS)).unwrap(),
            counters: counters.try_into().unwrap(),
            ring: ring.try_into().unwrap(),
            config: Array::map(pin(maps::CONFIG).fd(), 1).unwrap(),
            bed,
        };
        node.configure(|config| {
            config.snat4 = own(false).ip().into();
            config.snat6 = own(true).ip().into();
        });
        node
    }

    /// Loads the programs of devices without Ethernet headers.
    pub(crate) fn load_bare(&mut self) {
        let mut loader = loader(&self.bed);
        loader.override_global("NETWORK", &0_u64, true);
        self.bare = Some(load_classifiers(&mut loader));
    }

    /// Changes what the agent tells the programs.
    pub(crate) fn configure(&mut self, change: impl FnOnce(&mut Config)) {
        let mut config = self.config.read(0).unwrap();
        change(&mut config);
        assert!(self.config.write(0, &config));
    }

    /// Writes to the maps as a plan does.
    pub(crate) fn apply(&mut self, ops: &[Op]) {
        apply(&mut self.agent, ops);
    }

    /// Hands a packet to a program.
    pub(crate) fn run(&self, hook: Hook, packet: &[u8]) -> Ran {
        let mut out = vec![0; packet.len() + 256];
        let before = self.counted();
        let result = self.test_run(hook, packet, &mut out, 1);
        out.truncate(result.data_size_out as usize);
        let counted = self.counted_since(&before);
        Ran { action: result.return_value.cast_signed(), bytes: out, counted }
    }

    /// Nanoseconds a run, of so many.
    pub(crate) fn time(&self, hook: Hook, packet: &[u8], repeat: u32) -> f64 {
        let mut out = vec![0; packet.len() + 256];
        self.test_run(hook, packet, &mut out, repeat).duration.as_secs_f64() * 1e9
    }

    fn test_run(&self, hook: Hook, packet: &[u8], out: &mut [u8], repeat: u32) -> TestRunResult {
        let len = u32::try_from(packet.len()).unwrap();
        let frame: [u8; 24] = bytemuck::must_cast([0, len, 0, self.uplink, 0, 0]);
        let mut buffer = [0_u32; 48];
        buffer[SKB_DEVICE] = self.uplink;
        let context: Option<&[u8]> = match hook {
            Hook::Xdp => Some(&frame),
            Hook::Uplink => Some(bytemuck::must_cast_slice(&buffer)),
            Hook::Ingress | Hook::Egress | Hook::BareIngress | Hook::BareEgress | Hook::Nothing => {
                None
            }
        };
        let options = TestRunOptions {
            data_in: Some(packet),
            data_out: Some(out),
            ctx_in: context,
            repeat,
            ..Default::default()
        };
        let ran = match hook {
            Hook::Ingress | Hook::Uplink => classifier(&self.ebpf, "tc_ingress").test_run(options),
            Hook::Egress => classifier(&self.ebpf, "tc_egress").test_run(options),
            Hook::BareIngress => {
                classifier(self.bare.as_ref().unwrap(), "tc_ingress").test_run(options)
            }
            Hook::BareEgress => {
                classifier(self.bare.as_ref().unwrap(), "tc_egress").test_run(options)
            }
            Hook::Nothing => classifier(&self.probe, "probe_nothing").test_run(options),
            Hook::Xdp => {
                let program: &Xdp = self.ebpf.program(XDP).unwrap().try_into().unwrap();
                program.test_run(options)
            }
        };
        ran.unwrap()
    }

    /// Hands a packet over so many times as fast as it goes: what is counted.
    pub(crate) fn run_often(
        &self,
        hook: Hook,
        packet: &[u8],
        times: u32,
    ) -> BTreeMap<Counter, u64> {
        let before = self.counted();
        for _ in 0..times {
            let mut out = vec![0; packet.len() + 256];
            self.test_run(hook, packet, &mut out, 1);
        }
        self.counted_since(&before)
    }

    /// The events that were told since the last time.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        let next = |ring: &mut RingBuf<MapData>| {
            ring.next().map(|event| bytemuck::pod_read_unaligned(&event))
        };
        std::iter::from_fn(|| next(&mut self.ring)).collect()
    }

    /// Every half of a flow.
    pub(crate) fn flows(&self) -> BTreeMap<FlowKey, FlowEntry> {
        self.flows.dump().unwrap().into_iter().collect()
    }

    /// Adds flows, by both halves of each.
    pub(crate) fn fill_flows(
        &mut self,
        flows: impl IntoIterator<Item = [(FlowKey, FlowEntry); 2]>,
    ) {
        let (keys, halves): (Vec<_>, Vec<_>) = flows.into_iter().flatten().unzip();
        for (keys, halves) in keys.chunks(4096).zip(halves.chunks(4096)) {
            self.flows.put_all(keys, halves).map_err(|failed| failed.source).unwrap();
        }
    }

    /// Where FLOWS is pinned.
    pub(crate) fn flows_pin(&self) -> std::path::PathBuf {
        self.bed.pin("next/maps").join(maps::FLOWS)
    }

    /// Bytes that FLOWS takes.
    pub(crate) fn flow_bytes(&self) -> u64 {
        crate::many::bytes_of(&MapData::from_pin(self.flows_pin()).unwrap())
    }

    /// Changes a half, or adds one.
    pub(crate) fn put_flow(&mut self, key: FlowKey, entry: FlowEntry) {
        self.try_put_flow(key, entry).unwrap();
    }

    /// Adds a half if there is room.
    pub(crate) fn try_put_flow(&mut self, key: FlowKey, entry: FlowEntry) -> io::Result<()> {
        self.flows.put(key, entry)
    }

    /// Removes halves.
    pub(crate) fn remove_flows(&mut self, keys: &[FlowKey]) {
        self.flows.remove_all(keys).map_err(|failed| failed.source).unwrap();
    }

    /// Removes all flows.
    pub(crate) fn forget_flows(&mut self) {
        let keys: Vec<FlowKey> = self.flows().into_keys().collect();
        if !keys.is_empty() {
            self.remove_flows(&keys);
        }
    }

    /// One line for `ip` in the namespace.
    pub(crate) fn ip(&self, line: &str) {
        self.bed.place.ip(line).unwrap();
    }

    fn counted_since(&self, before: &BTreeMap<Counter, u64>) -> BTreeMap<Counter, u64> {
        let more = |(counter, count): (Counter, u64)| {
            let more = count - before.get(&counter).copied().unwrap_or_default();
            (more > 0).then_some((counter, more))
        };
        self.counted().into_iter().filter_map(more).collect()
    }

    /// Every counter.
    pub(crate) fn counted(&self) -> BTreeMap<Counter, u64> {
        let count = |counter: &Counter| {
            let values = self.counters.get(&counter.index(), 0).unwrap();
            (*counter, values.iter().sum())
        };
        Counter::ALL.iter().map(count).collect()
    }
}

impl Port {
    fn ops(&self) -> Vec<Op> {
        let Self { index, frontend, protocol, serves, guarded } = *self;
        let is_v6 = frontend.is_ipv6();
        let mut ops = Vec::new();
        let (set, outside) = match serves {
            Serves::Here(backend) => (self.backend(backend, BackendFlags::LOCAL, &mut ops), None),
            Serves::There(backend) | Serves::ThereByNodePort(backend) => {
                (self.backend(backend, BackendFlags::empty(), &mut ops), None)
            }
            Serves::Nobody => (SetWord::REFUSE, None),
            Serves::NobodyHere => (SetWord::REFUSE, Some(SetWord::DROP)),
        };
        let mut flags = ServiceFlags::from(FrontendKind::LoadBalancer);
        flags.set(ServiceFlags::IPV6, is_v6);
        flags.set(ServiceFlags::SOURCE_RANGES, guarded);
        let record = Service {
            inside: set,
            outside: outside.unwrap_or(set),
            flags: flags.bits(),
            id: index,
            generation: 1,
            ..Service::default()
        };
        if guarded {
            let bits = if is_v6 { 64 } else { 96 + 24 };
            let key = RangeKey::range(index, admitted(is_v6).into(), bits);
            ops.push(Op::SourceRange { key, admission: Some(Admission::LISTED) });
        }
        ops.push(Op::Service { index, record: Box::new(record) });
        let port = Be16::from_host(frontend.port());
        let last = match (serves, frontend.ip()) {
            (Serves::ThereByNodePort(_), address) => {
                ops.push(Op::NodeAddress { address: address.into(), present: true });
                let row = protocol.node_port_row().unwrap();
                let place = node_port_index(row, frontend.port());
                Op::NodePort { index: place, ipv6: is_v6, service: index }
            }
            (_, IpAddr::V4(address)) => {
                let key = FrontendKey4::new(Be32 { bytes: address.octets() }, port, protocol);
                let value = FrontendValue { service: index, tag: key.tag() };
                Op::Frontend4 { key, value: Some(value) }
            }
            (_, IpAddr::V6(address)) => {
                let key = FrontendKey6::new(address.into(), port, protocol);
                let value = FrontendValue { service: index, tag: key.tag() };
                Op::Frontend6 { key, value: Some(value) }
            }
        };
        ops.push(last);
        ops
    }

    fn backend(&self, backend: SocketAddr, flags: BackendFlags, ops: &mut Vec<Op>) -> SetWord {
        let address = Addr::from(backend.ip());
        let port = Be16::from_host(backend.port());
        let (index, protocol) = (self.index, self.protocol);
        let life = Life { generation: 1, state: State::Active as u8, protocol, port };
        let address4 = address.to_v4().unwrap_or_default();
        let slot = Slot { address4, port, _pad: 0, backend: index, generation: 1 };
        ops.push(Op::Backend { index, life, address, flags });
        ops.push(Op::Slots { base: index, slots: Box::new([slot]) });
        SetWord::new(index, 1, Algorithm::Random).unwrap()
    }
}

/// The node's own address, with any port.
pub(crate) fn own(ipv6: bool) -> SocketAddr {
    let address = if ipv6 { "fd00:192::1" } else { "192.0.2.1" };
    SocketAddr::new(address.parse().unwrap(), 0)
}

/// A network whose clients may come to guarded ports.
pub(crate) fn admitted(ipv6: bool) -> IpAddr {
    if ipv6 { "fd00:198::".parse().unwrap() } else { "198.51.100.0".parse().unwrap() }
}

/// The clock that flows' times are of.
pub(crate) fn now_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    u64::try_from(now.tv_sec()).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec()).unwrap()
}

fn load(bed: &Bed) -> Ebpf {
    let mut ebpf = load_classifiers(&mut loader(bed));
    let program: &mut Xdp = ebpf.program_mut(XDP).unwrap().try_into().unwrap();
    program.load().unwrap();
    // Without a program the uplink has no queue that frames could be of.
    program.attach("uplink", XdpMode::Driver).unwrap();
    ebpf
}

fn loader(bed: &Bed) -> EbpfLoader<'static> {
    let mut loader = EbpfLoader::new();
    loader.btf(None);
    for shape in SHAPES {
        loader.map_pin_path(shape.name, bed.pin("next/maps").join(shape.name));
    }
    loader
}

fn load_classifiers(loader: &mut EbpfLoader<'_>) -> Ebpf {
    let object = place::binary("../bpf/bpfel-unknown-none/release/lb-ebpf", "LB_EBPF").unwrap();
    let mut ebpf = loader.load_file(object).unwrap();
    for name in ["tc_ingress", "tc_egress"] {
        let program: &mut SchedClassifier = ebpf.program_mut(name).unwrap().try_into().unwrap();
        program.load().unwrap();
    }
    ebpf
}

fn classifier<'a>(object: &'a Ebpf, name: &str) -> &'a SchedClassifier {
    object.program(name).unwrap().try_into().unwrap()
}

/// The object with programs for tests only.
fn load_probe() -> Ebpf {
    let object = place::binary("../bpf/bpfel-unknown-none/release/probe", "LB_PROBE").unwrap();
    let mut ebpf = EbpfLoader::new().btf(None).load_file(object).unwrap();
    let program: &mut SchedClassifier =
        ebpf.program_mut("probe_nothing").unwrap().try_into().unwrap();
    program.load().unwrap();
    ebpf
}

const XDP: &str = "xdp_ingress";
/// The word of `struct __sk_buff` that is `ifindex`.
const SKB_DEVICE: usize = 10;

/// A link to the other nodes, and the way to their pods.
const UPLINK: &[&str] = &[
    "link add uplink address 02:00:00:00:00:01 type veth peer name beyond",
    "link set uplink up",
    "link set beyond up",
    "addr add 192.0.2.1/24 dev uplink",
    "addr add fd00:192::1/64 dev uplink nodad",
    "neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev uplink nud permanent",
    "neigh add fd00:192::2 lladdr 02:00:00:00:00:02 dev uplink nud permanent",
    "route add 10.2.0.0/16 via 192.0.2.2",
    "route add fd00:10:2::/48 via fd00:192::2",
    "route add default via 192.0.2.2",
    "route add default via fd00:192::2",
];

const FORWARDING: &[&str] =
    &["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"];
