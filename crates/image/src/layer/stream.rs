//! The bytes of a layer: hashed, decompressed, and handed over in pieces.
//!
//! One thread reads, hashes and inflates; the caller's thread hashes the inflated bytes, parses
//! and writes. Buffers travel round between the two, so memory is bounded and none is allocated
//! once the stream runs.

use std::{
    io::{self, BufRead, BufReader, Cursor, Read},
    mem,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use base::Digest;
use flate2::bufread::MultiGzDecoder;
use sha2::{Digest as _, Sha256};

use super::{Compression, Exceeded, LayerError, Limits};

/// Bytes handed over at a time: large enough that the channel costs nothing, small enough for L2.
const BUFFER_BYTES: usize = 256 << 10;

/// Buffers on their way, besides the two being filled and read.
const BUFFERS: usize = 4;

/// Largest zstd window, as a power of two: 128 MiB. Source: `ZSTD_WINDOWLOG_LIMIT_DEFAULT`.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// What was read in the end.
pub(super) struct Summary {
    pub(super) blob: Digest,
    pub(super) blob_bytes: u64,
    pub(super) compression: Compression,
    pub(super) diff_id: Digest,
    pub(super) tar_bytes: u64,
}

/// Runs `work` over the uncompressed bytes, then reads on to the end of the input, so that both
/// digests cover all of it.
pub(super) fn read<T>(
    input: impl Read + Send,
    limits: &Limits,
    progress: &mut dyn FnMut(u64),
    work: impl FnOnce(&mut Stream<'_>) -> Result<T, LayerError>,
) -> Result<(T, Summary), LayerError> {
    let mut raw = Raw { inner: input, hash: Sha256::new(), bytes: 0, failed: false };
    let (compression, start) = sniff(&mut raw)?;
    thread::scope(|scope| {
        let (full, filled) = sync_channel(BUFFERS);
        let (emptied, empty) = sync_channel(BUFFERS + 2);
        let mut stream = Stream {
            filled,
            emptied,
            current: Vec::new(),
            taken: 0,
            state: State::Flowing,
            // Of a plain archive both digests are the same; it is hashed once.
            hash: (compression != Compression::None).then(Sha256::new),
            bytes: 0,
            bytes_max: limits.tar_bytes,
            progress,
        };
        thread::Builder::new()
            .name("layer-inflate".to_owned())
            .spawn_scoped(scope, move || produce(raw, compression, start, &full, &empty))
            .map_err(LayerError::Thread)?;
        let done = work(&mut stream).and_then(|value| Ok((value, stream.finish()?)));
        // What stopped the stream is the cause of whatever the work then stumbled over.
        let (value, end) = done.map_err(|error| stream.failure().unwrap_or(error))?;
        Ok((value, stream.summary(&end, compression)))
    })
}

/// The uncompressed bytes.
pub(super) struct Stream<'p> {
    filled: Receiver<Message>,
    emptied: SyncSender<Vec<u8>>,
    current: Vec<u8>,
    taken: usize,
    state: State,
    hash: Option<Sha256>,
    bytes: u64,
    bytes_max: u64,
    progress: &'p mut dyn FnMut(u64),
}

enum State {
    Flowing,
    Ended(End),
    Failed(Option<LayerError>),
}

enum Message {
    /// Uncompressed bytes, and how many raw ones were read so far.
    Bytes(Vec<u8>, u64),
    End(End),
    Failed(LayerError),
}

#[derive(Clone, Copy)]
struct End {
    blob: Digest,
    blob_bytes: u64,
}

impl Stream<'_> {
    /// Waits for the next buffer and hashes it.
    fn next(&mut self) {
        let spent = mem::take(&mut self.current);
        // The reader is gone when it has sent its last message; the buffer is then just freed.
        let _ = self.emptied.try_send(spent);
        self.taken = 0;
        self.state = match self.filled.recv() {
            Ok(Message::Bytes(buffer, raw)) => {
                self.bytes += buffer.len() as u64;
                if let Some(hash) = &mut self.hash {
                    hash.update(&buffer);
                }
                self.current = buffer;
                (self.progress)(raw);
                match self.bytes > self.bytes_max {
                    true => State::Failed(Some(LayerError::Size(Exceeded {
                        limit: "bytes of uncompressed archive",
                        max: self.bytes_max,
                    }))),
                    false => State::Flowing,
                }
            }
            Ok(Message::End(end)) => {
                (self.progress)(end.blob_bytes);
                State::Ended(end)
            }
            Ok(Message::Failed(error)) => State::Failed(Some(error)),
            // Only a panic ends the reader without a last word; the scope passes it on.
            Err(_) => State::Failed(None),
        };
    }

    fn finish(&mut self) -> Result<End, LayerError> {
        loop {
            match &mut self.state {
                State::Flowing => self.next(),
                State::Ended(end) => return Ok(*end),
                State::Failed(error) => {
                    let gone = || LayerError::Read(io::ErrorKind::BrokenPipe.into());
                    return Err(error.take().unwrap_or_else(gone));
                }
            }
        }
    }

    fn failure(&mut self) -> Option<LayerError> {
        match &mut self.state {
            State::Failed(error) => error.take(),
            State::Flowing | State::Ended(_) => None,
        }
    }

    fn summary(&mut self, end: &End, compression: Compression) -> Summary {
        let diff_id = match self.hash.take() {
            Some(hash) => Digest::from_sha256(hash.finalize().into()),
            None => end.blob,
        };
        let (blob, blob_bytes) = (end.blob, end.blob_bytes);
        Summary { blob, blob_bytes, compression, diff_id, tar_bytes: self.bytes }
    }
}

