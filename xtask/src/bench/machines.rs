//! Machines: kernels booted, containers begun where a machine was ready once, copies, many at rest.
//!
//! Kernels come into a store beside the build, once: ours is built from Debian's source, Debian's
//! own is fetched. QEMU carries out the same kernel with the same first process (`-accel tcg`).

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    Options,
    place::{Place, timed_ms},
    processes,
    row::{Better, Row},
    timed::{Contender, take_turns},
};
use crate::command::{cargo, quietly, run, target, which};

pub(super) const ROWS: [&str; 9] = [
    "minimal kernel to its first process",
    "Debian's kernel to its first process",
    "restore of 128 MiB to its first instruction",
    "run --isolation vm to its first line",
    "20 forks of a machine",
    "host idle beside 50 machines",
    "memory of 50 machines of 64 MiB",
    "software processor, tight loop",
    "software processor, kernel's code",
];

/// Rows of containers in machines, which want a daemon.
const CONTAINERS: [&str; 4] = [ROWS[3], ROWS[4], ROWS[5], ROWS[6]];

/// Machines at rest.
const MANY: usize = 50;

/// What a container may use so that its machine has 64 MiB.
const SMALL: &str = "16m";

const FORKS: usize = 20;

/// Until machines have nothing more to do, and how long they are watched then.
const SETTLE: Duration = Duration::from_secs(10);
const WATCHED: Duration = Duration::from_secs(20);

/// What every kernel is told, by us and by QEMU.
const COMMAND_LINE: &str = "console=ttyS0 reboot=k panic=-1 quiet";

/// How often a rate is measured.
const RATES: usize = 3;

/// What a kernel's code is measured with: opened, read and closed, over and over.
const READS: &str = "busybox mount -t proc proc /proc\necho begin\ni=0\n\
     while [ $i -lt 10000 ]; do read line < /proc/self/stat; i=$((i+1)); done\necho end";

/// What the first process says.
const HERE: &str = "the first process is here";

pub(super) fn measure(place: &Place, options: &Options) -> Result<Vec<Row>> {
    let store = kernels(place)?;
    let mut rows = Vec::new();
    for (work, kernel) in [(ROWS[0], "minimal"), (ROWS[1], "debian")] {
        if options.wants(&[work]) {
            rows.push(boots(place, work, &find(&store, kernel)?, options.rounds)?);
        }
    }
    if options.wants(&[ROWS[2]]) {
        rows.push(restore()?);
    }
    if options.wants(&[ROWS[7]]) {
        rows.push(rate(ROWS[7], "softcpu", "speed", &[])?);
    }
    if options.wants(&[ROWS[8]]) {
        let initrd = first_process(place, "reads", READS)?;
        let files = [find(&store, "minimal")?, initrd];
        rows.push(rate(ROWS[8], "vm", "kernel_code", &files)?);
    }
    if options.wants(&CONTAINERS) {
        rows.extend(containers(place, &store, options)?);
    }
    Ok(rows)
}

/// The data root with both kernels; ours is the one that is used unless another is named.
fn kernels(place: &Place) -> Result<PathBuf> {
    let home = target().join("bench-machines");
    let wythe = |words: &[&str]| {
        let mut command = Command::new(&place.wythe);
        command.args(words).env("WYTHE_DATA", &home);
        command
    };
    if find(&home, "minimal").is_err() {
        eprintln!("xtask: building a kernel");
        run(&mut wythe(&["kernel", "build", "--quiet", "--default"]))?;
    }
    if find(&home, "debian").is_err() {
        run(&mut wythe(&["kernel", "pull", "--quiet"]))?;
    }
    Ok(home)
}

/// A kernel's file by the beginning of its name.
fn find(home: &Path, begins: &str) -> Result<PathBuf> {
    for entry in fs::read_dir(home.join("kernels"))?.flatten() {
        let Ok(manifest) = fs::read(entry.path().join("manifest.json")) else { continue };
        let manifest: serde_json::Value = serde_json::from_slice(&manifest)?;
        if manifest["name"].as_str().is_some_and(|name| name.starts_with(begins)) {
            return Ok(entry.path().join("vmlinuz"));
        }
    }
    bail!("there is no kernel {begins}")
}

