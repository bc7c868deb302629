//! A machine that is saved while it runs, and machines that go on from there.
//!
//! ```text
//! <directory>/machine/      a snapshot: its memory is mapped, not copied, by each that goes on; and
//!                           what its processor in software has decoded
//! <directory>/changes.ext4  its disk, as it was then
//! <directory>/boot.json     what it was booted as
//! ```
//!
//! Its processes stand still while it is saved, so they do in each of the others: until the time,
//! the random numbers, the name and the addresses there are its own. Connections of the saved one's
//! driver are gone there; its streams are new ones.

use std::{
    fs::{self, File},
    io,
    os::fd::AsFd as _,
    path::Path,
};

use base::{Deadline, chain};
use hv::Accel;
use net::machine::{Cables, set_cables};
use rustix::{
    fs::{Mode, OFlags, open},
    rand::{GetRandomFlags, getrandom},
};
use serde::{Deserialize, Serialize};
use shim::{
    Remote,
    protocol::{Chore, Identity, Reply, Request},
};
use tokio::sync::Mutex;
use workload::{DriverError, Forkable, Pending, ProcessSpec};

use super::{Running, VmSandbox, awake, chores_done, done, furnish, nonsense, rooms::Rooms};
use crate::{
    changes,
    control::Boot,
    furniture::{Fitted, Furniture, Wanted},
    link::Link,
    warm,
};

/// What is in a directory into which a machine was saved.
const MACHINE: &str = "machine";
const CHANGES: &str = "changes.ext4";
const BOOT: &str = "boot.json";

/// As what a machine was booted.
#[derive(Serialize, Deserialize)]
struct Booted {
    boot: Boot,
    /// See [`Running`].
    scratch: bool,
}

impl Forkable for VmSandbox {
    fn save(&self, directory: &Path, by: Deadline) -> Pending<'_, Result<(), DriverError>> {
        let directory = directory.to_owned();
        Box::pin(async move {
            let running = self.running().await?;
            // Nobody moves in or out meanwhile.
            let rooms = running.rooms.lock().await;
            let changes = &alone(&rooms.furniture)?.changes();
            // So that what is in its memory of the disk is what is on the disk.
            let freeze = vec![Chore::Freeze(changes.target())];
            let saved = match chores_done(&running.agent, freeze, by).await {
                Ok(()) => running.save(&directory, &changes.what.image).await,
                Err(error) => Err(error),
            };
            // Whatever came of it: an answer that is late may be of one who did it.
            let thaw = Request::Chores(vec![Chore::Thaw(changes.target())]);
            let thawed = running.call(thaw).await.and_then(|reply| done(&reply));
            saved.and(thawed)
        })
    }
}

/// What the container has whose machine is to be copied.
fn alone(furniture: &Furniture) -> Result<&Fitted, DriverError> {
    furniture.is_of_one().ok_or_else(|| DriverError::Unsupported {
        what: "a copy of a machine that has had several containers".to_owned(),
        why: "each would be in it, and a copy is one container".to_owned(),
    })
}

impl Running {
    /// Saves machine and disk; neither changes meanwhile what the other has of it.
    async fn save(&self, directory: &Path, disk: &Path) -> Result<(), DriverError> {
        let failed = |error: io::Error| DriverError::step("save a machine", &error);
        let machine = directory.join(MACHINE);
        fs::create_dir(&machine).map_err(failed)?;
        let code = || File::create_new(machine.join(warm::CODE)).map_err(failed);
        let code = (self.boot.accel == Accel::Soft).then(code).transpose()?;
        self.link.save(&machine, code.as_ref()).await?;
        let (disk, to) = (disk.to_owned(), directory.join(CHANGES));
        blocking(move || changes::copy(&disk, &to)).await?;
        let booted = Booted { boot: self.boot.clone(), scratch: self.scratch };
        let booted = serde_json::to_vec(&booted).map_err(|error| failed(error.into()))?;
        fs::write(directory.join(BOOT), booted).map_err(failed)
    }
}

