// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Loads the kernel programs, pins them with their maps, attaches and replaces them.
//!
//! An agent's start: [`Loader::new`] takes the lock and tidies up; [`Loader::build`] reuses
//! the pinned maps and programs as far as they fit and makes the rest, beside what runs;
//! [`Loader::attach`] switches the links over. Only [`unload`] ever detaches.

mod bare;
mod carry;
mod devices;
mod error;
mod fate;
pub(super) mod links;
mod lock;
mod object;
mod pins;

use std::{
    fs,
    path::{Path, PathBuf},
};

use lb_common::{
    flow::{FlowEntry, FlowKey},
    maps::{self, Capacities},
    namespace::NamespaceLayout,
};

use self::{
    error::file,
    fate::{Fate, Found, Origin},
    lock::Lock,
    object::{Globals, Program},
    pins::{Pins, Stage},
};
use super::{
    cgroup::Cgroup,
    hashes::Hash,
    maps::{Maps, SHAPES},
    probe, syscall,
};

pub use self::{
    devices::{Devices, Skipped, XdpChoice},
    error::LoadError,
    fate::{Misfit, Wrong},
    links::{HOOKS, Hook, PinnedProgram, Place, TCX_EGRESS, TCX_INGRESS, Turn, Way, socket_hooks},
};

/// Where the datapath lives.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory of the pins, in a BPF file system.
    pub bpf_root: PathBuf,
    /// The cgroup whose sockets are balanced.
    pub cgroup_root: PathBuf,
    /// Go on although other programs rewrite connections, too.
    pub allow_foreign: bool,
    /// Attach to devices by clsact filters although the kernel may have tcx.
    pub no_tcx: bool,
    /// At which devices frames are looked at in front of the stack, too.
    pub xdp: XdpChoice,
    /// Sizes beyond which maps do not grow. Larger ones that are pinned stay as they are.
    pub limits: Capacities,
}

/// Owns the pins of a bpf-root, and the lock on them.
#[derive(Debug)]
pub struct Loader {
    pins: Pins,
    cgroup: Cgroup,
    globals: Globals,
    manner: devices::Manner,
    _lock: Lock,
}

/// Maps and the programs over them.
#[derive(Debug)]
pub struct Generation {
    /// The maps.
    pub maps: Maps,
    /// Their sizes.
    pub capacities: Capacities,
    /// How they came about.
    pub outcome: Outcome,
    /// The maps that were made empty.
    pub fresh: Vec<&'static str>,
    programs: Vec<Program>,
    /// What the programs were made from.
    origin: bare::Origin,
}

/// How a generation came about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The programs and maps that are pinned are the right ones: nothing was written.
    Unchanged,
    /// There was nothing before.
    Fresh,
    /// New programs over the pinned maps.
    Upgraded,
    /// New programs over larger maps with the same contents.
    Grown,
    /// Some pinned maps did not fit: they and those that name their indexes are new.
    Rebuilt(Vec<Misfit>),
}

impl Generation {
    /// The ids of the programs.
    pub fn program_ids(&self) -> impl Iterator<Item = u32> {
        self.programs.iter().map(|program| program.id)
    }
}

impl Loader {
    /// Takes the lock, removes what another agent left half made, and checks
    /// that no other balancer is attached.
    pub fn new(options: &Options) -> Result<Self, LoadError> {
        let Options { bpf_root, cgroup_root, allow_foreign, no_tcx, xdp, .. } = options;
        make_root(bpf_root)?;
        let lock = Lock::take(bpf_root)?;
        let cgroup = Cgroup::open(cgroup_root)
            .map_err(|source| LoadError::Cgroup { path: cgroup_root.clone(), source })?;
        let host_netns =
            syscall::netns_cookie().map_err(|source| LoadError::NetnsCookie { source })?;
        let pins = Pins::new(bpf_root);
        if !allow_foreign
            && let Some(first) = probe::foreign(&cgroup, &links::ours(&pins)).into_iter().next()
        {
            return Err(LoadError::Foreign { cgroup: cgroup.path().to_owned(), first });
        }
        pins.prepare()?;
        let globals = Globals {
            host_netns,
            sockets_mask: 0,
            has_set_retval: u64::from(probe::has_set_retval()),
            has_mptcp: u64::from(probe::has_mptcp()),
            network: ETHERNET_LEN,
            namespace: namespace_layout(),
        };
        let manner = devices::Manner { tcx: !no_tcx && probe::has_tcx(), xdp: *xdp };
        Ok(Self { pins, cgroup, globals, manner, _lock: lock })
    }

