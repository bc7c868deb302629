//! What a layer may ask for.

/// Limits on one layer. All of them are far above what images in use need.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Files, directories and whiteouts, directories that the archive only implies included.
    pub entries: u64,
    /// Bytes of one path and of one link target. Source: `PATH_MAX`, linux/limits.h.
    pub path_bytes: usize,
    /// Components of one path.
    pub depth: usize,
    /// Bytes of one extension header (PAX records, GNU long name). Go's archive/tar has the same.
    pub extension_bytes: u64,
    /// Data segments of one sparse file.
    pub segments: usize,
    /// Names and values of one entry's extended attributes. Source: `XATTR_LIST_MAX`.
    pub xattr_bytes: usize,
    /// Length of one file, holes included.
    pub file_bytes: u64,
    /// File content of the whole layer: the guard against bombs.
    pub content_bytes: u64,
    /// The whole uncompressed archive, whatever stands in it or behind its end.
    pub tar_bytes: u64,
    /// Names, targets, attributes and maps of the whole layer, which are held in memory.
    pub metadata_bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            entries: 2_000_000,
            path_bytes: 4095,
            depth: 512,
            extension_bytes: 1 << 20,
            segments: 1 << 18,
            xattr_bytes: 64 << 10,
            file_bytes: 1 << 40,
            content_bytes: 256 << 30,
            tar_bytes: 260 << 30,
            metadata_bytes: 1 << 30,
        }
    }
}
