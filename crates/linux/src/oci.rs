//! The OCI runtime command line: `create`, `start`, `run`, `exec` and the others, as runc has
//! them, over the container driver.
//!
//! ```text
//! args ──▶ make ──▶ convert ──▶ launch (the driver) ──▶ record
//!      ├─▶ lifecycle (start kill delete pause resume)
//!      └─▶ exec  show  update  spec  features
//! ```
//!
//! It runs as one short-lived process without threads and without async, because how soon it is
//! done is what its callers wait for. It knows neither images nor networks nor the daemon.

mod args;
mod console;
mod convert;
mod error;
mod exec;
mod features;
mod foreground;
#[doc(hidden)]
pub mod fuzzing;
mod hooks;
mod launch;
mod lifecycle;
mod log;
mod make;
mod record;
mod show;
mod spec;
mod status;
#[cfg(test)]
mod table;
mod update;

use std::{
    cell::OnceCell,
    env,
    ffi::OsString,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use base::SandboxId;
use cgroups::Hierarchy;

use args::{Parsed, UsageError, Verb};
use error::OciError;
use log::{Format, Log};
use record::{Container, Held, Store};

/// Where the state of root's containers is kept, unless `--root` says otherwise.
const ROOT: &str = "/run/wythe-oci";

/// Where the state of containers is kept: an ordinary user's, in his user namespace or outside it,
/// in his own runtime directory, as runc does.
fn default_root() -> PathBuf {
    let ordinary = !rustix::process::geteuid().is_root() || sys::userns::is_confined();
    let own = env::var_os("XDG_RUNTIME_DIR").filter(|path| ordinary && !path.is_empty());
    own.map_or_else(|| ROOT.into(), |path| PathBuf::from(path).join("wythe-oci"))
}

/// Exit codes: runc's.
const FAILED: u8 = 1;
const NO_COMMAND: u8 = 3;
const EXEC_FAILED: u8 = 255;

/// What every command has at hand.
#[derive(Debug)]
struct Context {
    store: Store,
    log: Log,
    /// The host's control groups, once they were needed.
    hierarchy: OnceCell<Hierarchy>,
}

impl Context {
    fn hierarchy(&self) -> Result<&Hierarchy, OciError> {
        if let Some(hierarchy) = self.hierarchy.get() {
            return Ok(hierarchy);
        }
        let hierarchy = Hierarchy::detect()?;
        Ok(self.hierarchy.get_or_init(|| hierarchy))
    }

    fn id(&self, text: &str) -> Result<SandboxId, OciError> {
        text.parse().map_err(OciError::Id)
    }

    fn open(&self, id: &str) -> Result<Container, OciError> {
        self.store.open(&self.id(id)?)
    }

    fn hold(&self, id: &str) -> Result<Held, OciError> {
        self.store.hold(&self.id(id)?)
    }

    fn print(&self, text: &str) -> Result<(), OciError> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(OciError::io("write to standard output"))
    }
}

/// Carries out one command line, given without the program's name and the word `oci`.
///
/// Errors go to standard error and to the file of `--log`. The exit code is the container's for
/// `run` and `exec`, 0 for what was done, 1 for what was not, 255 for an exec that was not, and
/// 3 for a command that does not exist.
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    let mut context = Context {
        store: Store::new(default_root()),
        log: Log::default(),
        hierarchy: OnceCell::new(),
    };
    let code = match understand(&mut context, args) {
        Ok(Understood::Print(text)) => context.print(&text).map_or(FAILED, |()| 0),
        Ok(Understood::Run(verb, parsed)) => run(&context, verb, &parsed),
        Err(error) => {
            context.log.error(&error.chain());
            let unknown = matches!(error, OciError::Usage(UsageError::UnknownCommand { .. }));
            if unknown { NO_COMMAND } else { FAILED }
        }
    };
    ExitCode::from(code)
}

/// What a command line comes to.
enum Understood {
    Print(String),
    Run(Verb, Parsed),
}

