//! What volumes take of the disk.

use std::{collections::HashSet, fs, io, os::unix::fs::MetadataExt as _, path::Path};

use crate::{Store, VolumeName, options::Kind};

/// What one volume takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Which.
    pub volume: VolumeName,
    /// Bytes of its files, each counted once. Source: moby, `directory.Size`.
    pub bytes: u64,
    /// How many have it.
    pub users: usize,
}

impl Store {
    /// What every volume takes, by name. Looks at every file of every volume: it takes its time.
    /// What cannot be read counts as nothing.
    pub fn usage(&self) -> Vec<Usage> {
        let volumes = self.list();
        let usage = volumes.into_iter().map(|volume| Usage {
            bytes: match volume.kind {
                Kind::Kept | Kind::Tmpfs(_) => bytes_below(&volume.path),
                // What is the host's is not ours to count, nor would removing it free anything.
                Kind::Bind(_) => 0,
            },
            users: volume.users.len(),
            volume: volume.name,
        });
        usage.collect()
    }

    /// Bytes of one volume, snapshots included: what removing it gives back at most.
    pub fn bytes(&self, name: &str) -> u64 {
        self.kept(name).map_or(0, |kept| bytes_below(&self.directory(&kept.meta.name)))
    }
}

fn bytes_below(path: &Path) -> u64 {
    let mut seen = HashSet::new();
    let mut todo = vec![path.to_owned()];
    let mut bytes = 0_u64;
    while let Some(directory) = todo.pop() {
        let Ok(list) = fs::read_dir(&directory) else { continue };
        for entry in list.flatten() {
            let Ok::<_, io::Error>(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                todo.push(entry.path());
            } else if metadata.nlink() <= 1 || seen.insert((metadata.dev(), metadata.ino())) {
                bytes = bytes.saturating_add(metadata.len());
            }
        }
    }
    bytes
}
