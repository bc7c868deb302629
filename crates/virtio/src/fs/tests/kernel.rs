//! The server under a real kernel: this host's own, through `/dev/fuse` in a mount namespace of the
//! test's. The messages are those that a guest sends through a queue.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::{
            FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink,
        },
    },
    path::Path,
    thread,
};

use rustix::{
    fs::{
        AtFlags, CWD, RenameFlags, Timestamps, UTIME_OMIT,
        inotify::{self, CreateFlags, ReadFlags, WatchFlags},
        renameat_with, utimensat,
    },
    mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount},
    time::Timespec,
};

use crate::fs::{Export, Limits, REPLAY, REQUEST_BYTES_MAX, Server, VALID};

/// Answers what the kernel asks until nothing is mounted any more.
fn serve(device: &OwnedFd, mut server: Server) -> Server {
    let mut request = vec![0; REQUEST_BYTES_MAX + 4096];
    while let Ok(bytes) = rustix::io::read(device, &mut request[..]) {
        if let Some(answer) = server.handle(&request[..bytes], 1 << 21) {
            rustix::io::write(device, answer).unwrap();
        }
    }
    server
}

/// Runs `act` with a directory of the host and the place where it is mounted.
fn mounted(limits: Limits, act: impl FnOnce(&Path, &Path) + Send) {
    let dir = tempfile::tempdir().unwrap();
    let (host, guest) = (dir.path().join("host"), dir.path().join("guest"));
    fs::create_dir(&host).unwrap();
    fs::create_dir(&guest).unwrap();
    let root = File::open(&host).unwrap().into();
    let export = Export { root, only: None, read_only: false, valid: VALID, limits, watch: true };
    let server = Server::new(export).unwrap();
    let run = || {
        sys::namespace::leave(sys::clone::Namespaces(sys::clone::Namespaces::MOUNT)).unwrap();
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).unwrap();
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse").unwrap();
        let device = OwnedFd::from(device);
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other",
            device.as_raw_fd()
        );
        let options = std::ffi::CString::new(options).unwrap();
        mount("wythe", &guest, "fuse", MountFlags::empty(), options.as_c_str()).unwrap();
        thread::scope(|scope| {
            let serving = scope.spawn(|| serve(&device, server));
            let acted =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| act(&host, &guest)));
            unmount(&guest, UnmountFlags::DETACH).unwrap();
            let mut server = serving.join().unwrap();
            if let Err(panic) = acted {
                std::panic::resume_unwind(panic);
            }
            // All of it was the guest's own doing, as far as the host's kernel knows.
            assert_eq!(server.changes(), []);
        });
    };
    // Namespaces belong to threads: this one ends with the test.
    thread::scope(|scope| {
        scope.spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
}

#[test]
fn a_kernel_works_in_it() {
    if !testkit::need::root() {
        return;
    }
    mounted(Limits::default(), |host, guest| {
        fs::create_dir_all(guest.join("a/b/c")).unwrap();
        let pattern: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        fs::write(guest.join("a/big"), &pattern).unwrap();
        assert!(fs::read(host.join("a/big")).unwrap() == pattern);
        assert!(fs::read(guest.join("a/big")).unwrap() == pattern);
        fs::copy(guest.join("a/big"), guest.join("a/copy")).unwrap();
        assert!(fs::read(host.join("a/copy")).unwrap() == pattern);
        // Appending, and changing in the middle.
        let mut file = OpenOptions::new().append(true).open(guest.join("a/big")).unwrap();
        file.write_all(b"end").unwrap();
        let file = OpenOptions::new().read(true).write(true).open(guest.join("a/big")).unwrap();
        file.write_at(b"middle", 1_000_001).unwrap();
        file.sync_all().unwrap();
        let all = fs::read(host.join("a/big")).unwrap();
        assert_eq!(
            (all.len(), &all[1_000_001..1_000_007], &all[3_000_000..]),
            (3_000_003, &b"middle"[..], &b"end"[..])
        );
        file.set_len(10).unwrap();
        assert_eq!(fs::metadata(host.join("a/big")).unwrap().len(), 10);
        // Names.
        fs::rename(guest.join("a/copy"), guest.join("a/b/moved")).unwrap();
        fs::hard_link(guest.join("a/b/moved"), guest.join("hard")).unwrap();
        symlink("a/b/moved", guest.join("soft")).unwrap();
        assert!(fs::read(guest.join("soft")).unwrap() == pattern);
        assert_eq!(fs::metadata(guest.join("hard")).unwrap().nlink(), 2);
        let exchange = RenameFlags::EXCHANGE;
        renameat_with(CWD, guest.join("hard"), CWD, guest.join("soft"), exchange).unwrap();
        assert!(fs::symlink_metadata(guest.join("hard")).unwrap().is_symlink());
        fs::remove_dir_all(guest.join("a/b/c")).unwrap();
        // Attributes.
        fs::set_permissions(guest.join("soft"), fs::Permissions::from_mode(0o4711)).unwrap();
        assert_eq!(fs::metadata(host.join("soft")).unwrap().mode(), 0o104_711);
        std::os::unix::fs::chown(guest.join("soft"), Some(12), Some(34)).unwrap();
        let at = fs::metadata(host.join("soft")).unwrap();
        assert_eq!((at.uid(), at.gid(), at.mode()), (12, 34, 0o100_711));
        // A file whose name is gone.
        let mut open = OpenOptions::new().read(true).write(true).open(guest.join("soft")).unwrap();
        fs::remove_file(guest.join("soft")).unwrap();
        assert_eq!(open.metadata().unwrap().len(), 3_000_000);
        open.set_len(3).unwrap();
        open.seek(SeekFrom::Start(0)).unwrap();
        let mut rest = Vec::new();
        open.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, [0, 1, 2]);
        // Temporary files without a name are not served, and programs know what to do.
        let unnamed = OpenOptions::new().write(true).custom_flags(0o20_200_000).open(guest);
        assert_eq!(unnamed.unwrap_err().raw_os_error(), Some(95));
    });
}

