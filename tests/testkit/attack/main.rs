//! Makes system calls as it is told and says what the kernel answered: what a hostile program in a
//! container would try, without its hundred ways to try it.
//!
//! `attack CALL ARGUMENT… [, CALL ARGUMENT…]…`: each call's answer on a line of its own, a number,
//! or the error's number after `E`. An argument is a number (`0x` for hexadecimal), `$` for the
//! answer of the call before, `zeros` for a page of zeroes, or else a string.
//!
//! Compiled by rustc alone, see `testkit::attack`.

use std::{env, ffi::CString, io};

unsafe extern "C" {
    fn syscall(number: i64, ...) -> i64;
}

#[cfg(target_arch = "x86_64")]
const CALLS: &[(&str, i64)] = &[
    ("ioctl", 16), ("clone", 56), ("ptrace", 101), ("syslog", 103), ("mount", 165),
    ("umount2", 166), ("swapon", 167), ("reboot", 169), ("init_module", 175),
    ("pivot_root", 155), ("settimeofday", 164), ("kexec_load", 246), ("add_key", 248),
    ("request_key", 249), ("keyctl", 250), ("openat", 257), ("unshare", 272),
    ("perf_event_open", 298), ("open_by_handle_at", 304), ("setns", 308), ("bpf", 321),
    ("userfaultfd", 323), ("open_tree", 428), ("move_mount", 429), ("fsopen", 430),
    ("clone3", 435), ("mount_setattr", 442), ("iopl", 172), ("acct", 163), ("quotactl", 179),
    ("lookup_dcookie", 212), ("pidfd_open", 434), ("pidfd_getfd", 438), ("getpid", 39),
    ("io_uring_setup", 425),
];

#[cfg(target_arch = "aarch64")]
const CALLS: &[(&str, i64)] = &[
    ("ioctl", 29), ("clone", 220), ("ptrace", 117), ("syslog", 116), ("mount", 40),
    ("umount2", 39), ("swapon", 224), ("reboot", 142), ("init_module", 105),
    ("pivot_root", 41), ("settimeofday", 170), ("kexec_load", 104), ("add_key", 217),
    ("request_key", 218), ("keyctl", 219), ("openat", 56), ("unshare", 97),
    ("perf_event_open", 241), ("open_by_handle_at", 265), ("setns", 268), ("bpf", 280),
    ("userfaultfd", 282), ("open_tree", 428), ("move_mount", 429), ("fsopen", 430),
    ("clone3", 435), ("mount_setattr", 442), ("acct", 89), ("quotactl", 60),
    ("lookup_dcookie", 18), ("pidfd_open", 434), ("pidfd_getfd", 438), ("getpid", 172),
    ("io_uring_setup", 425),
];

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    let mut last = 0;
    for call in words.split(|word| word == ",") {
        let Some((name, arguments)) = call.split_first() else { continue };
        let Some((_, number)) = CALLS.iter().find(|(known, _)| known == name) else {
            // Not on this architecture: nothing to attack.
            println!("E38");
            continue;
        };
        last = make(*number, arguments, last);
        match last {
            -1 => println!("E{}", io::Error::last_os_error().raw_os_error().unwrap_or(0)),
            answer => println!("{answer}"),
        }
    }
}

fn make(number: i64, arguments: &[String], last: i64) -> i64 {
    // They live until the process ends.
    let value = |text: &String| -> i64 {
        if text == "$" {
            return last;
        }
        if text == "zeros" {
            return Box::leak(Box::new([0_u64; 512])).as_mut_ptr() as i64;
        }
        if let Some(Ok(number)) = text.strip_prefix("0x").map(|hex| i64::from_str_radix(hex, 16)) {
            return number;
        }
        text.parse().unwrap_or_else(|_| {
            CString::new(text.as_str()).expect("arguments hold no zero").into_raw() as i64
        })
    };
    let mut given = [0; 6];
    for (to, text) in given.iter_mut().zip(arguments) {
        *to = value(text);
    }
    let [a, b, c, d, e, f] = given;
    unsafe { syscall(number, a, b, c, d, e, f) }
}
