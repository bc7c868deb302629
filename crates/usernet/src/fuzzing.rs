//! What a fuzzer calls.

/// Reads a frame; the first byte says whether its checksums are vouched for.
pub fn frame(bytes: &[u8]) {
    let Some((verified, frame)) = bytes.split_first() else { return };
    // Refusing it is right.
    let _ = crate::frame::read(frame, verified % 2 == 1);
}
