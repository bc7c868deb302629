//! A text signed in the clear, as `InRelease` is.
//!
//! What is handed on is exactly what was signed: nothing before it, nothing behind it.
//!
//! Source: RFC 9580, section 7.

use super::{
    Doubt, Fingerprint, Keyring, PgpError, TEXT_BYTES_MAX, armor,
    packet::{packets, tag},
    signature::{Signature, kind},
};

const BEGIN: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
const BEGIN_SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----";

/// Most signatures of one text that are looked at.
const SIGNATURES_MAX: usize = 32;

/// How far a signer's clock may be ahead of ours, in seconds.
const AHEAD_SECONDS_MAX: u64 = 24 * 60 * 60;

/// A text whose signature was right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// What was signed.
    pub text: String,
    /// By whom, of those who are known.
    pub by: Vec<Fingerprint>,
}

/// Checks who signed a text. One known key is enough; a known key's signature that is wrong is an
/// error whoever else signed.
///
/// `now` is in seconds since 1970.
///
/// # Errors
/// [`PgpError`].
pub fn verify(bytes: &[u8], keyring: &Keyring, now: u64) -> Result<Signed, PgpError> {
    if bytes.len() > TEXT_BYTES_MAX {
        return Err(PgpError::Limit { what: "bytes of signed text", max: TEXT_BYTES_MAX });
    }
    let all = str::from_utf8(bytes).map_err(|_| PgpError::Armor("it is not UTF-8"))?;
    let (lines, signatures) = split(all)?;
    let data = armor::blocks(signatures, "PGP SIGNATURE")?;
    let packets = packets(&data)?;
    if packets.len() > SIGNATURES_MAX {
        return Err(PgpError::Limit { what: "signatures", max: SIGNATURES_MAX });
    }
    let message = lines.join("\r\n");
    let (mut by, mut doubts) = (Vec::new(), Vec::new());
    for packet in packets.iter().filter(|packet| packet.tag == tag::SIGNATURE) {
        match Signature::parse(packet.body)? {
            Some(signature) => match judge(&signature, keyring, message.as_bytes(), now)? {
                Ok(signer) => by.push(signer),
                Err(doubt) => doubts.push(doubt),
            },
            None => doubts.push(Doubt::Kind("another version".to_owned())),
        }
    }
    if by.is_empty() {
        return Err(PgpError::NotSigned(doubts));
    }
    Ok(Signed { text: lines.join("\n") + "\n", by })
}

/// What one signature is worth.
fn judge(
    signature: &Signature<'_>,
    keyring: &Keyring,
    message: &[u8],
    now: u64,
) -> Result<Result<Fingerprint, Doubt>, PgpError> {
    let right = matches!(signature.kind, kind::TEXT | kind::BINARY) && signature.is_understood();
    let Some(signer) = keyring.signer(signature) else {
        let named = signature.issuer.map(|issuer| Fingerprint(issuer).to_string());
        let id = || signature.issuer_id.map(|id| format!("{:016X}", u64::from_be_bytes(id)));
        let name = named.or_else(id).unwrap_or_else(|| "without a name".to_owned());
        return Ok(Err(Doubt::Unknown(name)));
    };
    let fingerprint = signer.key.fingerprint;
    if !right {
        return Ok(Err(Doubt::Kind(signature.described())));
    }
    if !signature.is_by(&signer.key, message) {
        return Err(PgpError::Wrong(fingerprint));
    }
    Ok(if signer.ends.is_some_and(|end| end <= now) {
        Err(Doubt::KeyExpired(fingerprint))
    } else if signature.has_expired(now) {
        Err(Doubt::Expired(fingerprint))
    } else if u64::from(signature.created) > now.saturating_add(AHEAD_SECONDS_MAX) {
        Err(Doubt::Future(fingerprint))
    } else {
        Ok(fingerprint)
    })
}

/// The signed lines, as they were signed, and the signatures.
fn split(all: &str) -> Result<(Vec<&str>, &str), PgpError> {
    let mut rest = all;
    if next_line(&mut rest) != Some(BEGIN) {
        return Err(PgpError::Armor("it does not begin with a signed message"));
    }
    loop {
        match next_line(&mut rest) {
            Some("") => break,
            // What the signatures themselves say counts.
            Some(line) if line.starts_with("Hash: ") => {}
            _ => return Err(PgpError::Armor("there is no empty line before the signed text")),
        }
    }
    let mut lines = Vec::new();
    loop {
        let here = rest;
        let line = next_line(&mut rest).ok_or(PgpError::Armor("there is no signature"))?;
        if line == BEGIN_SIGNATURE {
            return Ok((lines, here));
        }
        let text = match line.strip_prefix("- ") {
            Some(escaped) => escaped,
            None if line.starts_with('-') => {
                return Err(PgpError::Armor("a line of the text begins with a dash"));
            }
            None => line,
        };
        if text.contains(['\r', '\0']) {
            return Err(PgpError::Armor("a line of the text has control characters"));
        }
        lines.push(text);
    }
}

/// One line, without blanks at its end: they are not signed.
fn next_line<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let (line, after) = rest.split_once('\n')?;
    *rest = after;
    Some(line.trim_end_matches(['\r', ' ', '\t']))
}
