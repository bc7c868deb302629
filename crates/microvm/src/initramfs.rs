//! The first file system of a machine: an archive that the kernel unpacks into memory.
//!
//! Source: Linux `Documentation/driver-api/early-userspace/buffer-format.rst` (cpio, "newc").

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::PathBuf,
};

use rustix::fs::{MemfdFlags, memfd_create};

/// The agent, as one static program.
pub static AGENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/agent"));

/// Where the kernel looks for the first process.
const INIT: &str = "init";

/// Where the agent looks for modules.
const MODULES: &str = "modules";

/// Names of modules in the order in which they are loaded, one on each line.
const ORDER: &str = "modules/order";

const DIRECTORY: u32 = 0o04_0755;
const PROGRAM: u32 = 0o10_0755;
const FILE: u32 = 0o10_0644;
const CHARACTER_DEVICE: u32 = 0o02_0600;

/// The kernel opens it as the first process's standard streams before anything is mounted.
const CONSOLE: (&str, (u32, u32)) = ("dev/console", (5, 1));

/// Everything in the archive is aligned to so many bytes.
const ALIGNMENT: usize = 4;

/// The archive, as a file in memory.
pub(crate) fn file(modules: &[(String, PathBuf)]) -> io::Result<File> {
    let read = |(name, path): &(String, PathBuf)| Ok((name.clone(), fs::read(path)?));
    let modules: Vec<_> = modules.iter().map(read).collect::<io::Result<_>>()?;
    let mut file = File::from(memfd_create("initramfs", MemfdFlags::CLOEXEC)?);
    file.write_all(&archive(&modules))?;
    Ok(file)
}

/// The archive: the agent, and these modules, each after those it needs.
pub fn archive(modules: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = Archive::default();
    archive.add("dev", DIRECTORY, (0, 0), &[]);
    let (console, number) = CONSOLE;
    archive.add(console, CHARACTER_DEVICE, number, &[]);
    for directory in ["proc", "sys", "run", "tmp", MODULES] {
        archive.add(directory, DIRECTORY, (0, 0), &[]);
    }
    archive.add(INIT, PROGRAM, (0, 0), AGENT);
    let mut order = String::new();
    for (name, content) in modules {
        archive.add(&format!("{MODULES}/{name}"), FILE, (0, 0), content);
        order.push_str(name);
        order.push('\n');
    }
    if !modules.is_empty() {
        archive.add(ORDER, FILE, (0, 0), order.as_bytes());
    }
    archive.finish()
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    files: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.files += 1;
        let links = if mode == DIRECTORY { 2 } else { 1 };
        let size = u32::try_from(content.len()).expect("nothing in it is near 4 GiB");
        let name_bytes = u32::try_from(name.len() + 1).expect("names are short");
        let fields =
            [self.files, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_bytes, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn cpio_reads_what_is_written() {
        if testkit::need::tool("cpio").is_none() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("initramfs");
        std::fs::write(
            &path,
            archive(&[("a.ko".into(), b"one".into()), ("b.ko".into(), vec![0; 5])]),
        )
        .unwrap();
        let mut cpio = Command::new("cpio");
        cpio.args(["--extract", "--quiet", "--nonmatching", "dev/*"]).current_dir(dir.path());
        let cpio = cpio.stdin(Stdio::from(std::fs::File::open(&path).unwrap())).output().unwrap();
        assert!(cpio.status.success(), "{cpio:?}");
        let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
        assert_eq!(read("init"), AGENT);
        assert_eq!(read("modules/order"), b"a.ko\nb.ko\n");
        assert_eq!((read("modules/a.ko").as_slice(), read("modules/b.ko").len()), (&b"one"[..], 5));
        assert!(dir.path().join("proc").is_dir());
    }

    #[test]
    fn the_agent_is_one_static_program() {
        assert_eq!(&AGENT[..4], b"\x7fELF");
        // Type 2 is a program at a fixed address: it needs no loader.
        assert_eq!(AGENT[16], 2);
    }
}
