//! Tools on processes and on the sandbox's identity.

use std::{fs, thread, time::Duration};

use crate::{fail, os};

pub(crate) fn yes(_: &[String]) -> u8 {
    0
}

pub(crate) fn no(_: &[String]) -> u8 {
    1
}

pub(crate) fn echo(args: &[String]) -> u8 {
    match args {
        [flag, rest @ ..] if flag == "-n" => print!("{}", rest.join(" ")),
        rest => println!("{}", rest.join(" ")),
    }
    0
}

pub(crate) fn env(_: &[String]) -> u8 {
    for (name, value) in std::env::vars_os() {
        println!("{}={}", name.display(), value.display());
    }
    0
}

pub(crate) fn pwd(_: &[String]) -> u8 {
    match std::env::current_dir() {
        Ok(dir) => println!("{}", dir.display()),
        Err(error) => return fail("pwd", error),
    }
    0
}

pub(crate) fn hostname(_: &[String]) -> u8 {
    println!("{}", read("/proc/sys/kernel/hostname"));
    0
}

pub(crate) fn uname(_: &[String]) -> u8 {
    println!("Linux {} {}", read("/proc/sys/kernel/hostname"), read("/proc/sys/kernel/osrelease"));
    0
}

pub(crate) fn id(_: &[String]) -> u8 {
    let status = read("/proc/self/status");
    let first = |name| field(&status, name).split_whitespace().next().unwrap_or("?").to_owned();
    println!("uid={} gid={} groups={}", first("Uid"), first("Gid"), field(&status, "Groups"));
    0
}

/// `tty [-f]`: size of the terminal, and with -f again whenever it changes.
pub(crate) fn tty(args: &[String]) -> u8 {
    const SIGWINCH: i32 = 28;
    // Blocked before the first look, so that no change is missed.
    let set = match os::block_signals() {
        Ok(set) => set,
        Err(error) => return fail("tty", error),
    };
    loop {
        match os::terminal_size() {
            Ok((rows, columns)) => println!("{rows} rows, {columns} columns"),
            Err(_) => {
                println!("not a terminal");
                return 1;
            }
        }
        if args.first().is_none_or(|a| a != "-f") {
            return 0;
        }
        match os::next_signal(&set) {
            Ok(SIGWINCH) => {}
            Ok(signal) => return u8::try_from(128 + signal).unwrap_or(255),
            Err(error) => return fail("tty", error),
        }
    }
}

pub(crate) fn sleep(args: &[String]) -> u8 {
    match args {
        [text] if text == "infinity" => loop {
            thread::sleep(Duration::from_secs(86_400));
        },
        [text] => match text.parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok()) {
            Some(time) => thread::sleep(time),
            None => return fail("sleep", format_args!("{text}: not a number of seconds")),
        },
        _ => return fail("sleep", "give one number of seconds"),
    }
    0
}

pub(crate) fn kill(args: &[String]) -> u8 {
    const SIGTERM: i32 = 15;
    let (signal, pids) = match args {
        [flag, rest @ ..] if flag.starts_with('-') => match flag[1..].parse() {
            Ok(signal) => (signal, rest),
            Err(_) => return fail("kill", format_args!("{flag}: give the signal's number")),
        },
        rest => (SIGTERM, rest),
    };
    let mut code = 0;
    for pid in pids {
        let sent = pid.parse().map_err(|_| "not a process id".to_owned());
        if let Err(why) = sent.and_then(|pid| os::send(pid, signal).map_err(|e| e.to_string())) {
            code = fail("kill", format_args!("{pid}: {why}"));
        }
    }
    code
}

pub(crate) fn ps(_: &[String]) -> u8 {
    println!("{:>7} {:>7} {:>5} {:<2} COMMAND", "PID", "PPID", "UID", "S");
    for pid in pids() {
        let status = read(&format!("/proc/{pid}/status"));
        if status.is_empty() {
            continue; // It ended while we looked.
        }
        let command = read(&format!("/proc/{pid}/cmdline")).replace('\0', " ");
        let name = format!("[{}]", field(&status, "Name"));
        let command = if command.trim().is_empty() { &name } else { command.trim() };
        let word = |key| field(&status, key).split_whitespace().next().unwrap_or("?").to_owned();
        println!("{pid:>7} {:>7} {:>5} {:<2} {command}", word("PPid"), word("Uid"), word("State"));
    }
    0
}

/// Process ids that can be seen, in order.
pub(crate) fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<u32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

/// A file's text without the last line's end; empty where it cannot be read.
pub(crate) fn read(path: &str) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim_end().to_owned()
}

/// The value of a `Name:\tvalue` line.
pub(crate) fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let value = |line: &'a str| line.strip_prefix(name)?.strip_prefix(':').map(str::trim);
    text.lines().find_map(value).unwrap_or("?")
}
