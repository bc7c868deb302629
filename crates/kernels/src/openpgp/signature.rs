//! One signature: what it says of itself, and whether a key made it.
//!
//! Source: RFC 9580, section 5.2.

use super::{
    PgpError,
    key::{Hash, PublicKey},
    packet::Reader,
};

/// Kinds of signatures.
pub(crate) mod kind {
    pub(crate) const BINARY: u8 = 0x00;
    pub(crate) const TEXT: u8 = 0x01;
    /// Four kinds, which differ in how sure whoever signed was.
    pub(crate) const CERTIFICATION: std::ops::RangeInclusive<u8> = 0x10..=0x13;
    pub(crate) const SUBKEY_BINDING: u8 = 0x18;
    pub(crate) const DIRECT_KEY: u8 = 0x1f;
    pub(crate) const KEY_REVOCATION: u8 = 0x20;
    pub(crate) const SUBKEY_REVOCATION: u8 = 0x28;
}

/// The flag of a key that may sign data.
pub(crate) const MAY_SIGN: u8 = 0x02;

/// A signature of version 4.
#[derive(Clone, Debug)]
pub(crate) struct Signature<'a> {
    pub(crate) kind: u8,
    algorithm: u8,
    hash: Option<Hash>,
    /// From the version to the last subpacket that is signed.
    hashed: &'a [u8],
    /// The first bytes of the digest, which save the work if they are wrong already.
    numbers: &'a [u8],
    /// Seconds since 1970.
    pub(crate) created: u32,
    /// Seconds after that; 0 is never.
    pub(crate) expires_after: u32,
    /// Seconds after the key was made; 0 is never.
    pub(crate) key_expires_after: u32,
    pub(crate) key_flags: Option<u8>,
    pub(crate) issuer: Option<[u8; 20]>,
    pub(crate) issuer_id: Option<[u8; 8]>,
    /// A subpacket that must be understood and is not.
    pub(crate) strange: bool,
}

impl<'a> Signature<'a> {
    /// Reads the body of a signature packet; nothing for another version.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Option<Signature<'a>>, PgpError> {
        let mut reader = Reader(body);
        if reader.u8()? != 4 {
            return Ok(None);
        }
        let (kind, algorithm, hash) = (reader.u8()?, reader.u8()?, reader.u8()?);
        let length = usize::from(reader.u16()?);
        let signed = reader.take(length)?;
        let hashed = body.get(..6 + length).ok_or(PgpError::Truncated)?;
        let length = usize::from(reader.u16()?);
        let unsigned = reader.take(length)?;
        reader.take(2)?;
        let mut signature = Signature {
            kind,
            algorithm,
            hash: Hash::of(hash),
            hashed,
            numbers: reader.0,
            created: 0,
            expires_after: 0,
            key_expires_after: 0,
            key_flags: None,
            issuer: None,
            issuer_id: None,
            strange: false,
        };
        signature.subpackets(signed, true)?;
        signature.subpackets(unsigned, false)?;
        Ok(Some(signature))
    }

    /// What stands where everybody could have written it counts only as a hint at the key.
    fn subpackets(&mut self, area: &[u8], signed: bool) -> Result<(), PgpError> {
        let mut reader = Reader(area);
        while !reader.0.is_empty() {
            let length = reader.subpacket_length()?;
            let mut inner = Reader(reader.take(length)?);
            let first = inner.u8()?;
            match (first & 0x7f, signed) {
                (2, true) => self.created = inner.u32()?,
                (3, true) => self.expires_after = inner.u32()?,
                (9, true) => self.key_expires_after = inner.u32()?,
                (27, true) => self.key_flags = Some(inner.0.first().copied().unwrap_or_default()),
                (16, _) => self.issuer_id = inner.0.try_into().ok(),
                // A fingerprint behind the version of its key.
                (33, _) => {
                    self.issuer = inner.0.strip_prefix(&[4]).and_then(|it| it.try_into().ok());
                }
                // Preferences, notes and names, which change nothing here; embedded signatures.
                (4..=7 | 11 | 12 | 20..=26 | 28..=32 | 34 | 35 | 39, _) => {}
                _ => self.strange |= signed && first & 0x80 != 0,
            }
        }
        Ok(())
    }

    /// Whether it is of a kind that counts at all.
    pub(crate) fn is_understood(&self) -> bool {
        self.hash.is_some() && !self.strange && self.created != 0
    }

    /// Whether this key made it over these data.
    pub(crate) fn is_by(&self, key: &PublicKey, data: &[u8]) -> bool {
        let Some(hash) = self.hash else { return false };
        let Ok(length) = u32::try_from(self.hashed.len()) else { return false };
        let trailer = [&[0x04, 0xff], length.to_be_bytes().as_slice()].concat();
        let message = [data, self.hashed, &trailer].concat();
        key.signed(self.algorithm, hash, &message, self.numbers)
    }

    /// Whether its time is over at `now`, in seconds since 1970.
    pub(crate) fn has_expired(&self, now: u64) -> bool {
        ends(self.created, self.expires_after).is_some_and(|end| end <= now)
    }

    /// What it is, for whoever reads why it was not taken.
    pub(crate) fn described(&self) -> String {
        let hash = if self.hash.is_some() { "" } else { ", a digest that is too weak or unknown" };
        let strange = if self.strange { ", a condition that is unknown" } else { "" };
        format!("type {:#04x}, algorithm {}{hash}{strange}", self.kind, self.algorithm)
    }
}

/// When something ends, in seconds since 1970; nothing if it never does.
pub(crate) fn ends(created: u32, after: u32) -> Option<u64> {
    (after != 0).then(|| u64::from(created) + u64::from(after))
}
