//! What the kernel's tracer wrote, as one run.

use std::collections::{BTreeMap, BTreeSet};

/// Who does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    Client,
    Daemon,
    ForkServer,
    Shim,
    Container,
}

impl Who {
    pub(super) const ALL: [Who; 5] =
        [Who::Client, Who::Daemon, Who::ForkServer, Who::Shim, Who::Container];

    pub(super) fn name(self) -> &'static str {
        match self {
            Who::Client => "client",
            Who::Daemon => "daemon",
            Who::ForkServer => "fork server",
            Who::Shim => "shim",
            Who::Container => "container",
        }
    }
}

/// A stretch of time, in milliseconds since the client's execve(2).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Span {
    pub(super) who: Who,
    pub(super) from: f64,
    pub(super) to: f64,
    /// The system call, for one.
    pub(super) call: Option<u32>,
}

/// The points between which phases lie.
#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    asked: Option<f64>,
    forked: Option<f64>,
    cloned: Option<f64>,
    command: Option<f64>,
    exited: Option<f64>,
    end: Option<f64>,
}

/// One run.
#[derive(Debug)]
pub(super) struct Run {
    /// When somebody had a processor.
    pub(super) busy: Vec<Span>,
    /// System calls from entry to exit, asleep or not.
    pub(super) calls: Vec<Span>,
    marks: Marks,
}

/// A line of the trace.
struct Line<'a> {
    task: u32,
    at: f64,
    event: &'a str,
    rest: &'a str,
}

impl<'a> Line<'a> {
    /// `  comm-123  [001] ..... 12297.510947: sys_enter: NR 202 (…)`.
    fn read(text: &'a str) -> Option<Line<'a>> {
        let (head, tail) = text.split_once(" [")?;
        let task = head.rsplit_once('-')?.1.trim().parse().ok()?;
        let (stamps, event) = tail.split_once(": ")?;
        let at: f64 = stamps.rsplit(' ').next()?.parse().ok()?;
        let (event, rest) = event.split_once(": ")?;
        Some(Line { task, at: at * 1000.0, event, rest })
    }

    fn field(&self, name: &str) -> Option<&'a str> {
        let at = self.rest.find(name)?;
        self.rest.get(at + name.len()..)?.split_whitespace().next()
    }

    fn number(&self, name: &str) -> Option<u32> {
        self.field(name)?.parse().ok()
    }
}

/// connect(2), `asm/unistd_64.h` and `asm-generic/unistd.h`.
const CONNECT: u32 = if cfg!(target_arch = "x86_64") { 42 } else { 203 };

impl Run {
    /// Reads a trace. `None` if it does not show a run from beginning to end.
    pub(super) fn read(
        text: &str,
        client: u32,
        daemon: BTreeSet<u32>,
        servers: &[u32],
    ) -> Option<Run> {
        let mut reader = Reader::new(client, daemon, servers);
        text.lines().filter_map(Line::read).for_each(|line| reader.take(&line));
        let marks = reader.marks;
        let end = marks.end?;
        marks.exited?;
        let mut run = Run { busy: reader.busy, calls: reader.calls, marks };
        for spans in [&mut run.busy, &mut run.calls] {
            // What goes on behind the answer is part of the picture, for a while.
            spans.retain(|span| span.to > 0.0 && span.from < end * 1.25);
        }
        Some(run)
    }

    /// From the client's execve(2) to its end.
    pub(super) fn length_ms(&self) -> f64 {
        self.marks.end.unwrap_or(f64::NAN)
    }

    /// What is done, from when to when.
    pub(super) fn phases(&self) -> Vec<(&'static str, f64, f64)> {
        let Marks { asked, forked, cloned, command, exited, end } = self.marks;
        let points = [
            ("client starts, reads its words", Some(0.0), asked),
            ("daemon records, prepares", asked, forked),
            ("shim makes group, root, plan", forked, cloned),
            ("child sets itself up", cloned, command),
            ("the command", command, exited),
            ("taken down, answered", exited, end),
        ];
        points.into_iter().filter_map(|(name, from, to)| Some((name, from?, to?))).collect()
    }

    /// The calls that took longest, but for those that wait for others to do something.
    pub(super) fn longest_calls(&self) -> Vec<(&'static str, f64, &'static str)> {
        let mut calls: Vec<_> = self
            .calls
            .iter()
            .filter(|span| span.from >= 0.0)
            .filter_map(|span| Some((name(span.call?)?, span.to - span.from, span.who.name())))
            .filter(|(name, _, _)| {
                !matches!(*name, "futex" | "epoll_wait" | "recvfrom" | "accept4")
            })
            .collect();
        calls.sort_by(|a, b| b.1.total_cmp(&a.1));
        calls.truncate(12);
        calls
    }
}

/// Follows the trace line by line.
struct Reader {
    client: u32,
    who: BTreeMap<u32, Who>,
    began: Option<f64>,
    running: BTreeMap<u32, f64>,
    inside: BTreeMap<u32, (f64, u32)>,
    busy: Vec<Span>,
    calls: Vec<Span>,
    marks: Marks,
}

impl Reader {
    fn new(client: u32, daemon: BTreeSet<u32>, servers: &[u32]) -> Reader {
        let who = daemon.into_iter().map(|task| (task, Who::Daemon));
        let servers = servers.iter().map(|task| (*task, Who::ForkServer));
        Reader {
            client,
            who: who.chain(servers).chain([(client, Who::Client)]).collect(),
            began: None,
            running: BTreeMap::new(),
            inside: BTreeMap::new(),
            busy: Vec::new(),
            calls: Vec::new(),
            marks: Marks::default(),
        }
    }