    /// Brings maps of at least the wanted sizes and the programs over them into being, from
    /// what is pinned as far as it fits. What runs goes on running.
    pub fn build(&self, wanted: &Capacities) -> Result<Generation, LoadError> {
        let mut found = SHAPES.map(|shape| find(&self.pins.latest_map(shape.name)));
        let stage = self.pins.latest_programs();
        let pinned = object::open_programs(&self.pins, stage);
        if let Some(programs) = &pinned {
            let used = programs.iter().flat_map(|program| program.maps.iter().copied());
            fate::disown(&mut found, &used.collect());
        }
        let fates = fate::decide(&found, &powers_of_two(wanted));
        let misfits = fate::misfits(&found);
        let globals = Globals { sockets_mask: sockets_mask(&fates), ..self.globals };
        let build_id = object::build_id(&fates, &globals);
        let kept = fates.iter().all(|fate| fate.origin == Origin::Kept);
        if kept
            && self.pins.build_id(stage).as_deref() == Some(&*build_id)
            && let Some(programs) = pinned
        {
            let maps = self.open(&fates)?;
            let capacities = capacities(&fates);
            let outcome = Outcome::Unchanged;
            let origin = bare::Origin { fates, globals };
            return Ok(Generation {
                maps,
                capacities,
                outcome,
                fresh: Vec::new(),
                programs,
                origin,
            });
        }
        let outcome = if found.iter().all(|found| *found == Found::Nothing) {
            Outcome::Fresh
        } else if !misfits.is_empty() {
            Outcome::Rebuilt(misfits)
        } else if kept {
            Outcome::Upgraded
        } else {
            Outcome::Grown
        };
        self.make(fates, globals, &build_id, outcome)
    }

    /// Makes a generation's programs run: attaches them, or replaces those that run. Then
    /// the old ones' maps are dropped. Does nothing if they run already.
    pub fn attach(&self, generation: &Generation) -> Result<(), LoadError> {
        // Both, whatever becomes of one.
        let devices = devices::update(&generation.programs, &self.pins);
        if links::attach(&generation.programs, &self.cgroup, &self.pins)? | devices? {
            syscall::wait_for_grace();
        }
        self.pins.commit()?;
        for layout in self.pins.other_layouts() {
            pins::remove(&layout)?;
        }
        Ok(())
    }

    /// Makes a generation's programs run at these devices, and at no others: XDP at those that
    /// lead outside only. Why some devices are not served, if any are not. `skipped`: where XDP is
    /// left out although it was asked for.
    ///
    /// # Errors
    /// When a pin could not be made or removed.
    pub fn follow(
        &self,
        generation: &mut Generation,
        uplinks: &Devices,
        pods: &Devices,
        skipped: &mut Vec<Skipped>,
    ) -> Result<Vec<LoadError>, LoadError> {
        let ends = devices::Ends::read(uplinks, pods, self.manner.xdp);
        let loaded = if ends.any_bare() { bare::load(generation, &self.pins) } else { Ok(()) };
        let mut unserved: Vec<_> = loaded.err().into_iter().collect();
        let programs = &generation.programs;
        unserved.extend(devices::follow(programs, &ends, (self.manner, skipped), &self.pins)?);
        if !ends.any_bare() {
            bare::forget(generation, &self.pins)?;
        }
        Ok(unserved)
    }