impl BufRead for Stream<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.taken == self.current.len() {
            match self.state {
                State::Flowing => self.next(),
                State::Ended(_) => return Ok(&[]),
                State::Failed(_) => return Err(io::Error::other("the layer's stream failed")),
            }
        }
        Ok(self.current.get(self.taken..).unwrap_or_default())
    }

    fn consume(&mut self, bytes: usize) {
        self.taken = (self.taken + bytes).min(self.current.len());
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut available = self.fill_buf()?;
        let read = available.read(into)?;
        self.consume(read);
        Ok(read)
    }
}

/// The input, hashed and counted on its way.
struct Raw<R> {
    inner: R,
    hash: Sha256,
    bytes: u64,
    failed: bool,
}

impl<R: Read> Read for Raw<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.inner.read(into) {
                Ok(read) => {
                    self.hash.update(into.get(..read).unwrap_or_default());
                    self.bytes += read as u64;
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.failed = true;
                    return Err(error);
                }
            }
        }
    }
}

/// Bytes that tell the compressions apart.
const SNIFFED_BYTES: usize = 6;

fn sniff(raw: &mut impl Read) -> Result<(Compression, Vec<u8>), LayerError> {
    let mut start = Vec::with_capacity(SNIFFED_BYTES);
    raw.take(SNIFFED_BYTES as u64).read_to_end(&mut start).map_err(LayerError::Read)?;
    Ok((compression(&start)?, start))
}

fn compression(start: &[u8]) -> Result<Compression, LayerError> {
    match start {
        [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
        // RFC 8878, 3.1.1 and 3.1.2: a frame, or a skippable frame before it.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Compression::Zstd),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Err(LayerError::Compression("xz")),
        [b'B', b'Z', b'h', b'1'..=b'9', b'1', b'A'] => Err(LayerError::Compression("bzip2")),
        _ => Ok(Compression::None),
    }
}

type Start<R> = io::Chain<Cursor<Vec<u8>>, Raw<R>>;

/// A decompressor that lets the raw input be seen.
enum Decoder<R: Read> {
    None(Start<R>),
    Gzip(Box<MultiGzDecoder<BufReader<Start<R>>>>),
    Zstd(Box<zstd::Decoder<'static, BufReader<Start<R>>>>),
}

impl<R: Read> Decoder<R> {
    fn new(raw: Raw<R>, compression: Compression, start: Vec<u8>) -> io::Result<Decoder<R>> {
        let input = Cursor::new(start).chain(raw);
        Ok(match compression {
            Compression::None => Decoder::None(input),
            Compression::Gzip => {
                let input = BufReader::with_capacity(BUFFER_BYTES, input);
                Decoder::Gzip(Box::new(MultiGzDecoder::new(input)))
            }
            Compression::Zstd => {
                let input = BufReader::with_capacity(BUFFER_BYTES, input);
                let mut decoder = zstd::Decoder::with_buffer(input)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Decoder::Zstd(Box::new(decoder))
            }
        })
    }

    fn raw(&self) -> &Raw<R> {
        match self {
            Decoder::None(input) => input.get_ref().1,
            Decoder::Gzip(decoder) => decoder.get_ref().get_ref().get_ref().1,
            Decoder::Zstd(decoder) => decoder.get_ref().get_ref().get_ref().1,
        }
    }

    /// Fills `buffer`, or less of it at the end.
    fn fill(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        buffer.clear();
        let limit = BUFFER_BYTES as u64;
        match self {
            Decoder::None(input) => input.take(limit).read_to_end(buffer),
            Decoder::Gzip(decoder) => decoder.take(limit).read_to_end(buffer),
            Decoder::Zstd(decoder) => decoder.take(limit).read_to_end(buffer),
        }
        .map(|_| ())
    }
}

/// Reads to the end, or until nobody listens.
fn produce<R: Read>(
    raw: Raw<R>,
    compression: Compression,
    start: Vec<u8>,
    full: &SyncSender<Message>,
    empty: &Receiver<Vec<u8>>,
) {
    let last = match produce_bytes(raw, compression, start, full, empty) {
        Ok(Some(end)) => Message::End(end),
        Ok(None) => return,
        Err(error) => Message::Failed(error),
    };
    // An error here means that the other side has stopped and wants no last word.
    let _ = full.send(last);
}

fn produce_bytes<R: Read>(
    raw: Raw<R>,
    compression: Compression,
    start: Vec<u8>,
    full: &SyncSender<Message>,
    empty: &Receiver<Vec<u8>>,
) -> Result<Option<End>, LayerError> {
    let damaged = |source| LayerError::Decompress { compression, source };
    let mut decoder = Decoder::new(raw, compression, start).map_err(damaged)?;
    loop {
        let mut buffer = empty.try_recv().unwrap_or_default();
        buffer.reserve_exact(BUFFER_BYTES.saturating_sub(buffer.len()));
        if let Err(source) = decoder.fill(&mut buffer) {
            return Err(match decoder.raw().failed {
                true => LayerError::Read(source),
                false => damaged(source),
            });
        }
        let raw = decoder.raw();
        if buffer.is_empty() {
            let blob = Digest::from_sha256(raw.hash.clone().finalize().into());
            return Ok(Some(End { blob, blob_bytes: raw.bytes }));
        }
        if full.send(Message::Bytes(buffer, raw.bytes)).is_err() {
            return Ok(None);
        }
    }
}
