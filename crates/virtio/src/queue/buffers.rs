//! The two halves of a chain: what may be read, and what may be written.
//!
//! That they are two types is what keeps a device from writing to where the driver did not allow
//! it. Both go through their buffers once, from front to back; that all of them are memory was
//! checked when the chain was walked.

use std::{collections::VecDeque, io, os::fd::BorrowedFd};

use hv::GuestMemory;

/// A piece of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its guest-physical address.
    pub guest: u64,
    /// How long it is.
    pub bytes: u32,
}

/// What is left of one half.
#[derive(Debug)]
struct Cursor {
    memory: GuestMemory,
    segments: VecDeque<Segment>,
    left: usize,
}

impl Cursor {
    fn new(memory: GuestMemory, segments: Vec<Segment>) -> Cursor {
        let left = segments.iter().map(|segment| segment.bytes as usize).sum();
        let mut segments = VecDeque::from(segments);
        segments.retain(|segment| segment.bytes > 0);
        Cursor { memory, segments, left }
    }

    /// The next piece, of at most so many bytes.
    fn front(&self, most: usize) -> Option<Segment> {
        let front = self.segments.front().filter(|_| most > 0)?;
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        Some(Segment { guest: front.guest, bytes: front.bytes.min(most) })
    }

    /// Goes on by so many bytes of the piece in front.
    fn advance(&mut self, bytes: u32) {
        let Some(front) = self.segments.front_mut() else { return };
        let bytes = bytes.min(front.bytes);
        self.left -= bytes as usize;
        front.guest += u64::from(bytes);
        front.bytes -= bytes;
        if front.bytes == 0 {
            self.segments.pop_front();
        }
    }

    /// Calls `act` with piece after piece of the next `bytes` bytes, until it takes less than all
    /// of one; gives how many bytes it took.
    fn each<E>(
        &mut self,
        bytes: usize,
        mut act: impl FnMut(&GuestMemory, Segment, usize) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let mut done = 0;
        while let Some(segment) = self.front(bytes - done) {
            let took = act(&self.memory, segment, done)?.min(segment.bytes as usize);
            done += took;
            // It is at most the segment's length, which is a u32.
            let took = u32::try_from(took).unwrap_or(segment.bytes);
            self.advance(took);
            if took < segment.bytes {
                break;
            }
        }
        Ok(done)
    }

    /// Takes the next `bytes` bytes off as a half of their own.
    fn take(&mut self, bytes: usize) -> Cursor {
        let mut taken = Vec::new();
        while let Some(segment) = self.front(bytes - total(&taken)) {
            taken.push(segment);
            self.advance(segment.bytes);
        }
        Cursor::new(self.memory.clone(), taken)
    }
}

fn total(segments: &[Segment]) -> usize {
    segments.iter().map(|segment| segment.bytes as usize).sum()
}

/// For acts that cannot fail.
enum Never {}

/// The buffers that the driver has filled.
#[derive(Debug)]
pub struct Reader(Cursor);

impl Reader {
    pub(super) fn new(memory: GuestMemory, segments: Vec<Segment>) -> Reader {
        Reader(Cursor::new(memory, segments))
    }

    /// How many bytes are left.
    pub fn left(&self) -> usize {
        self.0.left
    }

