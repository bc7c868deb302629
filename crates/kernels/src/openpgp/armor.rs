//! Binary data between lines of dashes, as text.
//!
//! Source: RFC 9580, section 6. The checksum is not looked at: it proves nothing, and that
//! document forbids to insist on it.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::PgpError;

/// The data of all blocks of this kind, such as `PGP SIGNATURE`, one after the other.
pub(crate) fn blocks(text: &str, kind: &str) -> Result<Vec<u8>, PgpError> {
    let (begin, end) = (format!("-----BEGIN {kind}-----"), format!("-----END {kind}-----"));
    let mut lines = text.lines().map(str::trim_end);
    let mut data = Vec::new();
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        if line != begin {
            return Err(PgpError::Armor("there is text beside the block"));
        }
        data.extend(block(&mut lines, &end)?);
    }
    if data.is_empty() { Err(PgpError::Armor("the block is empty")) } else { Ok(data) }
}

fn block<'a>(lines: &mut impl Iterator<Item = &'a str>, end: &str) -> Result<Vec<u8>, PgpError> {
    let mut digits = String::new();
    let mut in_headers = true;
    for line in lines.by_ref() {
        if line == end {
            let data = STANDARD.decode(&digits);
            return data.map_err(|_| PgpError::Armor("the block is not base64"));
        }
        if in_headers {
            // `Version: …`; where there are none, the empty line may be all there is.
            in_headers = !line.is_empty();
            if in_headers && !line.contains(": ") {
                return Err(PgpError::Armor("there is no empty line after the block's headers"));
            }
        } else if !line.starts_with('=') {
            digits.push_str(line);
        }
    }
    Err(PgpError::Armor("the block has no end"))
}
