//! Containers that move into a machine, and out of it.
//!
//! ```text
//! in:  fit (pure) ──▶ Disk, Share, … to the machine ──▶ Mount, … to its agent ──▶ spawn
//! out: Unmount, … to its agent ──▶ TakeDisk, TakeShare, … to the machine
//! ```
//!
//! What the agent does not let go of stays in its place and is of no use to anybody until the
//! machine ends.

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use base::{Deadline, ProcessId};
use rustix::fs::{Mode, OFlags, open};
use shim::protocol::Chore;
use tokio::sync::watch;
use workload::{DriverError, Exit};

use super::{Running, chores_done};
use crate::{
    changes,
    control::Order,
    furniture::{Disk, FIRST, Fitted, Furniture, Moved, Share, Wanted},
    link::Link,
    share, translate,
};

/// How long the agent may take to let go of what a container had.
const OUT_WITHIN: Duration = Duration::from_secs(5);

/// Who is in a machine, and with what.
#[derive(Debug)]
pub(crate) struct Rooms {
    pub(super) furniture: Furniture,
    /// The container that was in the machine when it was saved, until it is taken over.
    saved: Option<ProcessId>,
    /// How containers end whose first process was started.
    ends: BTreeMap<ProcessId, watch::Receiver<Option<Exit>>>,
}

/// What is handed over, and what its container has.
pub(crate) struct Handed {
    fds: Vec<(Order, OwnedFd)>,
    fitted: Fitted,
}

impl Rooms {
    pub(super) fn new(furniture: Furniture, saved: Option<ProcessId>) -> Rooms {
        Rooms { furniture, saved, ends: BTreeMap::new() }
    }

    /// Whether a container's first process is there already.
    pub(super) fn is_there(&self, id: &ProcessId) -> bool {
        self.saved.as_ref() == Some(id)
    }

    /// A container's first process was started, or taken over.
    pub(super) fn started(&mut self, id: &ProcessId, end: watch::Receiver<Option<Exit>>) {
        self.saved = None;
        self.ends.insert(id.clone(), end);
    }
}

impl Handed {
    /// Opens everything that is to be handed over; nothing is changed by that.
    pub(super) fn open(fitted: Fitted, moved: &Moved) -> Result<Handed, DriverError> {
        let mut handed = Handed { fds: Vec::new(), fitted };
        for (place, disk) in &moved.disks {
            handed.disk(*place, disk)?;
        }
        for share in &moved.shares {
            handed.share(share)?;
        }
        Ok(handed)
    }

    /// What the agent has to do then, who has the disks mounted whose numbers are below this. Others
    /// that are in their places are asked for too: one that was not let go of may be mounted or not.
    pub(crate) fn chores(&self, mounted: u64) -> Result<Vec<Chore>, DriverError> {
        let Fitted { disks, shares } = &self.fitted;
        let mut chores = Vec::new();
        for disk in disks {
            if disk.number >= mounted {
                let bytes = fs::metadata(&disk.what.image).map_err(|e| unread(disk, &e))?.len();
                chores.extend(translate::mount_disk(disk, bytes));
            }
        }
        chores.extend((!shares.is_empty()).then(translate::mount_shares));
        Ok(chores)
    }

    fn disk(&mut self, place: usize, disk: &Disk) -> Result<(), DriverError> {
        let read_only = disk.what.read_only;
        let access = if read_only { OFlags::RDONLY } else { OFlags::RDWR };
        let opened = open(&disk.what.image, access | OFlags::CLOEXEC, Mode::empty());
        let opened = opened.map_err(|error| unread(disk, &error.into()))?;
        self.fds.push((Order::Disk { place, serial: disk.serial(), read_only }, opened));
        Ok(())
    }

    fn share(&mut self, wanted: &Share) -> Result<(), DriverError> {
        let failed =
            |error| DriverError::step(format!("share {}", wanted.what.path.display()), &error);
        let mount = share::mount(&wanted.what).map_err(failed)?;
        self.fds.push((Order::Share { name: wanted.name() }, mount));
        Ok(())
    }

    /// Adds a disk of nobody's, in the place of the one that a saved machine has mounted.
    pub(super) fn scratch(&mut self, disk: OwnedFd) {
        self.fds.push((Order::Disk { place: 0, serial: FIRST.serial(), read_only: false }, disk));
    }

    pub(super) async fn over(&self, link: &Link) -> Result<(), DriverError> {
        for (order, fd) in &self.fds {
            link.order(order, &[fd.as_fd()]).await?;
        }
        Ok(())
    }
}

fn unread(disk: &Disk, error: &io::Error) -> DriverError {
    DriverError::step(format!("open {}", disk.what.image.display()), error)
}

impl Running {
    /// Has a container in this machine. One that did not start has what it had, if it wants that.
    ///
    /// # Errors
    /// [`DriverError::Exists`] if it is there already, those of [`Furniture::fit`], and those of
    /// the host and of the agent; then nothing of it is there.
    pub(super) async fn move_in(
        &self,
        id: &ProcessId,
        wanted: &Wanted,
        by: Deadline,
    ) -> Result<Fitted, DriverError> {
        let mut rooms = self.rooms.lock().await;
        if rooms.ends.contains_key(id) {
            return Err(DriverError::Exists { what: format!("process {id}") });
        }
        if let Some(fitted) = rooms.furniture.fitted(id, wanted) {
            return Ok(fitted.clone());
        }
        self.clear(&mut rooms.furniture, id).await;
        let before = rooms.furniture.clone();
        let (fitted, moved) = rooms.furniture.fit(id, wanted)?;
        let opened = changes::make(&wanted.changes);
        let opened = opened.and_then(|()| Handed::open(fitted.clone(), &moved));
        let handed = match opened.and_then(|handed| Ok((handed.chores(0)?, handed))) {
            Ok(handed) => handed,
            Err(error) => {
                rooms.furniture = before;
                return Err(error);
            }
        };
        if let Err(error) = self.carry_in(handed, by).await {
            self.clear(&mut rooms.furniture, id).await;
            return Err(error);
        }
        Ok(fitted)
    }

    async fn carry_in(
        &self,
        (chores, handed): (Vec<Chore>, Handed),
        by: Deadline,
    ) -> Result<(), DriverError> {
        handed.over(&self.link).await?;
        chores_done(&self.agent, chores, by).await
    }

    /// Takes out what only this container has had, if it has ended or was not started.
    pub(super) async fn move_out(&self, id: &ProcessId) {
        let mut rooms = self.rooms.lock().await;
        if rooms.ends.get(id).is_some_and(|end| end.borrow().is_none()) {
            return;
        }
        rooms.ends.remove(id);
        self.clear(&mut rooms.furniture, id).await;
    }

    async fn clear(&self, furniture: &mut Furniture, id: &ProcessId) {
        let Moved { disks, shares } = furniture.forget(id);
        for share in shares {
            let taken = self.link.order(&Order::TakeShare { name: share.name() }, &[]).await;
            if let Err(error) = taken {
                tracing::debug!(%error, "a share was not there");
            }
        }
        let by = Deadline::after(OUT_WITHIN);
        for (place, disk) in disks {
            let unmount = vec![translate::unmount_disk(&disk)];
            let out = match chores_done(&self.agent, unmount, by).await {
                Ok(()) => self.link.order(&Order::TakeDisk { place }, &[]).await,
                Err(error) => Err(error),
            };
            match out {
                Ok(()) => furniture.empty(place),
                Err(error) => tracing::warn!(place, %error, "a disk stays in a machine"),
            }
        }
    }
}
