//! `container …`: the long names of commands about containers.

use clap::Subcommand;

use super::{
    ClientCommand, attach, commit, cp, create, diff, exec, export, fork, inspect, kill, logs,
    pause, port, prune, ps, rename, restart, rm, run, start, stats, stop, top, update, wait,
};

/// What can be asked about containers.
#[derive(Debug, Subcommand)]
pub(crate) enum ContainerCommand {
    /// Attach local standard input, output, and error streams to a running container
    Attach(attach::Args),
    /// Create a new image from a container's changes
    Commit(commit::Args),
    /// Copy files/folders between a container and the local filesystem
    #[command(override_usage = "wythe cp [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n       \
                          wythe cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH")]
    Cp(cp::Args),
    /// Create a new container
    #[command(
        disable_help_flag = true,
        override_usage = "wythe create [OPTIONS] IMAGE [COMMAND] [ARG...]"
    )]
    Create(Box<create::Args>),
    /// Inspect changes to files or directories on a container's filesystem
    Diff(diff::Args),
    /// Execute a command in a running container
    #[command(override_usage = "wythe exec [OPTIONS] CONTAINER COMMAND [ARG...]")]
    Exec(exec::Args),
    /// Export a container's filesystem as a tar archive
    Export(export::Args),
    /// Copy a running container, processes and all (only with --isolation vm)
    Fork(fork::Args),
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
    /// Remove all stopped containers
    Prune(prune::ContainerArgs),
    /// Rename a container
    Rename(rename::Args),
    /// Restart one or more containers
    Restart(restart::Args),
    /// Remove one or more containers
    #[command(visible_alias = "remove")]
    Rm(rm::Args),
    /// Create and run a new container from an image
    #[command(
        disable_help_flag = true,
        override_usage = "wythe run [OPTIONS] IMAGE [COMMAND] [ARG...]"
    )]
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
    /// Update configuration of one or more containers
    Update(update::Args),
    /// Block until one or more containers stop, then print their exit codes
    Wait(wait::Args),
}

impl From<ContainerCommand> for ClientCommand {
    fn from(command: ContainerCommand) -> ClientCommand {
        match command {
            ContainerCommand::Attach(args) => ClientCommand::Attach(args),
            ContainerCommand::Commit(args) => ClientCommand::Commit(args),
            ContainerCommand::Fork(args) => ClientCommand::Fork(args),
            ContainerCommand::Cp(args) => ClientCommand::Cp(args),
            ContainerCommand::Diff(args) => ClientCommand::Diff(args),
            ContainerCommand::Export(args) => ClientCommand::Export(args),
            ContainerCommand::Create(args) => ClientCommand::Create(args),
            ContainerCommand::Exec(args) => ClientCommand::Exec(args),
            ContainerCommand::Inspect(args) => ClientCommand::Inspect(args.into()),
            ContainerCommand::Kill(args) => ClientCommand::Kill(args),
            ContainerCommand::Logs(args) => ClientCommand::Logs(args),
            ContainerCommand::Ls(args) => ClientCommand::Ps(args),
            ContainerCommand::Pause(args) => ClientCommand::Pause(args),
            ContainerCommand::Port(args) => ClientCommand::Port(args),
            ContainerCommand::Prune(args) => ClientCommand::PruneContainers(args),
            ContainerCommand::Rename(args) => ClientCommand::Rename(args),
            ContainerCommand::Restart(args) => ClientCommand::Restart(args),
            ContainerCommand::Rm(args) => ClientCommand::Rm(args),
            ContainerCommand::Run(args) => ClientCommand::Run(args),
            ContainerCommand::Start(args) => ClientCommand::Start(args),
            ContainerCommand::Stats(args) => ClientCommand::Stats(args),
            ContainerCommand::Stop(args) => ClientCommand::Stop(args),
            ContainerCommand::Top(args) => ClientCommand::Top(args),
            ContainerCommand::Unpause(args) => ClientCommand::Unpause(args),
            ContainerCommand::Update(args) => ClientCommand::Update(args),
            ContainerCommand::Wait(args) => ClientCommand::Wait(args),
        }
    }
}
