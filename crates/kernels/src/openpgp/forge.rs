//! Keys and signatures for tests, made as OpenPGP's documents say and not with the code under test.

use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA512, RsaKeyPair},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// When keys and signatures are made: 2026-01-01.
pub(crate) const MADE: u32 = 1_767_225_600;

enum Pair {
    Ed25519(Box<Ed25519KeyPair>),
    Rsa(Box<RsaKeyPair>),
}

/// A key with its secret.
pub(crate) struct Key {
    pair: Pair,
    /// 22 or 27, the two ways to write Ed25519; 1 for RSA.
    algorithm: u8,
}

/// What a key says of itself.
#[derive(Clone, Copy, Default)]
pub(crate) struct Says {
    pub(crate) flags: u8,
    pub(crate) expires_after: u32,
    pub(crate) revoked: bool,
}

/// A key that may sign, for ever.
pub(crate) const SIGNS: Says = Says { flags: 2, expires_after: 0, revoked: false };

fn number(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.iter().take_while(|byte| **byte == 0).count();
    let bytes = &bytes[start..];
    let bits = bytes.len() * 8 - bytes.first().map_or(0, |byte| byte.leading_zeros() as usize);
    [&u16::try_from(bits).unwrap().to_be_bytes(), bytes].concat()
}

pub(crate) fn packet(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[0xc0 | tag, 255], length.as_slice(), body].concat()
}

fn subpacket(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[u8::try_from(body.len() + 1).unwrap(), kind], body].concat()
}

impl Key {
    pub(crate) fn ed25519(seed: u8) -> Key {
        Key::ed25519_as(seed, 22)
    }

    pub(crate) fn ed25519_as(seed: u8, algorithm: u8) -> Key {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        Key { pair: Pair::Ed25519(Box::new(pair)), algorithm }
    }

    pub(crate) fn rsa() -> Key {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        Key { pair: Pair::Rsa(Box::new(pair)), algorithm: 1 }
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        let mut body = vec![4];
        body.extend(MADE.to_be_bytes());
        body.push(self.algorithm);
        match (&self.pair, self.algorithm) {
            (Pair::Ed25519(pair), 22) => {
                body.extend([9, 0x2b, 6, 1, 4, 1, 0xda, 0x47, 0x0f, 1]);
                body.extend(number(&[&[0x40], pair.public_key().as_ref()].concat()));
            }
            (Pair::Ed25519(pair), _) => body.extend(pair.public_key().as_ref()),
            (Pair::Rsa(pair), _) => {
                // RFC 8017, A.1.1: a sequence of two numbers, of which the lengths are known here.
                let key = pair.public_key().as_ref();
                body.extend(number(&key[9..9 + 256]));
                body.extend(number(&key[key.len() - 3..]));
            }
        }
        body
    }

    fn hashed(&self) -> Vec<u8> {
        let body = self.body();
        [&[0x99], u16::try_from(body.len()).unwrap().to_be_bytes().as_slice(), &body].concat()
    }

    pub(crate) fn fingerprint(&self) -> Vec<u8> {
        digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &self.hashed()).as_ref().to_vec()
    }

    /// The body of a signature over these data.
    pub(crate) fn sign(&self, kind: u8, data: &[u8], more: &[u8]) -> Vec<u8> {
        let signed = [
            subpacket(2, &MADE.to_be_bytes()),
            subpacket(33, &[&[4], self.fingerprint().as_slice()].concat()),
            more.to_vec(),
        ]
        .concat();
        let length = u16::try_from(signed.len()).unwrap().to_be_bytes();
        let head = [&[4, kind, self.algorithm, 10], length.as_slice(), &signed].concat();
        let length = u32::try_from(head.len()).unwrap().to_be_bytes();
        let message = [data, &head, &[4, 0xff], &length].concat();
        let digest = digest::digest(&digest::SHA512, &message);
        let numbers = match &self.pair {
            Pair::Ed25519(pair) => {
                let signature = pair.sign(digest.as_ref());
                match self.algorithm {
                    22 => {
                        let (r, s) = signature.as_ref().split_at(32);
                        [number(r), number(s)].concat()
                    }
                    _ => signature.as_ref().to_vec(),
                }
            }
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let random = SystemRandom::new();
                pair.sign(&RSA_PKCS1_SHA512, &random, &message, &mut signature).unwrap();
                number(&signature)
            }
        };
        // No subpackets beside the signed ones, and the first bytes of the digest.
        [head.as_slice(), &[0, 0], &digest.as_ref()[..2], &numbers].concat()
    }

    fn says(says: Says) -> Vec<u8> {
        [subpacket(27, &[says.flags]), subpacket(9, &says.expires_after.to_be_bytes())].concat()
    }

    /// The key as a key ring has it.
    pub(crate) fn certificate(&self, says: Says) -> Vec<u8> {
        let name = b"Test <test@example.org>";
        let length = u32::try_from(name.len()).unwrap().to_be_bytes();
        let data = [self.hashed().as_slice(), &[0xb4], &length, name].concat();
        let mut all = packet(6, &self.body());
        if says.revoked {
            all.extend(packet(2, &self.sign(0x20, &self.hashed(), &[])));
        }
        all.extend(packet(13, name));
        all.extend(packet(2, &self.sign(0x13, &data, &Key::says(says))));
        all
    }

    /// A subkey behind the key itself.
    pub(crate) fn subkey(&self, subkey: &Key, says: Says) -> Vec<u8> {
        let data = [self.hashed(), subkey.hashed()].concat();
        let mut all = packet(14, &subkey.body());
        if says.revoked {
            all.extend(packet(2, &self.sign(0x28, &data, &[])));
        }
        all.extend(packet(2, &self.sign(0x18, &data, &Key::says(says))));
        all
    }

    /// A text, signed in the clear. The text is a number of whole lines.
    pub(crate) fn sign_text(&self, text: &str, more: &[u8]) -> String {
        let lines: Vec<&str> = text.lines().collect();
        let signature = packet(2, &self.sign(1, lines.join("\r\n").as_bytes(), more));
        cleartext(text, &signature)
    }
}

/// A text with signatures that were made before.
pub(crate) fn cleartext(text: &str, signatures: &[u8]) -> String {
    let escape = |line: &str| {
        if line.starts_with('-') { format!("- {line}\n") } else { format!("{line}\n") }
    };
    let text: String = text.lines().map(escape).collect();
    let digits = STANDARD.encode(signatures);
    let digits: Vec<&str> =
        digits.as_bytes().chunks(64).map(|it| str::from_utf8(it).unwrap()).collect();
    format!(
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{text}-----BEGIN PGP SIGNATURE-----\n\n\
         {}\n=AAAA\n-----END PGP SIGNATURE-----\n",
        digits.join("\n")
    )
}