fn understand(context: &mut Context, args: Vec<OsString>) -> Result<Understood, OciError> {
    let words: Result<Vec<String>, _> = args.into_iter().map(OsString::into_string).collect();
    let words = words.map_err(UsageError::NotText)?;
    let global = args::parse(&args::GLOBAL, words)?;
    configure(context, &global)?;
    if global.has("version") {
        let version = env!("CARGO_PKG_VERSION");
        let text = format!("wythe version {version}\nspec: {}\n", features::SPEC_VERSION);
        return Ok(Understood::Print(text));
    }
    let mut operands = global.operands.iter().cloned();
    let name = operands.next();
    if global.has("help") {
        return Ok(Understood::Print(args::help()));
    }
    match name.as_deref() {
        None => Err(UsageError::NoCommand.into()),
        Some("help") => Ok(Understood::Print(match operands.next() {
            Some(name) => args::command(&name)?.1.help(),
            None => args::help(),
        })),
        Some(name) => {
            let (verb, syntax) = args::command(name)?;
            let parsed = args::parse(syntax, operands)?;
            if parsed.has("help") {
                return Ok(Understood::Print(syntax.help()));
            }
            Ok(Understood::Run(*verb, parsed))
        }
    }
}

fn configure(context: &mut Context, global: &Parsed) -> Result<(), OciError> {
    context.log.debug = global.has("debug");
    context.log.path = global.value("log").map(Into::into);
    context.log.format = match global.value("log-format") {
        None | Some("text") => Format::Text,
        Some("json") => Format::Json,
        Some(other) => {
            return Err(global.wrong("log-format", other, "use text or json").into());
        }
    };
    if let Some(root) = global.value("root") {
        context.store = Store::new(root.into());
    }
    if global.has("systemd-cgroup") {
        let why = "give cgroupsPath as a path and use the caller's cgroupfs driver";
        return Err(OciError::Unsupported { flag: "--systemd-cgroup", why });
    }
    match global.value("rootless") {
        None | Some("auto" | "false") => Ok(()),
        Some("true") => {
            let why = "cgroups that cannot be made are errors; give --rootless=auto or false";
            Err(OciError::Unsupported { flag: "--rootless=true", why })
        }
        Some(other) => Err(global.wrong("rootless", other, "use auto, false or true").into()),
    }
}

/// Carries out a command; answers the exit code.
fn run(context: &Context, verb: Verb, parsed: &Parsed) -> u8 {
    let error = match protect(verb).and_then(|()| act(context, verb, parsed)) {
        Ok(code) => return code,
        Err(error) => error,
    };
    let (prefix, code) = match verb {
        Verb::Create => ("create failed: ", FAILED),
        Verb::Run => ("run failed: ", FAILED),
        Verb::Exec => ("exec failed: ", EXEC_FAILED),
        Verb::Start
        | Verb::Kill
        | Verb::Delete
        | Verb::State
        | Verb::List
        | Verb::Ps
        | Verb::Pause
        | Verb::Resume
        | Verb::Update
        | Verb::Spec
        | Verb::Features => ("", FAILED),
    };
    context.log.error(&format!("{prefix}{}", error.chain()));
    code
}

/// What puts a process into a container goes on in a program that the container cannot change.
fn protect(verb: Verb) -> Result<(), OciError> {
    match verb {
        Verb::Create | Verb::Run | Verb::Exec => {
            crate::program::protect().map_err(OciError::io("protect this program's own file"))
        }
        Verb::Start
        | Verb::Kill
        | Verb::Delete
        | Verb::State
        | Verb::List
        | Verb::Ps
        | Verb::Pause
        | Verb::Resume
        | Verb::Update
        | Verb::Spec
        | Verb::Features => Ok(()),
    }
}

fn act(context: &Context, verb: Verb, parsed: &Parsed) -> Result<u8, OciError> {
    let done = |result: Result<(), OciError>| result.map(|()| 0);
    match verb {
        Verb::Create => done(make::create(context, parsed)),
        Verb::Start => done(lifecycle::start(context, parsed)),
        Verb::Run => make::run(context, parsed),
        Verb::Exec => exec::exec(context, parsed),
        Verb::Kill => done(lifecycle::kill(context, parsed)),
        Verb::Delete => done(lifecycle::delete(context, parsed)),
        Verb::State => done(show::state(context, parsed)),
        Verb::List => done(show::list(context, parsed)),
        Verb::Ps => done(show::ps(context, parsed)),
        Verb::Pause => done(lifecycle::pause(context, parsed)),
        Verb::Resume => done(lifecycle::resume(context, parsed)),
        Verb::Update => done(update::update(context, parsed)),
        Verb::Spec => done(spec::spec(parsed)),
        Verb::Features => done(features::features(context)),
    }
}
