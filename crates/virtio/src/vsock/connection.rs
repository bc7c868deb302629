//! One connection: who may send how much, and who has finished. Pure: no socket, no queue.
//!
//! ```text
//! Asked ──response──▶ Open ──┬─ guest: shutdown ─▶ what it sent is passed on, then reset
//!   └──reset──▶ gone         ├─ guest: reset ────▶ what it sent is passed on, no word more
//!                            └─ host: end ───────▶ shutdown; after one both ways it is forgotten
//! ```
//!
//! Each side may send as many bytes as the other's buffer has room for: what the other said it
//! holds, less what was sent and not yet taken out. Both counts run on modulo 2^32.
//!
//! Source: virtio 1.2, 5.10.6.3 (buffer space management), 5.10.6.5 and .6 (stream sockets).

use std::collections::VecDeque;

use super::packet::{Header, NO_MORE_RECEIVED, NO_MORE_SENT, Op};

/// Bytes of the guest's that are held for one connection when its program of the host is slow; what
/// the guest is told it may send.
pub(super) const BUFFER_BYTES: u32 = 64 << 10;

/// What of an empty buffer is kept for the next bytes.
const KEPT_BYTES: usize = 4 << 10;

/// The guest is told of room when it may believe that less than this is left.
const UPDATE_BELOW: u32 = BUFFER_BYTES / 2;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The guest was not asked yet, or has not answered.
    Asked,
    /// Both may send.
    Open,
    /// The guest knows nothing of it any more, and what it sent is still on its way.
    Draining,
}

/// What the guest did that ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Violation {
    /// A packet that does not belong here: an answer that was not asked for, a second request.
    Unexpected,
    /// More bytes than there was room for, or bytes after it said that there would be none.
    TooMuch,
}

/// What a packet of the guest's changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing that the socket has to know.
    None,
    /// The guest has taken the call.
    Opened,
    /// There are bytes for the socket, or it is to be closed for writing when there are none.
    Passed,
    /// It is over for the guest; the socket goes when it has taken everything.
    Over,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    state: State,
    /// What the guest sent and the socket has not taken.
    held: VecDeque<u8>,
    /// How much the socket has taken, and what of that the guest was told.
    forwarded: u32,
    told: u32,
    /// How much was sent to the guest, what its buffer holds, and what it has taken out.
    sent: u32,
    guest_buffer: u32,
    guest_forwarded: u32,
    /// What each has said it will not do.
    guest_sends: bool,
    guest_receives: bool,
    host_sends: bool,
    host_receives: bool,
    /// What has to be said to the guest.
    say_open: Option<Op>,
    say_shutdown: bool,
    say_credit: bool,
    ask_credit: bool,
    /// It was asked for room, and has not answered.
    asked_credit: bool,
}

impl Connection {
    /// One that the host asks for.
    pub(super) fn ask() -> Connection {
        Connection::new(State::Asked, Op::Request)
    }

    /// One that the guest asked for and gets.
    pub(super) fn grant(request: &Header) -> Connection {
        let mut connection = Connection::new(State::Open, Op::Response);
        connection.credit(request);
        connection
    }

    fn new(state: State, say: Op) -> Connection {
        Connection {
            state,
            held: VecDeque::new(),
            forwarded: 0,
            told: 0,
            sent: 0,
            guest_buffer: 0,
            guest_forwarded: 0,
            guest_sends: true,
            guest_receives: true,
            host_sends: true,
            host_receives: true,
            say_open: Some(say),
            say_shutdown: false,
            say_credit: false,
            ask_credit: false,
            asked_credit: false,
        }
    }

    /// Takes a packet of the guest's; `payload` is what came with it.
    ///
    /// # Errors
    /// [`Violation`]: the connection is to be reset.
    pub(super) fn receive(&mut self, header: &Header, payload: &[u8]) -> Result<Change, Violation> {
        let Some(op) = header.op else { return Err(Violation::Unexpected) };
        self.credit(header);
        match (self.state, op) {
            (State::Draining, _) => Err(Violation::Unexpected),
            (_, Op::Reset) => {
                self.state = State::Draining;
                self.guest_sends = false;
                Ok(Change::Over)
            }
            // Only the guest that was asked can answer.
            (State::Asked, Op::Response) if self.say_open.is_none() => {
                self.state = State::Open;
                Ok(Change::Opened)
            }
            (State::Asked, _) | (State::Open, Op::Request | Op::Response) => {
                Err(Violation::Unexpected)
            }
            (State::Open, Op::Data) => self.hold(payload),
            (State::Open, Op::Shutdown) => Ok(self.shut(header.flags)),
            (State::Open, Op::CreditUpdate) => Ok(Change::None),
            (State::Open, Op::CreditRequest) => {
                self.say_credit = true;
                Ok(Change::None)
            }
        }
    }

    fn credit(&mut self, header: &Header) {
        self.guest_buffer = header.buffer_bytes;
        self.guest_forwarded = header.forwarded;
        self.asked_credit &= self.window() == 0;
    }