#[test]
fn many_files_with_few_descriptors() {
    if !testkit::need::root() {
        return;
    }
    let limits = Limits { inodes: 1000, descriptors: 20, handles: 16 };
    mounted(limits, |host, guest| {
        for dir in 0..10 {
            fs::create_dir_all(guest.join(format!("{dir}/deep/er"))).unwrap();
            for file in 0..30 {
                fs::write(guest.join(format!("{dir}/deep/er/{file}")), format!("{dir} {file}"))
                    .unwrap();
            }
        }
        fs::rename(guest.join("3/deep"), guest.join("4/deeper")).unwrap();
        let mut found = 0;
        for dir in 0..10 {
            let deep = match dir {
                3 => "4/deeper/er".to_owned(),
                dir => format!("{dir}/deep/er"),
            };
            for entry in fs::read_dir(guest.join(&deep)).unwrap() {
                let entry = entry.unwrap();
                let text = fs::read_to_string(entry.path()).unwrap();
                assert_eq!(text, format!("{dir} {}", entry.file_name().to_str().unwrap()));
                assert_eq!(
                    entry.metadata().unwrap().ino(),
                    fs::metadata(host.join(&deep).join(entry.file_name())).unwrap().ino()
                );
                found += 1;
            }
        }
        assert_eq!(found, 300);
        fs::remove_dir_all(guest.join("4")).unwrap();
        assert!(!host.join("4").exists());
    });
}

#[test]
fn a_program_in_the_guest_hears_of_a_replayed_event() {
    if !testkit::need::root() {
        return;
    }
    mounted(Limits::default(), |host, guest| {
        fs::write(guest.join("file"), "text").unwrap();
        let watcher = inotify::init(CreateFlags::NONBLOCK).unwrap();
        inotify::add_watch(&watcher, guest, WatchFlags::MODIFY | WatchFlags::ATTRIB).unwrap();
        let before = fs::metadata(host.join("file")).unwrap();
        let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let replay = |last_access| {
            let times = Timestamps { last_access, last_modification: REPLAY };
            utimensat(CWD, guest.join("file"), &times, AtFlags::empty()).unwrap();
        };
        replay(omit);
        replay(REPLAY);
        let mut buffer = [MaybeUninit::uninit(); 1024];
        let mut reader = inotify::Reader::new(&watcher, &mut buffer);
        for wanted in [ReadFlags::MODIFY, ReadFlags::ATTRIB] {
            let event = reader.next().unwrap();
            assert_eq!((event.events(), event.file_name()), (wanted, Some(c"file")));
        }
        assert!(reader.next().is_err());
        let after = fs::metadata(host.join("file")).unwrap();
        assert_eq!((before.ctime(), before.ctime_nsec()), (after.ctime(), after.ctime_nsec()));
        let seen = fs::metadata(guest.join("file")).unwrap();
        assert_eq!((seen.mtime(), seen.mtime_nsec()), (before.mtime(), before.mtime_nsec()));
        // A server reads what others have written, once what it believed is no longer valid.
        fs::set_permissions(guest.join("file"), fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(fs::metadata(host.join("file")).unwrap().mode(), 0o100_600);
    });
}
