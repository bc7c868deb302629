//! A hundred containers on the bridge: started, held, left alone, removed.
//!
//! Ours live on a file system of their own in a loop device, so that every sector they cost can
//! be told from everybody else's.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    Options,
    place::{Place, median, timed},
    processes,
    row::{Better, Row},
};
use crate::command::quietly;

pub(super) const ROWS: [&str; 6] = [
    "100 detached on the bridge",
    "removing them",
    "shim PSS per idle container",
    "all PSS per container, of 100",
    "disk writes while 100 idle",
    "removing them after that",
];

const COUNT: usize = 100;
/// How often a hundred of ours come and go before that.
const TIMES: usize = 3;
/// So many clients at once.
const AT_ONCE: usize = 4;
/// Podman's share, scaled up: a hundred of its containers take a minute.
const PODMANS: usize = 20;
/// After the last start, until what was written has reached the disk: records are flushed after
/// a hundred milliseconds, a file system's journal after five seconds.
const SETTLE: Duration = Duration::from_secs(12);

pub(super) fn measure(place: &Place, options: &Options) -> Result<Vec<Row>> {
    let (data, run) = ("fleet/data", "fleet-run");
    let disk = Disk::mount(place)?;
    let _cleared = place.cleared(data, run);
    let ours = || place.wythe_at(data, run);
    quietly(ours().args(["import", "--name", "bench"]).arg(place.path("rootfs.tar")))?;
    // The bridge is there and the layer mounted when the clock starts, as for podman.
    quietly(ours().args(["run", "--rm", "bench", "/bin/true"]))?;
    let names = names(COUNT);
    let remove = || timed(ours().args(["rm", "-f"]).args(&names)).map(|took| took.as_secs_f64());
    let (mut starts, mut removals) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        starts.push(start(COUNT, &|| ours())?);
        removals.push(remove()?);
    }
    // One more hundred stays for a while.
    starts.push(start(COUNT, &|| ours())?);
    let shims = place.ours("wythe-shim", run)?;
    ensure!(shims.len() == COUNT, "{} shims for {COUNT} containers", shims.len());
    let podman = PodmanFleet::start(place)?;

    let each = 1.0 / COUNT as f64;
    let daemon = place.daemon(run)?;
    thread::sleep(Duration::from_secs(1));
    let of_shims = processes::pss_mib(&shims) * each;
    let fork_server = place.ours("wythe-fork", run)?;
    let of_all =
        of_shims + (processes::pss_mib(&[daemon]) + processes::pss_mib(&fork_server)) * each;
    let mut all = shims.clone();
    all.push(daemon);
    all.extend(fork_server);
    let mut late = Vec::new();
    if options.wants(&ROWS[4..]) {
        late.push(Row::ours(ROWS[4], "B", Better::Lower, idle(&all, &disk, options)?));
        late.push(Row::ours(ROWS[5], "s", Better::Lower, remove()?));
    } else {
        removals.push(remove()?);
    }
    place.stop_daemon(run);
    let conmon = podman.as_ref().map(|fleet| fleet.pss_each);
    let podman_started = podman.as_ref().map(|fleet| fleet.started);
    let podman_removed = podman.map(|fleet| fleet.remove(place)).transpose()?;
    let (started, removed) = (median(starts), median(removals));
    let mut rows = vec![
        Row::ours(ROWS[0], "s", Better::Lower, started).beside("podman", podman_started),
        Row::ours(ROWS[1], "s", Better::Lower, removed).beside("podman", podman_removed),
        Row::ours(ROWS[2], "MiB", Better::Lower, of_shims).beside("podman", conmon),
        Row::ours(ROWS[3], "MiB", Better::Lower, of_all),
    ];
    rows.extend(late);
    Ok(rows)
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("fleet-{number}")).collect()
}

