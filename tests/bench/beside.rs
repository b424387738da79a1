// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The socket path with the packet path's programs at the node's devices, and without them.

use std::{
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use lab::{node::Node, proxy::Proxy};
use lb_agent::datapath::syscall::{self, LinkTarget};
use lb_common::maps::LAYOUT_VERSION;

use crate::{
    bed::Bed,
    report::{Row, Section},
    rounds::{order, say},
    stats::Quartiles,
    traffic::KINDS,
};

/// A program at a device of a node, which no agent looks after any more.
struct Attachment {
    /// Where its link was pinned, and is again when this is dropped.
    pin: PathBuf,
    program: OwnedFd,
    device: u32,
    attach_type: u32,
    link: Option<OwnedFd>,
}

/// The table: each kind with the packet path, its ratio to that without it.
pub(crate) fn run(bed: &mut Bed) -> Result<Section> {
    let rounds = bed.scale.rounds;
    say(&format!("the socket path with and without the packet path: {rounds} rounds"));
    let ours =
        |column: &crate::bed::Column| column.proxy == Some(Proxy::Sluice) && column.services > 1;
    let place = bed.columns.iter().position(ours).context("a column of Sluice's")?;
    let node = bed.columns.get(place).context("that column")?.node.clone();
    let mut attachments = Attachment::all(&node)?;
    let mut times = vec![[Vec::new(), Vec::new()]; KINDS.len()];
    for round in 0..=rounds {
        for state in order(2, round) {
            node.run(|| attachments.iter_mut().try_for_each(|one| one.turn(state == WITH)))??;
            for (kind, times) in KINDS.iter().zip(&mut times) {
                let column = bed.columns.get(place).context("that column")?;
                let task = (kind.task)(column, bed);
                let column = bed.columns.get_mut(place).context("that column")?;
                let ns = column.probe.median_ns(&task)?;
                if let (1.., Some(times)) = (round, times.get_mut(state)) {
                    times.push(ns / 1e3);
                }
            }
        }
    }
    node.run(|| attachments.iter_mut().try_for_each(|one| one.turn(true)))??;
    let row = |(kind, [without, with]): (&crate::traffic::Kind, &[Vec<f64>; 2])| {
        let row = Row::new(kind.title, Quartiles::of(with));
        row.against(Quartiles::of_ratios(with, without)).at_most(1.01)
    };
    let rows = KINDS.iter().zip(&times).map(row).collect();
    let title = "The socket path with the packet path attached";
    Ok(Section::beside("of that without it", title, NOTE, "µs", rows))
}

impl Attachment {
    /// All at a node's devices. Their links' pins are taken away.
    fn all(node: &Node) -> Result<Vec<Self>> {
        let root = node.bpf_root.join(format!("v{LAYOUT_VERSION}"));
        let pins = fs::read_dir(root.join("links"))?.map(|entry| Ok(entry?.path()));
        let mut all = Vec::new();
        for pin in pins.collect::<Result<Vec<_>>>()? {
            all.extend(Self::at(&root, pin)?);
        }
        ensure!(!all.is_empty(), "no program is at a device of {}", node.name);
        Ok(all)
    }

    /// One, if a pinned link is a device's.
    fn at(root: &Path, pin: PathBuf) -> Result<Option<Self>> {
        let link = syscall::object_get(&pin)?;
        let found = syscall::describe_link(&link)?;
        let LinkTarget::Device { index, attach_type } = found.target else {
            return Ok(None);
        };
        let name = pin.file_name().and_then(|name| name.to_str()?.rsplit_once('-'));
        let (name, _) = name.with_context(|| format!("{} has no device", pin.display()))?;
        let program = syscall::object_get(&root.join("programs").join(name))?;
        fs::remove_file(&pin)?;
        Ok(Some(Self { pin, program, device: index, attach_type, link: Some(link) }))
    }

    /// Attaches it, or not.
    fn turn(&mut self, on: bool) -> Result<()> {
        match (on, &self.link) {
            (true, None) => {
                let first = self.attach_type == TCX_INGRESS;
                let link = syscall::link_create_device(
                    &self.program,
                    self.device,
                    self.attach_type,
                    first,
                );
                self.link = Some(link.context("attaching to a device")?);
            }
            (false, Some(_)) => self.link = None,
            _ => {}
        }
        Ok(())
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if let Some(link) = &self.link
            && let Err(error) = syscall::object_pin(link, &self.pin)
        {
            say(&format!("{}: {error}", self.pin.display()));
        }
    }
}

/// Which of two states is the one with the packet path.
const WITH: usize = 1;
/// `enum bpf_attach_type`.
const TCX_INGRESS: u32 = 46;
const NOTE: &str = "pods of a node that knows the many Services; the programs are attached and \
                    detached in turn, and everything is measured in each state";
