// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `translate` gives one verdict, whether it runs in the kernel over BPF maps or on the host
//! over tables.

#[path = "../../lb-ebpf/src/probe/record.rs"]
mod record;
mod tables;

use std::collections::BTreeMap;

use aya::{
    Ebpf, EbpfLoader,
    maps::{Map, MapData},
    programs::{SchedClassifier, TestRun as _, TestRunOptions},
};
use lab::place;
use lb_agent::{
    datapath::{Datapath as _, arrays::Array, kernel::Kernel, maps::SHAPES},
    plan::{lookup::Playground, tables::Tables},
};
use lb_common::{
    addr::Addr,
    counter::Counter,
    key::{FrontendKey4, FrontendKey6},
    maps::Capacities,
    translate::{Client, Destination, Scope, ServiceView, translate},
    verdict::Verdict,
};

use self::{
    record::{DROP, PASS, PROBES_LEN, REFUSE, Record, TRANSLATE},
    tables::Random,
};
use crate::bed::{Bed, SMALL, apply};

/// The kernel's half: the same maps as the agent's, and a program that answers records.
struct Probe {
    ebpf: Ebpf,
    records: Array<Record>,
    cursor: Array<u64>,
}

impl Probe {
    fn load(bed: &Bed) -> Self {
        let object = place::binary("../bpf/bpfel-unknown-none/release/probe", "LB_PROBE").unwrap();
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        for shape in SHAPES {
            loader.map_pin_path(shape.name, bed.pin("next/maps").join(shape.name));
        }
        let mut ebpf = loader.load_file(object).unwrap();
        let program: &mut SchedClassifier =
            ebpf.program_mut("probe_translate").unwrap().try_into().unwrap();
        program.load().unwrap();
        let array = |name: &str| -> &MapData {
            let Some(Map::Array(map)) = ebpf.map(name) else { panic!("{name} is no array") };
            map
        };
        let records = Array::map(array("PROBES").fd(), PROBES_LEN).unwrap();
        let cursor = Array::map(array("CURSOR").fd(), 1).unwrap();
        Self { ebpf, records, cursor }
    }

    /// The kernel's answers, in order.
    fn ask(&mut self, questions: &[Record]) -> Vec<Record> {
        assert!(self.cursor.write(0, &0));
        assert_eq!(self.records.write_from(0, questions), questions.len());
        let program: &SchedClassifier =
            self.ebpf.program("probe_translate").unwrap().try_into().unwrap();
        let repeat = u32::try_from(questions.len()).unwrap();
        let packet = [0; 64];
        let options = TestRunOptions { data_in: Some(&packet), repeat, ..Default::default() };
        program.test_run(options).unwrap();
        assert_eq!(self.cursor.read(0), Some(questions.len() as u64));
        self.records.iter().take(questions.len()).collect()
    }
}

impl Client for Record {
    fn scope(&self) -> Scope {
        if self.outside == 0 { Scope::Inside } else { Scope::Outside }
    }

    fn on_host(&self) -> bool {
        self.on_host != 0
    }

    fn identity(&self) -> Addr {
        self.identity
    }

    fn comes_from(&self, _: bool, test: impl Fn(Addr) -> bool) -> bool {
        test(self.identity)
    }

    fn entropy(&self, _: &ServiceView) -> u32 {
        self.entropy
    }

    fn now_ns(&self) -> u64 {
        self.now_ns
    }
}

/// The host's answer.
fn answer(maps: &Playground<'_>, question: &Record) -> Record {
    let Record { destination, port, protocol, .. } = *question;
    let destination = match destination.to_v4() {
        Some(address) => Destination::V4(FrontendKey4::new(address, port, protocol)),
        None => Destination::V6(FrontendKey6::new(destination, port, protocol)),
    };
    let verdict = translate(maps, question, &destination);
    let answered = Record { reason: verdict.reason().index(), ..*question };
    match verdict {
        Verdict::Pass(_) => Record { verdict: PASS, ..answered },
        Verdict::Translate(target, _) => Record {
            verdict: TRANSLATE,
            backend: target.backend,
            generation: target.generation,
            target_port: target.port,
            target: target.address,
            ..answered
        },
        Verdict::Refuse(_) => Record { verdict: REFUSE, ..answered },
        Verdict::Drop(_) => Record { verdict: DROP, ..answered },
    }
}

/// Random flows; the clock goes on, with small steps back as between CPUs.
fn questions(random: &mut Random) -> Vec<Record> {
    let mut now_ns = 1_000_000_000_000;
    let mut question = || {
        now_ns += u64::from(random.below(20_000_000));
        Record {
            destination: tables::address(random),
            identity: Addr::from(std::net::Ipv4Addr::from(random.below(12))),
            now_ns: now_ns - u64::from(random.below(1000)),
            port: tables::port(random),
            protocol: tables::protocol(random),
            outside: random.byte(2),
            on_host: random.byte(2),
            entropy: random.below(u32::MAX),
            ..Record::default()
        }
    };
    (0..PROBES_LEN).map(|_| question()).collect()
}

/// One round over fresh tables: how often each reason came up.
fn round(seed: u64) -> BTreeMap<u32, usize> {
    let mut random = Random(seed);
    let bed = Bed::new();
    let mut agent: Kernel = bed
        .open_with(&Capacities { affinity: 1 << 16, backends: 1 << 13, members: 1 << 13, ..SMALL })
        .unwrap();
    let ops = tables::ops(&mut random);
    apply(&mut agent, &ops);
    let mut tables = Tables::default();
    for op in &ops {
        tables.apply(op);
    }
    let read = agent.dump().unwrap();
    assert_eq!(read, tables, "what was applied is not what is read (seed {seed:#x})");

    let questions = questions(&mut random);
    let answers = Probe::load(&bed).ask(&questions);
    let maps = Playground::new(&read);
    let mut reasons = BTreeMap::new();
    for (number, (question, kernel)) in questions.iter().zip(answers).enumerate() {
        let host = answer(&maps, question);
        assert_eq!(kernel, host, "flow {number} of seed {seed:#x}: the kernel's, then the host's");
        *reasons.entry(host.reason).or_default() += 1;
    }
    reasons
}

#[test]
fn differential_kernel_and_host_agree_on_a_hundred_thousand_flows() {
    let mut reasons = BTreeMap::<u32, usize>::new();
    for seed in 1..=7_u64 {
        for (reason, count) in round(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            *reasons.entry(reason).or_default() += count;
        }
    }
    assert!(reasons.values().sum::<usize>() > 100_000);
    let named = |counter: &Counter| (counter.name(), reasons.get(&counter.index()).copied());
    for counter in [
        Counter::PassNoFrontend,
        Counter::PassNodePortElsewhere,
        Counter::PassRecycled,
        Counter::RefusedNoEndpoints,
        Counter::DroppedNoLocalEndpoints,
        Counter::DroppedSourceRange,
        Counter::RefusedUnknownPort,
        Counter::DroppedFreeAddress,
        Counter::Translated,
        Counter::TranslatedAffinity,
    ] {
        assert!(
            named(&counter).1.unwrap_or_default() > 100,
            "{:?} is hardly tried",
            named(&counter)
        );
    }
}
