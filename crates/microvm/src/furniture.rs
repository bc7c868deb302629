//! What of the host is in a machine: disks in its places, and shares; and for which container.
//!
//! ```text
//! places  │ 0 changes │ 1 layer │ 2 layer │ 3 changes │ 4 layer │ 5 · │ 6 · │ …
//!             main        both     main       second     second   empty
//! ```
//!
//! A machine has its places from its beginning to its end, for its kernel finds its devices when it
//! boots; what is in them comes and goes. Numbers are used once, so that what a machine remembers
//! of one thing is never taken for another.
//!
//! Pure.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use base::ProcessId;
use workload::DriverError;

/// Where the agent mounts disks, each under its number.
const DISKS: &str = "/run/disks";

/// Where it mounts what the host shares.
pub(crate) const SHARES: &str = "/run/shares";

/// Most shares of a machine: each takes a descriptor of the process that serves them.
pub(crate) const SHARES_MAX: usize = 256;

/// The disk that a saved machine has mounted.
pub(crate) const FIRST: Disk =
    Disk { number: 0, what: DiskImage { image: PathBuf::new(), read_only: false } };

/// An image of the host that is to be a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DiskImage {
    pub(crate) image: PathBuf,
    pub(crate) read_only: bool,
}

/// A disk of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) number: u64,
    pub(crate) what: DiskImage,
}

impl Disk {
    /// By which the agent finds it; at most 20 bytes.
    pub(crate) fn serial(&self) -> String {
        format!("{}", self.number)
    }

    /// Where the agent mounts it.
    pub(crate) fn target(&self) -> PathBuf {
        Path::new(DISKS).join(self.number.to_string())
    }
}

/// Something of the host that a machine is to share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shared {
    /// A directory or a file.
    pub(crate) path: PathBuf,
    /// Whether it cannot be written.
    pub(crate) read_only: bool,
    /// Whether nothing that is mounted below it can.
    pub(crate) recursive_read_only: bool,
}

/// A share of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) number: u64,
    pub(crate) what: Shared,
}

impl Share {
    /// Its name in the shared directory.
    pub(crate) fn name(&self) -> String {
        self.number.to_string()
    }

    /// Where it is inside.
    pub(crate) fn target(&self) -> PathBuf {
        Path::new(SHARES).join(self.name())
    }
}

/// What a container is to have of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Where its changes go.
    pub(crate) changes: PathBuf,
    /// Its layers, top first.
    pub(crate) layers: Vec<PathBuf>,
    pub(crate) shares: Vec<Shared>,
}

/// What it has of it, each in the order in which it was wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fitted {
    /// Those with changes, and then the layers.
    pub(crate) disks: Vec<Disk>,
    pub(crate) shares: Vec<Share>,
}

impl Fitted {
    /// The disk with the changes.
    pub(crate) fn changes(&self) -> &Disk {
        self.disks.first().expect("a container has a disk for what it changes")
    }

    pub(crate) fn layers(&self) -> impl Iterator<Item = &Disk> {
        self.disks.iter().skip(1)
    }

    fn is(&self, wanted: &Wanted) -> bool {
        let disks = self.disks.iter().map(|disk| &disk.what);
        let shares = self.shares.iter().map(|share| &share.what);
        disks.eq(&wanted.disks()) && shares.eq(&wanted.shares)
    }
}

impl Wanted {
    fn disks(&self) -> Vec<DiskImage> {
        let disk = |image: &PathBuf, read_only| DiskImage { image: image.clone(), read_only };
        let layers = self.layers.iter().map(|layer| disk(layer, true));
        std::iter::once(disk(&self.changes, false)).chain(layers).collect()
    }
}

/// What has to be handed over to the machine, or taken out of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    /// With the place of each.
    pub(crate) disks: Vec<(usize, Disk)>,
    pub(crate) shares: Vec<Share>,
}

/// All that is in a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Furniture {
    places: Vec<Option<Disk>>,
    containers: BTreeMap<ProcessId, Fitted>,
    next: u64,
    /// How many containers there were ever.
    guests: usize,
}

impl Furniture {
    /// A machine with so many places for disks, all of them empty but for the first if it has a
    /// disk of nobody's in it.
    pub(crate) fn new(places: usize, scratch: bool) -> Furniture {
        let mut places = vec![None; places];
        if let Some(first) = places.first_mut().filter(|_| scratch) {
            *first = Some(FIRST);
        }
        let (containers, next) = (BTreeMap::new(), u64::from(scratch));
        Furniture { places, containers, next, guests: 0 }
    }

    /// What a container has, if it has what is wanted.
    pub(crate) fn fitted(&self, container: &ProcessId, wanted: &Wanted) -> Option<&Fitted> {
        self.containers.get(container).filter(|fitted| fitted.is(wanted))
    }