    fn hold(&mut self, payload: &[u8]) -> Result<Change, Violation> {
        let room = usize::try_from(BUFFER_BYTES).unwrap_or(usize::MAX) - self.held.len();
        if !self.guest_sends || payload.len() > room {
            return Err(Violation::TooMuch);
        }
        if self.host_receives {
            self.held.extend(payload);
        } else {
            // Nobody will read it; the guest was told, and may have sent it before it knew.
            self.count(payload.len());
        }
        Ok(Change::Passed)
    }

    fn shut(&mut self, flags: u32) -> Change {
        if flags & NO_MORE_RECEIVED != 0 {
            self.guest_receives = false;
        }
        if flags & NO_MORE_SENT != 0 {
            self.guest_sends = false;
        }
        Change::Passed
    }

    /// What the socket can be given: in two pieces, for what is held goes round.
    pub(super) fn held(&self) -> (&[u8], &[u8]) {
        self.held.as_slices()
    }

    /// The socket has taken so many bytes of it.
    pub(super) fn passed(&mut self, bytes: usize) {
        let bytes = bytes.min(self.held.len());
        self.held.drain(..bytes);
        if self.held.is_empty() {
            self.held.shrink_to(KEPT_BYTES);
        }
        self.count(bytes);
    }

    fn count(&mut self, bytes: usize) {
        self.forwarded = self.forwarded.wrapping_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        let believed = BUFFER_BYTES.saturating_sub(self.forwarded.wrapping_sub(self.told));
        self.say_credit |= believed < UPDATE_BELOW && self.guest_sends;
    }

    /// The guest sends no more and all that it sent was passed on: the socket's writing end can be
    /// closed.
    pub(super) fn passed_all(&self) -> bool {
        !self.guest_sends && self.held.is_empty()
    }

    /// The guest has given up both ways, or forgotten the connection.
    pub(super) fn given_up(&self) -> bool {
        self.state == State::Draining || !(self.guest_sends || self.guest_receives)
    }

    /// The guest knows nothing of it: not a word may be said.
    pub(super) fn forgotten(&self) -> bool {
        self.state == State::Draining
    }

    /// Whether the guest takes bytes still.
    pub(super) fn guest_receives(&self) -> bool {
        self.guest_receives && self.state != State::Draining
    }

    /// The guest was asked, or will be, and has not answered.
    pub(super) fn is_asked(&self) -> bool {
        self.state == State::Asked
    }

    /// The guest has heard of it.
    pub(super) fn is_known(&self) -> bool {
        self.say_open.is_none() && self.state != State::Draining
    }

    /// The socket's reader is gone, so nothing more is passed on.
    pub(super) fn host_stopped_receiving(&mut self) {
        if self.host_receives {
            self.host_receives = false;
            self.say_shutdown = true;
            let rest = self.held.len();
            self.passed(rest);
        }
    }

    /// The socket has given its last byte.
    pub(super) fn host_stopped_sending(&mut self) {
        if self.host_sends {
            self.host_sends = false;
            self.say_shutdown = true;
        }
    }

    /// Nothing is left to be said either way, and the guest was told so: forget it.
    pub(super) fn finished(&self) -> bool {
        !self.host_sends && !self.host_receives && !self.say_shutdown && self.state == State::Open
    }

    /// How many bytes the guest has room for. What a guest says that cannot be leaves no room.
    pub(super) fn window(&self) -> u32 {
        if self.state != State::Open || !self.guest_receives || !self.host_sends {
            return 0;
        }
        let on_the_way = self.sent.wrapping_sub(self.guest_forwarded);
        self.guest_buffer.saturating_sub(on_the_way)
    }

    /// So many bytes go to the guest.
    pub(super) fn send(&mut self, bytes: u32) {
        self.sent = self.sent.wrapping_add(bytes);
    }

    /// There are bytes for the guest and it has no room: it is asked for some, once.
    pub(super) fn stalled(&mut self) {
        let may_send = self.state == State::Open && self.guest_receives && self.host_sends;
        if may_send && !self.asked_credit {
            self.asked_credit = true;
            self.ask_credit = true;
        }
    }

    /// The next thing to be said to the guest that has no bytes, with its flags.
    pub(super) fn say(&mut self) -> Option<(Op, u32)> {
        if self.state == State::Draining {
            return None;
        }
        if let Some(op) = self.say_open.take() {
            return Some((op, 0));
        }
        if self.state != State::Open {
            return None;
        }
        if std::mem::take(&mut self.ask_credit) {
            return Some((Op::CreditRequest, 0));
        }
        if std::mem::take(&mut self.say_shutdown) {
            let received = if self.host_receives { 0 } else { NO_MORE_RECEIVED };
            let sent = if self.host_sends { 0 } else { NO_MORE_SENT };
            return Some((Op::Shutdown, received | sent));
        }
        std::mem::take(&mut self.say_credit).then_some((Op::CreditUpdate, 0))
    }

    /// Fills in what every packet says about room; the guest knows it then.
    pub(super) fn stamp(&mut self, header: &mut Header) {
        header.buffer_bytes = BUFFER_BYTES;
        header.forwarded = self.forwarded;
        self.told = self.forwarded;
        self.say_credit = false;
    }
}

#[cfg(test)]
mod tests;
