//! Images that grow, while nobody uses them.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use super::{Damage, OpenError, Qcow2, header::TABLE_BYTES_MAX, read_header};

/// Where the header has the size of the disk; behind it are four bytes about encryption, and then
/// the length and the place of the first table.
const SIZE_AT: u64 = 24;

/// Why an image did not grow.
#[derive(Debug, thiserror::Error)]
pub enum GrowError {
    /// It is none that can be written to.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The host could not read or write it, or it is damaged.
    #[error("cannot write the image")]
    Write(#[from] io::Error),
    /// What the image behind has beyond its end would appear.
    #[error("it is an image over another")]
    Backing,
    /// It would be smaller, or too large.
    #[error("a qcow2 image of {has} bytes does not become one of {wanted}")]
    Size {
        /// How large the disk is.
        has: u64,
        /// What was wanted.
        wanted: u64,
    },
}

/// Makes the disk of an image larger: what is added reads as zeros. Nobody else has it open.
///
/// The new first table is written before the header says that it is there, so the image is whole
/// whenever this is cut off.
///
/// # Errors
/// [`GrowError`]; the image is as it was.
pub fn grow(file: &File, bytes: u64) -> Result<(), GrowError> {
    let mut header = read_header(file)?;
    if header.backing.is_some() {
        return Err(GrowError::Backing);
    }
    let has = header.bytes;
    header.bytes = bytes;
    let entries = header.l1_needed();
    if bytes < has || !bytes.is_multiple_of(512) || entries > TABLE_BYTES_MAX / 8 {
        return Err(GrowError::Size { has, wanted: bytes });
    }
    let mut image = Qcow2::open(file.try_clone()?, true, None)?;
    let cluster = image.cluster();
    let clusters = |entries: u64| (entries * 8).div_ceil(cluster);
    let (mut at, old) = (header.l1_at, header.l1_entries as u64);
    let entries = entries.max(old);
    if clusters(entries) > clusters(old) {
        let counts = image.counts.as_mut().ok_or(OpenError::Unwritable("it has no counts"))?;
        at = counts.allocate_run(file, clusters(entries))?;
    }
    // All clusters of the table, so that nothing of what was there is taken for an entry.
    let mut table: Vec<u8> = image.l1.iter().flat_map(|entry| entry.to_be_bytes()).collect();
    let length = usize::try_from(clusters(entries) * cluster).map_err(|_| Damage::TooLarge);
    table.resize(length.map_err(io::Error::from)?, 0);
    image.flush()?;
    file.write_all_at(&table, at)?;
    file.sync_data()?;
    let entries = u32::try_from(entries).map_err(|_| io::Error::from(Damage::TooLarge))?;
    let mut fields = bytes.to_be_bytes().to_vec();
    fields.extend([0; 4]);
    fields.extend(entries.to_be_bytes());
    fields.extend(at.to_be_bytes());
    // Side by side within one sector.
    file.write_all_at(&fields, SIZE_AT)?;
    file.sync_data()?;
    if at != header.l1_at {
        let first = header.l1_at / cluster;
        image.freed.extend(first..first + clusters(old));
    }
    // The image knows the old size alone and writes nothing but counts from here on.
    image.flush()?;
    Ok(())
}
