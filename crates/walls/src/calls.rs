//! Which system calls there are for a machine's process, and for the process that serves its
//! shares. Every other one ends the process.
//!
//! Pure.

use seccomp::{Arch, CompileError};
use sys::seccomp::SockFilter;
use workload::{SeccompAction, SeccompArg, SeccompCompare, SeccompPolicy, SeccompRule};

/// What every program of ours needs: memory, time, descriptors that it has, its own signals and
/// its end.
const COMMON: &[&str] = &[
    "brk",
    "clock_gettime",
    "clock_nanosleep",
    "close",
    "dup",
    "exit",
    "exit_group",
    "fcntl",
    "fstat",
    "futex",
    "getpid",
    "getrandom",
    "gettid",
    "lseek",
    "madvise",
    "mremap",
    "munmap",
    "nanosleep",
    "newfstatat",
    "poll",
    "ppoll",
    "read",
    "readv",
    "recvfrom",
    "recvmsg",
    "restart_syscall",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_yield",
    "sendmsg",
    "sendto",
    "shutdown",
    "sigaltstack",
    "statx",
    "write",
    "writev",
];

/// What a machine needs beside: threads, disks and frames by their descriptors, events, timers.
const MACHINE: &[&str] = &[
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "eventfd2",
    "fallocate",
    "fdatasync",
    "fsync",
    "ftruncate",
    "membarrier",
    "memfd_create",
    "pread64",
    "preadv",
    "preadv2",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "rseq",
    "sched_getaffinity",
    "set_robust_list",
    "timerfd_create",
    "timerfd_gettime",
    "timerfd_settime",
];

/// What a server of files needs beside. Paths lead no farther than its root.
const SHARES: &[&str] = &[
    "copy_file_range",
    "fallocate",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "fchown",
    "fchownat",
    "fdatasync",
    "fgetxattr",
    "flistxattr",
    "fremovexattr",
    "fsetxattr",
    "fstatfs",
    "fsync",
    "ftruncate",
    "getdents64",
    "getxattr",
    "linkat",
    "listxattr",
    "mkdirat",
    "mknodat",
    "openat",
    "pread64",
    "preadv",
    "preadv2",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "readlinkat",
    "removexattr",
    "renameat",
    "renameat2",
    "setxattr",
    "statfs",
    "symlinkat",
    "syncfs",
    "unlinkat",
    "utimensat",
];

/// `CLONE_THREAD`: what is made is a thread, and no process.
const CLONE_THREAD: u64 = 0x1_0000;
/// `PROT_EXEC`
const EXECUTABLE: u64 = 4;
/// `AF_UNIX`
const UNIX: u64 = 1;
/// `PR_SET_NAME`: threads have names.
const SET_NAME: u64 = 15;
/// `FIONBIO`
const NON_BLOCKING: u64 = 0x5421;
/// `TUNSETOFFLOAD`: what of a frame the guest does by itself, which it decides when it runs.
const TUN_OFFLOAD: u64 = 0x4004_54d0;
/// The letter by which KVM's ioctls are known, in its place, and where that is. Source:
/// linux/kvm.h, `KVMIO`.
const KVM: u64 = 0xae00;
const LETTER: u64 = 0xff00;
/// `ENOSYS`: whoever asks tries clone(2), whose flags can be seen.
const NO_CALL: u16 = 38;
/// `ENOENT`: the C library looks into `/proc` now and then (malloc(3) for the policy of
/// overcommitment, a panic for its own mappings), and does without.
const NO_FILE: u16 = 2;

/// The calls of a machine's process, which has this number.
///
/// # Errors
/// None, unless a name above is no call.
pub fn machine(pid: u32) -> Result<Vec<SockFilter>, CompileError> {
    let only = |call, index, value| rule(call, vec![argument(index, SeccompCompare::Equal, value)]);
    let mut rules = vec![
        allow(MACHINE),
        rule("clone", vec![masked(0, CLONE_THREAD, CLONE_THREAD)]),
        SeccompRule { action: SeccompAction::Errno(NO_CALL), ..allow(&["clone3"]) },
        SeccompRule { action: SeccompAction::Errno(NO_FILE), ..allow(&["open", "openat"]) },
        only("socketpair", 0, UNIX),
        only("prctl", 0, SET_NAME),
        only("tgkill", 0, pid.into()),
        only("ioctl", 1, NON_BLOCKING),
        only("ioctl", 1, TUN_OFFLOAD),
        rule("ioctl", vec![masked(1, LETTER, KVM)]),
    ];
    rules.extend(common());
    compile(rules)
}

/// The calls of the process that serves shares.
///
/// # Errors
/// As [`machine`].
pub fn shares() -> Result<Vec<SockFilter>, CompileError> {
    let mut rules = vec![allow(SHARES)];
    rules.extend(common());
    compile(rules)
}

fn common() -> Vec<SeccompRule> {
    // No memory is ever a program's text from here on.
    let plain = || vec![masked(2, EXECUTABLE, 0)];
    vec![allow(COMMON), rule("mmap", plain()), rule("mprotect", plain())]
}

fn allow(names: &[&str]) -> SeccompRule {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    SeccompRule { names, action: SeccompAction::Allow, args: Vec::new() }
}

fn rule(name: &str, args: Vec<SeccompArg>) -> SeccompRule {
    SeccompRule { args, ..allow(&[name]) }
}

fn argument(index: u8, compare: SeccompCompare, value: u64) -> SeccompArg {
    SeccompArg { index, value, value_two: 0, compare }
}

/// These bits of an argument are this.
fn masked(index: u8, mask: u64, bits: u64) -> SeccompArg {
    SeccompArg { value_two: bits, ..argument(index, SeccompCompare::MaskedEqual, mask) }
}

fn compile(rules: Vec<SeccompRule>) -> Result<Vec<SockFilter>, CompileError> {
    let policy = SeccompPolicy {
        default_action: SeccompAction::KillProcess,
        architectures: Vec::new(),
        flags: Vec::new(),
        rules,
    };
    let program = seccomp::compile(&policy, Arch::X86_64)?;
    let word = |i: seccomp::Instruction| SockFilter { code: i.code, jt: i.jt, jf: i.jf, k: i.k };
    Ok(program.into_iter().map(word).collect())
}

#[cfg(test)]
mod tests;