    fn take(&mut self, line: &Line<'_>) {
        match line.event {
            "sched_process_exec" => self.executed(line),
            "sched_process_fork" => self.forked(line),
            "sched_process_exit" => self.exited(line),
            "sched_switch" => self.switched(line),
            "sys_enter" => {
                let number = line.number("NR ");
                if let Some(number) = number {
                    self.inside.insert(line.task, (line.at, number));
                }
                if line.task == self.client && number == Some(CONNECT) {
                    let now = self.since(line.at);
                    self.marks.asked = self.marks.asked.or(now);
                }
            }
            "sys_exit" => {
                if let Some((from, call)) = self.inside.remove(&line.task) {
                    self.span(line.task, from, line.at, Some(call));
                }
            }
            _ => {}
        }
    }

    fn since(&self, at: f64) -> Option<f64> {
        self.began.map(|began| at - began)
    }

    fn span(&mut self, task: u32, from: f64, to: f64, call: Option<u32>) {
        let (Some(who), Some(from), Some(to)) =
            (self.who.get(&task).copied(), self.since(from), self.since(to))
        else {
            return;
        };
        let span = Span { who, from, to, call };
        if call.is_some() { self.calls.push(span) } else { self.busy.push(span) }
    }

    fn executed(&mut self, line: &Line<'_>) {
        if line.task == self.client && self.began.is_none() {
            self.began = Some(line.at);
            self.running.insert(line.task, line.at);
        } else if self.who.get(&line.task) == Some(&Who::Container) {
            self.marks.command = self.marks.command.or(self.since(line.at));
        }
    }

    fn forked(&mut self, line: &Line<'_>) {
        let (Some(parent), Some(child)) = (self.who.get(&line.task), line.number("child_pid="))
        else {
            return;
        };
        let who = match parent {
            Who::Client => Who::Client,
            Who::Daemon => Who::Daemon,
            Who::ForkServer => Who::Shim,
            Who::Shim | Who::Container => Who::Container,
        };
        self.who.insert(child, who);
        let now = self.since(line.at);
        match who {
            Who::Shim => self.marks.forked = self.marks.forked.or(now),
            Who::Container => self.marks.cloned = self.marks.cloned.or(now),
            Who::Client | Who::Daemon | Who::ForkServer => {}
        }
    }

    fn exited(&mut self, line: &Line<'_>) {
        let now = self.since(line.at);
        match self.who.get(&line.task) {
            Some(Who::Container) => self.marks.exited = self.marks.exited.or(now),
            Some(Who::Client) if line.task == self.client => self.marks.end = now,
            _ => {}
        }
    }

    fn switched(&mut self, line: &Line<'_>) {
        if let Some(from) = self.running.remove(&line.task) {
            self.span(line.task, from, line.at, None);
        }
        // The name of the next comes twice, the number once.
        if let Some(next) = line.number("next_pid=") {
            self.running.insert(next, line.at);
        }
    }
}

/// Names of system calls that matter here. Source: `asm/unistd_64.h`.
pub(super) fn name(number: u32) -> Option<&'static str> {
    if !cfg!(target_arch = "x86_64") {
        return None;
    }
    Some(match number {
        1 => "write",
        3 => "close",
        18 => "pwrite64",
        28 => "madvise",
        42 => "connect",
        45 => "recvfrom",
        46 => "sendmsg",
        47 => "recvmsg",
        49 => "bind",
        56 => "clone",
        59 => "execve",
        77 => "ftruncate",
        82 => "rename",
        83 => "mkdir",
        84 => "rmdir",
        87 => "unlink",
        155 => "pivot_root",
        166 => "umount2",
        202 => "futex",
        232 => "epoll_wait",
        257 => "openat",
        258 => "mkdirat",
        259 => "mknodat",
        263 => "unlinkat",
        264 => "renameat",
        272 => "unshare",
        288 => "accept4",
        308 => "setns",
        317 => "seccomp",
        428 => "open_tree",
        429 => "move_mount",
        431 => "fsconfig",
        432 => "fsmount",
        435 => "clone3",
        437 => "openat2",
        442 => "mount_setattr",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_read_from_the_kernels_lines() {
        let text = "\
# tracer: nop
 a-10  [001] ..... 5.000000: sched_process_exec: filename=/w pid=10 old_pid=10
 a-10  [001] ..... 5.001000: sys_enter: NR 42 (5, 0, 0)
 a-10  [001] ..... 5.001100: sys_exit: NR 42 = 0
 a-10  [001] d..2. 5.001200: sched_switch: prev_comm=a prev_pid=10 prev_state=S ==> next_comm=d next_pid=20 next_prio=1
 d-20  [001] d..2. 5.002000: sched_switch: prev_comm=d prev_pid=20 prev_state=S ==> next_comm=f next_pid=30 next_prio=1
 f-30  [001] ..... 5.002100: sched_process_fork: comm=f pid=30 child_comm=f child_pid=31
 f-31  [001] ..... 5.003000: sched_process_fork: comm=s pid=31 child_comm=s child_pid=32
 s-32  [001] ..... 5.004000: sched_process_exec: filename=/bin/true pid=32 old_pid=32
 s-32  [001] ..... 5.005000: sched_process_exit: comm=true pid=32
 a-10  [001] ..... 5.006000: sched_process_exit: comm=a pid=10
";
        let run = Run::read(text, 10, [20].into(), &[30]).unwrap();
        assert!((run.length_ms() - 6.0).abs() < 1e-6);
        let names: Vec<_> = run.phases().iter().map(|(_, from, to)| to - from).collect();
        assert_eq!(names.len(), 6);
        assert!((names.iter().sum::<f64>() - 6.0).abs() < 1e-6);
        assert!(run.busy.iter().any(|span| span.who == Who::Daemon));
        assert!(Run::read("", 10, BTreeSet::new(), &[]).is_none());
    }
}