impl VmSandbox {
    /// Takes up the machine that was saved in this directory, and makes it another one. Its
    /// processes stand still.
    pub(super) async fn take_up(
        &self,
        saved: &Path,
        spec: &ProcessSpec,
        wanted: &Wanted,
        by: Deadline,
    ) -> Result<(Running, Fitted), DriverError> {
        let failed = |error: io::Error| DriverError::step("take up a saved machine", &error);
        let boot = fs::read(saved.join(BOOT)).map_err(failed)?;
        let booted = serde_json::from_slice(&boot).map_err(|error| failed(error.into()))?;
        let Booted { boot, scratch } = booted;
        let (from, to) = (saved.join(CHANGES), wanted.changes.clone());
        blocking(move || changes::copy(&from, &to)).await?;
        let link = Link::start(&self.shared.config, Some(&self.group), self.namespace()?)?;
        let interfaces = self.plug_in(&link).await?;
        let count = interfaces.len();
        // On the wire it is the saved one still.
        self.set_cables(count, Cables::Cut).await?;
        // What it has was mounted when it was saved.
        let (furniture, fitted, _) = furnish(&link, &spec.id, wanted, &boot, scratch).await?;
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = open(saved.join(MACHINE), flags, Mode::empty());
        let directory = directory.map_err(|error| failed(error.into()))?;
        warm::take_up(&link, &directory, &boot).await?;
        let agent = link.agent(by).await?;
        let mut chores = awake()?;
        chores.push(Chore::Thaw(fitted.changes().target()));
        chores.push(Chore::Identity(Box::new(self.identity(&agent, spec, by).await?)));
        if count > 0 {
            chores.push(Chore::Interfaces(interfaces));
        }
        chores.extend(fitted.shares.iter().map(|share| Chore::Reread(share.target())));
        chores_done(&agent, chores, by).await?;
        self.set_cables(count, Cables::Connected).await?;
        let rooms = Mutex::new(Rooms::new(furniture, Some(spec.id.clone())));
        Ok((Running { link, agent, rooms, scratch, boot }, fitted))
    }

    async fn set_cables(&self, count: usize, cables: Cables) -> Result<(), DriverError> {
        let Some(namespace) = self.namespace()?.filter(|_| count > 0) else { return Ok(()) };
        blocking(move || {
            set_cables(namespace.as_fd(), count, cables).map_err(|error| DriverError::Invalid {
                what: "a machine's network".to_owned(),
                why: chain(&error),
            })
        })
        .await
    }

    /// Who its container is from now on.
    async fn identity(
        &self,
        agent: &Remote,
        spec: &ProcessSpec,
        by: Deadline,
    ) -> Result<Identity, DriverError> {
        let request = Request::Process { process: spec.id.clone() };
        let reply = agent.call(request, None, Some(by)).await?;
        let Reply::Process { host_pid } = reply else { return Err(nonsense(&reply)) };
        let process = host_pid.ok_or_else(|| DriverError::State {
            what: format!("process {}", spec.id),
            state: "not running".to_owned(),
        })?;
        let hostname = self.spec.hostname.clone();
        Ok(Identity { process, hostname, machine_id: machine_id()? })
    }
}

/// A new machine's id. Source: machine-id(5): 32 hexadecimal digits, of a random UUID (RFC 9562,
/// 5.4).
fn machine_id() -> Result<String, DriverError> {
    let mut bytes = [0; 16];
    getrandom(&mut bytes, GetRandomFlags::empty())
        .map_err(|error| DriverError::step("get random bytes", &error.into()))?;
    let random = u128::from_be_bytes(bytes) & !((0xf << 76) | (0b11 << 62));
    let (version, variant) = (4 << 76, 0b10 << 62);
    Ok(format!("{:032x}", random | version | variant))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DriverError> + Send + 'static,
) -> Result<T, DriverError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(DriverError::Unreachable { why: "a panic".to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machines_id_is_a_random_uuid() {
        let (one, other) = (machine_id().unwrap(), machine_id().unwrap());
        assert_ne!(one, other);
        for id in [one, other] {
            assert_eq!(id.len(), 32, "{id}");
            assert!(id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{id}");
            assert_eq!(&id[12..13], "4", "{id}: version");
            assert!("89ab".contains(&id[16..17]), "{id}: variant");
        }
    }
}
