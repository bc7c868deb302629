//! A file of keys, and what each says of itself.
//!
//! The file is believed: whoever puts a key into it trusts the key. What a key says of itself is
//! checked by its own signatures, so that an expiry or a revocation cannot be taken off.
//!
//! Source: RFC 9580, section 10.1.

use super::{
    KEYRING_BYTES_MAX, PgpError, armor,
    key::{Fingerprint, PublicKey, hashed},
    packet::{Packet, packets, tag},
    signature::{MAY_SIGN, Signature, ends, kind},
};

/// A key that may sign data.
#[derive(Clone, Debug)]
pub(crate) struct Signer {
    pub(crate) key: PublicKey,
    /// Seconds since 1970; nothing if it never ends.
    pub(crate) ends: Option<u64>,
}

/// Keys that are believed.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    signers: Vec<Signer>,
}

impl Keyring {
    /// Reads a key ring: packets, or text between dashes.
    ///
    /// # Errors
    /// [`PgpError`] if it is neither, or has no key that may sign.
    pub fn parse(bytes: &[u8]) -> Result<Keyring, PgpError> {
        if bytes.len() > KEYRING_BYTES_MAX {
            let what = "bytes in a key ring";
            return Err(PgpError::Limit { what, max: KEYRING_BYTES_MAX });
        }
        if bytes.get(8..12) == Some(b"KBXf") {
            let why = "it is a key box of GnuPG's: export the keys with gpg --export";
            return Err(PgpError::Armor(why));
        }
        let opened = match str::from_utf8(bytes) {
            Ok(text) if text.trim_start().starts_with("-----BEGIN") => {
                Some(armor::blocks(text, "PGP PUBLIC KEY BLOCK")?)
            }
            _ => None,
        };
        let packets = packets(opened.as_deref().unwrap_or(bytes))?;
        let mut signers = Vec::new();
        let starts = |packet: &Packet<'_>| packet.tag == tag::PRIMARY_KEY;
        for (at, packet) in packets.iter().enumerate().filter(|(_, packet)| starts(packet)) {
            let rest = packets.get(at + 1..).unwrap_or_default();
            let end = rest.iter().position(starts).unwrap_or(rest.len());
            signers.extend(certificate(packet, rest.get(..end).unwrap_or_default())?);
        }
        if signers.is_empty() { Err(PgpError::NoKeys) } else { Ok(Keyring { signers }) }
    }

    /// The keys that may sign.
    pub fn fingerprints(&self) -> impl Iterator<Item = Fingerprint> {
        self.signers.iter().map(|signer| signer.key.fingerprint)
    }

    /// The key that a signature names.
    pub(crate) fn signer(&self, of: &Signature<'_>) -> Option<&Signer> {
        self.signers.iter().find(|signer| {
            let fingerprint = signer.key.fingerprint;
            match (of.issuer, of.issuer_id) {
                (Some(issuer), _) => fingerprint.0 == issuer,
                (None, Some(id)) => fingerprint.id() == id,
                (None, None) => false,
            }
        })
    }
}

/// What a primary key's own signatures say.
struct Own<'p, 'a> {
    key: PublicKey,
    /// As signatures take it in.
    hashed: Vec<u8>,
    packets: &'p [Packet<'a>],
}

/// The keys of one primary key and its subkeys that may sign.
fn certificate(primary: &Packet<'_>, packets: &[Packet<'_>]) -> Result<Vec<Signer>, PgpError> {
    let Some(key) = PublicKey::parse(primary.body)? else { return Ok(Vec::new()) };
    let Some(hashed) = hashed(primary.body) else { return Ok(Vec::new()) };
    let own = Own { key, hashed, packets };
    let mut signers = Vec::new();
    let revoked = |signature: &Signature<'_>| signature.kind == kind::KEY_REVOCATION;
    if own.of_key()?.iter().any(revoked) {
        return Ok(signers);
    }
    let Some(says) = own.latest()? else { return Ok(signers) };
    let ends_at = ends(own.key.created, says.key_expires_after);
    if says.key_flags.is_none_or(|flags| flags & MAY_SIGN != 0) {
        signers.push(Signer { key: own.key.clone(), ends: ends_at });
    }
    for (at, packet) in packets.iter().enumerate().filter(|(_, packet)| packet.tag == tag::SUBKEY) {
        if let Some(mut signer) = own.subkey(at, packet)? {
            signer.ends = [signer.ends, ends_at].into_iter().flatten().min();
            signers.push(signer);
        }
    }
    Ok(signers)
}

impl<'a> Own<'_, 'a> {
    /// The key's own signatures that follow packet `at`, or the key itself, over these data.
    fn after(&self, at: Option<usize>, data: &[u8]) -> Result<Vec<Signature<'a>>, PgpError> {
        let first = at.map_or(0, |at| at + 1);
        let following = self.packets.get(first..).unwrap_or_default();
        let mut found = Vec::new();
        for packet in following.iter().take_while(|packet| packet.tag == tag::SIGNATURE) {
            let Some(signature) = Signature::parse(packet.body)? else { continue };
            if signature.is_understood() && signature.is_by(&self.key, data) {
                found.push(signature);
            }
        }
        Ok(found)
    }

    fn of_key(&self) -> Result<Vec<Signature<'a>>, PgpError> {
        self.after(None, &self.hashed)
    }

    /// The latest signature by which the key says what it is: one over a name of its owner, or one
    /// over the key alone where there is no name.
    fn latest(&self) -> Result<Option<Signature<'a>>, PgpError> {
        let mut over_names = Vec::new();
        for (at, packet) in self.packets.iter().enumerate() {
            let prefix = match packet.tag {
                tag::USER_ID => 0xb4,
                tag::USER_ATTRIBUTE => 0xd1,
                _ => continue,
            };
            let Ok(length) = u32::try_from(packet.body.len()) else { continue };
            let name = [&[prefix], length.to_be_bytes().as_slice(), packet.body].concat();
            let found = self.after(Some(at), &[self.hashed.as_slice(), &name].concat())?;
            over_names
                .extend(found.into_iter().filter(|it| kind::CERTIFICATION.contains(&it.kind)));
        }
        let latest = over_names.into_iter().max_by_key(|signature| signature.created);
        Ok(match latest {
            Some(latest) => Some(latest),
            None => {
                let direct = self.of_key()?.into_iter().filter(|it| it.kind == kind::DIRECT_KEY);
                direct.max_by_key(|signature| signature.created)
            }
        })
    }

    /// The subkey of packet `at`, if the key calls it its own and lets it sign.
    fn subkey(&self, at: usize, packet: &Packet<'_>) -> Result<Option<Signer>, PgpError> {
        let Some(key) = PublicKey::parse(packet.body)? else { return Ok(None) };
        let Some(hashed) = hashed(packet.body) else { return Ok(None) };
        let found = self.after(Some(at), &[self.hashed.as_slice(), &hashed].concat())?;
        if found.iter().any(|signature| signature.kind == kind::SUBKEY_REVOCATION) {
            return Ok(None);
        }
        let bindings = found.into_iter().filter(|it| it.kind == kind::SUBKEY_BINDING);
        let Some(says) = bindings.max_by_key(|signature| signature.created) else {
            return Ok(None);
        };
        let ends = ends(key.created, says.key_expires_after);
        let may = says.key_flags.is_some_and(|flags| flags & MAY_SIGN != 0);
        Ok(may.then_some(Signer { key, ends }))
    }
}
