//! Parsers of what clients send, for the fuzzer alone.

use crate::containers;

/// A request to make a container, and one to change it.
pub fn create(bytes: &[u8]) {
    containers::fuzz_create(bytes);
}

/// Messages of a WebSocket, in pieces whose size the first byte says.
///
/// # Panics
/// If more data comes out than was put in: a bug.
pub fn websocket(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let pieces = bytes.chunks(usize::from(*size) + 1);
    assert!(containers::fuzz_websocket(pieces) <= bytes.len(), "data out of nothing");
}
