//! As much of OpenPGP as it takes to check the signature of an archive's index.
//!
//! Keys of version 4 with RSA (2048 to 8192 bits) or Ed25519, signatures with SHA-256, -384 or -512,
//! texts signed in the clear. Keys are believed if they are in the key ring: there is no web of
//! trust here; but what a key says of itself counts (when it ends, what it may do, whether it was
//! revoked, which subkeys are its own) and must be signed by it.
//!
//! Pure: the time comes in as a parameter. Sources: RFC 4880; RFC 9580 for Ed25519 and for what
//! has become forbidden since.

mod armor;
mod cleartext;
mod key;
mod keyring;
mod packet;
mod signature;

#[cfg(test)]
pub(crate) mod forge;
#[cfg(test)]
mod tests;

pub use cleartext::{Signed, verify};
pub use key::Fingerprint;
pub use keyring::Keyring;

/// Longest text with its signatures. Debian's largest `InRelease` has some 250 KB.
pub const TEXT_BYTES_MAX: usize = 8 << 20;

/// Longest key ring file.
pub const KEYRING_BYTES_MAX: usize = 4 << 20;

/// Why keys or a signature were not understood, or not believed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PgpError {
    /// It ends in the middle.
    #[error("it ends in the middle of a packet")]
    Truncated,
    /// A packet in pieces or without an end, which neither keys nor signatures come in.
    #[error("a packet without a length")]
    NoLength,
    /// Not what is between the dashes.
    #[error("{0}")]
    Armor(&'static str),
    /// Larger than anything real.
    #[error("more than {max} {what}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many are taken.
        max: usize,
    },
    /// A file of keys without one that could have signed anything.
    #[error("there is no key in it that may sign and that we understand")]
    NoKeys,
    /// Nobody whom we know signed it.
    #[error("it is not signed by a key that is known: {}", told(.0))]
    NotSigned(Vec<Doubt>),
    /// Somebody whom we know signed something else.
    #[error("{} did not sign this: it was changed", .0)]
    Wrong(Fingerprint),
}

/// Why one signature does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// The key is not in the ring.
    #[error("key {0} is not in the key ring")]
    Unknown(String),
    /// The key's time is over.
    #[error("key {0} has expired")]
    KeyExpired(Fingerprint),
    /// The signature's time is over.
    #[error("the signature by {0} has expired")]
    Expired(Fingerprint),
    /// It will be made one day.
    #[error("the signature by {0} is from the future: is the clock right?")]
    Future(Fingerprint),
    /// Something newer, older or weaker than we take.
    #[error("a signature of a kind that is not taken ({0})")]
    Kind(String),
}

fn told(doubts: &[Doubt]) -> String {
    if doubts.is_empty() {
        return "there is no signature".to_owned();
    }
    doubts.iter().map(Doubt::to_string).collect::<Vec<_>>().join("; ")
}
