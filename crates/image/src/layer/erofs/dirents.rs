//! Directory blocks: in each, the entries and then their names.
//!
//! Names are sorted by their bytes over the whole directory, so that the kernel can search by
//! halving; `.` and `..` have no place of their own.

use super::format::{BLOCK, DIRENT_BYTES};

/// One entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dirent<'n> {
    pub(super) name: &'n [u8],
    pub(super) nid: u64,
    pub(super) file_type: u8,
}

/// How many names, in their order, share each block; and the length of all blocks together, the
/// last one counted as far as it is used.
pub(super) fn pack<'n>(names: impl Iterator<Item = &'n [u8]>) -> (Vec<usize>, u64) {
    let mut counts = Vec::new();
    let (mut count, mut used) = (0, 0);
    for name in names {
        let bytes = DIRENT_BYTES + name.len();
        if used + bytes > BLOCK {
            counts.push(count);
            (count, used) = (0, 0);
        }
        count += 1;
        used += bytes;
    }
    let full = counts.len() * BLOCK;
    counts.push(count);
    (counts, (full + used) as u64)
}

/// The blocks of a directory; only the last one may be short.
pub(super) fn encode(dirents: &[Dirent<'_>]) -> Vec<u8> {
    let (counts, bytes) = pack(dirents.iter().map(|dirent| dirent.name));
    let mut out = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
    let mut rest = dirents;
    for count in counts {
        let (block, after) = rest.split_at(count);
        rest = after;
        out.resize(out.len().next_multiple_of(BLOCK), 0);
        let mut name_at = DIRENT_BYTES * count;
        for dirent in block {
            let offset = u16::try_from(name_at).expect("a name begins within its block");
            out.extend(dirent.nid.to_le_bytes());
            out.extend(offset.to_le_bytes());
            out.extend([dirent.file_type, 0]);
            name_at += dirent.name.len();
        }
        for dirent in block {
            out.extend(dirent.name);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_filled_and_their_length_is_known_before() {
        let names: Vec<Vec<u8>> = (0..1000).map(|i| format!("{i:0100}").into_bytes()).collect();
        let dirents: Vec<_> =
            names.iter().map(|name| Dirent { name, nid: 1, file_type: 1 }).collect();
        let (counts, bytes) = pack(names.iter().map(Vec::as_slice));
        assert_eq!(counts.iter().sum::<usize>(), 1000);
        assert_eq!(counts[0], BLOCK / 112);
        assert_eq!(encode(&dirents).len() as u64, bytes);
    }
}
