//! The archive around the images, decompressed.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

/// Bytes read at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// Largest zstd window, as a power of two: 128 MiB. Source: `ZSTD_WINDOWLOG_LIMIT_DEFAULT`.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// The bytes of `input`, decompressed if they look compressed.
pub(super) fn inflate<'i>(input: impl Read + 'i) -> io::Result<Box<dyn BufRead + 'i>> {
    let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
    Ok(match start(&mut input)? {
        [0x1f, 0x8b, ..] => {
            Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(input)))
        }
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let mut decoder = zstd::Decoder::with_buffer(input)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder))
        }
        _ => Box::new(input),
    })
}

/// The first four bytes, as far as one read shows them; they stay in the buffer.
fn start(input: &mut impl BufRead) -> io::Result<[u8; 4]> {
    let mut start = [0; 4];
    let seen = input.fill_buf()?;
    for (byte, seen) in start.iter_mut().zip(seen) {
        *byte = *seen;
    }
    Ok(start)
}
