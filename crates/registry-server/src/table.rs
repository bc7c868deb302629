//! Who has what: repositories, their tags, manifests and blobs, in an embedded store (redb).
//!
//! ```text
//! tags       (repository, tag)               → digest
//! manifests  (repository, digest)            → a row of JSON
//! blobs      (repository, digest)            → length, seconds since 1970
//! referrers  (repository, subject, digest)   → ()
//! ```
//!
//! A digest that is in no row is needed by nobody. Each change is one transaction.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use base::Digest;
use redb::{
    Database, ReadOnlyTable, ReadableDatabase as _, ReadableTable, Table as OpenTable,
    TableDefinition, WriteTransaction,
};
use serde::{Deserialize, Serialize};

use crate::{
    name::{Name, Tag},
    wire::{from_bytes, to_bytes},
};

mod collect;

pub(crate) use collect::Rule;

/// Version of the format.
const FORMAT: u64 = 1;
/// What redb may cache, in bytes.
const CACHE_BYTES: usize = 16 << 20;

type Key<'k> = (&'k str, &'k [u8; 32]);

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const TAGS: TableDefinition<'_, (&str, &str), &[u8; 32]> = TableDefinition::new("tags");
const MANIFESTS: TableDefinition<'_, Key<'_>, &[u8]> = TableDefinition::new("manifests");
const BLOBS: TableDefinition<'_, Key<'_>, (u64, u64)> = TableDefinition::new("blobs");
const REFERRERS: TableDefinition<'_, (&str, &[u8; 32], &[u8; 32]), ()> =
    TableDefinition::new("referrers");

/// The first and the last digest there can be.
const ENDS: ([u8; 32], [u8; 32]) = ([0; 32], [0xff; 32]);

/// A manifest in a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) media_type: String,
    pub(crate) bytes: u64,
    /// When it came, in seconds since 1970.
    pub(crate) since: u64,
    /// Configuration and layers.
    #[serde(default)]
    pub(crate) blobs: Vec<Digest>,
    /// Entries of an index.
    #[serde(default)]
    pub(crate) manifests: Vec<Digest>,
    #[serde(default)]
    pub(crate) subject: Option<Digest>,
    #[serde(default)]
    pub(crate) artifact_type: Option<String>,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// A blob in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlobRow {
    pub(crate) bytes: u64,
    /// When somebody last said that he will need it, in seconds since 1970.
    pub(crate) since: u64,
}

/// Why the table did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The store failed.
    #[error("cannot use the table of repositories")]
    Store(#[source] Box<redb::Error>),
    /// A row is none.
    #[error("a row of the table of repositories cannot be read")]
    Row(#[from] serde_json::Error),
    /// A newer version wrote it.
    #[error("the table of repositories has format {0}, which is newer than this program's")]
    Newer(u64),
}

impl TableError {
    /// What the host said, if that is why.
    pub(crate) fn of_disk(&self) -> Option<&io::Error> {
        let TableError::Store(error) = self else { return None };
        if let redb::Error::Io(source) = &**error { Some(source) } else { None }
    }
}

macro_rules! of_store {
    ($($error:ident)*) => {$(
        impl From<redb::$error> for TableError {
            fn from(source: redb::$error) -> TableError {
                TableError::Store(Box::new(source.into()))
            }
        }
    )*};
}

of_store!(CommitError DatabaseError StorageError TableError TransactionError);

/// What became of a blob that should go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropped {
    Gone,
    Unknown,
    /// A manifest of the repository needs it.
    Needed(Digest),
}

/// The table.
#[derive(Debug)]
pub(crate) struct Table {
    path: PathBuf,
    /// Not there after a failure, a full disk for one: redb takes nothing more then until it is
    /// opened again.
    database: RwLock<Option<Arc<Database>>>,
}

impl Table {
    /// Opens it, and makes it where there is none.
    pub(crate) fn open(path: &Path) -> Result<Table, TableError> {
        let database = open(path)?;
        let transaction = database.begin_write()?;
        let format = {
            let mut meta = transaction.open_table(META)?;
            transaction.open_table(TAGS)?;
            transaction.open_table(MANIFESTS)?;
            transaction.open_table(BLOBS)?;
            transaction.open_table(REFERRERS)?;
            let format = meta.get("format")?.map(|format| format.value());
            if format.is_none() {
                meta.insert("format", FORMAT)?;
            }
            format
        };
        match format {
            Some(found) if found > FORMAT => return Err(TableError::Newer(found)),
            Some(_) => transaction.abort()?,
            None => transaction.commit()?,
        }
        let database = RwLock::new(Some(Arc::new(database)));
        Ok(Table { path: path.to_owned(), database })
    }

