//! Output: how fast a container's is taken, and whether many followers see all of it.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
    process::{Child, Stdio},
    thread,
};

use anyhow::{Context as _, Result, ensure};

use super::{
    Options,
    place::{Place, timed},
    row::{Better, Row},
};
use crate::command::quietly;

pub(super) const ROWS: [&str; 2] = ["log throughput", "followers of 50 that see every line"];

/// Bytes of a line, with its end.
const LINE_BYTES: usize = 100;
/// Lines whose throughput is measured.
const LINES: usize = 2_000_000;
const FOLLOWERS: usize = 50;
/// Lines that each follower is to see.
const FOLLOWED: usize = 50_000;
/// It takes seconds; medians of a few do.
const ROUNDS_MAX: usize = 5;

pub(super) fn measure(place: &Place, options: &Options) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    if options.wants(&[ROWS[0]]) {
        rows.push(throughput(place, options)?);
    }
    if options.wants(&[ROWS[1]]) {
        rows.push(Row::ours(ROWS[1], "", Better::Higher, followers(place)?));
    }
    Ok(rows)
}

fn throughput(place: &Place, options: &Options) -> Result<Row> {
    let lines = place.path("lines");
    write_lines(&lines, LINES)?;
    let megabytes = (LINES * LINE_BYTES) as f64 / 1e6;
    let mount = format!("{}:/lines:ro", lines.display());
    let args = ["run", "--rm", "--network", "none", "-v", &mount, "bench", "/bin/cat", "/lines"];
    let (mut ours, mut podmans) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds.min(ROUNDS_MAX) {
        ours.push(megabytes / timed(place.wythe().args(args))?.as_secs_f64());
        if let Some(mut podman) = place.podman(&args) {
            podmans.push(megabytes / timed(&mut podman)?.as_secs_f64());
        }
    }
    let mut figures = vec![("wythe", ours), ("podman", podmans)];
    figures.retain(|(_, figures)| !figures.is_empty());
    for (_, figures) in &mut figures {
        figures.sort_by(f64::total_cmp);
    }
    Ok(Row { work: ROWS[0], unit: "MB/s", better: Better::Higher, figures })
}

/// How many of those who follow a log see all of it, once and in order.
fn followers(place: &Place) -> Result<f64> {
    let lines = place.path("followed");
    write_lines(&lines, FOLLOWED)?;
    let mount = format!("{}:/lines:ro", lines.display());
    let script = "until [ -e /go ]; do sleep 0.1; done; cat /lines";
    let run = ["run", "-d", "--name", "followed", "--network", "none", "-v", &mount, "bench"];
    quietly(place.wythe().args(run).args(["/bin/sh", "-c", script]))?;
    let follow = |_| {
        let mut command = place.wythe();
        command.args(["logs", "-f", "followed"]).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("a follower")
    };
    let followers: Vec<Child> = (0..FOLLOWERS).map(follow).collect::<Result<_>>()?;
    let readers: Vec<_> =
        followers.into_iter().map(|f| thread::spawn(move || sees_all(f))).collect();
    quietly(place.wythe().args(["exec", "followed", "/bin/sh", "-c", ": > /go"]))?;
    let saw = readers.into_iter().filter_map(|reader| reader.join().ok()?.ok());
    let count = saw.filter(|all| *all).count();
    quietly(place.wythe().args(["rm", "-f", "followed"]))?;
    Ok(count as f64)
}

fn sees_all(follower: Child) -> Result<bool> {
    let output = follower.wait_with_output()?;
    ensure!(output.status.success(), "a follower ended with {}", output.status);
    let mut expected = 0;
    for line in output.stdout.split_inclusive(|byte| *byte == b'\n') {
        if line != text_of(expected).as_bytes() {
            return Ok(false);
        }
        expected += 1;
    }
    Ok(expected == FOLLOWED)
}

fn text_of(number: usize) -> String {
    format!("{number:0width$}\n", width = LINE_BYTES - 1)
}

fn write_lines(path: &Path, count: usize) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for number in 0..count {
        file.write_all(text_of(number).as_bytes())?;
    }
    file.flush()?;
    Ok(())
}
