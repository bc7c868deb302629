//! The fields of a 512-byte header.
//!
//! ```text
//!   0 name 100   100 mode 8   108 uid 8   116 gid 8   124 size 12   136 mtime 12   148 chksum 8
//! 156 typeflag   157 linkname 100   257 magic 8   329 devmajor 8   337 devminor 8
//! 345 prefix 155 (ustar; 131 in star's variant) │ 386 sparse 4×24, 482 isextended, 483 realsize 12 (GNU)
//! ```

use super::{BLOCK_BYTES, TarFault, sparse::OldMap};
use crate::{Device, DeviceClass};

/// A header whose checksum fits.
pub(super) struct Header<'b> {
    block: &'b [u8; BLOCK_BYTES],
}

impl<'b> Header<'b> {
    pub(super) fn parse(block: &'b [u8; BLOCK_BYTES]) -> Result<Header<'b>, TarFault> {
        let header = Header { block };
        let written = number(header.field(148, 8)).ok_or(TarFault::Checksum)?;
        let (unsigned, signed) = checksums(block);
        match written == unsigned || written == signed {
            true => Ok(header),
            false => Err(TarFault::Checksum),
        }
    }

    fn field(&self, at: usize, length: usize) -> &'b [u8] {
        self.block.get(at..at + length).unwrap_or_default()
    }

    fn text(&self, at: usize, length: usize) -> &'b [u8] {
        let field = self.field(at, length);
        field.split(|&b| b == 0).next().unwrap_or_default()
    }

    pub(super) fn type_flag(&self) -> u8 {
        self.block[156]
    }

    /// The name, with the prefix where the format has one. GNU's own format does not: it keeps
    /// other things there.
    pub(super) fn path(&self) -> Vec<u8> {
        let name = self.text(0, 100);
        let prefix = match (self.field(257, 6), self.field(508, 4)) {
            (b"ustar\0", b"tar\0") => self.text(345, 131),
            (b"ustar\0", _) => self.text(345, 155),
            _ => b"",
        };
        match prefix {
            b"" => name.to_vec(),
            _ => [prefix, name].join(&b'/'),
        }
    }

    pub(super) fn target(&self) -> Vec<u8> {
        self.text(157, 100).to_vec()
    }

    pub(super) fn mode(&self) -> Result<u16, TarFault> {
        let mode = number(self.field(100, 8)).ok_or(TarFault::Number("mode"))?;
        // Some writers add the file type; only the permissions are meant.
        u16::try_from(mode & 0o7777).map_err(|_| TarFault::Number("mode"))
    }

    pub(super) fn uid(&self) -> Result<u32, TarFault> {
        self.number(108, 8, "uid")
    }

    pub(super) fn gid(&self) -> Result<u32, TarFault> {
        self.number(116, 8, "gid")
    }

    pub(super) fn size(&self) -> Result<u64, TarFault> {
        self.number(124, 12, "size")
    }

    pub(super) fn mtime(&self) -> Result<i64, TarFault> {
        self.number(136, 12, "mtime")
    }

    pub(super) fn device(&self) -> Result<Device, TarFault> {
        let class = match self.type_flag() {
            b'3' => DeviceClass::Character,
            _ => DeviceClass::Block,
        };
        let major = self.number(329, 8, "devmajor")?;
        let minor = self.number(337, 8, "devminor")?;
        Ok(Device { class, major, minor })
    }

    /// The beginning of an old GNU sparse map.
    pub(super) fn sparse_map(&self) -> Result<OldMap, TarFault> {
        let real_size = self.number(483, 12, "realsize")?;
        OldMap::start(self.field(386, 96), self.block[482] != 0, real_size)
    }

    fn number<T: TryFrom<i64>>(
        &self,
        at: usize,
        length: usize,
        name: &'static str,
    ) -> Result<T, TarFault> {
        let value = number(self.field(at, length));
        value.and_then(|value| T::try_from(value).ok()).ok_or(TarFault::Number(name))
    }
}

/// The sum of a header's bytes with the checksum field read as spaces; once for bytes without a
/// sign, as POSIX says, and once for signed ones, as some old writers had it.
pub(super) fn checksums(block: &[u8; BLOCK_BYTES]) -> (i64, i64) {
    let bytes = block.iter().enumerate().map(|(i, &b)| match i {
        148..156 => b' ',
        _ => b,
    });
    bytes.fold((0, 0), |(unsigned, signed), byte| {
        (unsigned + i64::from(byte), signed + i64::from(byte.cast_signed()))
    })
}

/// A numeric field: octal digits among spaces and NULs, or GNU's base-256 with the top bit set.
/// An empty field is zero.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    match field.split_first() {
        Some((&first, rest)) if first & 0x80 != 0 => base256(first, rest),
        Some(_) | None => octal(field),
    }
}

/// Two's complement, most significant byte first; the first byte's top bit is the mark.
fn base256(first: u8, rest: &[u8]) -> Option<i64> {
    let sign: i128 = if first & 0x40 != 0 { -1 } else { 0 };
    let start = sign << 6 | i128::from(first & 0x3f);
    // Fields have at most 12 bytes: 94 bits.
    let value = rest.iter().fold(start, |value, &byte| value << 8 | i128::from(byte));
    i64::try_from(value).ok()
}

fn octal(field: &[u8]) -> Option<i64> {
    let blank = |b: &u8| *b == b' ' || *b == 0;
    let start = field.iter().position(|b| !blank(b)).unwrap_or(field.len());
    let digits = field.get(start..)?;
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if !rest.iter().all(blank) {
        return None;
    }
    digits.iter().try_fold(0_i64, |value, &digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        let cases: [(&[u8], Option<i64>); 10] = [
            (b"0000644\0", Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"644\0\x01\0\0\0", None),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"0000648\0", None),
            (b"-0000001", None),
            (b"777777777777", Some(0o777_777_777_777)),
            (b"\x80\0\0\0\0\0\0\x02\0\0\0\0", Some(2 << 32)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\x80\x01\0\0\0\0\0\0\0\0\0\0", None),
        ];
        for (field, value) in cases {
            assert_eq!(number(field), value, "{}", field.escape_ascii());
        }
    }
}
