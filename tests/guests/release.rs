// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Debian's kernels, by the package registry that this machine's own apt is set up with.
//!
//! A kernel is kept in `~/.cache/sluice/guests/<version>-<suite>-<number of modules>/`: the image, and the few modules
//! that a lab needs. apt works in a private directory, so that the machine's own lists and
//! packages stay as they are.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use lab::place::bounded_output;

/// A release of Debian and the kernel it has.
pub(crate) struct Release {
    /// Its name in the archive.
    pub(crate) suite: &'static str,
    /// Its kernel's version, two numbers.
    pub(crate) linux: &'static str,
}

/// A kernel that can be booted.
pub(crate) struct Kernel {
    /// The directory that holds it.
    dir: PathBuf,
}

/// apt with files of its own, set up for one release.
struct Apt {
    dir: PathBuf,
}

impl Release {
    /// The kernel; fetched when it is not in the cache yet.
    ///
    /// # Errors
    /// When apt or its registry does not have it.
    pub(crate) fn kernel(&self) -> Result<Kernel> {
        let guests = cache_dir()?;
        // A cache of fewer modules is of no use.
        let dir = guests.join(format!("{}-{}-{}", self.linux, self.suite, MODULES.len()));
        fs::create_dir_all(&guests).with_context(|| format!("creating {}", guests.display()))?;
        let lock = fs::File::create(guests.join(format!(".{}.lock", self.suite)))?;
        lock.lock()?;
        if !dir.exists() {
            let partial = guests.join(format!(".{}.partial", self.suite));
            if partial.exists() {
                fs::remove_dir_all(&partial)?;
            }
            self.fetch(&partial)?;
            fs::rename(partial.join("kernel"), &dir)?;
            fs::remove_dir_all(&partial)?;
        }
        Ok(Kernel { dir })
    }

    /// Fetches the package into `partial`, and takes out what is needed.
    fn fetch(&self, partial: &Path) -> Result<()> {
        let apt = Apt::of(self, partial)?;
        let package = apt.newest_kernel()?;
        ensure!(
            package.starts_with(&format!("linux-image-{}.", self.linux)),
            "the newest kernel of {} is {package}",
            self.suite
        );
        let archive = apt.download(&package)?;
        let unpacked = partial.join("unpacked");
        unpack(&archive, &unpacked)?;
        let kernel = partial.join("kernel");
        fs::create_dir(&kernel)?;
        for file in files(&unpacked)? {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let name = if name.starts_with("vmlinuz-") { IMAGE } else { &name };
            fs::rename(&file, kernel.join(name))?;
        }
        ensure!(kernel.join(IMAGE).exists(), "{package} has no kernel image");
        Ok(())
    }
}

impl Kernel {
    /// What the boot loader loads.
    pub(crate) fn image(&self) -> PathBuf {
        self.dir.join(IMAGE)
    }

    /// Modules, each after those that it needs. One that the kernel has built in is no file.
    pub(crate) fn modules(&self) -> Vec<PathBuf> {
        let spellings = MODULES.iter().flat_map(|name| ["ko", "ko.xz"].map(|end| (name, end)));
        let paths = spellings.map(|(name, end)| self.dir.join(format!("{name}.{end}")));
        paths.filter(|path| path.exists()).collect()
    }
}

