//! How a connection becomes a WebSocket.
//!
//! Source: RFC 6455, section 4.2.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::HeaderMap;
use sha1::{Digest as _, Sha1};

use crate::error::ApiError;

/// What is appended to a client's key. Source: RFC 6455, section 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes of a client's key. Source: as above, section 4.1.
const KEY_BYTES: usize = 16;

/// The value of `Sec-WebSocket-Accept`.
///
/// # Errors
/// 400 if the request is none for a WebSocket.
pub(super) fn accept(headers: &HeaderMap) -> Result<String, ApiError> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    let asks = text("upgrade").eq_ignore_ascii_case("websocket");
    if !asks || text("sec-websocket-version") != "13" {
        return Err(ApiError::bad("this is for WebSockets of version 13 (RFC 6455)"));
    }
    let key = text("sec-websocket-key").trim();
    match STANDARD.decode(key) {
        Ok(bytes) if bytes.len() == KEY_BYTES => {
            Ok(STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize()))
        }
        Ok(_) | Err(_) => Err(ApiError::bad("Sec-WebSocket-Key is not 16 bytes in base64")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(key: &'static str, version: &'static str) -> HeaderMap {
        let pairs = [
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", version),
            ("sec-websocket-key", key),
        ];
        let pair = |(name, value): (&'static str, &'static str)| {
            (hyper::header::HeaderName::from_static(name), value.parse().unwrap())
        };
        pairs.map(pair).into_iter().collect()
    }

    #[test]
    fn the_example_of_the_rfc_is_answered() {
        let accepted = accept(&headers("dGhlIHNhbXBsZSBub25jZQ==", "13"));
        assert_eq!(accepted.unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(accept(&headers("dGhlIHNhbXBsZSBub25jZQ==", "8")).is_err());
        assert!(accept(&headers("c2hvcnQ=", "13")).is_err());
        assert!(accept(&HeaderMap::new()).is_err());
    }
}
