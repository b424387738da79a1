// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The collector's program: an iterator over FLOWS that takes out what is over, inside the
//! kernel. Nothing of it is pinned or attached: it lives as long as the agent.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::OwnedFd,
    path::Path,
};

use aya::{
    BtfError, Ebpf, EbpfError, EbpfLoader,
    maps::{MapData, MapError},
    programs::{Iter, ProgramError},
};
use lb_common::{
    flow::{Pass, Visit},
    maps,
};

use super::{arrays::Array, syscall};

/// The program, and FLOWS.
#[derive(Debug)]
pub struct Collector {
    link: OwnedFd,
    pass: Array<Pass>,
    buffer: Vec<u8>,
    /// Owns the program and PASS.
    _object: Ebpf,
}

/// Why there is no collector.
#[derive(Debug, thiserror::Error)]
pub enum CollectorError {
    /// The kernel's types cannot be read (`/sys/kernel/btf/vmlinux`).
    #[error("the kernel does not tell its types: {0}")]
    Types(#[from] BtfError),
    /// The object was refused.
    #[error("the collector's object cannot be loaded: {0}")]
    Object(#[from] EbpfError),
    /// The program was refused.
    #[error("the collector's program cannot be loaded: {0}")]
    Program(#[from] ProgramError),
    /// FLOWS or PASS cannot be opened.
    #[error("a map of the collector cannot be opened: {0}")]
    Map(#[from] MapError),
    /// The program cannot be made an iterator over FLOWS.
    #[error("the collector cannot read FLOWS: {0}")]
    Link(#[from] io::Error),
    /// The object is not the one that was built.
    #[error("the collector's object has no {0}")]
    Incomplete(&'static str),
}

impl Collector {
    /// Loads the program over the FLOWS that is pinned there.
    ///
    /// # Errors
    /// Most likely the kernel has no BTF of its own.
    pub fn open(flows: &Path) -> Result<Self, CollectorError> {
        let mut object =
            EbpfLoader::new().btf(None).map_pin_path(maps::FLOWS, flows).load(OBJECT)?;
        let program: &mut Iter =
            object.program_mut(PROGRAM).ok_or(CollectorError::Incomplete(PROGRAM))?.try_into()?;
        program.load(TARGET, &aya::Btf::from_sys_fs()?)?;
        // The kernel's types are some megabytes of heap.
        syscall::trim_heap();
        let link = syscall::link_create_iterator(program.fd()?, MapData::from_pin(flows)?.fd())?;
        let pass = match object.map(PASS) {
            Some(aya::maps::Map::Array(pass)) => Array::map(pass.fd(), 1)?,
            _ => return Err(CollectorError::Incomplete(PASS)),
        };
        Ok(Self { link, pass, buffer: vec![0; BUFFER], _object: object })
    }

    /// Looks at each element once, takes out the flows that are over, and tells what was at
    /// each. What comes and goes meanwhile may be missed or met twice, and so may what shares a
    /// bucket with what was taken out.
    ///
    /// # Errors
    /// The kernel's, for what was not looked at yet.
    pub fn collect(&mut self, pass: &Pass, mut take: impl FnMut(&[Visit])) -> io::Result<()> {
        self.pass.write(0, pass);
        let mut visits = syscall::iterate(&self.link)?;
        loop {
            let read = read(&mut visits, &mut self.buffer)?;
            let bytes = self.buffer.get(..read).unwrap_or_default();
            if bytes.is_empty() {
                return Ok(());
            }
            // Whole ones: the kernel's buffer is a multiple of one.
            take(bytemuck::cast_slice(bytes));
        }
    }
}

/// Reads; the kernel gives up after a million elements of which nothing was said.
fn read(visits: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match visits.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}

/// Bytes of one read: half of what the kernel has room for. What fills all of that counts as
/// too much, and what was said of a flow that was just removed would be lost.
const BUFFER: usize = 16 << 10;
const PROGRAM: &str = "collect";
const PASS: &str = "PASS";
/// What it iterates over: the kernel's name for the elements of a map.
const TARGET: &str = "bpf_map_elem";
/// The ELF object that build.rs made.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/collect"));