    /// The hook of a generation that does not run for processes of the cgroup, if there is
    /// one: the kernel was asked.
    pub fn idle_hook(&self, generation: &Generation) -> Option<&'static Hook> {
        let mut sockets =
            generation.programs.iter().filter(|program| program.hook.place == Place::Cgroup);
        let idle = sockets.find(|program| {
            let runs = syscall::attached(&self.cgroup, program.hook.attach_type, true);
            !runs.is_ok_and(|runs| runs.programs.contains(&program.id))
        });
        idle.map(|program| program.hook)
    }

    /// The directory of this layout's pins.
    pub fn directory(&self) -> &Path {
        self.pins.layout()
    }

    /// The cgroup whose sockets are balanced.
    pub const fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Whether pins of other layouts are there. Their programs run until ours are attached.
    pub fn other_layouts(&self) -> Vec<PathBuf> {
        self.pins.other_layouts()
    }

    fn make(
        &self,
        fates: Vec<Fate>,
        globals: Globals,
        build_id: &str,
        outcome: Outcome,
    ) -> Result<Generation, LoadError> {
        self.pins.start()?;
        let made = self.make_in_place(fates, globals, build_id, outcome);
        if made.is_err() {
            // The maps that were made count against somebody's memory.
            self.pins.abandon()?;
        }
        made
    }

    fn make_in_place(
        &self,
        fates: Vec<Fate>,
        globals: Globals,
        build_id: &str,
        outcome: Outcome,
    ) -> Result<Generation, LoadError> {
        let place = |fate: &Fate| self.place(fate, Stage::Building);
        let mut ebpf = object::load(&fates, &globals, place)?;
        let mut maps = Maps::open(|name| {
            let made = self.pins.map(Stage::Building, name);
            if made.exists() { made } else { self.pins.latest_map(name) }
        })
        .map_err(|(map, source)| LoadError::Map { operation: "open", map, source })?;
        if fates.iter().any(|fate| fate.origin == Origin::Grown) {
            carry::tables(&self.pins, &mut maps)?;
        }
        let building = Stage::Building;
        let mut programs = object::load_programs(&mut ebpf, object::usual(), &self.pins, building)?;
        let origin = bare::Origin { fates, globals };
        if bare::are_pinned(&self.pins) {
            programs.extend(origin.load(place, &self.pins, building)?);
        }
        self.pins.set_build_id(build_id)?;
        self.pins.complete()?;
        let fresh = origin.fates.iter().filter(|fate| fate.origin == Origin::Fresh);
        let fresh = fresh.map(|fate| fate.name).collect();
        let capacities = capacities(&origin.fates);
        Ok(Generation { maps, capacities, outcome, fresh, programs, origin })
    }

    fn open(&self, fates: &[Fate]) -> Result<Maps, LoadError> {
        let place = |name: &str| {
            let fate = fates.iter().find(|fate| fate.name == name);
            fate.map_or_else(PathBuf::new, |fate| self.place(fate, Stage::Live))
        };
        Maps::open(place).map_err(|(map, source)| LoadError::Map { operation: "open", map, source })
    }

    /// Where a map is, or will be when it is made at a stage.
    fn place(&self, fate: &Fate, stage: Stage) -> PathBuf {
        match fate.origin {
            Origin::Kept => self.pins.latest_map(fate.name),
            Origin::Grown | Origin::Fresh => self.pins.map(stage, fate.name),
        }
    }
}

/// Opens the pinned maps for reading, without a lock and whether or not an agent runs.
pub fn open_pinned(bpf_root: &Path) -> Result<Maps, LoadError> {
    let pins = Pins::new(bpf_root);
    Maps::open(|name| pins.map(Stage::Live, name)).map_err(|(map, source)| LoadError::Map {
        operation: "open",
        map,
        source,
    })
}

/// Where FLOWS is pinned.
pub fn flows_pin(bpf_root: &Path) -> PathBuf {
    Pins::new(bpf_root).map(Stage::Live, maps::FLOWS)
}

/// Where COUNTERS is pinned.
pub fn counters_pin(bpf_root: &Path) -> PathBuf {
    Pins::new(bpf_root).map(Stage::Live, maps::COUNTERS)
}

/// Opens the pinned FLOWS alone.
pub fn open_flows(bpf_root: &Path) -> Result<Hash<FlowKey, FlowEntry>, LoadError> {
    let map = maps::FLOWS;
    aya::maps::MapData::from_pin(flows_pin(bpf_root))
        .and_then(Hash::new)
        .map_err(|source| LoadError::Map { operation: "open", map, source })
}

/// Opens one pinned map.
pub fn pinned_map(bpf_root: &Path, map: &str) -> Result<aya::maps::MapData, aya::maps::MapError> {
    aya::maps::MapData::from_pin(Pins::new(bpf_root).map(Stage::Live, map))
}

/// Whether maps of this layout are pinned below a bpf-root. A start that failed leaves none.
pub fn has_pins(bpf_root: &Path) -> bool {
    Pins::new(bpf_root).have_maps()
}

/// The programs that are pinned below a bpf-root, in the order of their names.
///
/// # Errors
///
/// [`LoadError::File`] for a link that cannot be read.
pub fn pinned_programs(bpf_root: &Path) -> Result<Vec<PinnedProgram>, LoadError> {
    links::pinned(&Pins::new(bpf_root))
}

/// Ids of the programs that are pinned below a bpf-root or run from its links.
pub fn own_programs(bpf_root: &Path) -> Vec<u32> {
    links::ours(&Pins::new(bpf_root))
}

