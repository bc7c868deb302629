//! The first process of a machine.
//!
//! ```text
//! kernel ──▶ modules, ground (mounts) ──▶ vsock ──▶ shim::Post ──▶ container driver ──▶ execve
//!                                          1024 callers    └─ chores: mounts, clock, seed
//!                                          1025 streams
//! ```
//!
//! It is the shim of a sandbox whose wall is the machine around it: the protocol is that of every
//! other shim, over vsock, and what it starts processes with is the driver that containers are
//! started with. When the sandbox is destroyed the machine is switched off.
//!
//! Knows neither the host nor what kind of machine it is in.

mod chores;
mod ground;
mod identity;
mod messages;
mod modules;
mod names;
mod rehearsal;
mod thrash;
mod visitors;

use std::{process::ExitCode, sync::Arc};

use base::{Deadline, chain};
use shim::{DoChore, MakeDriver, Post, protocol::REHEARSAL};
use workload::{Driver, Isolation};

/// Below which control group the sandbox has its own.
const GROUP: &str = "/wythe";

fn main() -> ExitCode {
    if std::env::args().next().is_some_and(|name| name == REHEARSAL) {
        rehearsal::play();
        return ExitCode::SUCCESS;
    }
    messages::to_the_console();
    if let Err(error) = run() {
        // The host reads it on the console.
        tracing::error!("{}", chain(&*error));
    }
    // A first process that ends is a kernel panic, which says less.
    ground::switch_off();
    ExitCode::FAILURE
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    ground::begin()?;
    modules::load()?;
    ground::prepare()?;
    thrash::watch();
    let prepared = linux::Prepared::new(None, GROUP)?.with_ground();
    // The driver makes containers; to those outside it is a machine.
    let driver: Arc<MakeDriver> = Arc::new(move |_: Isolation| {
        let driver = prepared.driver(Isolation::Container)?;
        Ok(Arc::new(driver) as Arc<dyn Driver>)
    });
    let chores: Arc<DoChore> =
        Arc::new(|chore, by: Deadline| Box::pin(async move { chores::carry_out(chore, by).await }));
    let build = env!("CARGO_PKG_VERSION").to_owned();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    runtime.block_on(async {
        let visitors = visitors::receive()?;
        Post::new(driver, Some(chores), build).serve(visitors).await;
        Ok(())
    })
}
