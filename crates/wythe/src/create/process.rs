//! Flags about the process that a container runs.

use engine::{Create, UlimitRequest};
use workload::Signal;

use super::{EnvFlags, FlagError, Surroundings, value};

#[derive(Debug, clap::Args)]
pub(super) struct ProcessFlags {
    #[command(flatten)]
    env: EnvFlags,
    /// Working directory inside the container
    #[arg(short, long, value_name = "string")]
    workdir: Option<String>,
    /// Username or UID (format: <name|uid>[:<group|gid>])
    #[arg(short, long, value_name = "string")]
    user: Option<String>,
    /// Add additional groups to join
    #[arg(long, value_name = "list")]
    group_add: Vec<String>,
    /// Overwrite the default ENTRYPOINT of the image
    #[arg(long, value_name = "string")]
    entrypoint: Option<String>,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    pub(super) interactive: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    pub(super) tty: bool,
    /// Run an init inside the container that forwards signals and reaps processes
    #[arg(long)]
    init: bool,
    /// Signal to stop the container
    #[arg(long, value_name = "string", value_parser = value::signal)]
    stop_signal: Option<Signal>,
    /// Timeout (in seconds) to stop a container
    #[arg(long, value_name = "int")]
    stop_timeout: Option<u32>,
    /// Ulimit options
    #[arg(long, value_name = "ulimit", value_parser = ulimit)]
    ulimit: Vec<UlimitRequest>,
    /// Tune host's OOM preferences (-1000 to 1000)
    #[arg(long, value_name = "int", allow_negative_numbers = true,
          value_parser = clap::value_parser!(i16).range(-1000..=1000))]
    oom_score_adj: Option<i16>,
}

impl ProcessFlags {
    pub(super) fn apply(
        self,
        create: &mut Create,
        around: &dyn Surroundings,
    ) -> Result<(), FlagError> {
        create.env = self.env.resolve(around)?;
        if let Some(dir) = self.workdir.as_ref().filter(|dir| !dir.starts_with('/')) {
            let why = "the working directory needs to be an absolute path";
            return Err(FlagError::invalid("workdir", dir, why));
        }
        create.working_dir = self.workdir;
        create.user = self.user;
        create.groups = self.group_add;
        // An empty word means something to the engine: no entrypoint, and no command of the image.
        create.entrypoint = self.entrypoint.map(|word| vec![word]);
        create.stdin = self.interactive;
        create.terminal = self.tty;
        create.init = self.init;
        create.stop_signal = self.stop_signal;
        create.stop_timeout_s = self.stop_timeout;
        create.ulimits = self.ulimit;
        create.oom_score_adj = self.oom_score_adj.filter(|score| *score != 0);
        Ok(())
    }
}

/// `name=soft[:hard]`, where -1 is unlimited.
///
/// Source: docker/go-units, `ParseUlimit`.
fn ulimit(text: &str) -> Result<UlimitRequest, String> {
    const NAMES: [&str; 16] = [
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let (name, limits) = text.split_once('=').ok_or("write name=soft[:hard]")?;
    if !NAMES.contains(&name) {
        return Err(format!("\"{name}\" is not a limit: use one of {}", NAMES.join(", ")));
    }
    let number = |text: &str| match text {
        "-1" | "unlimited" => Ok(u64::MAX),
        _ => text.parse::<u64>().map_err(|_| format!("\"{text}\" is not a number")),
    };
    let (soft, hard) = match limits.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(limits)?, number(limits)?),
    };
    if soft > hard {
        return Err(format!("the soft limit {soft} is above the hard limit {hard}"));
    }
    Ok(UlimitRequest { name: name.to_owned(), soft, hard })
}
