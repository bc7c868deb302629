//! PAX records: `length SP key = value LF`, one after the other.
//!
//! Source: POSIX.1-2017 "pax", "pax Extended Header"; GNU tar manual, "PAX keywords"; star(5)
//! for `SCHILY.xattr`; libarchive tar(5) for `LIBARCHIVE.xattr`.

use std::collections::BTreeSet;

use super::{TarFault, sparse::Keys};
use crate::{Name, Time, Xattr};

/// What the records of one header say that a layer has a use for. Access times, user names,
/// textual ACLs and comments are skipped, as Docker and containerd skip them.
#[derive(Clone, Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) target: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<Time>,
    /// Sorted by name.
    pub(super) xattrs: Vec<Xattr>,
    pub(super) sparse: Keys,
}

impl Pax {
    pub(super) fn parse(mut data: &[u8]) -> Result<Pax, TarFault> {
        let mut pax = Pax::default();
        let mut seen = BTreeSet::new();
        while !data.is_empty() {
            let (record, rest) = record(data).ok_or(TarFault::Pax)?;
            data = rest;
            let (key, value) = record;
            if !Keys::repeats(key) && !seen.insert(key) {
                return Err(TarFault::PaxTwice(Name::new(key)));
            }
            pax.set(key, value).ok_or_else(|| TarFault::PaxValue(Name::new(key)))?;
        }
        pax.xattrs.sort_unstable();
        // libarchive writes every attribute in both spellings; they have to agree.
        pax.xattrs.dedup();
        match pax.xattrs.windows(2).find(|pair| pair[0].name == pair[1].name) {
            Some(pair) => Err(TarFault::PaxTwice(Name::new(&pair[0].name))),
            None => Ok(pax),
        }
    }

    /// Takes over a global header. Only what can be meant for all entries may stand there.
    pub(super) fn merge_global(&mut self, other: Pax) -> Result<(), TarFault> {
        let single = [
            (other.path.is_some(), "path"),
            (other.target.is_some(), "linkpath"),
            (other.size.is_some(), "size"),
            (!other.xattrs.is_empty(), "SCHILY.xattr"),
            (other.sparse != Keys::default(), "GNU.sparse"),
        ];
        if let Some((_, key)) = single.iter().find(|(given, _)| *given) {
            return Err(TarFault::PaxGlobal(Name::new(key.as_bytes())));
        }
        self.uid = other.uid.or(self.uid);
        self.gid = other.gid.or(self.gid);
        self.mtime = other.mtime.or(self.mtime);
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            return self.xattr(name.into(), value.into());
        }
        if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
            return self.xattr(percent(name)?, base64(value)?);
        }
        if let Some(sparse) = key.strip_prefix(b"GNU.sparse.") {
            return self.sparse.set(sparse, value);
        }
        // An empty value takes the key back: the header's own field counts.
        if value.is_empty() {
            return Some(());
        }
        match key {
            b"path" => self.path = Some(name(value)?),
            b"linkpath" => self.target = Some(name(value)?),
            b"size" => self.size = Some(decimal(value)?),
            b"uid" => self.uid = Some(u32::try_from(decimal(value)?).ok()?),
            b"gid" => self.gid = Some(u32::try_from(decimal(value)?).ok()?),
            b"mtime" => self.mtime = Some(time(value)?),
            _ => {}
        }
        Some(())
    }

    fn xattr(&mut self, name: Box<[u8]>, value: Box<[u8]>) -> Option<()> {
        if name.is_empty() || name.contains(&0) {
            return None;
        }
        self.xattrs.push(Xattr { name, value });
        Some(())
    }
}

type Record<'d> = (&'d [u8], &'d [u8]);

/// The first record and what follows it. The length counts the whole record, itself included.
fn record(data: &[u8]) -> Option<(Record<'_>, &[u8])> {
    /// Digits of the largest length that can be meant.
    const LENGTH_DIGITS_MAX: usize = 9;
    let space = data.iter().take(LENGTH_DIGITS_MAX + 1).position(|&b| b == b' ')?;
    let length = usize::try_from(decimal(data.get(..space)?)?).ok()?;
    let (record, rest) = data.split_at_checked(length)?;
    let body = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|&b| b == b'=')?;
    let (key, value) = (body.get(..equals)?, body.get(equals + 1..)?);
    match key.is_empty() || key.contains(&0) {
        true => None,
        false => Some(((key, value), rest)),
    }
}

fn name(value: &[u8]) -> Option<Vec<u8>> {
    (!value.contains(&0)).then(|| value.to_vec())
}

