//! Ways out through the kernel: devices, system calls, `/proc`, parameters, control groups.

use it::Ran;

use crate::fixture::{attack, idle, sh, with_box};

/// Calls that need a capability of the host's, with what they answer in a container.
const PRIVILEGED: [(&str, &str); 13] = [
    ("mount none /mnt tmpfs 0 0", "E1"),
    ("mount none /mnt cgroup 0 memory", "E1"),
    ("mount none /mnt cgroup2 0 0", "E1"),
    ("mount none /proc/sys none 0x1020 0", "E1"),
    ("umount2 /sys 2", "E1"),
    ("umount2 /proc/sys 2", "E1"),
    ("unshare 0x20000", "E1"),
    ("unshare 0x2000000", "E1"),
    ("unshare 0x40000000", "E1"),
    ("pivot_root / /", "E1"),
    ("swapon /etc/passwd 0", "E1"),
    ("acct 0", "E1"),
    ("fsopen tmpfs 0", "E1"),
];

/// Calls that only the filter holds back.
const FILTERED: [(&str, &str); 17] = [
    ("unshare 0x10000000", "E1"),
    ("clone 0x10000011 0 0 0 0", "E1"),
    ("clone3 zeros 88", "E38"),
    ("setns 0 0", "E1"),
    ("open_tree -100 / 1", "E1"),
    ("move_mount -100 / -100 /mnt 0", "E1"),
    ("mount_setattr -100 / 0 zeros 32", "E1"),
    ("keyctl 0 -3 0", "E1"),
    ("add_key user a b 1 -3", "E1"),
    ("request_key user a b -3", "E1"),
    ("bpf 0 zeros 48", "E1"),
    ("perf_event_open zeros 0 -1 -1 0", "E1"),
    ("userfaultfd 0", "E1"),
    ("kexec_load 0 0 0 0", "E1"),
    ("init_module zeros 1 zeros", "E1"),
    ("open_by_handle_at -100 zeros 0", "E1"),
    ("reboot 0 0 0 0", "E1"),
];

#[test]
fn devices_of_the_host_can_be_made_and_not_opened() {
    let Some(instance) = with_box() else { return };
    idle(&instance, "c1", &[]);
    // Disks, memory, the kernel's log, ports, loop control, KVM, FUSE.
    let devices = [
        "b 8 0", "b 259 0", "b 254 0", "b 7 0", "c 1 1", "c 1 2", "c 1 4", "c 1 11", "c 10 237",
        "c 10 232", "c 10 229", "c 4 0", "c 5 1",
    ];
    for device in devices {
        let script = format!("mknod /d {device}; head -c 1 /d >/dev/null; echo >/d; rm /d");
        let said = sh(&instance, "c1", &script);
        let refused = said.lines().filter(|line| line.contains("Operation not permitted"));
        assert_eq!((refused.count(), said.lines().count()), (2, 2), "{device}: {said}");
    }
    assert_eq!(
        sh(&instance, "c1", "ls /dev/console /dev/mem /dev/kmsg /dev/sda 2>/dev/null | wc -l"),
        "0\n",
    );
    instance.remove_all();
}

#[test]
fn system_calls_that_lead_out_are_refused() {
    let Some(instance) = with_box() else { return };
    idle(&instance, "c1", &[]);
    attack(&instance, "c1", &PRIVILEGED);
    attack(&instance, "c1", &FILTERED);
    // Without the filter, the missing capabilities hold by themselves.
    idle(&instance, "c2", &["--security-opt", "seccomp=unconfined"]);
    attack(&instance, "c2", &PRIVILEGED);
    instance.remove_all();
}

#[test]
fn a_user_namespace_inside_uncovers_nothing() {
    let Some(instance) = with_box() else { return };
    idle(&instance, "c1", &["--security-opt", "seccomp=unconfined"]);
    for (what, script) in [
        ("a namespace, as this host grants it", "unshare -Ur id -u"),
        ("unmasking", "unshare -Urm umount /proc/kcore && echo OUT"),
        ("unmasking by detaching", "unshare -Urm umount -l /proc/sys && echo OUT"),
        ("a fresh proc", "unshare -Urmpf mount -t proc proc /mnt && echo OUT"),
        ("a fresh sysfs", "unshare -Urmn mount -t sysfs sysfs /mnt && echo OUT"),
        ("writable again", "unshare -Urm mount -o remount,rw,bind /proc/sys && echo OUT"),
        ("a device", "unshare -Urm mknod /tmp/x b 8 0 && echo OUT"),
    ] {
        let said = sh(&instance, "c1", script);
        assert!(!said.contains("OUT"), "{what}: {said}");
    }
    instance.remove_all();
}