impl Apt {
    /// Knows the packages of `release` alone.
    fn of(release: &Release, dir: &Path) -> Result<Self> {
        for folder in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(dir.join(folder))?;
        }
        let keys =
            ["gpg", "pgp"].map(|end| format!("/usr/share/keyrings/debian-archive-keyring.{end}"));
        let keys = keys.into_iter().find(|path| Path::new(path).exists());
        let keys = keys.map(|path| format!("signed-by={path}")).unwrap_or_default();
        let (suite, registry) = (release.suite, registry()?);
        let line = format!("deb [arch=amd64 {keys}] {registry} {suite} main\n");
        fs::write(dir.join("sources.list"), line)?;
        let apt = Self { dir: dir.to_owned() };
        output(apt.command("apt-get", &["update"]))?;
        Ok(apt)
    }

    /// The package behind the name that always means the newest kernel.
    fn newest_kernel(&self) -> Result<String> {
        let said = output(self.command("apt-cache", &["depends", "linux-image-amd64"]))?;
        let names = said.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        let mut kernels = names.filter(|name| name.starts_with("linux-image-"));
        kernels.next().map(str::to_owned).with_context(|| format!("no kernel in: {said}"))
    }

    /// Downloads a package; gives the file.
    fn download(&self, package: &str) -> Result<PathBuf> {
        let mut download = self.command("apt-get", &["download", package]);
        download.current_dir(&self.dir);
        output(download)?;
        let entries = fs::read_dir(&self.dir)?.flatten().map(|entry| entry.path());
        let mut archives = entries.filter(|path| path.extension().is_some_and(|end| end == "deb"));
        archives.next().with_context(|| format!("apt-get downloaded no {package}"))
    }

    /// One of apt's programs on this directory.
    fn command(&self, program: &str, words: &[&str]) -> Command {
        let mut command = Command::new(program);
        let dir = self.dir.display();
        for setting in [
            format!("Dir::Etc::sourcelist={dir}/sources.list"),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            format!("Dir::State::lists={dir}/lists"),
            format!("Dir::Cache={dir}"),
            "Acquire::Languages=none".to_owned(),
            // Descriptions for graphical programs are a third of the lists.
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            // The user that downloads otherwise cannot write here.
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.args(["-o", &setting]);
        }
        command.arg("-q").args(words);
        command
    }
}

/// Where this machine has Debian's packages from: other releases lie beside its own.
fn registry() -> Result<String> {
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format", "$(LABEL) $(REPO_URI)", "Origin: Debian"]);
    let said = output(targets)?;
    let found = said.lines().find_map(|line| line.strip_prefix("Debian "));
    found.map(str::to_owned).context("apt has no source of Debian's packages: run apt-get update")
}

/// Takes image and modules out of a package, as a tree below `into`.
fn unpack(archive: &Path, into: &Path) -> Result<()> {
    fs::create_dir(into)?;
    let mut dpkg = Command::new("dpkg-deb");
    let mut dpkg = dpkg.arg("--fsys-tarfile").arg(archive).stdout(Stdio::piped()).spawn()?;
    let tarball = dpkg.stdout.take().context("a piped child has an output")?;
    let modules = MODULES.iter().map(|name| format!("*/{name}.ko*"));
    let mut tar = Command::new("tar");
    tar.args(["-x", "--wildcards", "--warning=no-timestamp", "-C"])
        .arg(into)
        .arg("./boot/vmlinuz-*");
    // One of the modules may be built in: what is not found is seen by what is there.
    let said = tar.args(modules).stdin(tarball).output();
    let status = dpkg.wait()?;
    let said = said.context("starting tar")?;
    ensure!(status.success(), "dpkg-deb of {}: {status}", archive.display());
    if files(into)?.is_empty() {
        bail!(
            "{} cannot be unpacked: {}",
            archive.display(),
            String::from_utf8_lossy(&said.stderr)
        );
    }
    Ok(())
}

/// All files below a directory.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(files(&entry.path())?);
        } else {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Standard output of a command that succeeds within a time.
fn output(command: Command) -> Result<String> {
    let line = format!("{command:?}");
    let (code, stdout, stderr) = bounded_output(command, FETCH_LIMIT)?;
    ensure!(code == Some(0), "{line} ended with {code:?}: {}", stderr.trim());
    Ok(stdout)
}

/// Where kernels are kept.
fn cache_dir() -> Result<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| env::home_dir().map(|home| home.join(".cache")));
    Ok(cache.context("no home directory to keep kernels in")?.join("sluice/guests"))
}

/// The image's name in the cache.
const IMAGE: &str = "vmlinuz";
/// What the lab and the agent need and Debian does not build in, each after those it needs.
const MODULES: [&str; 8] =
    ["llc", "stp", "bridge", "veth", "inet_diag", "udp_diag", "sch_ingress", "cls_bpf"];
/// How long each step of fetching may take.
const FETCH_LIMIT: Duration = Duration::from_mins(2);
