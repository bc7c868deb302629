//! `container …`: the long names of commands about containers.

use clap::Subcommand;

use super::{
    Command, attach, create, exec, inspect, kill, logs, pause, port, ps, rename, restart, rm, run,
    start, stats, stop, top, wait,
};

/// What can be asked about containers.
#[derive(Debug, Subcommand)]
pub(crate) enum ContainerCommand {
    /// Attach local standard input, output, and error streams to a running container
    Attach(attach::Args),
    /// Create a new container
    Create(Box<create::Args>),
    /// Execute a command in a running container
    Exec(exec::Args),
    /// Display detailed information on one or more containers
    Inspect(inspect::ContainerArgs),
    /// Kill one or more running containers
    Kill(kill::Args),
    /// Fetch the logs of a container
    Logs(logs::Args),
    /// List containers
    #[command(visible_aliases = ["list", "ps"])]
    Ls(ps::Args),
    /// Pause all processes within one or more containers
    Pause(pause::PauseArgs),
    /// List port mappings or a specific mapping for the container
    Port(port::Args),
    /// Rename a container
    Rename(rename::Args),
    /// Restart one or more containers
    Restart(restart::Args),
    /// Remove one or more containers
    #[command(visible_alias = "remove")]
    Rm(rm::Args),
    /// Create and run a new container from an image
    Run(Box<run::Args>),
    /// Start one or more stopped containers
    Start(start::Args),
    /// Display a live stream of container(s) resource usage statistics
    Stats(stats::Args),
    /// Stop one or more running containers
    Stop(stop::Args),
    /// Display the running processes of a container
    Top(top::Args),
    /// Unpause all processes within one or more containers
    Unpause(pause::UnpauseArgs),
    /// Block until one or more containers stop, then print their exit codes
    Wait(wait::Args),
}

impl From<ContainerCommand> for Command {
    fn from(command: ContainerCommand) -> Command {
        match command {
            ContainerCommand::Attach(args) => Command::Attach(args),
            ContainerCommand::Create(args) => Command::Create(args),
            ContainerCommand::Exec(args) => Command::Exec(args),
            ContainerCommand::Inspect(args) => Command::Inspect(args.into()),
            ContainerCommand::Kill(args) => Command::Kill(args),
            ContainerCommand::Logs(args) => Command::Logs(args),
            ContainerCommand::Ls(args) => Command::Ps(args),
            ContainerCommand::Pause(args) => Command::Pause(args),
            ContainerCommand::Port(args) => Command::Port(args),
            ContainerCommand::Rename(args) => Command::Rename(args),
            ContainerCommand::Restart(args) => Command::Restart(args),
            ContainerCommand::Rm(args) => Command::Rm(args),
            ContainerCommand::Run(args) => Command::Run(args),
            ContainerCommand::Start(args) => Command::Start(args),
            ContainerCommand::Stats(args) => Command::Stats(args),
            ContainerCommand::Stop(args) => Command::Stop(args),
            ContainerCommand::Top(args) => Command::Top(args),
            ContainerCommand::Unpause(args) => Command::Unpause(args),
            ContainerCommand::Wait(args) => Command::Wait(args),
        }
    }
}
