//! What keys and signatures are made of: packets, and the numbers within.
//!
//! Source: RFC 9580, sections 3 and 4.2.

use super::PgpError;

/// Longest packet. A key with many signatures is many packets.
const PACKET_BYTES_MAX: usize = 1 << 20;

/// Most packets of one file.
const PACKETS_MAX: usize = 20_000;

/// Kinds of packets that are looked at.
pub(crate) mod tag {
    pub(crate) const SIGNATURE: u8 = 2;
    pub(crate) const PRIMARY_KEY: u8 = 6;
    pub(crate) const USER_ID: u8 = 13;
    pub(crate) const SUBKEY: u8 = 14;
    pub(crate) const USER_ATTRIBUTE: u8 = 17;
}

/// One packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packet<'a> {
    pub(crate) tag: u8,
    pub(crate) body: &'a [u8],
}

/// All packets of some bytes.
pub(crate) fn packets(bytes: &[u8]) -> Result<Vec<Packet<'_>>, PgpError> {
    let mut reader = Reader(bytes);
    let mut all = Vec::new();
    while !reader.0.is_empty() {
        if all.len() == PACKETS_MAX {
            return Err(PgpError::Limit { what: "packets", max: PACKETS_MAX });
        }
        all.push(packet(&mut reader)?);
    }
    Ok(all)
}

fn packet<'a>(reader: &mut Reader<'a>) -> Result<Packet<'a>, PgpError> {
    let first = reader.u8()?;
    if first & 0x80 == 0 {
        return Err(PgpError::Armor("these are no packets of OpenPGP"));
    }
    let (tag, length) = if first & 0x40 == 0 {
        let length = match first & 3 {
            0 => usize::from(reader.u8()?),
            1 => usize::from(reader.u16()?),
            2 => reader.u32()? as usize,
            _ => return Err(PgpError::NoLength),
        };
        (first >> 2 & 0xf, length)
    } else {
        let length = reader.new_length()?.ok_or(PgpError::NoLength)?;
        (first & 0x3f, length)
    };
    if length > PACKET_BYTES_MAX {
        return Err(PgpError::Limit { what: "bytes in a packet", max: PACKET_BYTES_MAX });
    }
    Ok(Packet { tag, body: reader.take(length)? })
}

/// Bytes that are taken from the front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], PgpError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(PgpError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PgpError> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| PgpError::Truncated)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, PgpError> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, PgpError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, PgpError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A number of any length, without leading zeros.
    pub(crate) fn number(&mut self) -> Result<&'a [u8], PgpError> {
        let bits = usize::from(self.u16()?);
        let number = self.take(bits.div_ceil(8))?;
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        Ok(number.get(zeros..).unwrap_or_default())
    }

    /// A length as newer packets and all subpackets write it; nothing for one that comes in pieces.
    pub(crate) fn new_length(&mut self) -> Result<Option<usize>, PgpError> {
        let first = self.u8()?;
        Ok(Some(match first {
            0..192 => usize::from(first),
            192..224 => ((usize::from(first) - 192) << 8) + usize::from(self.u8()?) + 192,
            224..255 => return Ok(None),
            255 => self.u32()? as usize,
        }))
    }

    /// A length as subpackets write it: there, none comes in pieces.
    pub(crate) fn subpacket_length(&mut self) -> Result<usize, PgpError> {
        let first = self.u8()?;
        Ok(match first {
            0..192 => usize::from(first),
            192..255 => ((usize::from(first) - 192) << 8) + usize::from(self.u8()?) + 192,
            255 => self.u32()? as usize,
        })
    }
}
