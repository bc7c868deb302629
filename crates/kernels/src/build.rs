//! The minimal kernel, compiled from Linux's source with the configuration in `minimal.config`.
//!
//! The source is Debian's, fetched and verified as kernels are, or a directory of the user's.
//! Compiling is left to `make`, the C compiler and what else Linux's documentation asks for; what
//! is not there is named before anything is fetched.
//!
//! Source: Linux `Documentation/process/changes.rst`, `Documentation/kbuild/kconfig.rst`.

mod config;
mod source;
mod tools;

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Write as _},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
};

use base::ErrorKind;

pub use source::SourceError;
pub use tools::Tool;

use crate::{
    Added, Draft, Event, PullError, Settings, Source, Store, StoreError, Tell,
    fetch::Fetcher,
    pull::{download, find},
};

/// The package that stands for Linux's source, and what the names of such packages begin with.
const PACKAGE: &str = "linux-source";
const PREFIX: &str = "linux-source-";

/// The configuration.
pub const CONFIG: &str = include_str!("../minimal.config");

/// How many of the last lines that `make` said are told when it fails.
const LINES_TOLD: usize = 20;

/// Longest line of them.
const LINE_CHARS_MAX: usize = 300;

/// What to build, and how.
#[derive(Clone, Debug, Default)]
pub struct Build {
    /// A directory with the source; else Debian's is fetched.
    pub source: Option<PathBuf>,
    /// Where to work; else below the store. Two gigabytes come to lie there meanwhile.
    pub scratch: Option<PathBuf>,
    /// What the kernel is to be called; else `minimal-` and its release.
    pub name: Option<String>,
    /// How many compilers run at once; else as many as there are processors.
    pub jobs: Option<NonZeroUsize>,
}

/// Why no kernel was built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Something that Linux is built with is not here.
    #[error(
        "building a kernel needs {}: apt-get install {}",
        tools::names(.0),
        tools::packages(.0)
    )]
    Tools(Vec<Tool>),
    /// The source did not come.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// The source could not be unpacked.
    #[error("cannot unpack the source of Linux")]
    Source(#[source] SourceError),
    /// The directory is something else.
    #[error("{} is no source of Linux: it has no Kconfig", .0.display())]
    NoSource(PathBuf),
    /// The host did not let us.
    #[error("cannot {doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// This Linux cannot be configured like that.
    #[error("this source cannot be configured as the minimal kernel: {}", .0.join(", "))]
    Config(Vec<String>),
    /// The compiler, or something like it, failed.
    #[error("make {what} failed ({status}):\n{}", said.join("\n"))]
    Make {
        /// What was to be made.
        what: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The last lines that it said.
        said: Vec<String>,
    },
    /// It could not be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BuildError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            BuildError::Pull(error) => error.kind(),
            BuildError::Store(error) => error.kind(),
            BuildError::Tools(_) | BuildError::NoSource(_) | BuildError::Config(_) => {
                ErrorKind::InvalidInput
            }
            BuildError::Source(_) | BuildError::Io { .. } | BuildError::Make { .. } => {
                ErrorKind::Internal
            }
        }
    }
}

/// Builds the minimal kernel into the store. Nothing else is left of it.
///
/// Blocks its thread while it unpacks and compiles, which takes minutes. `now` is in seconds since
/// 1970.
///
/// # Errors
/// [`BuildError`].
pub async fn build(
    store: &Store,
    settings: &Settings,
    build: &Build,
    now: u64,
    tell: Tell<'_>,
) -> Result<Added, BuildError> {
    let absent = tools::absent();
    if !absent.is_empty() {
        return Err(BuildError::Tools(absent));
    }
    let staging = store.stage()?;
    let scratch = Scratch::new(build.scratch.as_deref(), staging.path())?;
    let (source, from) = match &build.source {
        Some(directory) => {
            let absolute =
                std::path::absolute(directory).map_err(|error| use_of(directory, error))?;
            let from = absolute.display().to_string();
            (absolute, from)
        }
        None => {
            let fetcher = Fetcher::new().map_err(PullError::from)?;
            let found = find(&fetcher, settings, PACKAGE, PREFIX, now, tell).await?;
            let deb = download(&fetcher, &found, &staging, tell).await?;
            let package = found.package;
            tell(Event::Unpacking { what: package.name.clone() });
            let to = scratch.path.join("source");
            let source = source::unpack(&deb, &to).map_err(BuildError::Source)?;
            fs::remove_file(&deb).map_err(|error| use_of(&deb, error))?;
            (source, format!("{} {}", package.name, package.version))
        }
    };
    if !source.join("Kconfig").is_file() {
        return Err(BuildError::NoSource(source));
    }
    let make = Make { source: &source, output: &scratch.path.join("build") };
    make.configure(tell)?;
    make.compile(build.jobs, tell)?;
    let draft = Draft {
        vmlinuz: make.output.join("arch/x86/boot/bzImage"),
        config: Some(make.output.join(".config")),
        modules: None,
        name: build.name.clone(),
        source: Source::Built { from },
        created: now,
    };
    Ok(store.add(staging, &draft)?)
}

