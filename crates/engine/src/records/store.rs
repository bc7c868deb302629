//! The embedded store: one table of records, one of numbers about them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use super::{
    RecordsError,
    sound::{self, Sound},
};
use crate::record::{FORMAT, Record};

/// What redb may cache, in bytes: every record is in memory anyway.
const CACHE_BYTES: usize = 1 << 20;

pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const CONTAINERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("containers");
pub(super) const META_FORMAT: &str = "format";
pub(super) const META_APPLIED: &str = "applied";

#[derive(Debug)]
pub(super) struct Store {
    /// Not there after a failure: redb takes nothing more then until it is opened again.
    database: Option<Database>,
    path: PathBuf,
}

impl Store {
    /// Opens the store of this directory, or makes one; answers with the last change in it too.
    pub(super) fn open(dir: &Path) -> Result<(Store, u64, Sound), RecordsError> {
        let path = dir.join("records.redb");
        let (database, sound) = open_database(&path)?;
        let store = Store { database: Some(database), path };
        let applied = store.check_format()?;
        Ok((store, applied, sound))
    }

    fn database(&self) -> &Database {
        self.database.as_ref().expect("it is opened again before it is used again")
    }

    fn wrong<E: Into<redb::Error>>(&self, step: &'static str) -> impl FnOnce(E) -> RecordsError {
        let path = self.path.clone();
        move |source| RecordsError::Store { step, path, source: Arc::new(source.into()) }
    }

    /// Refuses newer formats, notes ours in a new store, and answers with the last change in it.
    fn check_format(&self) -> Result<u64, RecordsError> {
        let transaction = self.database().begin_write().map_err(self.wrong("write"))?;
        let (format, applied) = {
            let mut meta = transaction.open_table(META).map_err(self.wrong("read"))?;
            transaction.open_table(CONTAINERS).map_err(self.wrong("read"))?;
            let number = |key| -> Result<Option<u64>, RecordsError> {
                Ok(meta.get(key).map_err(self.wrong("read"))?.map(|value| value.value()))
            };
            let (format, applied) = (number(META_FORMAT)?, number(META_APPLIED)?.unwrap_or(0));
            if format.is_none() {
                meta.insert(META_FORMAT, FORMAT).map_err(self.wrong("write"))?;
            }
            (format, applied)
        };
        match format {
            Some(found) if found > FORMAT => {
                Err(RecordsError::Newer { path: self.path.clone(), found })
            }
            Some(_) => transaction.abort().map(|()| applied).map_err(self.wrong("read")),
            None => transaction.commit().map(|()| applied).map_err(self.wrong("write")),
        }
    }

    /// Writes what differs from what is there, in one transaction; nothing if nothing does. After
    /// a failure, a full disk for one, it can be tried again.
    pub(super) fn write(
        &mut self,
        pending: &BTreeMap<String, Option<Vec<u8>>>,
        sequence: u64,
    ) -> Result<(), RecordsError> {
        if self.database.is_none() {
            self.database = Some(open_existing(&self.path)?);
        }
        let written = self.try_write(pending, sequence);
        if written.is_err() {
            self.database = None;
        }
        written
    }

    fn try_write(
        &self,
        pending: &BTreeMap<String, Option<Vec<u8>>>,
        sequence: u64,
    ) -> Result<(), RecordsError> {
        let changes = self.differing(pending)?;
        if changes.is_empty() {
            return Ok(());
        }
        let transaction = self.database().begin_write().map_err(self.wrong("write"))?;
        {
            let mut table = transaction.open_table(CONTAINERS).map_err(self.wrong("write"))?;
            for (key, value) in changes {
                match value {
                    Some(value) => table.insert(key, value).map(drop),
                    None => table.remove(key).map(drop),
                }
                .map_err(self.wrong("write"))?;
            }
            let mut meta = transaction.open_table(META).map_err(self.wrong("write"))?;
            meta.insert(META_APPLIED, sequence).map_err(self.wrong("write"))?;
        }
        transaction.commit().map_err(self.wrong("write"))
    }

    fn differing<'a>(
        &self,
        pending: &'a BTreeMap<String, Option<Vec<u8>>>,
    ) -> Result<BTreeMap<&'a str, Option<&'a [u8]>>, RecordsError> {
        let transaction = self.database().begin_read().map_err(self.wrong("read"))?;
        let table = transaction.open_table(CONTAINERS).map_err(self.wrong("read"))?;
        let mut changes = BTreeMap::new();
        for (key, value) in pending {
            let stored = table.get(key.as_str()).map_err(self.wrong("read"))?;
            if stored.as_ref().map(|stored| stored.value()) != value.as_deref() {
                changes.insert(key.as_str(), value.as_deref());
            }
        }
        Ok(changes)
    }

    /// Every record.
    pub(super) fn read(&self) -> Result<Vec<Record>, RecordsError> {
        let mut records = Vec::new();
        for (key, value) in read_all(self.database()).map_err(self.wrong("read"))? {
            let record = serde_json::from_slice(&value);
            records.push(
                record.map_err(|source| RecordsError::Record { key, source: source.into() })?,
            );
        }
        Ok(records)
    }
}

/// Every record as it is stored; none where the store has just been made.
pub(super) fn read_all(database: &Database) -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
    let transaction = database.begin_read()?;
    let table = match transaction.open_table(CONTAINERS) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        table => table?,
    };
    let mut all = Vec::new();
    for entry in table.iter()? {
        let (key, value) = entry?;
        all.push((key.value().to_owned(), value.value().to_vec()));
    }
    Ok(all)
}

/// Opens the store; a new one is made beside and moved in place, so that a half-made one is never
/// met.
fn open_database(path: &Path) -> Result<(Database, Sound), RecordsError> {
    let file = |step| {
        move |source| RecordsError::File { step, path: path.to_owned(), source: Arc::new(source) }
    };
    if !path.try_exists().map_err(file("look for"))? {
        let fresh = path.with_extension("redb.new");
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(file("remove")(error));
            }
            _ => {}
        }
        drop(Database::create(&fresh).map_err(store("make", path))?);
        std::fs::rename(&fresh, path).map_err(file("make"))?;
    }
    let sound =
        sound::look(path).map_err(|why| RecordsError::Damaged { path: path.to_owned(), why })?;
    Ok((open_existing(path)?, sound))
}

fn open_existing(path: &Path) -> Result<Database, RecordsError> {
    Database::builder().set_cache_size(CACHE_BYTES).open(path).map_err(store("open", path))
}

fn store(step: &'static str, path: &Path) -> impl FnOnce(redb::DatabaseError) -> RecordsError {
    let path = path.to_owned();
    move |source| RecordsError::Store { step, path, source: Arc::new(source.into()) }
}