/// Starts so many, several at once; how many seconds it took.
fn start(count: usize, client: &(dyn Fn() -> Command + Sync)) -> Result<f64> {
    let names = names(count);
    let began = Instant::now();
    thread::scope(|scope| {
        let start = |part: usize| {
            let mine = names.iter().skip(part).step_by(AT_ONCE);
            mine.clone().try_for_each(|name| {
                let args = ["run", "-d", "--name", name, "bench", "/bin/sleep", "100000"];
                timed(client().args(args)).map(drop)
            })
        };
        let threads: Vec<_> = (0..AT_ONCE).map(|part| scope.spawn(move || start(part))).collect();
        threads.into_iter().try_for_each(|t| t.join().expect("a starter does not panic"))
    })?;
    Ok(began.elapsed().as_secs_f64())
}

/// Bytes written while nobody does anything: what the file system's device saw, or what the
/// kernel counts for our processes, whichever is more.
fn idle(pids: &[u32], disk: &Disk, options: &Options) -> Result<f64> {
    thread::sleep(SETTLE);
    disk.sync()?;
    let before = (processes::written_bytes(pids), disk.written_bytes()?);
    thread::sleep(Duration::from_secs(options.idle_seconds));
    disk.sync()?;
    let after = (processes::written_bytes(pids), disk.written_bytes()?);
    Ok((after.0 - before.0).max(after.1 - before.1))
}

/// A file system in a file, through a loop device.
struct Disk {
    at: PathBuf,
    device: String,
}

impl Disk {
    fn mount(place: &Place) -> Result<Disk> {
        let (image, at) = (place.path("fleet.img"), place.path("fleet"));
        fs::create_dir(&at)?;
        fs::File::create(&image)?.set_len(2 << 30)?;
        // Nothing is put off until later, when the silence is listened to.
        let options = "lazy_itable_init=0,lazy_journal_init=0";
        quietly(Command::new("mkfs.ext4").args(["-q", "-E", options]).arg(&image))?;
        quietly(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&at))?;
        let table = fs::read_to_string("/proc/self/mounts")?;
        let point = at.to_string_lossy();
        let line = table.lines().find(|line| line.split(' ').nth(1) == Some(&point));
        let device = line.and_then(|line| line.split(' ').next()?.rsplit('/').next());
        let device = device.context("the file system is not mounted")?.to_owned();
        Ok(Disk { at, device })
    }

    fn sync(&self) -> Result<()> {
        quietly(Command::new("sync").arg("-f").arg(&self.at))
    }

    /// Source: Documentation/block/stat.rst, "write sectors", of 512 bytes each.
    fn written_bytes(&self) -> Result<f64> {
        let path = format!("/sys/block/{}/stat", self.device);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let sectors = text.split_whitespace().nth(6).context("a seventh field")?;
        Ok(sectors.parse::<f64>()? * 512.0)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(quietly(Command::new("umount").arg("-l").arg(&self.at)));
        drop(fs::remove_file(Path::new(&self.at).with_extension("img")));
    }
}

/// Podman's containers.
struct PodmanFleet {
    /// Seconds, as for all of ours.
    started: f64,
    pss_each: f64,
}

impl PodmanFleet {
    fn start(place: &Place) -> Result<Option<PodmanFleet>> {
        if place.podman(&[]).is_none() {
            return Ok(None);
        }
        let before = place.conmons()?;
        let client = || place.podman(&[]).expect("it was there above");
        let started = start(PODMANS, &client)? * COUNT as f64 / PODMANS as f64;
        let mut conmons = place.conmons()?;
        conmons.retain(|pid| !before.contains(pid));
        let pss_each = processes::pss_mib(&conmons) / conmons.len().max(1) as f64;
        Ok(Some(PodmanFleet { started, pss_each }))
    }

    fn remove(self, place: &Place) -> Result<f64> {
        let mut remove = place.podman(&["rm", "-f", "-t", "0"]).context("podman is there")?;
        let seconds = timed(remove.args(names(PODMANS)))?.as_secs_f64();
        Ok(seconds * COUNT as f64 / PODMANS as f64)
    }
}
