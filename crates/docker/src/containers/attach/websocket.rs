//! Messages of a WebSocket: read from a client, written to it.
//!
//! What a client sends is handed on as it comes: a message is never held, so it may be of any
//! length. Pure: no I/O.
//!
//! Source: RFC 6455, section 5.

/// Most bytes of a control message. Source: RFC 6455, section 5.5.
const CONTROL_MAX: u64 = 125;

const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// The last part of a message.
const FINAL: u8 = 0x80;

/// What breaks the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client breaks RFC 6455: {0}")]
pub(super) struct Broken(&'static str);

/// What a client asks of the protocol itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Control {
    /// Say this back.
    Ping(Vec<u8>),
    /// It is done.
    Close,
}

/// A client's messages, byte by byte.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    head: Vec<u8>,
    /// Of the message whose payload comes.
    opcode: u8,
    mask: [u8; 4],
    at: usize,
    left: u64,
    control: Vec<u8>,
}

impl Decoder {
    /// Takes what came: appends data to `data`, and tells what else was asked.
    ///
    /// # Errors
    /// [`Broken`]; nothing more can be read then.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        data: &mut Vec<u8>,
    ) -> Result<Vec<Control>, Broken> {
        let mut asked = Vec::new();
        for &byte in bytes {
            if self.left == 0 {
                self.head.push(byte);
                if !self.head_is_whole()? {
                    continue;
                }
            } else {
                let plain = byte ^ self.mask[self.at % 4];
                self.at += 1;
                self.left -= 1;
                match self.opcode < CLOSE {
                    true => data.push(plain),
                    false => self.control.push(plain),
                }
            }
            if self.left == 0 {
                asked.extend(self.message_ends());
            }
        }
        Ok(asked)
    }

    /// Reads the head, once all of it is here.
    fn head_is_whole(&mut self) -> Result<bool, Broken> {
        let [first, second, rest @ ..] = self.head.as_slice() else { return Ok(false) };
        let opcode = first & 0x0f;
        if first & 0x70 != 0 {
            return Err(Broken("no extension was agreed upon"));
        }
        if second & 0x80 == 0 {
            return Err(Broken("a client's message is masked"));
        }
        if !matches!(opcode, 0..=BINARY | CLOSE..=PONG) {
            return Err(Broken("there is no such kind of message"));
        }
        let short = u64::from(second & 0x7f);
        if opcode >= CLOSE && (short > CONTROL_MAX || first & FINAL == 0) {
            return Err(Broken("a control message is short and whole"));
        }
        let size = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some((length, mask)) = rest.split_at_checked(size) else { return Ok(false) };
        let Ok(mask) = <[u8; 4]>::try_from(mask) else { return Ok(false) };
        self.left = match size {
            0 => short,
            _ => length.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        };
        if self.left >> 63 != 0 {
            return Err(Broken("a message is longer than messages can be"));
        }
        (self.opcode, self.mask, self.at) = (opcode, mask, 0);
        self.head.clear();
        Ok(true)
    }

    fn message_ends(&mut self) -> Option<Control> {
        let payload = std::mem::take(&mut self.control);
        match self.opcode {
            PING => Some(Control::Ping(payload)),
            CLOSE => Some(Control::Close),
            _ => None,
        }
    }
}

/// A message of bytes.
pub(super) fn binary(payload: &[u8]) -> Vec<u8> {
    message(BINARY, payload)
}

/// The answer to a ping.
pub(super) fn pong(payload: &[u8]) -> Vec<u8> {
    message(PONG, payload)
}

/// That nothing more comes. Source: RFC 6455, section 7.4.1: 1000, a normal end.
pub(super) fn close() -> Vec<u8> {
    message(CLOSE, &1000_u16.to_be_bytes())
}

fn message(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![FINAL | opcode];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ ..126), _) => bytes.push(length),
        (_, Ok(length)) => {
            bytes.push(126);
            bytes.extend(length.to_be_bytes());
        }
        _ => {
            bytes.push(127);
            bytes.extend((payload.len() as u64).to_be_bytes());
        }
    }
    bytes.extend(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As a client sends it.
    fn masked(opcode: u8, last: bool, payload: &[u8]) -> Vec<u8> {
        let mut bytes = message(opcode, payload);
        let head = bytes.len() - payload.len();
        bytes[1] |= 0x80;
        if !last {
            bytes[0] &= !FINAL;
        }
        let mask = [1, 2, 3, 4];
        let body: Vec<u8> = payload.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b).collect();
        bytes.truncate(head);
        [bytes, mask.to_vec(), body].concat()
    }

    fn read(bytes: &[u8], piece: usize) -> Result<(Vec<u8>, Vec<Control>), Broken> {
        let (mut decoder, mut data, mut asked) = (Decoder::default(), Vec::new(), Vec::new());
        for piece in bytes.chunks(piece.max(1)) {
            asked.extend(decoder.feed(piece, &mut data)?);
        }
        Ok((data, asked))
    }

    #[test]
    fn the_examples_of_the_rfc_are_read_and_written() {
        let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(read(&hello, 3).unwrap(), (b"Hello".to_vec(), vec![]));
        assert_eq!(message(1, b"Hello"), [0x81, 5, b'H', b'e', b'l', b'l', b'o']);
        assert_eq!(binary(&[0; 256])[..4], [0x82, 126, 1, 0]);
        assert_eq!(binary(&vec![0; 65536])[..10], [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn controls_come_between_the_parts_of_a_message() {
        let parts = [
            masked(BINARY, false, b"one "),
            masked(PING, true, b"?"),
            masked(0, true, b"two"),
            masked(BINARY, true, b""),
            masked(CLOSE, true, b""),
        ];
        let want = (b"one two".to_vec(), vec![Control::Ping(b"?".to_vec()), Control::Close]);
        assert_eq!(read(&parts.concat(), 5).unwrap(), want);
    }

    #[test]
    fn what_breaks_the_protocol_is_refused() {
        for bad in [
            message(BINARY, b"not masked"),
            masked(3, true, b"no such kind"),
            masked(PING, false, b"in parts"),
            masked(PING, true, &[0; 126]),
            [vec![0xf2], vec![0x80, 0, 0, 0, 0]].concat(),
            [vec![0x82, 0xff], vec![0xff; 12]].concat(),
        ] {
            assert!(read(&bad, 100).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_sent_arrives_in_any_pieces(
            payload in prop::collection::vec(any::<u8>(), 0..700), piece in 1_usize..90,
        ) {
            prop_assert_eq!(read(&masked(BINARY, true, &payload), piece).unwrap().0, payload);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok((data, _)) = read(&bytes, 7) {
                prop_assert!(data.len() <= bytes.len());
            }
        }
    }
}
