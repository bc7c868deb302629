//! The header of a packet.
//!
//! Source: virtio 1.2, 5.10.6 (`struct virtio_vsock_hdr`).

/// Bytes of a header.
pub const HEADER_BYTES: usize = 44;

/// The host's context id.
pub const HOST_CID: u64 = 2;

/// The least context id that a guest can have: those below are reserved.
pub const GUEST_CID_MIN: u64 = 3;

/// The only type of socket that is spoken: a stream.
pub(super) const TYPE_STREAM: u16 = 1;

/// In a shutdown: its sender will receive no more.
pub(super) const NO_MORE_RECEIVED: u32 = 1;

/// In a shutdown: its sender will send no more.
pub(super) const NO_MORE_SENT: u32 = 2;

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Asks for a connection.
    Request,
    /// Grants it.
    Response,
    /// Refuses it, or ends it at once.
    Reset,
    /// Its sender will not send, or not receive, any more.
    Shutdown,
    /// Bytes.
    Data,
    /// Says how much can be taken.
    CreditUpdate,
    /// Asks for that.
    CreditRequest,
}

impl Op {
    const fn number(self) -> u16 {
        match self {
            Op::Request => 1,
            Op::Response => 2,
            Op::Reset => 3,
            Op::Shutdown => 4,
            Op::Data => 5,
            Op::CreditUpdate => 6,
            Op::CreditRequest => 7,
        }
    }

    fn from_number(number: u16) -> Option<Op> {
        Some(match number {
            1 => Op::Request,
            2 => Op::Response,
            3 => Op::Reset,
            4 => Op::Shutdown,
            5 => Op::Data,
            6 => Op::CreditUpdate,
            7 => Op::CreditRequest,
            _ => return None,
        })
    }
}

/// The two ports of a connection, of which each connection has other ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Ports {
    /// The guest's.
    pub guest: u32,
    /// The host's.
    pub host: u32,
}

/// What stands before the bytes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Context of the sender.
    pub source_cid: u64,
    /// Context of the receiver.
    pub target_cid: u64,
    /// Port of the sender.
    pub source_port: u32,
    /// Port of the receiver.
    pub target_port: u32,
    /// How many bytes follow.
    pub bytes: u32,
    /// Type of the socket.
    pub kind: u16,
    /// What it is for; none, if the number is none of ours.
    pub op: Option<Op>,
    /// Of a shutdown.
    pub flags: u32,
    /// How many bytes the sender's buffer holds.
    pub buffer_bytes: u32,
    /// How many bytes the sender has taken out of it, all in all, modulo 2^32.
    pub forwarded: u32,
}

impl Header {
    /// Reads it; anything is one.
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Header {
        let word = |at: usize| {
            let mut word = [0; 4];
            word.copy_from_slice(&bytes[at..at + 4]);
            u32::from_le_bytes(word)
        };
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        Header {
            source_cid: long(0),
            target_cid: long(8),
            source_port: word(16),
            target_port: word(20),
            bytes: word(24),
            kind: half(28),
            op: Op::from_number(half(30)),
            flags: word(32),
            buffer_bytes: word(36),
            forwarded: word(40),
        }
    }

    /// Writes it.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(&self.source_cid.to_le_bytes());
        put(&self.target_cid.to_le_bytes());
        put(&self.source_port.to_le_bytes());
        put(&self.target_port.to_le_bytes());
        put(&self.bytes.to_le_bytes());
        put(&self.kind.to_le_bytes());
        put(&self.op.map_or(0, Op::number).to_le_bytes());
        put(&self.flags.to_le_bytes());
        put(&self.buffer_bytes.to_le_bytes());
        put(&self.forwarded.to_le_bytes());
        bytes
    }

    /// A packet of the host's to the guest, without bytes.
    pub(super) fn to_guest(cid: u64, ports: Ports, op: Op) -> Header {
        Header {
            source_cid: HOST_CID,
            target_cid: cid,
            source_port: ports.host,
            target_port: ports.guest,
            bytes: 0,
            kind: TYPE_STREAM,
            op: Some(op),
            flags: 0,
            buffer_bytes: 0,
            forwarded: 0,
        }
    }

    /// The ports of a packet that the guest sent.
    pub(super) fn ports(&self) -> Ports {
        Ports { guest: self.source_port, host: self.target_port }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_are_where_the_standard_has_them() {
        let header = Header {
            source_cid: 2,
            target_cid: 0x1_0000_0003,
            source_port: 0x0102_0304,
            target_port: 5,
            bytes: 6,
            kind: TYPE_STREAM,
            op: Some(Op::Data),
            flags: 7,
            buffer_bytes: 8,
            forwarded: 9,
        };
        let expected = [
            2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 4, 3, 2, 1, 5, 0, 0, 0, 6, 0, 0, 0, 1,
            0, 5, 0, 7, 0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0,
        ];
        assert_eq!(header.encode(), expected);
        assert_eq!(Header::parse(&expected), header);
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_again(bytes: [u8; 32], rest: [u8; 12]) {
            let mut all = [0; HEADER_BYTES];
            all[..32].copy_from_slice(&bytes);
            all[32..].copy_from_slice(&rest);
            let header = Header::parse(&all);
            if header.op.is_none() {
                all[30..32].fill(0);
            }
            prop_assert_eq!(header.encode(), all);
        }
    }
}
