//! The program inside the demo image: what a workload can see of its sandbox, and a handful of
//! tools to poke at it. The name it is called by, or its first argument, chooses the tool.
//!
//! It depends on the standard library alone and knows nothing of the rest of Wythe, so that it
//! says the same behind every wall.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is a command-line program")]

mod files;
mod httpd;
mod init;
mod ip;
mod measure;
mod os;
mod proc;
mod report;
mod sh;
mod stress;

use std::{env, path::Path, process::ExitCode};

/// A tool: its arguments without its own name, to its exit code.
type Tool = fn(&[String]) -> u8;

/// Every tool by name. The image has a link in `/bin` for each.
const TOOLS: [(&str, Tool, &str); 28] = [
    ("cat", files::cat, "[FILE…]  print files, or standard input"),
    ("demo", report::run, "report what can be seen from here"),
    ("echo", proc::echo, "[-n] [WORD…]  print words"),
    ("env", proc::env, "print the environment"),
    ("false", proc::no, "fail"),
    ("head", files::head, "[-n LINES] [FILE]  print the first lines"),
    ("hostname", proc::hostname, "print the host name"),
    ("httpd", httpd::run, "[-p PORT] [DIR]  serve files, or the report, over HTTP"),
    ("id", proc::id, "print user and group ids"),
    ("init", init::run, "COMMAND [ARG…]  run a command as its init: reap orphans, pass signals on"),
    ("ip", ip::run, "print interfaces, addresses and routes"),
    ("kill", proc::kill, "[-SIGNAL] PID…  send a signal"),
    ("ls", files::ls, "[-a] [-l] [PATH…]  list directories"),
    ("measure", measure::run, "[--dir DIR] [--host ADDRESS:PORT]  what this place costs"),
    ("mkdir", files::mkdir, "DIR…  make directories and their parents"),
    ("mount", files::mounts, "print what is mounted"),
    ("nc", ip::nc, "[-u] HOST PORT | -l [-u] PORT  connect, or listen once"),
    ("ps", proc::ps, "list processes"),
    ("pwd", proc::pwd, "print the working directory"),
    ("rm", files::rm, "[-r] PATH…  remove files"),
    ("sh", sh::run, "[-c COMMAND | FILE]  a small shell"),
    ("sleep", proc::sleep, "SECONDS  wait; also infinity"),
    ("stress", stress::run, "[--cpu N] [--memory SIZE] [--seconds S]  use processors and memory"),
    ("touch", files::touch, "FILE…  make empty files"),
    ("true", proc::yes, "succeed"),
    ("tty", proc::tty, "[-f]  print the terminal's size, -f whenever it changes"),
    ("uname", proc::uname, "print the kernel's name and version"),
    ("wc", files::wc, "[FILE…]  count lines, words and bytes"),
];

fn main() -> ExitCode {
    os::end_on_closed_pipe();
    let mut args: Vec<String> =
        env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let called = args.first().map(String::as_str).unwrap_or_default();
    let called = Path::new(called).file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let by_name = if called == "demo" { None } else { tool(called) };
    if let Some(tool) = by_name {
        args.remove(0);
        return ExitCode::from(tool(&args));
    }
    // Called as `demo`, or by a descriptor that has no name of its own (fexecve).
    match args.get(1).map(String::as_str) {
        None => ExitCode::from(report::run(&[])),
        Some("help" | "--help" | "-h") => ExitCode::from(help()),
        Some(name) => match tool(name) {
            Some(tool) => ExitCode::from(tool(args.get(2..).unwrap_or_default())),
            None => {
                eprintln!("demo: {name}: no such tool; try: demo help");
                ExitCode::from(127)
            }
        },
    }
}

/// The tool of this name.
fn tool(name: &str) -> Option<Tool> {
    TOOLS.iter().find(|(known, ..)| *known == name).map(|(_, tool, _)| *tool)
}

fn help() -> u8 {
    println!("Tools of the demo image; each is also a command of its own in /bin:\n");
    for (name, _, line) in TOOLS {
        println!("  {name:<9} {line}");
    }
    0
}

/// Says on standard error what failed, and gives the exit code for it.
fn fail(tool: &str, what: impl std::fmt::Display) -> u8 {
    eprintln!("{tool}: {what}");
    1
}