    fn database(&self) -> Result<Arc<Database>, TableError> {
        let known = self.database.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(database) = known {
            return Ok(database);
        }
        let mut known = self.database.write().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some(database) => Ok(Arc::clone(database)),
            None => Ok(Arc::clone(known.insert(Arc::new(open(&self.path)?)))),
        }
    }

    /// What failed is opened again before it is used again.
    fn doubt<T>(&self, done: Result<T, TableError>) -> Result<T, TableError> {
        if let Err(TableError::Store(_)) = &done {
            *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
        }
        done
    }

    fn read<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        table: TableDefinition<'_, K, V>,
    ) -> Result<ReadOnlyTable<K, V>, TableError> {
        let read = || Ok(self.database()?.begin_read()?.open_table(table)?);
        self.doubt(read())
    }

    /// What a tag names.
    pub(crate) fn tag(&self, name: &Name, tag: &Tag) -> Result<Option<Digest>, TableError> {
        let tags = self.read(TAGS)?;
        let found = tags.get((name.as_str(), tag.as_str()))?;
        Ok(found.map(|digest| Digest::from_sha256(*digest.value())))
    }

    /// A manifest.
    pub(crate) fn manifest(&self, name: &Name, digest: &Digest) -> Result<Option<Row>, TableError> {
        row(&self.read(MANIFESTS)?, name.as_str(), digest)
    }

    /// A blob.
    pub(crate) fn blob(&self, name: &Name, digest: &Digest) -> Result<Option<BlobRow>, TableError> {
        let blobs = self.read(BLOBS)?;
        let found = blobs.get((name.as_str(), digest.as_bytes()))?;
        Ok(found.map(|row| {
            let (bytes, since) = row.value();
            BlobRow { bytes, since }
        }))
    }

    /// Every tag of a repository; nothing if there is no such repository.
    pub(crate) fn tags(&self, name: &Name) -> Result<Option<Vec<String>>, TableError> {
        let tags = self.read(TAGS)?;
        let mut all = Vec::new();
        for entry in tags.range((name.as_str(), "")..)? {
            let key = entry?.0;
            let (of, tag) = key.value();
            if of != name.as_str() {
                break;
            }
            all.push(tag.to_owned());
        }
        let known = !all.is_empty() || self.knows(name)?;
        Ok(known.then_some(all))
    }

    /// Whether there is such a repository.
    fn knows(&self, name: &Name) -> Result<bool, TableError> {
        let all = (name.as_str(), &ENDS.0)..=(name.as_str(), &ENDS.1);
        let manifest = self.read(MANIFESTS)?.range(all.clone())?.next().is_some();
        Ok(manifest || self.read(BLOBS)?.range(all)?.next().is_some())
    }

    /// Every repository that has a manifest.
    pub(crate) fn repositories(&self) -> Result<Vec<String>, TableError> {
        names(&self.read(MANIFESTS)?)
    }

    /// Tells what refers to a manifest, in the order of digests, after this one, for as long as
    /// more is wanted: each may be as long as a manifest.
    pub(crate) fn referrers(
        &self,
        name: &Name,
        subject: &Digest,
        after: Option<&Digest>,
        mut tell: impl FnMut(Digest, Row) -> ControlFlow<()>,
    ) -> Result<(), TableError> {
        let (referrers, manifests) = (self.read(REFERRERS)?, self.read(MANIFESTS)?);
        let key = |digest| (name.as_str(), subject.as_bytes(), digest);
        let from = after.map_or(&ENDS.0, Digest::as_bytes);
        for entry in referrers.range(key(from)..=key(&ENDS.1))? {
            let digest = Digest::from_sha256(*entry?.0.value().2);
            if after.is_some_and(|after| digest <= *after) {
                continue;
            }
            if let Some(found) = row(&manifests, name.as_str(), &digest)?
                && tell(digest, found).is_break()
            {
                break;
            }
        }
        Ok(())
    }

    fn change<T>(
        &self,
        edit: impl FnOnce(&WriteTransaction) -> Result<T, TableError>,
    ) -> Result<T, TableError> {
        let change = || {
            let transaction = self.database()?.begin_write()?;
            // Dropped without a commit, it changes nothing.
            let answer = edit(&transaction)?;
            transaction.commit()?;
            Ok(answer)
        };
        self.doubt(change())
    }

    /// Puts a blob into a repository, or says that it will be needed.
    pub(crate) fn put_blob(
        &self,
        name: &Name,
        digest: &Digest,
        blob: BlobRow,
    ) -> Result<(), TableError> {
        self.change(|transaction| {
            let mut blobs = transaction.open_table(BLOBS)?;
            blobs.insert((name.as_str(), digest.as_bytes()), (blob.bytes, blob.since))?;
            Ok(())
        })
    }

    /// Says again that a blob will be needed, unless it went meanwhile: what was collected is not
    /// put back. Whether it is there.
    pub(crate) fn renew_blob(
        &self,
        name: &Name,
        digest: &Digest,
        now: u64,
    ) -> Result<bool, TableError> {
        self.change(|transaction| {
            let mut blobs = transaction.open_table(BLOBS)?;
            let key = (name.as_str(), digest.as_bytes());
            let Some(bytes) = blobs.get(key)?.map(|row| row.value().0) else { return Ok(false) };
            blobs.insert(key, (bytes, now))?;
            Ok(true)
        })
    }

    /// Makes a manifest young again, unless it went meanwhile. Whether it is there.
    pub(crate) fn renew_manifest(
        &self,
        name: &Name,
        digest: &Digest,
        now: u64,
    ) -> Result<bool, TableError> {
        self.change(|transaction| {
            let mut manifests = transaction.open_table(MANIFESTS)?;
            let Some(found) = row(&manifests, name.as_str(), digest)? else { return Ok(false) };
            let young = to_bytes(&Row { since: now, ..found });
            manifests.insert((name.as_str(), digest.as_bytes()), young.as_slice())?;
            Ok(true)
        })
    }

    /// Takes a blob out of a repository, unless a manifest there needs it.
    pub(crate) fn drop_blob(&self, name: &Name, digest: &Digest) -> Result<Dropped, TableError> {
        self.change(|transaction| {
            let manifests = transaction.open_table(MANIFESTS)?;
            for entry in manifests.range((name.as_str(), &ENDS.0)..=(name.as_str(), &ENDS.1))? {
                let (key, value) = entry?;
                let row: Row = from_bytes(value.value())?;
                if row.blobs.contains(digest) {
                    return Ok(Dropped::Needed(Digest::from_sha256(*key.value().1)));
                }
            }
            let mut blobs = transaction.open_table(BLOBS)?;
            let known = blobs.remove((name.as_str(), digest.as_bytes()))?.is_some();
            Ok(if known { Dropped::Gone } else { Dropped::Unknown })
        })
    }

    /// Puts a manifest into a repository, under a tag if there is one, if all is there that it
    /// needs; else answers with what is not.
    pub(crate) fn put_manifest(
        &self,
        name: &Name,
        digest: &Digest,
        new: &Row,
        tag: Option<&Tag>,
        whole: bool,
    ) -> Result<Option<Digest>, TableError> {
        self.change(|transaction| {
            let mut manifests = transaction.open_table(MANIFESTS)?;
            if whole && let Some(missing) = missing(transaction, &manifests, name, new)? {
                return Ok(Some(missing));
            }
            manifests.insert((name.as_str(), digest.as_bytes()), to_bytes(new).as_slice())?;
            if let Some(subject) = &new.subject {
                let mut referrers = transaction.open_table(REFERRERS)?;
                referrers.insert((name.as_str(), subject.as_bytes(), digest.as_bytes()), ())?;
            }
            if let Some(tag) = tag {
                let mut tags = transaction.open_table(TAGS)?;
                tags.insert((name.as_str(), tag.as_str()), digest.as_bytes())?;
            }
            Ok(None)
        })
    }

    /// Makes a tag name a manifest that is there.
    pub(crate) fn put_tag(&self, name: &Name, tag: &Tag, to: &Digest) -> Result<(), TableError> {
        self.change(|transaction| {
            let mut tags = transaction.open_table(TAGS)?;
            tags.insert((name.as_str(), tag.as_str()), to.as_bytes())?;
            Ok(())
        })
    }

    /// Takes a tag away. Whether there was one.
    pub(crate) fn drop_tag(&self, name: &Name, tag: &Tag) -> Result<bool, TableError> {
        self.change(|transaction| {
            let mut tags = transaction.open_table(TAGS)?;
            Ok(tags.remove((name.as_str(), tag.as_str()))?.is_some())
        })
    }

    /// Takes a manifest out of a repository, and the tags that name it. Whether there was one.
    pub(crate) fn drop_manifest(&self, name: &Name, digest: &Digest) -> Result<bool, TableError> {
        self.change(|transaction| {
            let Some(old) = remove_manifest(transaction, name.as_str(), digest)? else {
                return Ok(false);
            };
            drop(old);
            let mut tags = transaction.open_table(TAGS)?;
            let mut naming = Vec::new();
            for entry in tags.range((name.as_str(), "")..)? {
                let (key, value) = entry?;
                let (of, tag) = key.value();
                if of != name.as_str() {
                    break;
                }
                if value.value() == digest.as_bytes() {
                    naming.push(tag.to_owned());
                }
            }
            for tag in naming {
                tags.remove((name.as_str(), tag.as_str()))?;
            }
            Ok(true)
        })
    }
}

