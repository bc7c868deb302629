//! Commands from start to exit: every round each contender once, in turn.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result};

use super::{
    Options,
    place::{Place, timed_ms},
    row::{Better, Row},
};

pub(super) const ROWS: [&str; 4] =
    ["oci run true", "run --rm, no network", "run --rm, bridge", "exec true"];

/// What runc alone takes for a container, beside the rows whose budget is a multiple of it.
const RUNC_ALONE: &str = "runc alone";

/// One way of doing a piece of work.
pub(super) struct Contender<'a> {
    pub(super) name: &'static str,
    /// Does it once, and says how many milliseconds it took.
    pub(super) once: Box<dyn FnMut() -> Result<f64> + 'a>,
}

pub(super) fn measure(place: &Place, options: &Options) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for work in ROWS.into_iter().filter(|work| options.wants(&[work])) {
        let mut contenders = match work {
            "oci run true" => runtimes(place),
            "run --rm, no network" => {
                clients(place, &["run", "--rm", "--network", "none", "bench", "/bin/true"])
            }
            "run --rm, bridge" => clients(place, &["run", "--rm", "bench", "/bin/true"]),
            _ => clients(place, &["exec", "idle", "/bin/true"]),
        };
        rows.push(take_turns(work, &mut contenders, options.rounds)?);
    }
    Ok(rows)
}

/// Figures by contender, after one round that is not counted.
pub(super) fn take_turns(
    work: &'static str,
    contenders: &mut [Contender<'_>],
    rounds: usize,
) -> Result<Row> {
    let mut figures: Vec<_> =
        contenders.iter().map(|c| (c.name, Vec::with_capacity(rounds))).collect();
    for round in 0..=rounds {
        for (contender, (_, figures)) in contenders.iter_mut().zip(&mut figures) {
            let ms = (contender.once)().with_context(|| format!("{work}: {}", contender.name))?;
            if round > 0 {
                figures.push(ms);
            }
        }
    }
    for (_, figures) in &mut figures {
        figures.sort_by(f64::total_cmp);
    }
    Ok(Row { work, unit: "ms", better: Better::Lower, figures })
}

fn runtimes(place: &Place) -> Vec<Contender<'static>> {
    let mut contenders = vec![runtime(place, "wythe", &place.wythe, &["oci"])];
    for peer in ["crun", "runc"] {
        contenders.extend(place.peer(peer).map(|program| runtime(place, peer, &program, &[])));
    }
    contenders
}

fn clients(place: &Place, args: &[&str]) -> Vec<Contender<'static>> {
    let mut ours = place.wythe();
    ours.args(args);
    let mut contenders =
        vec![Contender { name: "wythe", once: Box::new(move || timed_ms(&mut ours)) }];
    contenders.extend(place.podman(args).map(|mut podman| Contender {
        name: "podman",
        once: Box::new(move || timed_ms(&mut podman)),
    }));
    contenders.extend(runc_alone(place));
    contenders
}

/// runc without an engine around it, if it is installed.
pub(super) fn runc_alone(place: &Place) -> Option<Contender<'static>> {
    place.peer("runc").map(|runc| runtime(place, RUNC_ALONE, &runc, &[]))
}

/// An OCI runtime that runs the bundle.
fn runtime(place: &Place, name: &'static str, program: &Path, args: &[&str]) -> Contender<'static> {
    let (bundle, state) = (place.path("bundle"), place.path(&format!("state-{name}")));
    let program = program.to_owned();
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let mut count = 0_u32;
    let once = move || {
        count += 1;
        let id = format!("bench-{}-{}-{count}", name.replace(' ', "-"), std::process::id());
        let mut command = Command::new(&program);
        command.args(&args).arg("--root").arg(&state).args(["run", "--bundle"]).arg(&bundle);
        timed_ms(command.arg(&id))
    };
    Contender { name, once: Box::new(once) }
}