/// Decimal digits and nothing else, within `i64`.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value: i64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    u64::try_from(value).ok()
}

/// `[-]seconds[.fraction]`; digits beyond nanoseconds are cut off, towards the past.
fn time(value: &[u8]) -> Option<Time> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let point = value.iter().position(|&b| b == b'.').unwrap_or(value.len());
    let (whole, fraction) = value.split_at(point);
    let fraction = fraction.get(1..).unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    let digit = |i| fraction.get(i).map_or(0, |d: &u8| u32::from(d - b'0'));
    let nanoseconds = (0..9).fold(0, |value, i| value * 10 + digit(i));
    let lost = negative && fraction.iter().skip(9).any(|&d| d != b'0');
    Some(match (negative, nanoseconds + u32::from(lost)) {
        (false, nanoseconds) => Time { seconds, nanoseconds },
        (true, 0) => Time { seconds: -seconds, nanoseconds: 0 },
        (true, back) => Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - back },
    })
}

/// `%41` escapes, as libarchive writes names.
fn percent(name: &[u8]) -> Option<Box<[u8]>> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        out.push(match byte {
            b'%' => {
                let (digits, after) = rest.split_at_checked(2)?;
                rest = after;
                let digits = std::str::from_utf8(digits).ok()?;
                u8::from_str_radix(digits, 16).ok()?
            }
            other => other,
        });
    }
    Some(out.into())
}

/// RFC 4648, section 4; padding may be missing.
fn base64(text: &[u8]) -> Option<Box<[u8]>> {
    let unpadded = text.strip_suffix(b"==").or(text.strip_suffix(b"=")).unwrap_or(text);
    let mut out = Vec::with_capacity(unpadded.len() / 4 * 3 + 2);
    for group in unpadded.chunks(4) {
        let mut bits = 0_u32;
        for &digit in group {
            bits = bits << 6 | sextet(digit)?;
        }
        let bytes = match group.len() {
            4 => 3,
            3 => 2,
            2 => 1,
            _ => return None,
        };
        bits <<= 6 * (4 - group.len());
        out.extend(bits.to_be_bytes().iter().skip(1).take(bytes));
    }
    Some(out.into())
}

fn sextet(digit: u8) -> Option<u32> {
    let value = match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar_write::records_of as records;

    fn at(seconds: i64, nanoseconds: u32) -> Option<Time> {
        Some(Time { seconds, nanoseconds })
    }

    #[test]
    fn times_count_nanoseconds_forward_from_the_second_before() {
        let cases: [(&str, Option<Time>); 9] = [
            ("0", at(0, 0)),
            ("12.5", at(12, 500_000_000)),
            ("12.", at(12, 0)),
            ("1.1234567899", at(1, 123_456_789)),
            ("-1", at(-1, 0)),
            ("-1.25", at(-2, 750_000_000)),
            ("-0.0000000001", at(-1, 999_999_999)),
            ("", None),
            ("1.x", None),
        ];
        for (text, expected) in cases {
            assert_eq!(time(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn records_with_wrong_lengths_are_refused() {
        for bad in
            ["5 a=b\n", "7 a=b\n", "6 a=b", "0 a=b\n", " a=b\n", "6 a b\n", "5 =b\n", "-6 a=b\n"]
        {
            assert!(Pax::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(Pax::parse(b"6 a=b\n").is_ok());
    }

    #[test]
    fn a_key_given_twice_is_refused() {
        assert!(matches!(Pax::parse(b"8 uid=1\n8 uid=2\n"), Err(TarFault::PaxTwice(_))));
    }

    #[test]
    fn one_attribute_in_two_spellings_must_have_one_value() {
        let both = |value: &[u8]| {
            let pairs = [("SCHILY.xattr.user.a", value), ("LIBARCHIVE.xattr.user.a", b"aGk=")];
            Pax::parse(&records(&pairs))
        };
        let xattr = Xattr { name: b"user.a"[..].into(), value: b"hi"[..].into() };
        assert_eq!(both(b"hi").unwrap().xattrs, [xattr]);
        assert!(matches!(both(b"ho"), Err(TarFault::PaxTwice(_))));
    }

    #[test]
    fn base64_is_read_with_and_without_padding() {
        for text in ["aGVsbG8=", "aGVsbG8"] {
            assert_eq!(base64(text.as_bytes()).as_deref(), Some(&b"hello"[..]));
        }
        assert_eq!(base64(b"a"), None);
        assert_eq!(base64(b"a*=="), None);
        assert_eq!(percent(b"user.%41%2e").as_deref(), Some(&b"user.A."[..]));
        assert_eq!(percent(b"%4"), None);
    }
}