#[test]
fn masked_and_read_only_paths_hold_by_every_name() {
    let Some(instance) = with_box() else { return };
    idle(&instance, "c1", &[]);
    let roots = ["", "/proc/self/root", "/proc/1/root", "/proc/thread-self/root", "/tmp/../"];
    let masked = ["kcore", "keys", "timer_list", "interrupts"];
    let read_only = [
        "sysrq-trigger",
        "sys/kernel/core_pattern",
        "sys/kernel/modprobe",
        "sys/vm/drop_caches",
        "sys/net/ipv4/ip_forward",
        "sys/fs/binfmt_misc/register",
        "irq/default_smp_affinity",
    ];
    for root in roots {
        for file in masked {
            let said =
                sh(&instance, "c1", &format!("head -c 9 {root}/proc/{file} 2>/dev/null | wc -c"));
            assert_eq!(said, "0\n", "{root}/proc/{file}");
        }
        for file in read_only {
            let said = sh(&instance, "c1", &format!("echo h >{root}/proc/{file} && echo OUT"));
            assert!(said.contains("Read-only file system") || said.contains("nonexist"), "{said}");
        }
        let script = format!("ls {root}/sys/firmware; echo h >{root}/sys/kernel/uevent_helper");
        let said = sh(&instance, "c1", &script);
        assert!(said.lines().count() == 1 && said.contains("can't create"), "{said}");
    }
    assert_eq!(sh(&instance, "c1", "head -c 9 /dev/core 2>/dev/null | wc -c"), "0\n");
    let said = sh(&instance, "c1", "mount -o remount,rw /sys; mount -o remount,rw /proc/sys");
    assert_eq!(said.matches("permission denied").count(), 2, "{said}");
    instance.remove_all();
}

#[test]
fn kernel_parameters_of_the_whole_host_are_refused_by_name() {
    let Some(instance) = with_box() else { return };
    let run = |flags: &[&str]| -> Ran {
        instance.run(&[&["run", "--rm"], flags, &["--network", "none", "box", "true"]].concat())
    };
    for name in
        ["kernel.core_pattern", "kernel.modprobe", "vm.overcommit_memory", "fs.suid_dumpable"]
    {
        let ran = run(&["--sysctl", &format!("{name}=1")]);
        assert!(ran.code == 125 && ran.err.contains(name), "{ran:?}");
    }
    let ran = run(&["--sysctl", "net.ipv4/../../kernel/panic=1"]);
    assert_eq!(ran.code, 125, "{ran:?}");
    let ran = run(&["--ipc", "host", "--sysctl", "kernel.shmmax=4096"]);
    assert!(ran.code == 125 && ran.err.contains("kernel.shmmax"), "{ran:?}");
}

#[test]
fn control_groups_are_neither_left_nor_changed() {
    let Some(instance) = with_box() else { return };
    idle(&instance, "c1", &[]);
    let said = sh(&instance, "c1", "grep -v ':/$' /proc/self/cgroup");
    assert_eq!(said, "", "the way to it is hidden");
    assert_eq!(sh(&instance, "c1", "find /sys/fs/cgroup -name release_agent"), "");
    let script = "find /sys/fs/cgroup -name cgroup.procs | while read f; do echo 0 >$f && echo OUT; \
                  mkdir ${f%/*}/child && echo OUT; done";
    let said = sh(&instance, "c1", script);
    assert!(said.contains("Read-only file system") && !said.contains("OUT"), "{said}");
    // Not even by one who may mount: what he mounts begins at his own group, and so has no
    // release agent. That holds for version 2 and is Docker's weak spot with version 1.
    let said = sh(&instance, "c1", "mount -t cgroup -o rdma none /mnt && echo OUT");
    assert!(!said.contains("OUT"), "{said}");
    instance.remove_all();
}
