//! What the guest knows of: inodes by number, each with a descriptor that is good for nothing but
//! to find it again (`O_PATH`).
//!
//! Descriptors are few and a guest may know many inodes. Of those that were not used for longest
//! the descriptor is closed; from then on they are known by their directory and name, and what is
//! found there is the inode only if it has the same number still. Otherwise the guest hears
//! `ESTALE`, and looks it up again by itself.
//!
//! Source: openat(2), `O_PATH`; statx(2).

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    ffi::{CStr, CString},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, Statx, StatxAttributes, StatxFlags, fcntl_getfl, openat, statx},
    io::{Errno, fcntl_dupfd_cloexec},
};
use serde::{Deserialize, Serialize};

use super::wire::check_name;

/// The number of the directory that is exported. Source: fuse.h, `FUSE_ROOT_ID`.
pub(super) const ROOT: u64 = 1;

/// Numbers, of inodes and of handles, that a server never gets to by counting.
pub(super) const NUMBER_MAX: u64 = 1 << 62;

/// How far up directories are opened again before an inode is found again.
const DEPTH_MAX: usize = 256;

/// What makes an inode the same one: its file system's mount and number, and its own; and when it
/// was made, where the file system knows, for the number of what was removed is soon another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    mount: u64,
    device: (u32, u32),
    ino: u64,
    made: (i64, u32),
}

impl Key {
    fn of(at: &Statx) -> Key {
        Key {
            mount: at.stx_mnt_id,
            device: (at.stx_dev_major, at.stx_dev_minor),
            ino: at.stx_ino,
            made: (at.stx_btime.tv_sec, at.stx_btime.tv_nsec),
        }
    }
}

#[derive(Debug)]
struct Inode {
    key: Key,
    descriptor: Option<Arc<OwnedFd>>,
    /// Where it was last seen.
    parent: u64,
    name: CString,
    /// How often the guest has been told of it and has not said that it forgot.
    lookups: u64,
    /// Used since its descriptor was last considered for closing.
    used: bool,
    /// Its name is gone, so that its descriptor is all there is.
    pinned: bool,
}

/// What is saved of an inode: where it was last seen, and how often the guest was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Saved {
    node: u64,
    parent: u64,
    name: CString,
    lookups: u64,
}

/// How much a guest may know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Inodes, each of which takes some 200 bytes.
    pub inodes: usize,
    /// Descriptors of inodes, at least 2.
    pub descriptors: usize,
    /// Files and directories that are open, a descriptor each.
    pub handles: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { inodes: 1 << 17, descriptors: 4096, handles: 4096 }
    }
}

/// All inodes that the guest knows.
#[derive(Debug)]
pub(super) struct Inodes {
    inodes: HashMap<u64, Inode>,
    by_key: HashMap<Key, u64>,
    /// Those with a descriptor, roughly by age; some that have lost theirs may be in it.
    clock: VecDeque<u64>,
    descriptors: usize,
    /// Devices in the order in which they were met: the first is that of the root.
    devices: Vec<(u32, u32)>,
    next: u64,
    limits: Limits,
    /// Entries of the root that are elsewhere.
    grafts: BTreeMap<CString, OwnedFd>,
}

/// The attributes that a guest gets to see.
pub(super) fn look(fd: impl AsFd) -> Result<Statx, Errno> {
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
    statx(fd, c"", AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW, wanted)
}

