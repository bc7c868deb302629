//! Containers that try to get out, each by a way that got somebody out of some engine.
//!
//! `docs/book/src/walls.md` lists them by attack; those that need no daemon are in the driver's
//! own tests (`crates/linux/tests`), and those by way of `wythe cp` in `files.rs`.

#[path = "escapes/files.rs"]
mod files;
#[path = "escapes/fixture.rs"]
mod fixture;
#[path = "escapes/kernel.rs"]
mod kernel;

use std::{
    fs,
    process::{Command, Stdio},
};

use fixture::{idle, main_pid, parent, sh, with_box};
use it::wait_until;
use rustix::{
    fs::{StatVfsMountFlags, statvfs},
    process::{
        Pid, Signal, WaitOptions, kill_process, set_child_subreaper, test_kill_process, waitpid,
    },
};

#[test]
fn shims_run_from_a_file_that_cannot_be_opened_for_writing() {
    let Some(instance) = with_box() else { return };
    idle(&instance, "c1", &[]);
    let shim = parent(main_pid(&instance, "c1"));
    let flags = statvfs(format!("/proc/{shim}/exe")).expect("it runs").f_flag;
    assert!(flags.contains(StatVfsMountFlags::RDONLY));
    // And so does what the container's init is, which it reaches as /proc/1/exe.
    let said = sh(&instance, "c1", "echo x >/proc/1/exe; echo x >/proc/self/exe");
    assert!(said.lines().all(|line| line.contains("can't create")), "{said}");
    instance.remove_all();
}

#[test]
fn nothing_of_the_makers_descriptors_is_left_inside() {
    let Some(instance) = with_box() else { return };
    let list = ["ls", "/proc/self/fd"];
    let run = ["run", "--rm", "--network", "none", "box"];
    assert_eq!(instance.ok(&[&run[..], &list].concat()), "0\n1\n2\n3");
    idle(&instance, "c1", &[]);
    for flags in [&["exec", "c1"][..], &["exec", "-i", "c1"], &["exec", "-t", "c1"]] {
        let said = instance.ok(&[flags, &list].concat());
        assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    }
    assert_eq!(sh(&instance, "c1", "ls /proc/1/fd"), "0\n1\n2\n");
    instance.remove_all();
}

#[test]
fn working_directories_behind_descriptors_are_refused() {
    let Some(instance) = with_box() else { return };
    idle(&instance, "c1", &[]);
    sh(&instance, "c1", "ln -s /proc/self/fd/8/.. /link; ln -s /proc/1/root/.. /work");
    let numbers = (0..16).map(|number| format!("/proc/self/fd/{number}"));
    let others = ["/link", "/proc/self/fd/../fd/7", "/proc/thread-self/fd/9", "/proc/1/root"];
    for directory in numbers.chain(others.map(str::to_owned)) {
        let ran = instance.run(&["exec", "-w", &directory, "c1", "ls", "."]);
        assert_ne!(ran.code, 0, "{directory}: {ran:?}");
        assert_eq!(ran.out, "", "{directory}");
    }
    let run = ["run", "--rm", "--network", "none", "-w", "/proc/self/fd/7/../../..", "box", "pwd"];
    assert_ne!(instance.run(&run).code, 0);
    instance.remove_all();
}

#[test]
fn exec_into_a_hostile_container_finds_only_what_is_inside() {
    let Some(instance) = with_box() else { return };
    fs::write(instance.path("passwd"), "stranger:x:77:77::/:/bin/sh\n").expect("a file");
    idle(&instance, "c1", &[]);
    let up = format!("/../../../../../../..{}", instance.path("passwd").display());
    let exec = |flags: &[&str]| instance.run(&[&["exec"], flags].concat());
    for (what, script) in [
        ("FIFOs", "rm -f /etc/passwd; mkfifo /etc/passwd /etc/group".to_owned()),
        ("a huge file", "rm -f /etc/passwd; truncate -s 1T /etc/passwd".to_owned()),
        ("no end", "rm -f /etc/passwd; ln -s /dev/zero /etc/passwd".to_owned()),
        ("the host's", format!("rm -f /etc/passwd; ln -s {up} /etc/passwd")),
        ("a process's", "rm -f /etc/passwd; ln -s /proc/1/environ /etc/passwd".to_owned()),
        ("a directory", "rm -f /etc/passwd; mkdir /etc/passwd".to_owned()),
    ] {
        sh(&instance, "c1", &script);
        let ran = exec(&["-u", "5", "c1", "grep", "Uid", "/proc/self/status"]);
        assert!(ran.out.contains("\t5\t"), "{what}: {ran:?}");
        let ran = exec(&["-u", "stranger", "c1", "id", "-u"]);
        assert_ne!(ran.code, 0, "{what}: {ran:?}");
    }
    // What it links to as working directory is made and found inside.
    sh(&instance, "c1", &format!("ln -s {}/made /work", instance.path("").display()));
    assert_eq!(exec(&["-w", "/work", "c1", "true"]).code, 0);
    assert!(!instance.path("made").exists());
    // Its shell is a trap: the program that comes to execute it executes itself.
    sh(
        &instance,
        "c1",
        "printf '#!/proc/self/exe\\n' >/tmp/sh; chmod 755 /tmp/sh; mv /tmp/sh /bin/trap",
    );
    assert_ne!(exec(&["c1", "trap"]).code, 0);
    assert_eq!(exec(&["c1", "true"]).code, 0);
    instance.remove_all();
}

