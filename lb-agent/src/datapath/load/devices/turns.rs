// SPDX-License-Identifier: Apache-2.0 OR MIT
//! When our programs run at a device, and who else's do.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::{clsact, place_of};
use crate::datapath::{
    device::{Device, XdpMode},
    filters::{Direction, Filters},
    load::links::{self, PinnedProgram, TCX_EGRESS, TCX_INGRESS, Turn, Way},
    syscall::{self, LinkDescription, LinkTarget},
};

/// A program, or another filter, at a device.
struct Here {
    way: Way,
    /// 0 for a filter that is no program.
    program: u32,
    /// 0 for none.
    link: u32,
    /// What the kernel calls filters of its kind.
    kind: String,
}

/// How an XDP program runs at a device.
pub(in crate::datapath::load) fn xdp_mode(index: u32) -> XdpMode {
    let xdp = Device::read(index).ok().and_then(|device| device.xdp);
    xdp.map_or(XdpMode::Native, |(_, mode)| mode)
}

/// When a link's program runs at its device; `None` for a link to a cgroup.
pub(in crate::datapath::load) fn turn(link: &LinkDescription) -> Option<Turn> {
    let (index, direction) = match link.target {
        LinkTarget::Cgroup { .. } => return None,
        LinkTarget::Device { index, attach_type } => (index, Some(direction_of(attach_type))),
        LinkTarget::Xdp { index } => {
            let all = here(index, None);
            return Some(turn_of(index, None, &all, |one| one.program == link.program));
        }
    };
    let all = here(index, direction);
    Some(turn_of(index, direction, &all, |one| one.link == link.id))
}

/// When the program of a filter runs that a pin stands for: its id, and its turn. `None` for
/// another pin.
pub(in crate::datapath::load) fn marked(pin: &Path) -> Option<(u32, Turn)> {
    let (name, index) = place_of(pin)?;
    let hook = links::hook(name)?;
    let program = syscall::object_get(pin).and_then(syscall::describe_program).ok()?.id;
    let direction = Some(clsact::direction(hook));
    let all = here(index, direction);
    let turn =
        turn_of(index, direction, &all, |one| one.way == Way::Clsact && one.program == program);
    Some((program, turn))
}

/// The programs of others at the devices where ours are, each where it runs.
pub(in crate::datapath::load) fn strangers(
    ours: &[PinnedProgram],
    ids: &BTreeSet<u32>,
) -> Vec<PinnedProgram> {
    let turns = ours.iter().filter_map(|program| program.device.as_ref());
    // Where another network namespace's device has the number, ours is not seen.
    let turns = turns.filter(|turn| turn.place.is_some());
    let mut places: BTreeMap<_, _> =
        turns.map(|turn| ((turn.index, turn.direction), turn.device.clone())).collect();
    // In front of the stack there may be others where ours is not.
    let fronts: Vec<_> = places.iter().map(|((index, _), name)| (*index, name.clone())).collect();
    places.extend(fronts.into_iter().map(|(index, name)| ((index, None), name)));
    let others = places.into_iter().flat_map(|((index, direction), device)| {
        let all = here(index, direction);
        let of = all.len();
        let all = all.into_iter().enumerate().filter(|(_, one)| !ids.contains(&one.program));
        all.map(move |(position, one)| PinnedProgram {
            name: one.name(direction),
            id: one.program,
            link: (one.link != 0).then_some(one.link),
            way: Some(one.way),
            device: Some(Turn {
                index,
                direction,
                device: device.clone(),
                place: Some((position + 1, of)),
            }),
            is_ours: false,
        })
    });
    others.collect()
}

impl Here {
    /// The name of a program, and which way the packets go that it sees.
    fn name(&self, direction: Option<Direction>) -> String {
        let described = syscall::program_by_id(self.program).and_then(syscall::describe_program);
        let name = described.map(|program| program.name).unwrap_or_default();
        let name = match (self.program, name.is_empty()) {
            (0, _) => format!("{} filter", self.kind),
            (_, true) => "without a name".to_owned(),
            (_, false) => name,
        };
        format!("{name} ({})", direction.map_or("in front", Direction::name))
    }
}

fn turn_of(
    index: u32,
    direction: Option<Direction>,
    all: &[Here],
    is_it: impl FnMut(&Here) -> bool,
) -> Turn {
    // A number is a device's in each network namespace: it is ours if our program is there.
    let place = all.iter().position(is_it).map(|place| (place + 1, all.len()));
    let name = syscall::device_name(index).ok().filter(|_| place.is_some());
    let device = name.unwrap_or_else(|| format!("{index}, not in this network namespace"));
    Turn { index, direction, device, place }
}

/// What runs at a device, in order: the kernel runs tcx before clsact.
fn here(index: u32, direction: Option<Direction>) -> Vec<Here> {
    let Some(direction) = direction else {
        let xdp = Device::read(index).ok().and_then(|device| device.xdp);
        let here =
            |(program, mode)| Here { way: Way::Xdp(mode), program, link: 0, kind: String::new() };
        return xdp.map(here).into_iter().collect();
    };
    let attach_type = match direction {
        Direction::Ingress => TCX_INGRESS,
        Direction::Egress => TCX_EGRESS,
    };
    let links = syscall::attached_to_device(index, attach_type).unwrap_or_default().into_iter();
    let links = links.map(|one| Here {
        way: Way::Tcx,
        program: one.program,
        link: one.link,
        kind: String::new(),
    });
    let filters = Filters::open().and_then(|mut filters| filters.all(index, direction));
    let filters = filters.unwrap_or_default().into_iter().map(|filter| Here {
        way: Way::Clsact,
        program: filter.program,
        link: 0,
        kind: filter.kind,
    });
    links.chain(filters).collect()
}

fn direction_of(attach_type: u32) -> Direction {
    if attach_type == TCX_INGRESS { Direction::Ingress } else { Direction::Egress }
}