/// A descriptor for what a directory has under a name, whatever it is.
pub(super) fn find(directory: impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    openat(directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

impl Inodes {
    /// The root alone.
    pub(super) fn new(root: Arc<OwnedFd>, limits: Limits) -> Result<Inodes, Errno> {
        let at = look(&*root)?;
        let key = Key::of(&at);
        let inode = Inode {
            key,
            descriptor: Some(root),
            parent: ROOT,
            name: CString::default(),
            lookups: 1,
            used: true,
            pinned: true,
        };
        Ok(Inodes {
            inodes: HashMap::from([(ROOT, inode)]),
            by_key: HashMap::from([(key, ROOT)]),
            clock: VecDeque::new(),
            descriptors: 1,
            devices: vec![key.device],
            next: ROOT + 1,
            limits: Limits { descriptors: limits.descriptors.max(2), ..limits },
            grafts: BTreeMap::new(),
        })
    }

    /// Makes something an entry of the root. Whoever hands it over may be the guest's by now, and
    /// is to gain nothing by it: a file that it has open to be read would be opened here to be
    /// written. So it has to be what is good for nothing but to be found again, and a mount, which
    /// says what may be done with it.
    ///
    /// Source: open(2), `O_PATH`; statx(2), `STATX_ATTR_MOUNT_ROOT`, Linux 5.8.
    pub(super) fn graft(&mut self, name: CString, what: OwnedFd) -> Result<(), Errno> {
        check_name(&name)?;
        let mount = look(&what)?.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
        if !mount || !fcntl_getfl(&what)?.contains(OFlags::PATH) {
            return Err(Errno::PERM);
        }
        if self.grafts.contains_key(&name) {
            return Err(Errno::EXIST);
        }
        self.grafts.insert(name, what);
        Ok(())
    }

    /// Takes such an entry away: nothing beneath it is found any more. Gives what of it the guest
    /// knew.
    pub(super) fn prune(&mut self, name: &CStr) -> Result<HashSet<u64>, Errno> {
        let graft = self.grafts.remove(name).ok_or(Errno::NOENT)?;
        let mount = look(&graft)?.stx_mnt_id;
        let known = self.inodes.keys().copied().filter(|node| *node != ROOT);
        let pruned: HashSet<u64> =
            known.filter(|node| self.is_beneath(*node, name, mount)).collect();
        for node in &pruned {
            let Some(inode) = self.inodes.get_mut(node) else { continue };
            inode.pinned = false;
            self.descriptors -= usize::from(inode.descriptor.take().is_some());
        }
        Ok(pruned)
    }

    /// Whether an inode is on this mount, or beneath this entry of the root: a guest may have
    /// forgotten what is between them.
    fn is_beneath(&self, mut node: u64, name: &CStr, mount: u64) -> bool {
        for _ in 0..DEPTH_MAX {
            let Some(inode) = self.inodes.get(&node).filter(|_| node != ROOT) else { return false };
            if inode.key.mount == mount || (inode.parent == ROOT && *inode.name == *name) {
                return true;
            }
            node = inode.parent;
        }
        false
    }

    /// A descriptor for what a directory has under a name, whatever it is.
    pub(super) fn find(&mut self, parent: u64, name: &CStr) -> Result<OwnedFd, Errno> {
        let directory = self.get(parent)?;
        self.find_in(parent, &directory, name)
    }

    fn find_in(&self, parent: u64, directory: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
        match self.grafts.get(name) {
            Some(graft) if parent == ROOT => fcntl_dupfd_cloexec(graft, 0),
            Some(_) | None => find(directory, name),
        }
    }

    /// Everything but the root is forgotten.
    pub(super) fn clear(&mut self) {
        self.inodes.retain(|node, _| *node == ROOT);
        self.by_key.retain(|_, node| *node == ROOT);
        self.clock.clear();
        self.descriptors = 1;
    }

    /// Whether the guest has not forgotten it.
    pub(super) fn knows(&self, node: u64) -> bool {
        self.inodes.contains_key(&node)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.inodes.len()
    }

    #[cfg(test)]
    pub(super) fn descriptors(&self) -> usize {
        self.inodes.values().filter(|inode| inode.descriptor.is_some()).count()
    }

    /// The number that the guest sees: that of the inode, made another where a second file system
    /// is mounted beneath the root, so that two inodes have two.
    pub(super) fn ino(&mut self, at: &Statx) -> u64 {
        let device = (at.stx_dev_major, at.stx_dev_minor);
        let known = self.devices.iter().position(|other| *other == device);
        let index = known.unwrap_or_else(|| {
            if self.devices.len() < usize::from(u8::MAX) {
                self.devices.push(device);
            }
            self.devices.len() - 1
        });
        // Numbers below 2^48 stay apart; larger ones are rare enough.
        at.stx_ino ^ u64::try_from(index).unwrap_or(0) << 48
    }

    /// The descriptor of an inode, made again if it was closed.
    pub(super) fn get(&mut self, node: u64) -> Result<Arc<OwnedFd>, Errno> {
        let mut lost = Vec::new();
        let mut at = node;
        let mut found = loop {
            let inode = self.inodes.get_mut(&at).ok_or(Errno::STALE)?;
            inode.used = true;
            if let Some(descriptor) = &inode.descriptor {
                break Arc::clone(descriptor);
            }
            if lost.len() == DEPTH_MAX {
                return Err(Errno::STALE);
            }
            lost.push(at);
            at = inode.parent;
        };
        while let Some(node) = lost.pop() {
            found = self.reopen(node, &found)?;
        }
        Ok(found)
    }

    fn reopen(&mut self, node: u64, parent: &OwnedFd) -> Result<Arc<OwnedFd>, Errno> {
        self.make_room()?;
        let inode = self.inodes.get(&node).ok_or(Errno::STALE)?;
        let stale = |error| if error == Errno::NOENT { Errno::STALE } else { error };
        let descriptor = self.find_in(inode.parent, parent, &inode.name).map_err(stale)?;
        let inode = self.inodes.get_mut(&node).ok_or(Errno::STALE)?;
        if Key::of(&look(&descriptor)?) != inode.key {
            return Err(Errno::STALE);
        }
        let descriptor = Arc::new(descriptor);
        inode.descriptor = Some(Arc::clone(&descriptor));
        self.descriptors += 1;
        self.clock.push_back(node);
        Ok(descriptor)
    }

    /// Closes what was not used for longest, if there are as many descriptors as there may be.
    fn make_room(&mut self) -> Result<(), Errno> {
        let mut tries = 2 * self.clock.len();
        while self.descriptors >= self.limits.descriptors {
            tries = tries.checked_sub(1).ok_or(Errno::NFILE)?;
            let node = self.clock.pop_front().ok_or(Errno::NFILE)?;
            let Some(inode) = self.inodes.get_mut(&node) else { continue };
            if inode.descriptor.is_none() {
                continue;
            }
            if inode.pinned || std::mem::take(&mut inode.used) {
                self.clock.push_back(node);
                continue;
            }
            inode.descriptor = None;
            self.descriptors -= 1;
        }
        Ok(())
    }

    /// The guest is told of what stands at a name in a directory: gives its number, and whether it
    /// is new.
    pub(super) fn tell(
        &mut self,
        parent: u64,
        name: &CStr,
        descriptor: OwnedFd,
        at: &Statx,
    ) -> Result<(u64, bool), Errno> {
        let key = Key::of(at);
        if let Some(&node) = self.by_key.get(&key)
            && let Some(inode) = self.inodes.get_mut(&node)
        {
            inode.lookups = inode.lookups.saturating_add(1);
            inode.used = true;
            if node != ROOT && inode.descriptor.is_none() {
                (inode.parent, inode.name) = (parent, name.to_owned());
            }
            return Ok((node, false));
        }
        if self.inodes.len() >= self.limits.inodes {
            return Err(Errno::NFILE);
        }
        self.make_room()?;
        let node = self.next;
        self.next += 1;
        let inode = Inode {
            key,
            descriptor: Some(Arc::new(descriptor)),
            parent,
            name: name.to_owned(),
            lookups: 1,
            used: true,
            pinned: false,
        };
        self.inodes.insert(node, inode);
        self.by_key.insert(key, node);
        self.descriptors += 1;
        self.clock.push_back(node);
        Ok((node, true))
    }

    /// The guest has forgotten so many tellings; gives whether the inode is gone.
    pub(super) fn forget(&mut self, node: u64, lookups: u64) -> bool {
        let Some(inode) = self.inodes.get_mut(&node).filter(|_| node != ROOT) else { return false };
        inode.lookups = inode.lookups.saturating_sub(lookups);
        if inode.lookups > 0 {
            return false;
        }
        let inode = self.inodes.remove(&node);
        if let Some(inode) = inode {
            self.descriptors -= usize::from(inode.descriptor.is_some());
            self.by_key.remove(&inode.key);
        }
        // Numbers of what is gone leave the clock when it comes by; not more than twice as many.
        if self.clock.len() > 2 * self.descriptors + 16 {
            let inodes = &self.inodes;
            self.clock.retain(|node| inodes.get(node).is_some_and(|it| it.descriptor.is_some()));
        }
        true
    }

    /// A name is about to go away. If the guest knows what it stands for, that is held by its
    /// descriptor from now on, for it may be in use still.
    pub(super) fn unname(&mut self, parent: &OwnedFd, name: &CStr) {
        let Ok(at) = find(parent, name).and_then(look) else { return };
        let Some(&node) = self.by_key.get(&Key::of(&at)) else { return };
        let directory = u32::from(at.stx_mode) & 0o170_000 == 0o040_000;
        let known_by_it = self.inodes.get(&node).is_some_and(|inode| *inode.name == *name);
        if (at.stx_nlink <= 1 || directory || known_by_it)
            && self.get(node).is_ok()
            && let Some(inode) = self.inodes.get_mut(&node)
        {
            inode.pinned = true;
        }
    }

    /// What the guest knows has got another name.
    pub(super) fn renamed(&mut self, directory: &OwnedFd, parent: u64, name: &CStr) {
        let Ok(at) = find(directory, name).and_then(look) else { return };
        let Some(&node) = self.by_key.get(&Key::of(&at)) else { return };
        if let Some(inode) = self.inodes.get_mut(&node).filter(|_| node != ROOT) {
            (inode.parent, inode.name) = (parent, name.to_owned());
        }
    }

    /// What is saved of all of them, those above before those beneath. What has no name any more
    /// cannot be found again, and is left out.
    pub(super) fn saved(&self) -> Vec<Saved> {
        let depth = |mut node: u64| {
            (0..=DEPTH_MAX).find(|_| {
                let over = node == ROOT;
                node = self.inodes.get(&node).map_or(ROOT, |inode| inode.parent);
                over
            })
        };
        let mut saved: Vec<_> = self
            .inodes
            .iter()
            .filter(|(node, inode)| **node != ROOT && !inode.pinned)
            .map(|(node, inode)| Saved {
                node: *node,
                parent: inode.parent,
                name: inode.name.clone(),
                lookups: inode.lookups,
            })
            .collect();
        saved.sort_by_cached_key(|saved| (depth(saved.node), saved.node));
        saved
    }

    /// Finds an inode again that was saved. What is not there any more, the guest hears of when it
    /// asks for it (`ESTALE`).
    pub(super) fn restore(&mut self, saved: &Saved) -> Result<(), Errno> {
        check_name(&saved.name)?;
        let possible = (ROOT + 1..NUMBER_MAX).contains(&saved.node);
        if !possible || self.inodes.contains_key(&saved.node) {
            return Err(Errno::INVAL);
        }
        self.next = self.next.max(saved.node + 1);
        let descriptor = self.find(saved.parent, &saved.name)?;
        let at = look(&descriptor)?;
        let after = std::mem::replace(&mut self.next, saved.node);
        let told = self.tell(saved.parent, &saved.name, descriptor, &at);
        self.next = after;
        if let (node, true) = told?
            && let Some(inode) = self.inodes.get_mut(&node)
        {
            inode.lookups = saved.lookups;
        }
        Ok(())
    }
}
