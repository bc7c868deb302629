//! New images.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use super::{
    Compression,
    header::{self, Backing, Header, TABLE_BYTES_MAX},
};

/// 64 KiB, as QEMU's own default.
pub(super) const CLUSTER_BITS: u32 = 16;

/// Counts of 16 bits.
pub(super) const REFCOUNT_ORDER: u32 = 4;

/// Why an image was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The host could not write it.
    #[error("cannot write the image")]
    Write(#[from] io::Error),
    /// No disk of this size can be.
    #[error("a qcow2 image of {bytes} bytes: it is a multiple of 512 up to 512 TiB")]
    Size {
        /// What was asked for.
        bytes: u64,
    },
    /// No image of this name can be named in another.
    #[error("the name of a backing image has 1 to 1023 bytes")]
    Name,
}

/// Writes an image of a disk of so many bytes to an empty file: all of it as the backing image has
/// it, or zeros.
///
/// # Errors
/// [`CreateError`]; what is in the file then is no image.
pub fn create(file: &File, bytes: u64, backing: Option<Backing>) -> Result<(), CreateError> {
    create_as(file, bytes, backing, 3, CLUSTER_BITS)
}

/// The same in another version, or with clusters of another size.
pub(super) fn create_as(
    file: &File,
    bytes: u64,
    backing: Option<Backing>,
    version: u32,
    cluster_bits: u32,
) -> Result<(), CreateError> {
    let mut header = Header {
        version,
        cluster_bits,
        bytes,
        l1_entries: 0,
        l1_at: 3 << cluster_bits,
        refcounts_at: 1 << cluster_bits,
        refcount_clusters: 1,
        refcount_order: REFCOUNT_ORDER,
        compression: Compression::Deflate,
        has_autoclear: false,
        unwritable: None,
        backing,
    };
    let name = header.backing.as_ref().map(|backing| backing.name.as_str());
    if !name.is_none_or(header::is_name) {
        return Err(CreateError::Name);
    }
    let l1_bytes = header.l1_needed() * 8;
    let clusters = 3 + l1_bytes.div_ceil(1 << cluster_bits);
    // The header, the table of counts, one block of them, and the first table: of 64 KiB they are
    // at most 131 clusters, whose counts fit in the one block.
    let fits = l1_bytes <= TABLE_BYTES_MAX && clusters <= 1 << (cluster_bits - 1);
    if !bytes.is_multiple_of(512) || bytes == 0 || !fits {
        return Err(CreateError::Size { bytes });
    }
    header.l1_entries = usize::try_from(l1_bytes / 8).unwrap_or(usize::MAX);
    let counts: Vec<u8> = (0..clusters).flat_map(|_| 1u16.to_be_bytes()).collect();
    file.set_len(clusters << cluster_bits)?;
    file.write_all_at(&counts, 2 << cluster_bits)?;
    file.write_all_at(&(2u64 << cluster_bits).to_be_bytes(), 1 << cluster_bits)?;
    file.write_all_at(&header::compose(&header), 0)?;
    file.sync_data()?;
    Ok(())
}
