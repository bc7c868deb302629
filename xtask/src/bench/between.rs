//! Bytes from one container to another on the default bridge, with a program of our own
//! (`xtask/programs/carry.rs`) in both.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result, ensure};

use super::{
    Options, docker,
    place::Place,
    row::{Better, Row},
};
use crate::command::{quietly, root, target};

pub(super) const ROWS: [&str; 1] = ["container to container"];

/// Bytes that go in a round.
const BYTES: &str = "2147483648";
const PORT: &str = "5001";
const SINK: &str = "carry-sink";
/// It takes seconds; medians of a few do.
const ROUNDS_MAX: usize = 7;

/// An engine's client: arguments of Docker's to a command.
type Client<'a> = Box<dyn Fn(&[&str]) -> Command + 'a>;

pub(super) fn measure(place: &Place, options: &Options) -> Result<Vec<Row>> {
    let program = program()?;
    let mount = format!("{}:/carry:ro", program.display());
    let dockerd = docker::dockerd(place)?;
    let mut clients: Vec<(&'static str, Client<'_>)> = vec![(
        "wythe",
        Box::new(|args| {
            let mut command = place.wythe();
            command.args(args);
            command
        }),
    )];
    if place.podman(&[]).is_some() {
        let podman = |args: &[&str]| place.podman(args).expect("it was there above");
        clients.push(("podman", Box::new(podman)));
    }
    clients.extend(dockerd.as_ref().map(|server| {
        let client: Client<'_> = Box::new(|args| server.client(args));
        (server.name, client)
    }));
    let run = ["run", "-d", "--name", SINK, "-v", &mount, "bench", "/carry", "sink", PORT];
    let mut addresses = Vec::new();
    for (name, client) in &clients {
        quietly(&mut client(&run)).with_context(|| (*name).to_owned())?;
        let template = "{{.NetworkSettings.IPAddress}}";
        let address = said(&mut client(&["inspect", "--format", template, SINK]))?;
        addresses.push(format!("{}:{PORT}", address.trim()));
    }
    let mut figures: Vec<_> = clients.iter().map(|(name, _)| (*name, Vec::new())).collect();
    for _ in 0..options.rounds.min(ROUNDS_MAX) {
        for (((_, client), address), (_, figures)) in
            clients.iter().zip(&addresses).zip(&mut figures)
        {
            let run = ["run", "--rm", "-v", &mount, "bench", "/carry", "source", address, BYTES];
            figures.push(said(&mut client(&run))?.trim().parse::<f64>()?);
        }
    }
    for (_, client) in &clients {
        drop(quietly(&mut client(&["rm", "-f", SINK])));
    }
    for (_, figures) in &mut figures {
        figures.sort_by(f64::total_cmp);
    }
    Ok(vec![Row { work: ROWS[0], unit: "MB/s", better: Better::Higher, figures }])
}

/// What a command that must succeed prints.
fn said(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{:?}: {}", command.get_program(), complaint.trim());
    Ok(String::from_utf8(output.stdout)?)
}

/// The program, compiled once.
fn program() -> Result<PathBuf> {
    let (source, done) = (root().join("xtask/programs/carry.rs"), target().join("fixtures/carry"));
    std::fs::create_dir_all(target().join("fixtures"))?;
    let mut compile = Command::new("rustc");
    compile.args(["--edition=2024", "-O", "-Ctarget-feature=+crt-static"]);
    quietly(compile.arg("-o").arg(&done).arg(source))?;
    Ok(done)
}
