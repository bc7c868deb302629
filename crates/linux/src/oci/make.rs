//! create and run: from a bundle to a container.

use std::{
    env, fs,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use base::SandboxId;
use oci_spec::runtime::Spec;
use sys::signal::Signals;

use super::{
    Context,
    args::Parsed,
    console,
    convert::{self, Converted},
    error::OciError,
    foreground::Foreground,
    hooks,
    launch::{self, Launched, Wishes},
    lifecycle,
    record::{self, Held, Record},
    status::{Identity, Status},
};

/// What the control groups of containers without a `cgroupsPath` begin with.
const CGROUP_PREFIX: &str = "wythe-oci";

/// Who waits for the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Nobody, and the command waits for `start`.
    Create,
    /// Nobody, and the command runs.
    Detached,
    /// We do.
    Foreground,
}

/// `create`.
pub(super) fn create(context: &Context, arguments: &Parsed) -> Result<(), OciError> {
    make(context, arguments, Mode::Create).map(drop)
}

/// `run`; answers the exit code.
pub(super) fn run(context: &Context, arguments: &Parsed) -> Result<u8, OciError> {
    if arguments.has("detach") {
        let (held, _) = make(context, arguments, Mode::Detached)?;
        return lifecycle::after_start(context, &held).map(|()| 0);
    }
    if !arguments.has("no-subreaper") {
        sys::process::adopt_orphans().map_err(OciError::io("become the reaper of orphans"))?;
    }
    let signals = Signals::block().map_err(OciError::io("block signals"))?;
    let (held, launched) = make(context, arguments, Mode::Foreground)?;
    let started = lifecycle::after_start(context, &held);
    let container = held.release();
    let Launched { pid, pidfd, terminal } = launched;
    let waited = Foreground { pid, pidfd, terminal }.wait(&signals);
    if !arguments.has("keep") {
        match container.hold_again() {
            Ok(held) => lifecycle::destroy(context, held)?,
            // Somebody else deleted it.
            Err(OciError::Missing { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    started.and(waited)
}

/// A bundle, understood.
#[derive(Debug)]
struct Bundle {
    path: PathBuf,
    /// `config.json` as it is.
    json: Vec<u8>,
    spec: Spec,
    converted: Converted,
}

fn make(context: &Context, arguments: &Parsed, mode: Mode) -> Result<(Held, Launched), OciError> {
    let id = context.id(arguments.container())?;
    let mut bundle = Bundle::load(arguments.value("bundle").unwrap_or("."), &id)?;
    let socket = arguments.value("console-socket").map(Path::new);
    let terminal = bundle.converted.process.terminal.is_some();
    check_console(terminal, mode != Mode::Foreground, socket.is_some())?;
    if mode == Mode::Foreground {
        let size = &mut bundle.converted.process.terminal;
        *size = size.map(console::first_size);
    }
    let preserve = preserved(arguments, &mut bundle.converted.process.env)?;
    let cgroup = bundle.converted.sandbox.cgroup.get_or_insert_with(|| {
        // A name of our choice is read by nobody else.
        format!("/{CGROUP_PREFIX}-{id}")
    });
    let record = Record::new(&id, &bundle.spec, &bundle.path, cgroup);
    let mut held = context.store.reserve(record)?;
    let made = fill(context, arguments, mode, bundle, preserve, &mut held);
    match made {
        Ok(launched) => Ok((held, launched)),
        Err(error) => {
            if let Err(left) = lifecycle::destroy(context, held) {
                context.log.warning(&left.chain());
            }
            Err(error)
        }
    }
}

/// Makes the container whose name is taken. On failure its owner destroys it.
fn fill(
    context: &Context,
    arguments: &Parsed,
    mode: Mode,
    bundle: Bundle,
    preserve: u32,
    held: &mut Held,
) -> Result<Launched, OciError> {
    let hooks = bundle.spec.hooks().clone();
    // Others find the groups of a path that they chose.
    let all_hierarchies = bundle.has_cgroups_path();
    held.write_config(&bundle.json, bundle.spec)?;
    let gate = if mode == Mode::Create { Some(held.make_fifo()?) } else { None };
    let hooks = hooks.as_ref();
    let wishes = Wishes {
        gate,
        hooks,
        all_hierarchies,
        preserve,
        no_pivot: arguments.has("no-pivot"),
        no_new_keyring: arguments.has("no-new-keyring"),
    };
    let mut launched =
        launch::container(context, &bundle.converted, wishes, held, &mut |held, pid| {
            note(held, pid)?;
            let state = held.container.record.state_json(Status::Creating);
            let record = &held.container.record;
            let lists = [
                ("prestart", hooks.and_then(|hooks| hooks.prestart().as_deref())),
                ("createRuntime", hooks.and_then(|hooks| hooks.create_runtime().as_deref())),
            ];
            for (kind, hooks) in lists {
                hooks::run(hooks.unwrap_or_default(), kind, &state, &record.bundle)?;
            }
            Ok(())
        })?;
    if held.container.record.process.is_none() {
        note(held, launched.pid)?;
    }
    context.log.debug(&format!("the container's process is {}", launched.pid));
    if let Some(path) = arguments.value("pid-file") {
        record::replace(Path::new(path), launched.pid.to_string().as_bytes())?;
    }
    if let Some(path) = arguments.value("console-socket") {
        hand_over(&mut launched, Path::new(path))?;
    }
    Ok(launched)
}

/// Sends the terminal's master to a console socket.
pub(super) fn hand_over(launched: &mut Launched, socket: &Path) -> Result<(), OciError> {
    let Some(master) = launched.terminal.take() else { return Ok(()) };
    console::send(master.as_fd(), socket)
        .map_err(OciError::io(format!("send the terminal to {}", socket.display())))
}

/// Records the process.
fn note(held: &mut Held, pid: u32) -> Result<(), OciError> {
    let identity = Identity::of(pid).map_err(OciError::io(format!("look at process {pid}")))?;
    held.container.record.process = Some(identity);
    held.write()
}

impl Bundle {
    fn load(path: &str, id: &SandboxId) -> Result<Bundle, OciError> {
        let path = fs::canonicalize(path).map_err(OciError::io(format!("open bundle {path}")))?;
        let config = path.join("config.json");
        let json = record::read_limited(&config)?;
        let spec: Spec = serde_json::from_slice(&json)
            .map_err(|source| OciError::Json { path: config, source })?;
        if !spec.version().starts_with("1.") {
            return Err(OciError::SpecVersion { given: spec.version().clone() });
        }
        let converted = convert::convert(&spec, id, &path)?;
        Ok(Bundle { path, json, spec, converted })
    }

    fn has_cgroups_path(&self) -> bool {
        let linux = self.spec.linux().as_ref();
        linux.is_some_and(|l| l.cgroups_path().as_ref().is_some_and(|p| !p.as_os_str().is_empty()))
    }
}

/// Whether a terminal and a console socket go together. Whoever detaches cannot keep the master.
pub(super) fn check_console(terminal: bool, detaches: bool, socket: bool) -> Result<(), OciError> {
    match (terminal && detaches, socket) {
        (true, false) => Err(OciError::NoConsole),
        (false, true) => Err(OciError::UnusedConsole),
        (true, true) | (false, false) => Ok(()),
    }
}

/// How many descriptors from 3 on the command gets: those of `--preserve-fds`, and before them
/// those of a socket-activated caller, which are announced in the environment.
///
/// Source: sd_listen_fds(3).
pub(super) fn preserved(
    arguments: &Parsed,
    environment: &mut Vec<String>,
) -> Result<u32, OciError> {
    let asked: u32 = arguments.number("preserve-fds")?.unwrap_or(0);
    let variable = |name| env::var(name).ok();
    let for_us = variable("LISTEN_PID").is_none_or(|pid| pid == std::process::id().to_string());
    let listens = variable("LISTEN_FDS").filter(|_| for_us).and_then(|n| n.parse::<u32>().ok());
    let Some(listens) = listens.filter(|count| *count > 0) else { return Ok(asked) };
    environment.push(format!("LISTEN_FDS={listens}"));
    // The command is process 1 of its container.
    environment.push("LISTEN_PID=1".into());
    Ok(asked.saturating_add(listens))
}
