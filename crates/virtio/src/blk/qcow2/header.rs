//! The first cluster of a qcow2 image.
//!
//! Source: QEMU, docs/interop/qcow2.txt, "Header".

use super::Damage;

/// Bytes that are read to find everything in the header: the smallest cluster is smaller, but what
/// a header needs fits in a page, and longer ones are refused.
pub(crate) const HEADER_MAX: usize = 4096;

/// Longest name of a backing file.
///
/// Source: qcow2.txt, "Must not be longer than 1023 bytes".
const BACKING_MAX: usize = 1023;

/// Largest table of the first level, and of refcounts: as QEMU's for the latter.
pub(super) const TABLE_BYTES_MAX: u64 = 8 << 20;

/// Largest disk: that of ext4 and xfs and more than anybody's.
const DISK_BYTES_MAX: u64 = 1 << 56;

const MAGIC: [u8; 4] = *b"QFI\xfb";
const DIRTY: u64 = 1;
const CORRUPT: u64 = 1 << 1;
const COMPRESSION: u64 = 1 << 3;

/// The extension with the format of the backing file.
const BACKING_FORMAT: u32 = 0xe279_2aca;

/// How clusters are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Deflate,
    Zstd,
}

/// What a header says, as far as it is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub(super) version: u32,
    pub(super) cluster_bits: u32,
    pub(super) bytes: u64,
    pub(super) l1_entries: usize,
    pub(super) l1_at: u64,
    pub(super) refcounts_at: u64,
    pub(super) refcount_clusters: u32,
    /// The width of a refcount is two to the power of this, in bits.
    pub(super) refcount_order: u32,
    pub(super) compression: Compression,
    pub(super) has_autoclear: bool,
    /// Why it may not be written to.
    pub(super) unwritable: Option<&'static str>,
    /// The name of the backing file, and its format if the image says it.
    pub backing: Option<Backing>,
}

/// A backing file, as an image names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backing {
    /// Its name, which is a path from the image's directory on.
    pub name: String,
    /// Its format.
    pub format: Option<String>,
}

/// The fields of a header, each at its place.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn word(&self, at: usize) -> Result<u32, Damage> {
        let bytes = self.0.get(at..).and_then(<[u8]>::first_chunk);
        bytes.map(|bytes| u32::from_be_bytes(*bytes)).ok_or(Damage::Header("it ends"))
    }

    fn long(&self, at: usize) -> Result<u64, Damage> {
        Ok(u64::from(self.word(at)?) << 32 | u64::from(self.word(at + 4)?))
    }

    fn text(&self, at: usize, bytes: usize) -> Result<String, Damage> {
        let text = at.checked_add(bytes).and_then(|end| self.0.get(at..end));
        let text = text.ok_or(Damage::Header("a text goes beyond it"))?;
        let text = std::str::from_utf8(text).map_err(|_| Damage::Header("a text is no UTF-8"))?;
        Ok(text.to_owned())
    }
}

