//! Names of those who are on a network with each other: answered from a book, and everything else
//! passed on to whoever resolves names for the host.
//!
//! ```text
//! names    who has which name where                                   pure
//! wire     a question in, an answer out: hickory's parser, our rules  pure
//! answer   what is said to a question                                 pure
//! server   one thread with the sockets of all clients
//! forward  asks others, each question from a socket of its own
//! ```
//!
//! Knows no containers: a client is a word, two sockets and the namespace that they are in. How
//! they come to be there, and how port 53 leads to them, is another's business (`net`).
//!
//! Sources: RFC 1035, RFC 3596 (IPv6), RFC 6891 (EDNS), RFC 7766 (TCP); moby, `libnetwork/resolver`
//! for what Docker's clients expect.

mod answer;
mod forward;
mod names;
mod server;
mod wire;

pub use names::{Names, Place};
pub use server::{Client, HostServers, Server};

/// What a fuzzer feeds.
pub mod fuzzing {
    use crate::{answer, names::Names, wire};

    /// A datagram of a client, and one of a server that was asked the same.
    pub fn datagram(bytes: &[u8]) {
        let names = Names::default();
        let said = answer::to(bytes, &names, "nobody", answer::Way::Datagram, false, 0);
        if let answer::Said::Answer(answer) = said {
            assert!(answer.len() <= wire::DATAGRAM_MAX, "a datagram that is too long");
            assert!(answer.get(2).is_some_and(|flags| flags & 0x80 != 0), "a question");
        }
        wire::answers(bytes, bytes);
    }
}