#[test]
fn exec_does_not_believe_what_a_privileged_container_mounts_over_proc_and_dev() {
    let Some(instance) = with_box() else { return };
    idle(&instance, "c1", &["--cap-add", "SYS_ADMIN"]);
    let said = sh(
        &instance,
        "c1",
        "mount -t tmpfs none /proc && mkdir -p /proc/self/attr /proc/self/fd && \
         echo >/proc/self/oom_score_adj && ln -s /tmp /proc/self/cwd && echo done",
    );
    assert_eq!(said, "done\n");
    assert_eq!(instance.ok(&["exec", "c1", "echo", "works"]), "works");
    assert_eq!(sh(&instance, "c1", "cat /proc/self/oom_score_adj"), "\n", "nobody wrote to it");
    let said = sh(&instance, "c1", "mount -t tmpfs none /dev/pts && echo done");
    assert_eq!(said, "done\n");
    let ran = instance.run(&["exec", "-t", "c1", "tty"]);
    assert!(ran.code != 0 && ran.out.is_empty(), "a false terminal is refused: {ran:?}");
    instance.remove_all();
}

#[test]
fn in_the_hosts_process_namespace_its_makers_cannot_be_looked_into() {
    let Some(instance) = with_box() else { return };
    idle(&instance, "c1", &["--pid", "host"]);
    let shim = parent(main_pid(&instance, "c1"));
    let shim =
        if fs::read_to_string(format!("/proc/{shim}/comm")).is_ok_and(|c| c == "wythe-shim\n") {
            shim
        } else {
            parent(shim)
        };
    for pid in [shim, 1] {
        for script in [
            format!("ls /proc/{pid}/root/"),
            format!("ls /proc/{pid}/cwd/"),
            format!("readlink /proc/{pid}/fd/0"),
            format!("cat /proc/{pid}/fd/0"),
            format!("cat /proc/{pid}/environ"),
            format!("cat /proc/{pid}/maps"),
            format!("head -c 1 /proc/{pid}/mem"),
            format!("readlink -v /proc/{pid}/exe"),
        ] {
            let said = sh(&instance, "c1", &format!("{script} && echo OUT"));
            assert!(!said.contains("OUT"), "{script}: {said}");
        }
        let (trace, get) =
            (format!("ptrace 16 {pid} 0 0"), format!("pidfd_open {pid} 0 , pidfd_getfd $ 0 0"));
        let said = sh(&instance, "c1", &format!("attack {trace} , {get}"));
        assert!(said.starts_with("E1\n") && said.ends_with("E1\n"), "{pid}: {said}");
    }
    instance.remove_all();
}

/// CVE-2020-15257: a shim that listens in the abstract name space is reached by every container
/// in the host's network.
#[test]
fn nothing_listens_where_containers_in_the_hosts_network_could_connect() {
    let Some(instance) = with_box() else { return };
    let run = ["run", "-d", "--init", "--name", "c1", "--network", "host", "box"];
    instance.ok(&run);
    let inside = sh(&instance, "c1", "cat /proc/net/unix");
    assert!(inside.contains("wythe.sock"), "it sees the host's sockets: {inside}");
    // But for a name that the daemon holds so that there is one of it: nobody reads from there.
    let open = |line: &&str| line.contains('@') && !line.contains("@wythe/networks/");
    assert_eq!(inside.lines().find(open), None, "{inside}");
    instance.remove_all();
}

/// The daemon and the shim are killed with the container, and its number goes to somebody else
/// before a new daemon reads the records.
#[test]
fn a_new_daemon_does_not_signal_who_has_got_a_dead_containers_number() {
    let Some(mut instance) = with_box() else { return };
    set_child_subreaper(Some(Pid::INIT)).expect("every process may");
    idle(&instance, "c1", &["--restart", "no"]);
    let number = main_pid(&instance, "c1");
    let shim = parent(number);
    instance.kill_daemon();
    for pid in [shim, number] {
        let pid = Pid::from_raw(i32::try_from(pid).expect("it is small")).expect("it is not 0");
        kill_process(pid, Signal::KILL).expect("it runs");
        // The fork server forgets a shim by itself; the container is ours to reap by then.
        wait_until("its number is free", || {
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
            test_kill_process(pid).is_err()
        });
    }
    let mut bystander = None;
    wait_until("somebody gets the number", || {
        fs::write("/proc/sys/kernel/ns_last_pid", (number - 1).to_string()).expect("we are root");
        let mut child = Command::new("sleep");
        let mut child = child.arg("1000").stdin(Stdio::null()).spawn().expect("it runs");
        if child.id() == number {
            bystander = Some(child);
            return true;
        }
        child.kill().and_then(|()| child.wait()).expect("it is our child");
        false
    });
    let mut bystander = bystander.expect("it was waited for");
    instance.start_daemon();
    assert_ne!(instance.run(&["kill", "c1"]).code, 0);
    assert_ne!(instance.run(&["exec", "c1", "true"]).code, 0);
    instance.run(&["stop", "-t", "0", "c1"]);
    instance.run(&["pause", "c1"]);
    assert_eq!(instance.inspect("c1", "{{.State.Running}}"), "false");
    instance.ok(&["rm", "-f", "c1"]);
    let lives = bystander.try_wait().expect("it is our child").is_none();
    bystander.kill().and_then(|()| bystander.wait()).expect("it is our child");
    assert!(lives, "it was hit");
}
