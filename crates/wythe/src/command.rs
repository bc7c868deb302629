//! Every command: its name, its flags, what it does. One file each.

use clap::{Args as _, Subcommand};

use crate::{connect::Endpoint, daemon, error::CliError};

mod attach;
mod bench;
mod commit;
mod completion;
mod container;
mod cp;
mod create;
mod df;
mod diff;
mod doctor;
mod each;
mod events;
mod exec;
mod export;
mod fork;
mod history;
mod image;
mod image_disk;
mod image_mount;
mod images;
mod import;
mod info;
mod inspect;
mod kernel;
mod kill;
mod load;
mod login;
mod logout;
mod logs;
mod man;
mod network;
mod pause;
mod port;
mod prune;
mod ps;
mod pull;
mod push;
mod registry;
mod rename;
mod restart;
mod rm;
mod rmi;
mod run;
mod save;
mod start;
mod stats;
mod stop;
mod system;
mod tag;
mod top;
mod unbuilt;
mod update;
mod version;
mod vm;
mod volume;
mod wait;

#[cfg(test)]
pub(crate) use unbuilt::UNBUILT;
pub(crate) use vm::{
    MACHINE as VM_MACHINE, PROCESS as VM_PROCESS, hold as vm_machine, serve as vm_process,
};

/// What can be asked.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Client(ClientCommand),
    /// Manage containers
    #[command(subcommand, arg_required_else_help = true)]
    Container(container::ContainerCommand),
    /// Run the daemon in the foreground
    Daemon(daemon::Args),
    /// Manage the kernels of virtual machines
    #[command(subcommand, arg_required_else_help = true)]
    Kernel(kernel::KernelCommand),
    /// Manage virtual machines
    #[command(subcommand, arg_required_else_help = true)]
    Vm(vm::VmCommand),
    /// Serve a registry of images
    #[command(subcommand, arg_required_else_help = true)]
    Registry(registry::RegistryCommand),
    /// Run as an OCI runtime (create, start, state, kill, delete, …)
    #[command(disable_help_flag = true)]
    Oci(Words),
    /// Hold sandboxes for a daemon that may die (started by the daemon)
    #[command(hide = true, disable_help_flag = true)]
    Shim(Words),
    /// Generate the autocompletion script for the specified shell
    Completion(completion::Args),
    /// Write the man pages
    Man(man::Args),
    /// Anything else.
    #[command(external_subcommand)]
    Other(Vec<String>),
}