/// A kernel from the first instruction to its first process, by us and by QEMU.
fn boots(place: &Place, work: &'static str, kernel: &Path, rounds: usize) -> Result<Row> {
    let initrd = first_process(place, "first-process", &format!("echo {HERE}"))?;
    let mut ours = Command::new(&place.wythe);
    ours.args(["vm", "boot", "--accel", "soft", "--memory", "256m", "--append", "quiet"]);
    ours.arg("--kernel").arg(kernel).arg("--initrd").arg(&initrd);
    let mut contenders = vec![until("wythe", ours, HERE)];
    if let Some(qemu) = place.peer("qemu-system-x86_64") {
        let mut theirs = Command::new(qemu);
        theirs.args(["-accel", "tcg", "-cpu", "Nehalem", "-m", "256", "-nographic", "-no-reboot"]);
        theirs.args(["-nodefaults", "-serial", "stdio", "-append", COMMAND_LINE]);
        theirs.arg("-kernel").arg(kernel).arg("-initrd").arg(&initrd);
        contenders.push(until("qemu tcg", theirs, HERE));
    }
    take_turns(work, &mut contenders, rounds.min(5))
}

/// An archive with a first process that does this and says what that says on its serial line.
fn first_process(place: &Place, name: &str, does: &str) -> Result<PathBuf> {
    let root = place.path(name);
    for dir in ["bin", "dev", "proc"] {
        fs::create_dir_all(root.join(dir))?;
    }
    fs::copy(
        which("busybox").context("busybox-static is not installed")?,
        root.join("bin/busybox"),
    )?;
    let script = format!(
        "#!/bin/busybox sh\nexport PATH=/bin\nbusybox mount -t devtmpfs dev /dev\n\
         {{ {does}\n}} > /dev/ttyS0\nbusybox poweroff -f\n"
    );
    fs::write(root.join("init"), script)?;
    quietly(Command::new("chmod").args(["+x"]).arg(root.join("init")))?;
    let archive = place.path(&format!("{name}.cpio"));
    let mut pack = Command::new("busybox");
    pack.args(["cpio", "-o", "-H", "newc"]).current_dir(&root);
    let mut pack = pack
        .stdin(Stdio::piped())
        .stdout(fs::File::create(&archive)?)
        .stderr(Stdio::null())
        .spawn()?;
    let names = pack.stdin.take().context("it has standard input")?;
    { names }.write_all(b".\nbin\nbin/busybox\ndev\nproc\ninit\n")?;
    ensure!(pack.wait()?.success(), "busybox cannot write an archive");
    Ok(archive)
}

/// From the start of a program until it says something; it is left to end by itself.
fn until(name: &'static str, mut command: Command, what: &'static str) -> Contender<'static> {
    let once = move || {
        let began = Instant::now();
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let output = child.stdout.take().context("it has standard output")?;
        let mut took = None;
        // Not text for certain: a console says what it likes.
        for line in BufReader::new(output).split(b'\n') {
            if took.is_none() && String::from_utf8_lossy(&line?).contains(what) {
                took = Some(began.elapsed());
            }
        }
        child.wait()?;
        Ok(took.with_context(|| format!("it did not say {what:?}"))?.as_secs_f64() * 1000.0)
    };
    Contender { name, once: Box::new(once) }
}

/// What an example finds in its first line, in millions a second.
fn rate(work: &'static str, of: &str, example: &str, files: &[PathBuf]) -> Result<Row> {
    let once = || -> Result<f64> {
        let mut run = cargo(&["run", "--quiet", "--release", "-p", of, "--example", example]);
        let output = run.arg("--").args(files).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let number = text.split(" million a second").next();
        let number = number.and_then(|text| text.rsplit(' ').next()?.parse().ok());
        let errors = String::from_utf8_lossy(&output.stderr);
        number.with_context(|| format!("no figure in {text:?}: {errors}"))
    };
    let mut figures = (0..RATES).map(|_| once()).collect::<Result<Vec<f64>>>()?;
    figures.sort_by(f64::total_cmp);
    Ok(Row { work, unit: "M/s", better: Better::Higher, figures: vec![("wythe", figures)] })
}