/// Removes every trace of the datapath: forward hooks first, then the reverse ones, programs,
/// maps and directories. Whether there was any.
///
/// # Errors
///
/// [`LoadError::Locked`] while an agent runs.
pub fn unload(bpf_root: &Path) -> Result<bool, LoadError> {
    if !bpf_root.exists() {
        return Ok(false);
    }
    check_root(bpf_root)?;
    let _lock = Lock::take(bpf_root)?;
    let layouts = Pins::new(bpf_root).all_layouts();
    let links: Vec<_> = layouts.iter().map(|layout| layout.join("links")).collect();
    let mut pinned = Vec::new();
    for directory in &links {
        pinned.extend(pins::entries(directory)?);
    }
    for hook in HOOKS.iter().rev() {
        for directory in &links {
            links::detach(&directory.join(hook.name))?;
        }
        for path in &pinned {
            if devices::place_of(path).is_some_and(|(name, _)| name == hook.name) {
                links::detach(path)?;
            }
        }
    }
    for layout in &layouts {
        devices::tidy(layout)?;
        pins::remove(layout)?;
    }
    match fs::remove_dir(bpf_root) {
        // Others keep things there as well.
        Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {}
        result => result.map_err(file("remove", bpf_root))?,
    }
    Ok(!layouts.is_empty())
}

/// Where namespaces keep their addresses, or nothing: pods that bind no address are then taken
/// for strangers by source ranges.
fn namespace_layout() -> NamespaceLayout {
    probe::namespace_layout().unwrap_or_else(|error| {
        tracing::warn!(%error, "the addresses of pods are not known: where loadBalancerSourceRanges are set, pods get no answer");
        NamespaceLayout::default()
    })
}

/// Makes the directory of the pins, if there is none, in a BPF file system.
fn make_root(path: &Path) -> Result<(), LoadError> {
    let existing = path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(path);
    check_root(existing)?;
    let new = path.strip_prefix(existing).unwrap_or(path);
    if new.to_string_lossy().contains('.') {
        return Err(LoadError::DottedPath { path: path.to_owned() });
    }
    fs::create_dir_all(path).map_err(file("create", path))
}

fn check_root(path: &Path) -> Result<(), LoadError> {
    let found = syscall::file_system(path).map_err(file("read", path))?;
    if found == syscall::BPF_FS_MAGIC {
        Ok(())
    } else {
        Err(LoadError::NoBpffs { path: path.to_owned() })
    }
}

fn find(path: &Path) -> Found {
    match syscall::object_get(path) {
        Ok(object) => syscall::describe_map(object).map_or(Found::Junk, Found::Map),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Found::Nothing,
        Err(_) => Found::Junk,
    }
}

/// Bytes of an Ethernet header without tags.
const ETHERNET_LEN: u64 = 14;

fn sockets_mask(fates: &[Fate]) -> u64 {
    u64::from(entries(fates, maps::SOCKETS).saturating_sub(1))
}

fn entries(fates: &[Fate], name: &str) -> u32 {
    fates.iter().find(|fate| fate.name == name).map_or(0, |fate| fate.entries)
}

/// What the maps hold, where several share a size the smallest.
fn capacities(fates: &[Fate]) -> Capacities {
    let least =
        |names: &[&str]| names.iter().map(|name| entries(fates, name)).min().unwrap_or_default();
    Capacities {
        frontends: least(&[maps::FRONTENDS4, maps::FRONTENDS6]),
        services: least(&[maps::SERVICES, maps::NAMES]),
        slots: least(&[maps::SLOTS]),
        backends: least(&[maps::BACKENDS, maps::BACKEND_LOAD]),
        members: least(&[maps::MEMBERS]),
        source_ranges: least(&[maps::SOURCE_RANGES]),
        sockets: least(&[maps::SOCKETS]),
        sockets_over: least(&[maps::SOCKETS_OVER]),
        affinity: least(&[maps::AFFINITY]),
        flows: least(&[maps::FLOWS]),
    }
}

/// Sizes as the maps have them: a direct-mapped array needs a mask.
fn powers_of_two(wanted: &Capacities) -> Capacities {
    let up = |size: u32| size.clamp(1, 1 << 30).next_power_of_two();
    Capacities {
        frontends: up(wanted.frontends),
        services: up(wanted.services),
        slots: up(wanted.slots),
        backends: up(wanted.backends),
        members: up(wanted.members),
        source_ranges: up(wanted.source_ranges),
        sockets: up(wanted.sockets),
        sockets_over: up(wanted.sockets_over),
        affinity: up(wanted.affinity),
        flows: up(wanted.flows),
    }
}