/// What is asked of the daemon.
#[derive(Debug, Subcommand)]
pub(crate) enum ClientCommand {
    /// Create and run a new container from an image
    #[command(
        disable_help_flag = true,
        override_usage = "wythe run [OPTIONS] IMAGE [COMMAND] [ARG...]"
    )]
    Run(Box<run::Args>),
    /// Execute a command in a running container
    #[command(override_usage = "wythe exec [OPTIONS] CONTAINER COMMAND [ARG...]")]
    Exec(exec::Args),
    /// List containers
    Ps(ps::Args),
    /// List images
    Images(images::Args),
    /// Import the contents from a tarball to create a filesystem image
    Import(import::Args),
    /// Load an image from a tar archive or STDIN
    Load(load::Args),
    /// Download an image from a registry
    Pull(pull::Args),
    /// Upload an image to a registry
    Push(push::Args),
    /// Authenticate to a registry
    Login(login::Args),
    /// Log out from a registry
    Logout(logout::Args),
    /// Save one or more images to a tar archive (streamed to STDOUT by default)
    Save(save::Args),
    /// Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
    Tag(tag::Args),
    /// Remove one or more images
    Rmi(rmi::Args),
    /// Create a new container
    #[command(
        disable_help_flag = true,
        override_usage = "wythe create [OPTIONS] IMAGE [COMMAND] [ARG...]"
    )]
    Create(Box<create::Args>),
    /// Start one or more stopped containers
    Start(start::Args),
    /// Stop one or more running containers
    Stop(stop::Args),
    /// Restart one or more containers
    Restart(restart::Args),
    /// Kill one or more running containers
    Kill(kill::Args),
    /// Remove one or more containers
    Rm(rm::Args),
    /// Pause all processes within one or more containers
    Pause(pause::PauseArgs),
    /// Unpause all processes within one or more containers
    Unpause(pause::UnpauseArgs),
    /// Rename a container
    Rename(rename::Args),
    /// Update configuration of one or more containers
    Update(update::Args),
    /// Block until one or more containers stop, then print their exit codes
    Wait(wait::Args),
    /// Attach local standard input, output, and error streams to a running container
    Attach(attach::Args),
    /// Fetch the logs of a container
    Logs(logs::Args),
    /// Return low-level information on containers and images
    Inspect(inspect::Args),
    /// Copy files/folders between a container and the local filesystem
    #[command(override_usage = "wythe cp [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n       \
                          wythe cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH")]
    Cp(cp::Args),
    /// Inspect changes to files or directories on a container's filesystem
    Diff(diff::Args),
    /// Export a container's filesystem as a tar archive
    Export(export::Args),
    /// Create a new image from a container's changes
    Commit(commit::Args),
    /// Copy a running container, processes and all (only with --isolation vm)
    Fork(fork::Args),
    /// List port mappings or a specific mapping for the container
    Port(port::Args),
    /// Display the running processes of a container
    Top(top::Args),
    /// Display a live stream of container(s) resource usage statistics
    Stats(stats::Args),
    /// Show the history of an image
    History(history::Args),
    /// Remove all stopped containers: the long name is `container prune`
    #[command(skip)]
    PruneContainers(prune::ContainerArgs),
    /// Manage images
    #[command(subcommand, arg_required_else_help = true)]
    Image(image::ImageCommand),
    /// Get real time events from the server
    Events(events::Args),
    /// Manage Wythe
    #[command(subcommand, arg_required_else_help = true)]
    System(system::SystemCommand),
    /// Manage networks
    #[command(subcommand, arg_required_else_help = true)]
    Network(network::NetworkCommand),
    /// Manage volumes
    #[command(subcommand, arg_required_else_help = true)]
    Volume(volume::VolumeCommand),
    /// Display system-wide information
    Info(info::Args),
    /// Measure what isolation costs
    #[command(subcommand, arg_required_else_help = true)]
    Bench(bench::BenchCommand),
    /// Look for what is wrong with this host, and for what a crash left
    Doctor(doctor::Args),
    /// Show the Wythe version information
    Version(version::Args),
}

/// Words for another personality of the program; `main` has looked at the first.
#[derive(Debug, clap::Args)]
pub(crate) struct Words {
    /// What it takes
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARG")]
    words: Vec<std::ffi::OsString>,
}

impl Command {
    /// Which exit code stands for which of its failures.
    pub(crate) fn codes(&self) -> fn(&CliError) -> u8 {
        use container::ContainerCommand as Long;
        let of_run = matches!(
            self,
            Command::Client(ClientCommand::Run(_)) | Command::Container(Long::Run(_))
        );
        let of_exec = matches!(
            self,
            Command::Client(ClientCommand::Exec(_)) | Command::Container(Long::Exec(_))
        );
        match (of_run, of_exec) {
            (true, _) => CliError::run_code,
            (_, true) => CliError::exec_code,
            (false, false) => CliError::code,
        }
    }
}

/// The definition of one of the commands that are asked for often, without the others and without
/// what only its help needs.
pub(crate) fn alone(name: &str) -> Option<clap::Command> {
    let bare = || clap::Command::new(name.to_owned()).disable_help_flag(true);
    Some(match name {
        "create" => create::Args::augment_args(bare()),
        "exec" => exec::Args::augment_args(bare()),
        "inspect" => inspect::Args::augment_args(bare()),
        "kill" => kill::Args::augment_args(bare()),
        "logs" => logs::Args::augment_args(bare()),
        "ps" => ps::Args::augment_args(bare()),
        "rm" => rm::Args::augment_args(bare()),
        "run" => run::Args::augment_args(bare()),
        "start" => start::Args::augment_args(bare()),
        "stop" => stop::Args::augment_args(bare()),
        "wait" => wait::Args::augment_args(bare()),
        _ => return None,
    })
}