/// What the example of the crate `vm` finds.
fn restore() -> Result<Row> {
    let output =
        cargo(&["run", "--quiet", "--release", "-p", "vm", "--example", "restore"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("first instruction"));
    let median = line.and_then(|line| milliseconds(line.split_whitespace().next()?));
    let median = median.with_context(|| format!("no figure in {text:?}"))?;
    Ok(Row::ours(ROWS[2], "ms", Better::Lower, median))
}

/// A duration as the example prints it.
fn milliseconds(text: &str) -> Option<f64> {
    let number = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let scale = match &text[number.len()..] {
        "s" => 1000.0,
        "ms" => 1.0,
        "µs" => 0.001,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * scale)
}

fn containers(place: &Place, store: &Path, options: &Options) -> Result<Vec<Row>> {
    let (data, sockets) = ("machines-data", "machines-run");
    fs::create_dir_all(place.path(data))?;
    quietly(Command::new("cp").arg("-a").arg(store.join("kernels")).arg(place.path(data)))?;
    let _cleared = place.cleared(data, sockets);
    let ours = || place.wythe_at(data, sockets);
    let vm = |words: &[&str]| {
        let mut command = ours();
        command.args(["run", "--isolation", "vm"]).args(words);
        command
    };
    // The first one boots; the others begin where it was ready.
    quietly(&mut vm(&["--rm", "demo", "true"]))?;
    let mut rows = Vec::new();
    if options.wants(&[ROWS[3]]) {
        let mut contenders = [until("wythe", vm(&["--rm", "demo"]), "Hello")];
        rows.push(take_turns(ROWS[3], &mut contenders, options.rounds)?);
    }
    if options.wants(&[ROWS[4]]) {
        rows.push(forks(&|| ours(), &vm, options.rounds.min(5))?);
    }
    if options.wants(&[ROWS[5], ROWS[6]]) {
        rows.extend(many(place, sockets, &vm)?);
    }
    Ok(rows)
}

/// Copies of one that runs.
fn forks(
    ours: &dyn Fn() -> Command,
    vm: &dyn Fn(&[&str]) -> Command,
    rounds: usize,
) -> Result<Row> {
    quietly(&mut vm(&["-d", "--name", "source", "demo", "sleep", "100000"]))?;
    let count = FORKS.to_string();
    let once = || {
        let mut fork = ours();
        let took = timed_ms(fork.args(["fork", "--count", &count, "source"]))?;
        let all = ours().args(["ps", "-q", "--filter", "isolation=vm"]).output()?;
        let all = String::from_utf8_lossy(&all.stdout).into_owned();
        let source = ours().args(["ps", "-q", "--filter", "name=source"]).output()?;
        let source = String::from_utf8_lossy(&source.stdout).trim().to_owned();
        let copies: Vec<&str> = all.split_whitespace().filter(|id| *id != source).collect();
        ensure!(copies.len() == FORKS, "{} copies, not {FORKS}", copies.len());
        quietly(ours().args(["rm", "-f"]).args(copies))?;
        Ok(took)
    };
    let row = take_turns(ROWS[4], &mut [Contender { name: "wythe", once: Box::new(once) }], rounds);
    quietly(ours().args(["rm", "-f", "source"]))?;
    row
}

/// How idle the host is while machines are, and what they take of its memory.
fn many(place: &Place, sockets: &str, vm: &dyn Fn(&[&str]) -> Command) -> Result<Vec<Row>> {
    for _ in 0..MANY {
        quietly(&mut vm(&["-d", "--network", "none", "-m", SMALL, "demo", "sleep", "100000"]))?;
    }
    thread::sleep(SETTLE);
    let before = idle()?;
    thread::sleep(WATCHED);
    let after = idle()?;
    let share = (after.0 - before.0) / (after.1 - before.1) * 100.0;
    let shims = place.ours("wythe-shim", sockets)?;
    ensure!(shims.len() == MANY, "{} machines, not {MANY}", shims.len());
    let memory = processes::pss_mib(&processes::descendants(&shims)?);
    Ok(vec![
        Row::ours(ROWS[5], "%", Better::Higher, share),
        Row::ours(ROWS[6], "MiB", Better::Lower, memory),
    ])
}

/// What the host's processors did since it was started, in ticks: nothing, and anything.
fn idle() -> Result<(f64, f64)> {
    let text = fs::read_to_string("/proc/stat")?;
    let first = text.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<f64> = first.split_whitespace().skip(1).flat_map(str::parse).collect();
    let idle = ticks.get(3).zip(ticks.get(4)).context("/proc/stat is short")?;
    // The last two are in the first two already.
    Ok((idle.0 + idle.1, ticks.iter().take(8).sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_milliseconds() {
        let near =
            |text: &str, ms: f64| milliseconds(text).is_some_and(|found| (found - ms).abs() < 1e-9);
        assert!(near("1.100ms", 1.1) && near("980.5µs", 0.9805) && near("2s", 2000.0));
        assert_eq!(milliseconds("many"), None);
    }
}
