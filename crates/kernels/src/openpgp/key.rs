//! One public key: its number, and whether it made a signature.
//!
//! Source: RFC 9580, sections 5.5 and 9.

use std::fmt;

use aws_lc_rs::{
    digest,
    signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey},
};

use super::{PgpError, packet::Reader};

/// The object identifier of Ed25519 in keys of GnuPG's: 1.3.6.1.4.1.11591.15.1.
const ED25519_OID: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x0f, 0x01];

/// What a key of version 4 is known by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 20]);

impl Fingerprint {
    /// The last eight bytes, which is all that some signatures say.
    pub fn id(&self) -> [u8; 8] {
        let mut id = [0; 8];
        id.copy_from_slice(&self.0[12..]);
        id
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The digests that a signature may be of. SHA-1 and MD5 are not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    pub(crate) fn of(number: u8) -> Option<Hash> {
        match number {
            8 => Some(Hash::Sha256),
            9 => Some(Hash::Sha384),
            10 => Some(Hash::Sha512),
            _ => None,
        }
    }

    fn digest(self) -> &'static digest::Algorithm {
        match self {
            Hash::Sha256 => &digest::SHA256,
            Hash::Sha384 => &digest::SHA384,
            Hash::Sha512 => &digest::SHA512,
        }
    }

    fn rsa(self) -> &'static RsaParameters {
        match self {
            Hash::Sha256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Hash::Sha384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Hash::Sha512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        }
    }
}

/// What a signature is checked with.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Material {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// As GnuPG has it (22) and as RFC 9580 has it (27): they differ in how a signature is written.
    Ed25519 {
        point: [u8; 32],
        algorithm: u8,
    },
}

/// A public key of a kind that we can use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicKey {
    pub(crate) fingerprint: Fingerprint,
    /// Seconds since 1970.
    pub(crate) created: u32,
    material: Material,
}

impl PublicKey {
    /// Reads the body of a key packet; nothing for a kind of key that we cannot use.
    pub(crate) fn parse(body: &[u8]) -> Result<Option<PublicKey>, PgpError> {
        let mut reader = Reader(body);
        if reader.u8()? != 4 {
            return Ok(None);
        }
        let created = reader.u32()?;
        let material = match reader.u8()? {
            // RSA for everything, and RSA for signatures alone.
            1 | 3 => {
                let (modulus, exponent) = (reader.number()?.to_vec(), reader.number()?.to_vec());
                Material::Rsa { modulus, exponent }
            }
            22 => {
                let length = usize::from(reader.u8()?);
                if reader.take(length)? != ED25519_OID {
                    return Ok(None);
                }
                // 0x40 says that the point is as the curve's own documents write it.
                let Some((0x40, point)) = reader.number()?.split_first() else { return Ok(None) };
                let Ok(point) = point.try_into() else { return Ok(None) };
                Material::Ed25519 { point, algorithm: 22 }
            }
            27 => {
                let Ok(point) = reader.take(32)?.try_into() else { return Ok(None) };
                Material::Ed25519 { point, algorithm: 27 }
            }
            _ => return Ok(None),
        };
        let Some(hashed) = hashed(body) else { return Ok(None) };
        let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &hashed);
        let Ok(fingerprint) = digest.as_ref().try_into() else { return Ok(None) };
        Ok(Some(PublicKey { fingerprint: Fingerprint(fingerprint), created, material }))
    }

    /// Whether this key signed `message`, by the numbers of a signature.
    pub(crate) fn signed(&self, algorithm: u8, hash: Hash, message: &[u8], numbers: &[u8]) -> bool {
        self.check(algorithm, hash, message, Reader(numbers)).unwrap_or(false)
    }

    fn check(
        &self,
        algorithm: u8,
        hash: Hash,
        message: &[u8],
        mut numbers: Reader<'_>,
    ) -> Result<bool, PgpError> {
        match &self.material {
            Material::Rsa { modulus, exponent } if matches!(algorithm, 1 | 3) => {
                let signature = left_padded(numbers.number()?, modulus.len());
                let key = RsaPublicKeyComponents { n: modulus, e: exponent };
                Ok(key.verify(hash.rsa(), message, &signature).is_ok())
            }
            Material::Ed25519 { point, algorithm: own } if algorithm == *own => {
                let signature = if algorithm == 22 {
                    let (r, s) = (numbers.number()?, numbers.number()?);
                    [left_padded(r, 32), left_padded(s, 32)].concat()
                } else {
                    numbers.take(64)?.to_vec()
                };
                let digest = digest::digest(hash.digest(), message);
                let key = UnparsedPublicKey::new(&signature::ED25519, point);
                Ok(key.verify(digest.as_ref(), &signature).is_ok())
            }
            Material::Rsa { .. } | Material::Ed25519 { .. } => Ok(false),
        }
    }
}

/// A key as signatures and fingerprints take it in; nothing for one that is too long.
///
/// Source: RFC 9580, sections 5.2.4 and 5.5.4.2.
pub(crate) fn hashed(body: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(body.len()).ok()?;
    Some([&[0x99], length.to_be_bytes().as_slice(), body].concat())
}

/// Zeros, which numbers are written without, and the number.
fn left_padded(number: &[u8], length: usize) -> Vec<u8> {
    let mut padded = vec![0; length.saturating_sub(number.len())];
    padded.extend_from_slice(number);
    padded
}