/// Carries a command out and answers with the exit code.
pub(crate) fn run(command: Command, endpoint: &Endpoint) -> Result<u8, CliError> {
    match command {
        Command::Client(command) => ask(command, endpoint),
        Command::Container(command) => ask(command.into(), endpoint),
        Command::Daemon(args) => daemon::run(args, endpoint),
        Command::Kernel(command) => command.run(endpoint),
        Command::Vm(command) => command.run(endpoint),
        Command::Registry(command) => command.run(endpoint),
        Command::Completion(args) => args.run(),
        Command::Man(args) => args.run(),
        Command::Other(words) => Err(unbuilt::refuse(&words)),
        Command::Oci(_) | Command::Shim(_) => {
            let why = "oci and shim are the first word: other flags do not stand before them";
            Err(CliError::Usage(why.to_owned()))
        }
    }
}

/// Talks to the daemon, on this thread alone.
fn ask(command: ClientCommand, to: &Endpoint) -> Result<u8, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::io("start", error))?;
    runtime.block_on(command.run(to))
}

impl ClientCommand {
    async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        match self {
            ClientCommand::Run(args) => args.run(to).await,
            ClientCommand::Exec(args) => args.run(to).await,
            ClientCommand::Ps(args) => args.run(to).await,
            ClientCommand::Images(args) => args.run(to).await,
            ClientCommand::Import(args) => args.run(to).await,
            ClientCommand::Load(args) => args.run(to).await,
            ClientCommand::Pull(args) => args.run(to).await,
            ClientCommand::Push(args) => args.run(to).await,
            ClientCommand::Login(args) => args.run(to).await,
            ClientCommand::Logout(args) => args.run(),
            ClientCommand::Save(args) => args.run(to).await,
            ClientCommand::Tag(args) => args.run(to).await,
            ClientCommand::Rmi(args) => args.run(to).await,
            ClientCommand::Create(args) => args.run(to).await,
            ClientCommand::Start(args) => args.run(to).await,
            ClientCommand::Stop(args) => args.run(to).await,
            ClientCommand::Restart(args) => args.run(to).await,
            ClientCommand::Kill(args) => args.run(to).await,
            ClientCommand::Rm(args) => args.run(to).await,
            ClientCommand::Pause(args) => args.run(to).await,
            ClientCommand::Unpause(args) => args.run(to).await,
            ClientCommand::Rename(args) => args.run(to).await,
            ClientCommand::Update(args) => args.run(to).await,
            ClientCommand::Wait(args) => args.run(to).await,
            ClientCommand::Attach(args) => args.run(to).await,
            ClientCommand::Logs(args) => args.run(to).await,
            ClientCommand::Inspect(args) => args.run(to).await,
            ClientCommand::Cp(args) => args.run(to).await,
            ClientCommand::Diff(args) => args.run(to).await,
            ClientCommand::Export(args) => args.run(to).await,
            ClientCommand::Commit(args) => args.run(to).await,
            ClientCommand::Fork(args) => args.run(to).await,
            ClientCommand::Port(args) => args.run(to).await,
            ClientCommand::Top(args) => args.run(to).await,
            ClientCommand::Stats(args) => args.run(to).await,
            ClientCommand::History(args) => args.run(to).await,
            ClientCommand::PruneContainers(args) => args.run(to).await,
            ClientCommand::Image(command) => command.run(to).await,
            ClientCommand::Events(args) => args.run(to).await,
            ClientCommand::Network(command) => command.run(to).await,
            ClientCommand::Volume(command) => command.run(to).await,
            ClientCommand::Info(args) => args.run(to).await,
            ClientCommand::Bench(command) => command.run(to).await,
            ClientCommand::Doctor(args) => args.run(to).await,
            ClientCommand::System(command) => command.run(to).await,
            ClientCommand::Version(args) => args.run(to).await,
        }
    }
}
