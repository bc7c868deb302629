//! Where the fuzz targets get in; not an interface for anybody else.

use crate::{actor, journal, record::Record, step::State};

/// A journal as it is found on disk: whole frames are read, and reading ends at damage.
pub fn journal(bytes: &[u8]) {
    journal::check(bytes);
}

/// A record as it is found in the store: what is read is what is written back, and a container
/// can be taken over from it.
pub fn record(json: &[u8]) {
    let Ok(record) = serde_json::from_slice::<Record>(json) else { return };
    let written = serde_json::to_vec(&record).expect("a record is always JSON");
    let again: Record = serde_json::from_slice(&written).expect("it was just written");
    assert_eq!(again, record, "a record changes on its way to the disk");
    let state = State::of(&record);
    assert!(state.stage().is_some(), "a container that is on record is gone");
    let _ = actor::first_view(&record);
}
