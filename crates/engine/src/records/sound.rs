//! Whether the store on disk is what was written to it, before anything relies on it.
//!
//! The store is opened and read as a copy in memory, with all its checksums, so that a damaged one
//! stays as it is for whoever wants to save something from it; and what its code makes of damage,
//! a panic included, ends there.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use redb::{Builder, StorageBackend as _, backends::InMemoryBackend};

use super::store;

/// Between its beginning and this progress of a repair redb has found that the last commit is not
/// whole and goes back to the one before. A repair begins wherever the store was not closed.
/// Source: redb, `Database::do_repair`.
const GOES_BACK: f64 = 0.5;

/// What a store that can be used is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sound {
    /// It is what was written.
    Whole,
    /// What was written last was not written to its end; the state before it is used.
    Torn,
}

/// Looks through the store.
///
/// # Errors
/// What is wrong with it.
pub(super) fn look(path: &Path) -> Result<Sound, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    if bytes.is_empty() {
        return Err("the file is empty".to_owned());
    }
    let looked = catch_unwind(AssertUnwindSafe(|| look_through(&bytes)));
    looked.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(text.unwrap_or("it cannot be made sense of").to_owned())
    })
}

fn look_through(bytes: &[u8]) -> Result<Sound, String> {
    let backend = InMemoryBackend::new();
    let length = u64::try_from(bytes.len()).expect("a file's size fits 64 bits");
    let copied = backend.set_len(length).and_then(|()| backend.write(0, bytes));
    copied.map_err(|error| error.to_string())?;
    let torn = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&torn);
    let mut builder = Builder::new();
    builder.set_repair_callback(move |repair| {
        if (f64::MIN_POSITIVE..GOES_BACK).contains(&repair.progress()) {
            heard.store(true, Ordering::Relaxed);
        }
    });
    let mut database = builder.create_with_backend(backend).map_err(|error| error.to_string())?;
    let whole = database.check_integrity().map_err(|error| error.to_string())?;
    if !whole {
        return Err("its checksums are not those of what is in it".to_owned());
    }
    store::read_all(&database).map_err(|error| crate::error::chain(&error))?;
    Ok(if torn.load(Ordering::Relaxed) { Sound::Torn } else { Sound::Whole })
}
