//! This program's own file, out of reach of containers.
//!
//! Until execve(2) a process on its way into a container runs this program, and a container can
//! make that execve(2) run `/proc/self/exe`: by a script that names it as its interpreter, or by a
//! link. What then runs inside may open the file again, for writing, as soon as nobody else runs
//! it; so the container would change what the host's root runs next (CVE-2019-5736).
//!
//! So what makes containers is started from a mount of the file that is read-only, in no
//! namespace, and so for nobody to change; or from a sealed copy in memory where there may be no
//! mounts.

use std::{
    ffi::{CStr, CString},
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    process::Command,
};

use cgroups::Join;
use rustix::{
    fs::{CWD, MemfdFlags, SealFlags, StatVfsMountFlags},
    io::Errno,
    mount::{OpenTreeFlags, open_tree},
};
use sys::{
    clone::{Child, Namespaces},
    exec::StringArray,
    mount::{Change, attribute, set_attributes},
};

/// The file that this process runs.
const OWN: &str = "/proc/self/exe";

/// The command that runs this program from where no container can change it.
#[derive(Debug)]
pub struct Protected {
    /// What the command's path means.
    program: Option<OwnedFd>,
}

impl Protected {
    /// Finds the way.
    ///
    /// # Errors
    /// What the kernel says if there may be neither a mount nor a file in memory.
    pub fn new() -> io::Result<Protected> {
        if is_protected()? {
            return Ok(Protected { program: None });
        }
        let program = match read_only_mount() {
            Some(program) => program,
            None => sealed_copy()?,
        };
        Ok(Protected { program: Some(program) })
    }

    /// The command. It can be run while this value is there.
    pub fn command(&self) -> Command {
        Command::new(self.path())
    }

    /// Runs it in a control group, where it is from its first instruction on: with these
    /// arguments, of which the first is its name, this socket as its standard input, no output and
    /// no environment.
    ///
    /// # Errors
    /// What the kernel says if there may be no process. One that does not get into its group or
    /// cannot run the program ends with code 127.
    pub fn spawn(
        &self,
        args: &[&CStr],
        socket: BorrowedFd<'_>,
        group: Option<&Join>,
    ) -> io::Result<Child> {
        let path = CString::new(self.path())?;
        let args = StringArray::new(args.iter().map(|arg| (*arg).to_owned()).collect());
        let env = StringArray::new(Vec::new());
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let streams = [socket, null.as_fd(), null.as_fd()];
        let (into, files) =
            group.map_or((None, [].as_slice()), |join| (join.into.as_ref(), &join.files));
        sys::clone::spawn(Namespaces::default(), into.map(AsFd::as_fd), || {
            // Nothing here allocates: other threads may have been about to.
            let joined = files.iter().all(|file| rustix::io::write(file, b"0").is_ok());
            if joined && become_child(streams).is_ok() {
                sys::exec::execve(&path, &args, &env);
            }
            127
        })
    }

    fn path(&self) -> String {
        match &self.program {
            Some(program) => format!("/proc/self/fd/{}", program.as_raw_fd()),
            None => OWN.to_owned(),
        }
    }
}

/// What a new process puts in order before it becomes a program. Child-safe.
fn become_child(streams: [BorrowedFd<'_>; 3]) -> io::Result<()> {
    for (number, stream) in (0..).zip(streams) {
        sys::process::place(stream, number, false)?;
    }
    sys::process::default_signals()?;
    Ok(rustix::process::chdir(c"/")?)
}

/// Runs this process's program again, with the same arguments, unless it is protected already.
///
/// # Errors
/// [`Protected::new`]'s, or why it cannot be run.
#[cfg(feature = "oci")]
pub(crate) fn protect() -> io::Result<()> {
    use std::os::unix::process::CommandExt as _;

    let protected = Protected::new()?;
    if protected.program.is_none() {
        // The kernel has named the process after the descriptor. It is only for `ps`.
        let _ = rustix::thread::set_name(c"wythe");
        return Ok(());
    }
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_else(|| "wythe".into());
    Err(protected.command().arg0(name).args(args).exec())
}

fn is_protected() -> io::Result<bool> {
    if rustix::fs::statvfs(OWN)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(true);
    }
    // Only files in memory have seals.
    let seals = rustix::fs::fcntl_get_seals(File::open(OWN)?);
    Ok(seals.is_ok_and(|seals| seals.contains(SealFlags::WRITE)))
}

/// A read-only mount of the file, or nothing where there may be no mounts or where the file is
/// not to be found any more.
///
/// The file is looked for by its path, because what this process runs may belong to the mount
/// namespace it came from, of which nothing can be copied here.
fn read_only_mount() -> Option<OwnedFd> {
    let path = fs::read_link(OWN).ok()?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = open_tree(CWD, &path, flags).ok()?;
    let own = fs::metadata(OWN).ok()?;
    let found = rustix::fs::fstat(&mount).ok()?;
    if (found.st_dev, found.st_ino) != (own.dev(), own.ino()) {
        return None;
    }
    let change = Change { set: attribute::READ_ONLY, ..Change::default() };
    set_attributes(mount.as_fd(), change, None).ok()?;
    Some(mount)
}

/// A copy in memory that nobody can change.
///
/// Source: memfd_create(2), `MFD_EXEC` (Linux 6.3); fcntl(2), "File Sealing".
fn sealed_copy() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let made = match rustix::fs::memfd_create("wythe", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => rustix::fs::memfd_create("wythe", flags)?,
        other => other?,
    };
    let mut copy = File::from(made);
    io::copy(&mut File::open(OWN)?, &mut copy)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&copy, seals)?;
    Ok(copy.into())
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    /// Neither opened for writing, nor written to where that is too late to refuse.
    fn cannot_be_written(program: &OwnedFd) -> bool {
        let path = format!("/proc/self/fd/{}", program.as_raw_fd());
        let write = |mut file: File| io::Write::write_all(&mut file, b"x").is_err();
        OpenOptions::new().write(true).open(&path).map_or(true, write)
    }

    #[test]
    fn the_copy_is_whole_runs_and_cannot_be_changed() {
        let copy = sealed_copy().unwrap();
        let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
        assert_eq!(fs::read(&path).unwrap(), fs::read(OWN).unwrap());
        assert!(cannot_be_written(&copy));
        let protected = Protected { program: Some(copy) };
        let listed = protected.command().arg("--list").output().unwrap();
        assert!(listed.status.success(), "{listed:?}");
    }

    #[test]
    fn the_mount_runs_and_cannot_be_changed() {
        if !testkit::need::root() {
            return;
        }
        let mount = read_only_mount().unwrap();
        assert!(cannot_be_written(&mount));
        let protected = Protected { program: Some(mount) };
        let listed = protected.command().arg("--list").output().unwrap();
        assert!(listed.status.success(), "{listed:?}");
    }
}