impl Header {
    /// Reads a header from the beginning of an image: [`HEADER_MAX`] bytes, or fewer if the image
    /// has fewer.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Header, Damage> {
        let fields = Fields(bytes);
        if bytes.get(..4) != Some(&MAGIC) {
            return Err(Damage::NotQcow2);
        }
        let version = fields.word(4)?;
        if !(2..=3).contains(&version) {
            return Err(Damage::Version(version));
        }
        let mut header = Header {
            version,
            cluster_bits: fields.word(20)?,
            bytes: fields.long(24)?,
            l1_entries: fields.word(36)? as usize,
            l1_at: fields.long(40)?,
            refcounts_at: fields.long(48)?,
            refcount_clusters: fields.word(56)?,
            refcount_order: 4,
            compression: Compression::Deflate,
            has_autoclear: false,
            unwritable: None,
            backing: None,
        };
        if fields.word(32)? != 0 {
            return Err(Damage::Unsupported("encryption"));
        }
        if fields.word(60)? != 0 {
            header.unwritable = Some("it has snapshots within it");
        }
        let length = if version == 3 { header.parse_v3(&fields)? } else { 72 };
        header.check()?;
        header.parse_backing(&fields, length)?;
        Ok(header)
    }

    /// What only version 3 has; gives the header's length.
    fn parse_v3(&mut self, fields: &Fields<'_>) -> Result<usize, Damage> {
        let incompatible = fields.long(72)?;
        if incompatible & (1 << 2) != 0 {
            return Err(Damage::Unsupported("an external data file"));
        }
        if incompatible & (1 << 4) != 0 {
            return Err(Damage::Unsupported("extended entries"));
        }
        if incompatible & !(DIRTY | CORRUPT | COMPRESSION) != 0 {
            return Err(Damage::Unsupported("a feature of later versions"));
        }
        if incompatible & DIRTY != 0 {
            self.unwritable = Some("it was not closed, and its refcounts may be wrong");
        }
        if incompatible & CORRUPT != 0 {
            self.unwritable = Some("it is marked as corrupt");
        }
        self.has_autoclear = fields.long(88)? != 0;
        self.refcount_order = fields.word(96)?;
        let length = fields.word(100)? as usize;
        if length < 104 || !length.is_multiple_of(8) {
            return Err(Damage::Header("its length"));
        }
        if incompatible & COMPRESSION != 0 {
            self.compression = match fields.0.get(104) {
                Some(0) => Compression::Deflate,
                Some(1) => Compression::Zstd,
                _ => return Err(Damage::Unsupported("a compression of later versions")),
            };
        }
        Ok(length)
    }

    /// What the numbers must be for the image to make sense.
    fn check(&self) -> Result<(), Damage> {
        if !(9..=21).contains(&self.cluster_bits) {
            return Err(Damage::Header("its cluster size"));
        }
        if self.refcount_order > 6 {
            return Err(Damage::Header("its refcounts"));
        }
        if self.bytes > DISK_BYTES_MAX || self.l1_entries as u64 * 8 > TABLE_BYTES_MAX {
            return Err(Damage::TooLarge);
        }
        if (self.l1_entries as u64) < self.l1_needed() {
            return Err(Damage::Header("its table is shorter than the disk"));
        }
        let cluster = 1u64 << self.cluster_bits;
        if u64::from(self.refcount_clusters) * cluster > TABLE_BYTES_MAX {
            return Err(Damage::TooLarge);
        }
        Ok(())
    }

    /// How many entries of the first level the disk has.
    pub(super) fn l1_needed(&self) -> u64 {
        // A table of the second level has as many entries of 8 bytes as fit in a cluster.
        self.bytes.div_ceil(1 << (2 * self.cluster_bits - 3))
    }

    fn parse_backing(&mut self, fields: &Fields<'_>, length: usize) -> Result<(), Damage> {
        let (at, bytes) = (fields.long(8)?, fields.word(16)? as usize);
        if at == 0 || bytes == 0 {
            return Ok(());
        }
        let at = usize::try_from(at).map_err(|_| Damage::Header("a text goes beyond it"))?;
        if bytes > BACKING_MAX || at.saturating_add(bytes) > 1 << self.cluster_bits {
            return Err(Damage::Header("the name of its backing file"));
        }
        let name = fields.text(at, bytes)?;
        self.backing = Some(Backing { name, format: backing_format(fields, length, at)? });
        Ok(())
    }
}

/// The extension that says what format the backing file has; extensions lie between the header and
/// the backing file's name.
fn backing_format(
    fields: &Fields<'_>,
    mut at: usize,
    end: usize,
) -> Result<Option<String>, Damage> {
    while at.saturating_add(8) <= end {
        let (kind, bytes) = (fields.word(at)?, fields.word(at + 4)? as usize);
        match kind {
            0 => break,
            BACKING_FORMAT => return fields.text(at + 8, bytes).map(Some),
            _ => at = at.saturating_add(8).saturating_add(bytes).next_multiple_of(8),
        }
    }
    Ok(None)
}

/// The bytes of a new image's header.
pub(super) fn compose(header: &Header) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    let words = |bytes: &mut Vec<u8>, words: &[u32]| {
        words.iter().for_each(|word| bytes.extend(word.to_be_bytes()));
    };
    let longs = |bytes: &mut Vec<u8>, longs: &[u64]| {
        longs.iter().for_each(|long| bytes.extend(long.to_be_bytes()));
    };
    let l1_entries = u32::try_from(header.l1_entries).expect("a table is at most 8 MiB");
    words(&mut bytes, &[header.version]);
    // The backing file's name is written below.
    longs(&mut bytes, &[0]);
    words(&mut bytes, &[0, header.cluster_bits]);
    longs(&mut bytes, &[header.bytes]);
    words(&mut bytes, &[0, l1_entries]);
    longs(&mut bytes, &[header.l1_at, header.refcounts_at]);
    words(&mut bytes, &[header.refcount_clusters, 0]);
    // There are no snapshots.
    longs(&mut bytes, &[0]);
    if header.version == 3 {
        longs(&mut bytes, &[0, 0, 0]);
        words(&mut bytes, &[header.refcount_order, 112]);
        longs(&mut bytes, &[0]);
    }
    if let Some(Backing { name, format }) = &header.backing {
        if let Some(format) = format {
            let length = u32::try_from(format.len()).expect("a format's name is short");
            words(&mut bytes, &[BACKING_FORMAT, length]);
            bytes.extend(format.as_bytes());
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        longs(&mut bytes, &[0]);
        let (at, length) = (bytes.len() as u64, name.len());
        let length = u32::try_from(length).expect("a name is at most 1023 bytes");
        bytes[8..16].copy_from_slice(&at.to_be_bytes());
        bytes[16..20].copy_from_slice(&length.to_be_bytes());
        bytes.extend(name.as_bytes());
    }
    bytes
}

/// Whether a backing file's name can be written.
pub(super) fn is_name(name: &str) -> bool {
    (1..=BACKING_MAX).contains(&name.len())
}
