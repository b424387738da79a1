// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The initramfs of a guest: our first process, the agent, the lab's programs, the libraries that
//! they link, and modules. Not compressed: memory is cheaper than emulated decompression.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use lab::place::binary;
use tempfile::TempDir;

use crate::release::Kernel;

/// The file, and the directory that holds it.
pub(crate) struct Image {
    dir: TempDir,
}

/// Files by their path in the guest, without the leading slash.
#[derive(Default)]
struct Tree {
    files: BTreeMap<String, Vec<u8>>,
}

impl Image {
    /// Packs everything for `kernel`.
    ///
    /// # Errors
    /// When a program is not built, or cannot be stripped.
    pub(crate) fn build(kernel: &Kernel) -> Result<Self> {
        let dir = TempDir::new().context("making a directory for the image")?;
        let mut tree = Tree::default();
        tree.program(Path::new(env!("CARGO_BIN_EXE_guest-init")), "init", dir.path())?;
        tree.program(&binary("lb-agent", "LB_AGENT")?, "lb-agent", dir.path())?;
        tree.program(&binary("lab-pod", "LAB_POD")?, "lab-pod", dir.path())?;
        tree.program(&on_path("ip")?, "bin/ip", dir.path())?;
        for (number, module) in kernel.modules().iter().enumerate() {
            let name = module.file_name().unwrap_or_default().to_string_lossy();
            tree.file(&format!("modules/{number:02}-{name}"), module)?;
        }
        let image = Self { dir };
        fs::write(image.path(), tree.archive()?).context("writing the image")?;
        Ok(image)
    }

    /// The archive.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("initramfs")
    }
}

impl Tree {
    /// Adds a program without its symbols, and the libraries that it links where it expects them.
    fn program(&mut self, program: &Path, name: &str, scratch: &Path) -> Result<()> {
        let stripped = scratch.join("stripped");
        let mut strip = Command::new("strip");
        let strip =
            strip.arg("-o").arg(&stripped).arg(program).output().context("starting strip")?;
        ensure!(strip.status.success(), "{}", String::from_utf8_lossy(&strip.stderr));
        self.file(name, &stripped)?;
        for library in libraries(program)? {
            self.file(library.trim_start_matches('/'), Path::new(&library))?;
        }
        Ok(())
    }

    fn file(&mut self, name: &str, source: &Path) -> Result<()> {
        let content = fs::read(source).with_context(|| format!("reading {}", source.display()))?;
        self.files.insert(name.to_owned(), content);
        Ok(())
    }

    /// As cpio, the kernel's form of it (Documentation/driver-api/early-userspace/buffer-format.rst).
    fn archive(&self) -> Result<Vec<u8>> {
        let mut archive = Vec::new();
        for folder in self.folders() {
            append(&mut archive, folder, FOLDER, &[])?;
        }
        for (name, content) in &self.files {
            append(&mut archive, name, PROGRAM, content)?;
        }
        append(&mut archive, "TRAILER!!!", 0, &[])?;
        Ok(archive)
    }

    /// Every folder of a file, and those that our first process mounts on, parents first.
    fn folders(&self) -> BTreeSet<&str> {
        let names = self.files.keys().map(String::as_str);
        let above = names.flat_map(|name| name.match_indices('/').map(|(at, _)| &name[..at]));
        above.chain(["proc", "sys", "dev", "run", "tmp"]).collect()
    }
}

/// One entry: a header of hexadecimal digits, the name, the content, both padded to four bytes.
fn append(archive: &mut Vec<u8>, name: &str, mode: u32, content: &[u8]) -> Result<()> {
    let [size, name_size] = [content.len(), name.len() + 1].map(u32::try_from);
    let number = u32::try_from(archive.len() / 4)?;
    let fields = [number, mode, 0, 0, 1, 0, size?, 0, 0, 0, 0, name_size?, 0];
    archive.extend(b"070701");
    archive.extend(fields.iter().flat_map(|field| format!("{field:08X}").into_bytes()));
    archive.extend(name.as_bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend(content);
    archive.resize(archive.len().next_multiple_of(4), 0);
    Ok(())
}

/// What the dynamic linker loads for a program, itself included.
fn libraries(program: &Path) -> Result<Vec<String>> {
    let said = Command::new("ldd").arg(program).output().context("starting ldd")?;
    let said = String::from_utf8(said.stdout)?;
    let paths =
        said.lines().filter_map(|line| line.split_whitespace().find(|it| it.starts_with('/')));
    Ok(paths.map(str::to_owned).collect())
}

fn on_path(program: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut found = env::split_paths(&path).map(|dir| dir.join(program)).filter(|it| it.is_file());
    found.next().with_context(|| format!("there is no {program}: run `cargo xtask setup`"))
}

/// Mode of a directory.
const FOLDER: u32 = 0o40_755;
/// Mode of a file, each as if it were a program.
const PROGRAM: u32 = 0o100_755;