    /// The pieces that are left.
    pub fn segments(&self) -> impl Iterator<Item = Segment> + '_ {
        self.0.segments.iter().copied()
    }

    /// Copies the next bytes; gives how many there were.
    pub fn read(&mut self, to: &mut [u8]) -> usize {
        let copied = self.0.each(to.len(), |memory, segment, done| {
            let bytes = segment.bytes as usize;
            let copied = memory.read(segment.guest, &mut to[done..done + bytes]);
            Ok::<usize, Never>(copied.map_or(0, |()| bytes))
        });
        copied.unwrap_or_else(|never| match never {})
    }

    /// The next bytes, if there are so many.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        (self.left() >= N && self.read(&mut bytes) == N).then_some(bytes)
    }

    /// The next bytes once more, without going on.
    pub fn ahead(&self, bytes: usize) -> Reader {
        let mut segments = Vec::new();
        for segment in self.segments() {
            if total(&segments) >= bytes {
                break;
            }
            segments.push(segment);
        }
        Reader(Cursor::new(self.0.memory.clone(), segments)).take(bytes)
    }

    /// Goes over the next bytes.
    pub fn skip(&mut self, bytes: usize) {
        self.take(bytes);
    }

    /// Takes the next bytes off as buffers of their own; fewer, if there are fewer.
    pub fn take(&mut self, bytes: usize) -> Reader {
        Reader(self.0.take(bytes))
    }

    /// Writes the next bytes to a file at a position, straight from the guest.
    ///
    /// # Errors
    /// Those of pwrite(2); `WriteZero` if the file takes no more or the buffers end before.
    pub fn write_to(&mut self, file: BorrowedFd<'_>, at: u64, bytes: usize) -> io::Result<()> {
        let mut done = 0;
        while done < bytes {
            let place = at + done as u64;
            let went = self.0.each(bytes - done, |memory, segment, before| {
                let place = place + before as u64;
                memory.write_to(file, place, segment.guest, segment.bytes as usize)
            })?;
            if went == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            done += went;
        }
        Ok(())
    }
}

/// The buffers that the driver has made room in.
#[derive(Debug)]
pub struct Writer {
    rest: Cursor,
    written: u32,
}

impl Writer {
    pub(super) fn new(memory: GuestMemory, segments: Vec<Segment>) -> Writer {
        Writer { rest: Cursor::new(memory, segments), written: 0 }
    }

    /// How much room is left, in bytes.
    pub fn left(&self) -> usize {
        self.rest.left
    }

    /// How many bytes were written, or gone over: what the driver is told.
    pub fn written(&self) -> u32 {
        self.written
    }

    /// The pieces that are left.
    pub fn segments(&self) -> impl Iterator<Item = Segment> + '_ {
        self.rest.segments.iter().copied()
    }

    fn count(&mut self, bytes: usize) {
        // All buffers of a chain are below 4 GiB together.
        self.written = self.written.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// Writes bytes; gives how many there was room for.
    pub fn write(&mut self, from: &[u8]) -> usize {
        let copied = self.rest.each(from.len(), |memory, segment, done| {
            let bytes = segment.bytes as usize;
            let copied = memory.write(segment.guest, &from[done..done + bytes]);
            Ok::<usize, Never>(copied.map_or(0, |()| bytes))
        });
        let copied = copied.unwrap_or_else(|never| match never {});
        self.count(copied);
        copied
    }

    /// Writes the same byte many times; gives how many there was room for.
    pub fn fill(&mut self, byte: u8, bytes: usize) -> usize {
        let filled = self.rest.each(bytes, |memory, segment, _| {
            let bytes = segment.bytes as usize;
            Ok::<usize, Never>(memory.fill(segment.guest, byte, bytes).map_or(0, |()| bytes))
        });
        let filled = filled.unwrap_or_else(|never| match never {});
        self.count(filled);
        filled
    }

    /// Takes the next bytes of room off as buffers of their own. What is written to them counts
    /// only there.
    pub fn take(&mut self, bytes: usize) -> Writer {
        Writer { rest: self.rest.take(bytes), written: 0 }
    }

    /// Reads from a file at a position, straight into the guest.
    ///
    /// # Errors
    /// Those of pread(2); `UnexpectedEof` if the file or the room ends before.
    pub fn read_from(&mut self, file: BorrowedFd<'_>, at: u64, bytes: usize) -> io::Result<()> {
        let mut done = 0;
        while done < bytes {
            let place = at + done as u64;
            let came = self.rest.each(bytes - done, |memory, segment, before| {
                let place = place + before as u64;
                memory.read_from(file, place, segment.guest, segment.bytes as usize)
            })?;
            if came == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.count(came);
            done += came;
        }
        Ok(())
    }
}
