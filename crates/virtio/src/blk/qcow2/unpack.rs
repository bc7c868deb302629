//! Compressed clusters, which are only ever read.

use std::{
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
};

use flate2::{Decompress, FlushDecompress};

use super::{Compression, Damage, Qcow2, entry::Packed};

/// How far back an expanded byte may refer, as a power of two: as far as the largest cluster.
const WINDOW_LOG_MAX: u32 = 22;

impl Qcow2 {
    /// The whole of a compressed cluster.
    pub(super) fn unpack(&self, packed: Packed) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; packed.bytes];
        let mut there = 0;
        // The last sector of an image may be cut off.
        while there < bytes.len() {
            match self.file.read_at(&mut bytes[there..], packed.at + there as u64)? {
                0 => break,
                more => there += more,
            }
        }
        let cluster = usize::try_from(self.cluster()).expect("a cluster is at most 2 MiB");
        let expanded = expand(self.compression, &bytes[..there], cluster);
        Ok(expanded.ok_or(Damage::Packed { at: packed.at })?)
    }
}

/// Exactly so many bytes out of a compressed cluster, behind which anything may stand.
///
/// Source: QEMU, docs/interop/qcow2.txt, "compression_type"; RFC 1951; RFC 8878.
fn expand(compression: Compression, bytes: &[u8], cluster: usize) -> Option<Vec<u8>> {
    let mut expanded = vec![0; cluster];
    match compression {
        Compression::Deflate => {
            let mut inflate = Decompress::new(false);
            let done = inflate.decompress(bytes, &mut expanded, FlushDecompress::Finish);
            let whole = inflate.total_out() == cluster as u64;
            (done.is_ok() && whole).then_some(expanded)
        }
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(bytes).ok()?;
            decoder.window_log_max(WINDOW_LOG_MAX).ok()?;
            decoder.read_exact(&mut expanded).ok()?;
            Some(expanded)
        }
    }
}