fn open(path: &Path) -> Result<Database, TableError> {
    Ok(Database::builder().set_cache_size(CACHE_BYTES).create(path)?)
}

fn row(
    manifests: &impl ReadableTable<Key<'static>, &'static [u8]>,
    name: &str,
    digest: &Digest,
) -> Result<Option<Row>, TableError> {
    let found = manifests.get((name, digest.as_bytes()))?;
    found.map(|row| from_bytes(row.value()).map_err(TableError::from)).transpose()
}

/// The repositories in the keys of a table, each found by one look.
fn names<V: redb::Value + 'static>(
    table: &impl ReadableTable<Key<'static>, V>,
) -> Result<Vec<String>, TableError> {
    let mut all: Vec<String> = Vec::new();
    // Behind every key of a repository, and before every other repository behind it.
    let mut from = String::new();
    while let Some(entry) = table.range((from.as_str(), &ENDS.0)..)?.next() {
        let name = entry?.0.value().0.to_owned();
        from = format!("{name}\0");
        all.push(name);
    }
    Ok(all)
}

/// What a manifest names that is not in the repository.
fn missing(
    transaction: &WriteTransaction,
    manifests: &OpenTable<'_, Key<'static>, &'static [u8]>,
    name: &Name,
    new: &Row,
) -> Result<Option<Digest>, TableError> {
    let blobs = transaction.open_table(BLOBS)?;
    for digest in &new.blobs {
        if blobs.get((name.as_str(), digest.as_bytes()))?.is_none() {
            return Ok(Some(*digest));
        }
    }
    for digest in &new.manifests {
        if manifests.get((name.as_str(), digest.as_bytes()))?.is_none() {
            return Ok(Some(*digest));
        }
    }
    Ok(None)
}

