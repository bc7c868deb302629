//! Requests as the guest's kernel writes them, and what its answers say.

use std::{fs, path::PathBuf};

use rustix::io::Errno;

use super::super::*;

pub(super) const ROOT: u64 = 1;
pub(super) const ROOM: usize = IO_BYTES_MAX + 16;

/// Little-endian arguments.
#[derive(Clone, Debug, Default)]
pub(crate) struct Args(pub(crate) Vec<u8>);

impl Args {
    pub(crate) fn u32(mut self, value: u32) -> Args {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(crate) fn u64(mut self, value: u64) -> Args {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(crate) fn text(mut self, text: &str) -> Args {
        self.0.extend(text.as_bytes());
        self.0.push(0);
        self
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Args {
        self.0.extend(bytes);
        self
    }
}

pub(crate) fn args() -> Args {
    Args::default()
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// What an entry or its attributes say: `struct fuse_attr`.
#[derive(Debug)]
pub(super) struct Attr {
    pub(super) ino: u64,
    pub(super) size: u64,
    pub(super) mtime: u64,
    pub(super) mode: u32,
    pub(super) nlink: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

pub(super) fn attr(bytes: &[u8]) -> Attr {
    Attr {
        ino: u64_at(bytes, 0),
        size: u64_at(bytes, 8),
        mtime: u64_at(bytes, 32),
        mode: u32_at(bytes, 60),
        nlink: u32_at(bytes, 64),
        uid: u32_at(bytes, 68),
        gid: u32_at(bytes, 72),
    }
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) dir: tempfile::TempDir,
    pub(super) server: Server,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Client {
    pub(super) fn new() -> Client {
        Client::with(|_| ())
    }

    pub(super) fn with(set: impl FnOnce(&mut Export)) -> Client {
        let dir = tempfile::tempdir().unwrap();
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let mut export = Export {
            root: fs::File::open(dir.path()).unwrap().into(),
            only: None,
            read_only: false,
            valid: VALID,
            limits: Limits::default(),
            watch: false,
        };
        set(&mut export);
        let mut client = Client { dir, server: Server::new(export).unwrap(), uid, gid };
        let begun = client.ask(26, 0, args().u32(7).u32(38).u32(4096).u32(u32::MAX)).unwrap();
        assert_eq!((u32_at(&begun, 0), u32_at(&begun, 4), begun.len()), (7, 36, 64));
        client
    }

    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub(super) fn ask(&mut self, op: u32, node: u64, args: Args) -> Result<Vec<u8>, Errno> {
        self.ask_in(ROOM, op, node, args)
    }

    pub(super) fn ask_in(
        &mut self,
        room: usize,
        op: u32,
        node: u64,
        args: Args,
    ) -> Result<Vec<u8>, Errno> {
        let request = request(op, node, self.uid, self.gid, &args.0);
        let answer = self.server.handle(&request, room).unwrap();
        assert!(answer.len() <= room);
        assert_eq!((u32_at(answer, 0) as usize, u64_at(answer, 8)), (answer.len(), 77));
        match i32::from_le_bytes(answer[4..8].try_into().unwrap()) {
            0 => Ok(answer[16..].to_vec()),
            error => Err(Errno::from_raw_os_error(-error)),
        }
    }

    /// The number of an entry and its attributes.
    pub(super) fn lookup(&mut self, parent: u64, name: &str) -> Result<(u64, Attr), Errno> {
        let entry = self.ask(1, parent, args().text(name))?;
        assert_eq!(entry.len(), 128);
        Ok((u64_at(&entry, 0), attr(&entry[40..])))
    }

    pub(super) fn node(&mut self, parent: u64, name: &str) -> u64 {
        self.lookup(parent, name).unwrap().0
    }

    pub(super) fn forget(&mut self, node: u64, lookups: u64) {
        let request = request(2, node, 0, 0, &args().u64(lookups).0);
        assert_eq!(self.server.handle(&request, 0), None);
    }

    pub(super) fn open(&mut self, node: u64, flags: u32) -> Result<u64, Errno> {
        Ok(u64_at(&self.ask(14, node, args().u32(flags).u32(0))?, 0))
    }

    pub(super) fn create(
        &mut self,
        parent: u64,
        name: &str,
        mode: u32,
    ) -> Result<(u64, u64), Errno> {
        let asked = args().u32(libc_flags::RDWR).u32(mode).u32(0).u32(0).text(name);
        let made = self.ask(35, parent, asked)?;
        assert_eq!(made.len(), 144);
        Ok((u64_at(&made, 0), u64_at(&made, 128)))
    }

    pub(super) fn read(&mut self, handle: u64, offset: u64, size: u32) -> Result<Vec<u8>, Errno> {
        let asked = args().u64(handle).u64(offset).u32(size).u32(0).u64(0).u64(0);
        self.ask(15, 0, asked)
    }

    pub(super) fn write(&mut self, handle: u64, offset: u64, bytes: &[u8]) -> Result<u32, Errno> {
        let size = u32::try_from(bytes.len()).unwrap();
        let asked = args().u64(handle).u64(offset).u32(size).u32(0).u64(0).u64(0).bytes(bytes);
        Ok(u32_at(&self.ask(16, 0, asked)?, 0))
    }

    pub(super) fn getattr(&mut self, node: u64) -> Result<Attr, Errno> {
        let answer = self.ask(3, node, args().u32(0).u32(0).u64(0))?;
        assert_eq!(answer.len(), 104);
        Ok(attr(&answer[16..]))
    }

    pub(super) fn setattr(&mut self, node: u64, set: SetAttr) -> Result<Attr, Errno> {
        let asked = args().u32(set.valid).u32(0).u64(0).u64(set.size).u64(0);
        let asked = asked.u64(set.atime.0).u64(set.mtime.0).u64(0);
        let asked = asked.u32(set.atime.1).u32(set.mtime.1).u32(0);
        let asked = asked.u32(set.mode).u32(0).u32(set.uid).u32(set.gid).u32(0);
        assert_eq!(asked.0.len(), 88);
        Ok(attr(&self.ask(4, node, asked)?[16..]))
    }

    /// All names of a directory, read in pieces of so many bytes.
    pub(super) fn list(&mut self, node: u64, plus: bool, piece: u32) -> Vec<(String, u64, u64)> {
        let handle = u64_at(&self.ask(27, node, args().u32(0).u32(0)).unwrap(), 0);
        let (mut all, mut offset) = (Vec::new(), 0);
        loop {
            let asked = args().u64(handle).u64(offset).u32(piece).u32(0).u64(0).u64(0);
            let bytes = self.ask(if plus { 44 } else { 28 }, node, asked).unwrap();
            assert!(bytes.len() <= piece as usize);
            if bytes.is_empty() {
                break;
            }
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let number = if plus { u64_at(rest, 0) } else { 0 };
                let entry = if plus { &rest[128..] } else { rest };
                let length = u32_at(entry, 16) as usize;
                let name = std::str::from_utf8(&entry[24..24 + length]).unwrap().to_owned();
                offset = u64_at(entry, 8);
                all.push((name, u64_at(entry, 0), number));
                let bytes = (rest.len() - entry.len()) + (24 + length).next_multiple_of(8);
                rest = &rest[bytes..];
            }
        }
        self.ask(29, node, args().u64(handle).u64(0).u64(0)).unwrap();
        all.sort();
        all
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SetAttr {
    pub(super) valid: u32,
    pub(super) size: u64,
    pub(super) atime: (u64, u32),
    pub(super) mtime: (u64, u32),
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

pub(super) mod libc_flags {
    pub(crate) const RDONLY: u32 = 0;
    pub(crate) const WRONLY: u32 = 1;
    pub(crate) const RDWR: u32 = 2;
    pub(crate) const TRUNC: u32 = 0o1000;
    pub(crate) const APPEND: u32 = 0o2000;
}

pub(crate) fn request(op: u32, node: u64, uid: u32, gid: u32, args: &[u8]) -> Vec<u8> {
    let length = u32::try_from(40 + args.len()).unwrap();
    let mut request = Args::default().u32(length).u32(op).u64(77).u64(node);
    request = request.u32(uid).u32(gid).u32(1).u32(0);
    request.bytes(args).0
}
