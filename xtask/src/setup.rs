//! What the tests and benchmarks need beside Rust: Debian's packages, and one root file system.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::command::{cargo, quietly, run, target, which};

/// A program that tests call, and Debian's package that has it.
const TOOLS: [(&str, &str); 27] = [
    ("busybox", "busybox-static"),
    ("conmon", "conmon"),
    ("cpio", "cpio"),
    ("crun", "crun"),
    ("ctr", "containerd"),
    ("curl", "curl"),
    ("docker", "docker.io"),
    ("docker-compose", "docker-compose"),
    ("docker-registry", "docker-registry"),
    ("fsck.erofs", "erofs-utils"),
    ("getfattr", "attr"),
    ("iasl", "acpica-tools"),
    ("ip", "iproute2"),
    ("mmdebstrap", "mmdebstrap"),
    ("newuidmap", "uidmap"),
    ("nft", "nftables"),
    ("openssl", "openssl"),
    ("pasta", "passt"),
    ("podman", "podman"),
    ("python3", "python3-minimal"),
    ("qemu-img", "qemu-utils"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("runc", "runc"),
    ("setcap", "libcap2-bin"),
    ("skopeo", "skopeo"),
    ("slirp4netns", "slirp4netns"),
    ("zstd", "zstd"),
];

/// Whether we are root; much of what is tested can be done by nobody else.
pub(crate) fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|l| l.starts_with("Uid:") && l.split_whitespace().nth(2) == Some("0"))
}

/// Installs the packages whose programs are missing, where that can be done.
pub(crate) fn tools() -> Result<()> {
    let missing: Vec<&str> = TOOLS
        .iter()
        .filter(|(tool, _)| which(tool).is_none())
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !is_root() || which("apt-get").is_none() {
        eprintln!("xtask: not installed: {list}; tests that need them are skipped, and say so");
        return Ok(());
    }
    eprintln!("xtask: installing {list}");
    quietly(Command::new("apt-get").args(["update", "-qq"]))?;
    let mut install = Command::new("apt-get");
    install.args(["install", "-qq", "-y", "--no-install-recommends"]).args(&missing);
    quietly(install.env("DEBIAN_FRONTEND", "noninteractive"))
}

/// The test runner that gives every test a process of its own, which tests of namespaces and of
/// descriptors need. Where it is not installed it is built once, into the target directory.
pub(crate) fn nextest() -> Result<PathBuf> {
    const VERSION: &str = "0.9.143";
    if let Some(installed) = which("cargo-nextest") {
        return Ok(installed);
    }
    let root = target().join("tools");
    let program = root.join("bin/cargo-nextest");
    if !program.is_file() {
        eprintln!("xtask: building cargo-nextest {VERSION}");
        let root = root.to_string_lossy();
        run(&mut cargo(&[
            "install",
            "--locked",
            "--root",
            &root,
            "--version",
            VERSION,
            "cargo-nextest",
        ]))?;
    }
    Ok(program)
}

/// A Debian root file system as a tar archive, made once and kept in the target directory.
///
/// `None` where it cannot be made: mmdebstrap is missing or we are not root.
pub(crate) fn debian() -> Result<Option<PathBuf>> {
    let tar = target().join("fixtures/debian.tar");
    if tar.is_file() {
        return Ok(Some(tar));
    }
    if which("mmdebstrap").is_none() || !is_root() {
        return Ok(None);
    }
    eprintln!("xtask: making a Debian root file system with mmdebstrap");
    let dir = tar.parent().context("the archive has a directory")?;
    fs::create_dir_all(dir)?;
    // Under another name until it is whole, so that a killed run leaves nothing that looks done.
    let partial = dir.join("debian.partial.tar");
    let made = run(Command::new("mmdebstrap")
        .args(["--quiet", "--variant=minbase", "--aptopt=Acquire::Check-Valid-Until \"false\""])
        .arg(suite()?)
        .arg(&partial));
    if let Err(error) = made {
        drop(fs::remove_file(&partial));
        bail!("no Debian root file system: {error:#}");
    }
    fs::rename(&partial, &tar)?;
    Ok(Some(tar))
}

/// A store with a kernel for machines, fetched once and kept in the target directory.
///
/// `None` where it cannot be fetched, which is said.
pub(crate) fn kernels() -> Option<PathBuf> {
    let home = target().join("fixtures/machines");
    let store = home.join("kernels");
    let program = target().join("debug/wythe");
    let wythe = |words: &[&str]| {
        let mut command = Command::new(&program);
        command.args(words).env("WYTHE_DATA", &home);
        command
    };
    let listed = wythe(&["kernel", "ls", "--quiet"]).output().ok()?;
    if listed.status.success() && !listed.stdout.is_empty() {
        return Some(store);
    }
    eprintln!("xtask: fetching a kernel for machines");
    match run(&mut wythe(&["kernel", "pull"])) {
        Ok(()) => Some(store),
        Err(error) => {
            eprintln!("xtask: no kernel for machines, whose tests are skipped: {error:#}");
            None
        }
    }
}

/// The host's own Debian release, whose mirror is known to answer.
fn suite() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let value =
        |line: &str| line.strip_prefix("VERSION_CODENAME=").map(|v| v.trim_matches('"').to_owned());
    Ok(text.lines().find_map(value).unwrap_or_else(|| "bookworm".to_owned()))
}