    /// Whether there has never been another container than this one.
    pub(crate) fn is_of_one(&self) -> Option<&Fitted> {
        self.containers.values().next().filter(|_| self.guests == 1)
    }

    /// Makes room for a container: layers that are there are its too, everything else comes into
    /// empty places. Nothing changes if there is no room.
    ///
    /// # Errors
    /// [`DriverError::Invalid`] that names the limit; [`DriverError::State`] if another container
    /// has its changes.
    pub(crate) fn fit(
        &mut self,
        container: &ProcessId,
        wanted: &Wanted,
    ) -> Result<(Fitted, Moved), DriverError> {
        self.check_changes(wanted)?;
        let mut after = self.clone();
        let (mut fitted, mut moved) =
            (Fitted { disks: Vec::new(), shares: Vec::new() }, Moved::default());
        let mut disks = wanted.disks();
        // Layers have the same numbers whether a machine's first container has the disk that was
        // saved with it or comes back to its own.
        let late = self.places.first().is_some_and(Option::is_some);
        if late {
            disks.rotate_left(1);
        }
        for what in disks {
            // The same layer twice in one container is two disks: overlayfs has each once.
            let free = |disk: &&Disk| disk.what == what && !fitted.disks.contains(disk);
            let known = self.places.iter().flatten().find(free).cloned();
            let disk = known.map_or_else(|| after.put(what, &mut moved), Ok);
            fitted.disks.push(disk.map_err(|()| self.full(wanted))?);
        }
        if late {
            fitted.disks.rotate_right(1);
        }
        for what in &wanted.shares {
            let share = Share { number: after.number(), what: what.clone() };
            moved.shares.push(share.clone());
            fitted.shares.push(share);
        }
        after.containers.insert(container.clone(), fitted.clone());
        after.check_shares()?;
        after.guests += 1;
        *self = after;
        Ok((fitted, moved))
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    fn put(&mut self, what: DiskImage, moved: &mut Moved) -> Result<Disk, ()> {
        let place = self.places.iter().position(Option::is_none).ok_or(())?;
        let disk = Disk { number: self.number(), what };
        self.places[place] = Some(disk.clone());
        moved.disks.push((place, disk.clone()));
        Ok(disk)
    }

    /// Changes that two containers wrote at once would be those of neither.
    fn check_changes(&self, wanted: &Wanted) -> Result<(), DriverError> {
        let has = |fitted: &Fitted| fitted.changes().what.image == wanted.changes;
        match self.containers.iter().find(|(_, fitted)| has(fitted)) {
            None => Ok(()),
            Some((other, _)) => Err(DriverError::State {
                what: format!("the disk {}", wanted.changes.display()),
                state: format!("that of the container of process {other}"),
            }),
        }
    }

    fn check_shares(&self) -> Result<(), DriverError> {
        let shares: usize = self.containers.values().map(|fitted| fitted.shares.len()).sum();
        if shares <= SHARES_MAX {
            return Ok(());
        }
        Err(DriverError::Invalid {
            what: "mounts".to_owned(),
            why: format!(
                "with them the machine would have {shares} files and directories of the host; \
                 it has at most {SHARES_MAX}, of all its containers together"
            ),
        })
    }

    fn full(&self, wanted: &Wanted) -> DriverError {
        let (all, disks) = (self.places.len(), wanted.disks());
        let there = |what: &&DiskImage| !self.places.iter().flatten().any(|it| it.what == **what);
        let (new, free) =
            (disks.iter().filter(there).count(), self.places.iter().flatten().count());
        DriverError::Invalid {
            what: "another container in this machine".to_owned(),
            why: format!(
                "it takes {new} more disks, one for its changes and one for each layer that no \
                 other has, and of the {all} places that the machine was begun with {} are empty",
                all - free
            ),
        }
    }

    /// Forgets a container; gives what nobody has any more. Disks are in their places until they
    /// were taken out: [`Furniture::empty`].
    pub(crate) fn forget(&mut self, container: &ProcessId) -> Moved {
        let Some(Fitted { disks, shares }) = self.containers.remove(container) else {
            return Moved::default();
        };
        let has = |disk: &Disk| self.containers.values().any(|it| it.disks.contains(disk));
        let places = self.places.iter().enumerate();
        let placed = places.filter_map(|(place, disk)| Some((place, disk.clone()?)));
        let gone = placed.filter(|(_, disk)| disks.contains(disk) && !has(disk)).collect();
        Moved { disks: gone, shares }
    }

    /// A disk was taken out of its place.
    pub(crate) fn empty(&mut self, place: usize) {
        if let Some(place) = self.places.get_mut(place) {
            *place = None;
        }
    }
}

#[cfg(test)]
mod tests;
