// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `show programs`: a row for each place of each kernel program of ours, and one for each
//! program of others at our devices.

use serde::Serialize;

use crate::{
    cli::output::{self, Format, Row},
    datapath::{
        load::{PinnedProgram, Turn, Way},
        view::View,
    },
    run::state::{self, DeviceLine},
};

/// A kernel program at one of its places.
#[derive(Debug, Serialize)]
struct ProgramRow {
    /// Its name, which is the hook's.
    program: String,
    /// The kernel's id, as in `bpftool prog show id`.
    id: u32,
    /// cgroup, tcx, clsact, xdp native or xdp generic; `None` if it is not attached.
    kind: Option<&'static str>,
    /// The id of the link that holds it in place; `None` also for a filter, which needs none.
    link: Option<u32>,
    /// The network device; `None` for a program of the cgroup.
    device: Option<String>,
    /// When it runs among the programs of the device and direction, from 1; `None` also if the
    /// device cannot be seen from here.
    position: Option<usize>,
    /// How many of them there are.
    of: Option<usize>,
    /// Whether it is ours.
    ours: bool,
    /// Why it does not run at the device although `--xdp` was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<String>,
}

/// Prints the programs.
pub(super) fn print(view: &View, format: Format) -> anyhow::Result<()> {
    let mut rows: Vec<_> = view.programs()?.into_iter().map(ProgramRow::from).collect();
    let idle = rows.iter().find(|row| row.ours && row.program == XDP);
    if let Some(id) = idle.map(|row| row.id) {
        let lines = state::devices(view.root())?;
        // One line says it.
        rows.retain(|row| lines.is_empty() || row.id != id || row.kind.is_some());
        rows.extend(lines.into_iter().map(|line| ProgramRow::left_out(id, line)));
    }
    output::print(&rows, format)
}

impl ProgramRow {
    fn left_out(id: u32, DeviceLine { device, reason }: DeviceLine) -> Self {
        Self {
            program: XDP.to_owned(),
            id,
            kind: None,
            link: None,
            device: Some(device),
            position: None,
            of: None,
            ours: true,
            left_out: Some(reason),
        }
    }
}

impl From<PinnedProgram> for ProgramRow {
    fn from(program: PinnedProgram) -> Self {
        let PinnedProgram { name, id, link, way, device, is_ours } = program;
        let (device, place) = device.map(|Turn { device, place, .. }| (device, place)).unzip();
        let (position, of) = place.flatten().unzip();
        let kind = way.map(Way::name);
        let ours = is_ours;
        Self { program: name, id, kind, link, device, position, of, ours, left_out: None }
    }
}

impl Row for ProgramRow {
    const TITLES: &'static [&'static str] =
        &["PROGRAM", "ID", "KIND", "LINK", "DEVICE", "TURN", "WHOSE"];

    fn cells(&self) -> Vec<String> {
        let turn = match (self.position, self.of) {
            (Some(position), Some(of)) => format!("{position} of {of}"),
            _ => String::new(),
        };
        let kind = match &self.left_out {
            Some(reason) => format!("left out: {reason}"),
            None => self.kind.unwrap_or("not attached").to_owned(),
        };
        vec![
            self.program.clone(),
            self.id.to_string(),
            kind,
            self.link.map(|link| link.to_string()).unwrap_or_default(),
            self.device.clone().unwrap_or_default(),
            turn,
            if self.ours { "ours" } else { "another's" }.to_owned(),
        ]
    }
}

/// The program that runs in front of the stack.
const XDP: &str = "xdp_ingress";
