//! Attached clients.
//!
//! ```text
//! both outputs, as they are, from now on ─▶ the shim has the client's own socket
//! past output, one of the two, no input, ─▶ client ⇄ carry ⇄ a socket that the shim has
//! or over a WebSocket
//! ```

mod carry;
mod handshake;
mod websocket;

use std::os::fd::OwnedFd;

use base::clock::Timestamp;
use engine::{Container, ContainerState, EngineError};
use workload::Attachment;

use crate::{
    call::Call,
    error::ApiError,
    hijack,
    query::Query,
    reply::{self, Answer},
};
use carry::{Carry, Wire};

/// What a client wants of a container's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wish {
    /// What was said so far.
    logs: bool,
    /// What is said from now on.
    stream: bool,
    stdin: bool,
    stdout: bool,
    stderr: bool,
}

impl Wish {
    fn of(query: &Query, container: &Container) -> Result<Wish, ApiError> {
        let wish = Wish {
            logs: query.flag("logs"),
            stream: query.flag("stream"),
            stdin: query.flag("stdin"),
            stdout: query.flag("stdout"),
            stderr: query.flag("stderr"),
        };
        if wish.logs && !container.config.log.can_be_read() {
            return Err(EngineError::LogUnreadable.into());
        }
        Ok(wish)
    }

    /// A socket that is attached as this wants it.
    fn attachment(self, socket: OwnedFd) -> Attachment {
        Attachment { socket, input: self.stdin, mark: self.logs }
    }

    /// Whether what a shim does with a socket is just what is wanted. A terminal has one output,
    /// and a container without input takes none.
    fn is_plain(self, terminal: bool, input: bool) -> bool {
        let outputs = match terminal {
            true => self.stdout || self.stderr,
            false => self.stdout && self.stderr,
        };
        self.stream && !self.logs && outputs && (self.stdin || !input)
    }
}

/// `POST /containers/{}/attach`. To one that does not run yet, the client is attached from the
/// first byte on.
pub(crate) async fn attach(call: Call) -> Answer {
    let now = Timestamp::now();
    let container = call.engine().inspect(&call.name)?;
    let wish = Wish::of(&call.query, &container)?;
    let terminal = container.config.terminal;
    let content_type = hijack::content_type(terminal, call.version);
    if wish.is_plain(terminal, container.config.stdin) {
        let seat = call.engine().seat(&call.name).await?;
        return Ok(hijack::hand_over(call, content_type, move |socket| {
            seat.take(wish.attachment(socket));
        }));
    }
    let carry = carry(&call, &container, now, wish, Wire::Stream).await?;
    Ok(hijack::hand_over(call, content_type, move |socket| carry.start(socket)))
}

/// `GET /containers/{}/attach/ws`: output without frames of Docker's, in binary messages; messages
/// are standard input.
pub(crate) async fn websocket(call: Call) -> Answer {
    let now = Timestamp::now();
    let container = call.engine().inspect(&call.name)?;
    let wish = Wish::of(&call.query, &container)?;
    let accept = handshake::accept(&call.headers)?;
    let carry = carry(&call, &container, now, wish, Wire::WebSocket).await?;
    let head = reply::switched("websocket", &[("sec-websocket-accept", accept.as_str())])?;
    hijack::switch(call.upgrade, move |socket| carry.start(socket));
    Ok(head)
}

fn runs(state: ContainerState) -> bool {
    match state {
        ContainerState::Running | ContainerState::Paused | ContainerState::Restarting => true,
        ContainerState::Created
        | ContainerState::Exited
        | ContainerState::Removing
        | ContainerState::Dead => false,
    }
}

/// `now` is a time before `container` was looked at.
async fn carry(
    call: &Call,
    container: &Container,
    now: Timestamp,
    wish: Wish,
    wire: Wire,
) -> Result<Carry, ApiError> {
    let seat = match wish.stream {
        true => Some(call.engine().seat(&call.name).await?),
        false => None,
    };
    let (engine, who) = (call.engine().clone(), container.id.as_str().to_owned());
    let ended = (!runs(container.state.state)).then_some(now);
    Ok(Carry { engine, who, seat, wish, ended, terminal: container.config.terminal, wire })
}

/// How many bytes of data a client's messages carry; see [`crate::fuzzing::websocket`].
pub(crate) fn fuzz<'a>(mut pieces: impl Iterator<Item = &'a [u8]>) -> usize {
    let (mut decoder, mut data) = (websocket::Decoder::default(), Vec::new());
    // What breaks the protocol is read no further.
    while let Some(piece) = pieces.next()
        && decoder.feed(piece, &mut data).is_ok()
    {}
    data.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn the_clients_own_socket_is_handed_down_where_it_can_be() {
        let container = fixture::container();
        let plain = |query: &str, terminal, input| {
            Wish::of(&Query::parse(query), &container).unwrap().is_plain(terminal, input)
        };
        assert!(plain("stream=1&stdout=1&stderr=1", false, false));
        assert!(plain("stream=1&stdin=1&stdout=1&stderr=1", false, true));
        assert!(plain("stream=1&stdin=1&stdout=1", true, true));
        assert!(!plain("stream=1&stdout=1&stderr=1", false, true), "its end would be taken");
        assert!(!plain("stream=1&stdout=1", false, false));
        assert!(!plain("stdout=1&stderr=1", false, false));
        assert!(!plain("logs=1&stream=1&stdout=1&stderr=1", false, false));
    }
}