/// Takes a manifest's row away, and its word about what it refers to.
fn remove_manifest(
    transaction: &WriteTransaction,
    name: &str,
    digest: &Digest,
) -> Result<Option<Row>, TableError> {
    let mut manifests = transaction.open_table(MANIFESTS)?;
    let old = manifests.remove((name, digest.as_bytes()))?;
    let Some(old) = old.map(|row| from_bytes::<Row>(row.value())).transpose()? else {
        return Ok(None);
    };
    if let Some(subject) = &old.subject {
        let mut referrers = transaction.open_table(REFERRERS)?;
        referrers.remove((name, subject.as_bytes(), digest.as_bytes()))?;
    }
    Ok(Some(old))
}

/// What [`Table::collect`] keeps in mind of a repository.
type Digests = BTreeSet<Digest>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let table = Table::open(&dir.path().join("t.redb")).unwrap();
        let (name, tag): (Name, Tag) = ("a".parse().unwrap(), "1".parse().unwrap());
        let digest = Digest::from_sha256([7; 32]);
        table.put_tag(&name, &tag, &digest).unwrap();
        let full = || TableError::Store(Box::new(redb::Error::PreviousIo));
        assert!(table.doubt::<()>(Err(full())).is_err());
        assert!(table.database.read().unwrap().is_none());
        assert_eq!(table.tag(&name, &tag).unwrap(), Some(digest));
        table.put_tag(&name, &tag, &digest).unwrap();
    }

    #[test]
    fn a_newer_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.redb");
        drop(Table::open(&path).unwrap());
        let database = Database::create(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(META).unwrap().insert("format", FORMAT + 1).unwrap();
        transaction.commit().unwrap();
        drop(database);
        assert!(matches!(Table::open(&path), Err(TableError::Newer(found)) if found == FORMAT + 1));
    }
}
