//! What a driver asks of a disk, and the answer.
//!
//! Source: virtio 1.2, 5.2.6.

use std::io;

use super::{Blk, SECTOR, ZERO_SECTORS_MAX, ZERO_SEGMENTS_MAX};
use crate::queue::{Reader, Writer};

/// Bytes of a piece of a discard or a zeroing.
const RANGE: usize = 16;

/// `VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP`.
const UNMAP: u32 = 1;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Status {
    Ok = 0,
    IoError = 1,
    Unsupported = 2,
}

/// A request without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    kind: u32,
    sector: u64,
}

/// What is done to a piece of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clear {
    /// What is there is not needed any more; it may read as anything that the guest had there.
    Discard,
    /// It reads as zeros, and the room should go back to the host.
    Unmap,
    /// It reads as zeros.
    Zero,
}

/// A piece of a disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    at: u64,
    bytes: u64,
    how: Clear,
}

impl Request {
    pub(super) fn read(reader: &mut Reader) -> Option<Request> {
        let header: [u8; 16] = reader.array()?;
        let [k0, k1, k2, k3, _, _, _, _, sector @ ..] = header;
        let kind = u32::from_le_bytes([k0, k1, k2, k3]);
        Some(Request { kind, sector: u64::from_le_bytes(sector) })
    }

    pub(super) fn carry_out(self, disk: &mut Blk, from: &mut Reader, to: &mut Writer) -> Status {
        match self.kind {
            0 => self.read_sectors(disk, to),
            1 => self.write_sectors(disk, from),
            4 => done(disk, |disk| disk.image.flush()),
            8 => {
                let id = disk.id;
                to.write(&id);
                Status::Ok
            }
            11 => clear(disk, from, |flags| (flags == 0).then_some(Clear::Discard)),
            13 => clear(disk, from, |flags| match flags {
                0 => Some(Clear::Zero),
                UNMAP => Some(Clear::Unmap),
                _ => None,
            }),
            _ => Status::Unsupported,
        }
    }

    fn read_sectors(self, disk: &mut Blk, to: &mut Writer) -> Status {
        let bytes = to.left();
        let Some(at) = place(self.sector, bytes, disk.capacity()) else { return Status::IoError };
        disk.counters.reads += 1;
        disk.counters.read_bytes += bytes as u64;
        done(disk, |disk| disk.image.read(at, to, bytes))
    }

    fn write_sectors(self, disk: &mut Blk, from: &mut Reader) -> Status {
        let bytes = from.left();
        let Some(at) = place(self.sector, bytes, disk.capacity()) else { return Status::IoError };
        if disk.read_only {
            return Status::IoError;
        }
        disk.counters.writes += 1;
        disk.counters.written_bytes += bytes as u64;
        done(disk, |disk| {
            disk.image.write(at, from, bytes)?;
            written(disk)
        })
    }
}

/// After something was written: a driver that does not flush counts on it.
fn written(disk: &mut Blk) -> io::Result<()> {
    if disk.write_back { Ok(()) } else { disk.image.flush() }
}

fn done(disk: &mut Blk, act: impl FnOnce(&mut Blk) -> io::Result<()>) -> Status {
    match act(disk) {
        Ok(()) => Status::Ok,
        Err(error) => {
            disk.error = Some(error);
            Status::IoError
        }
    }
}

/// Where so many bytes are, if they are whole sectors of the disk.
fn place(sector: u64, bytes: usize, capacity: u64) -> Option<u64> {
    let bytes = bytes as u64;
    let end = sector.checked_add(bytes / SECTOR)?;
    (bytes.is_multiple_of(SECTOR) && end <= capacity).then(|| sector * SECTOR)
}

impl Piece {
    /// The next piece, if it is one of the disk's; what its flags mean is `how`.
    fn read(
        reader: &mut Reader,
        capacity: u64,
        how: fn(u32) -> Option<Clear>,
    ) -> Result<Piece, Status> {
        let piece: [u8; RANGE] = reader.array().ok_or(Status::IoError)?;
        let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, f0, f1, f2, f3] = piece;
        let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let sectors = u32::from_le_bytes([n0, n1, n2, n3]);
        let how = how(u32::from_le_bytes([f0, f1, f2, f3])).ok_or(Status::Unsupported)?;
        let end = sector.checked_add(u64::from(sectors)).filter(|end| *end <= capacity);
        if end.is_none() || sectors > ZERO_SECTORS_MAX {
            return Err(Status::IoError);
        }
        Ok(Piece { at: sector * SECTOR, bytes: u64::from(sectors) * SECTOR, how })
    }
}

/// A discard or a zeroing: all pieces are looked at before the first is carried out.
fn clear(disk: &mut Blk, from: &mut Reader, how: fn(u32) -> Option<Clear>) -> Status {
    let (bytes, capacity) = (from.left(), disk.capacity());
    if disk.read_only || !bytes.is_multiple_of(RANGE) || bytes / RANGE > ZERO_SEGMENTS_MAX as usize
    {
        return Status::IoError;
    }
    let pieces = (0..bytes / RANGE).map(|_| Piece::read(from, capacity, how));
    let pieces = match pieces.collect::<Result<Vec<Piece>, Status>>() {
        Ok(pieces) => pieces,
        Err(status) => return status,
    };
    done(disk, |disk| {
        for piece in pieces {
            disk.image.clear(piece.at, piece.bytes, piece.how)?;
        }
        written(disk)
    })
}