fn use_of(path: &Path, source: io::Error) -> BuildError {
    BuildError::Io { doing: format!("use {}", path.display()), source }
}

/// Where the work is done; goes away with its content.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new(wanted: Option<&Path>, staging: &Path) -> Result<Scratch, BuildError> {
        let path = match wanted {
            None => staging.join("build"),
            // Of one's own within what was named: that may have other things in it.
            Some(directory) => {
                let directory =
                    std::path::absolute(directory).map_err(|error| use_of(directory, error))?;
                directory.join(format!("wythe-kernel-{}", std::process::id()))
            }
        };
        fs::create_dir_all(&path).map_err(|error| use_of(&path, error))?;
        Ok(Scratch { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Linux's `make`, with everything that is made in a directory of its own.
struct Make<'a> {
    source: &'a Path,
    output: &'a Path,
}

impl Make<'_> {
    /// Makes the configuration, and looks whether it is what was asked for.
    fn configure(&self, tell: Tell<'_>) -> Result<(), BuildError> {
        fs::create_dir_all(self.output).map_err(|error| use_of(self.output, error))?;
        let wanted = self.output.join("minimal.config");
        fs::write(&wanted, CONFIG).map_err(|error| use_of(&wanted, error))?;
        let all = format!("KCONFIG_ALLCONFIG={}", wanted.display());
        self.run("allnoconfig", &[all], tell)?;
        let path = self.output.join(".config");
        let text = fs::read_to_string(&path).map_err(|error| use_of(&path, error))?;
        let different = config::different(CONFIG, &text);
        if different.is_empty() { Ok(()) } else { Err(BuildError::Config(different)) }
    }

    fn compile(&self, jobs: Option<NonZeroUsize>, tell: Tell<'_>) -> Result<(), BuildError> {
        let jobs = jobs.or_else(|| std::thread::available_parallelism().ok());
        let jobs = format!("-j{}", jobs.map_or(1, NonZeroUsize::get));
        self.run("bzImage", &[jobs], tell)
    }

    fn run(&self, what: &'static str, more: &[String], tell: Tell<'_>) -> Result<(), BuildError> {
        let failed = |source| BuildError::Io { doing: format!("run make {what}"), source };
        let log = self.output.join("make.log");
        let mut log = File::create(log).map_err(failed)?;
        let (reader, writer) = io::pipe().map_err(failed)?;
        let errors = writer.try_clone().map_err(failed)?;
        let mut command = Command::new("make");
        command
            .arg("--no-print-directory")
            .arg("-C")
            .arg(self.source)
            .arg(format!("O={}", self.output.display()));
        command.args(["ARCH=x86_64", "KBUILD_BUILD_USER=wythe", "KBUILD_BUILD_HOST=wythe"]);
        command.args(more).arg(what).env("LC_ALL", "C").env_remove("MAKEFLAGS");
        command.stdin(Stdio::null()).stdout(writer).stderr(errors);
        let mut child = command.spawn().map_err(failed)?;
        // Our own ends of the pipe are in the command: the last line comes when they are closed.
        drop(command);
        let mut last = Vec::new();
        for line in BufReader::new(reader).split(b'\n') {
            let line = String::from_utf8_lossy(&line.map_err(failed)?).into_owned();
            writeln!(log, "{line}").map_err(failed)?;
            let shown: String =
                line.chars().filter(|c| !c.is_control()).take(LINE_CHARS_MAX).collect();
            tell(Event::Building { line: shown.trim().to_owned() });
            if last.len() == LINES_TOLD {
                last.remove(0);
            }
            last.push(shown);
        }
        let status = child.wait().map_err(failed)?;
        if status.success() {
            return Ok(());
        }
        Err(BuildError::Make { what, status, said: last })
    }
}
