//! What is said to a question. Pure.

use std::net::IpAddr;

use crate::{
    names::Names,
    wire::{self, Kind, Question, Records, Refusal},
};

/// How a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// In a datagram, whose answer has to fit into one.
    Datagram,
    /// Over TCP.
    Stream,
}

/// What comes of it.
#[derive(Debug)]
pub(crate) enum Said {
    /// This is the answer.
    Answer(Vec<u8>),
    /// Others are to be asked.
    PassedOn(Box<Question>),
    /// Nothing is said.
    Nothing,
}

/// What is said to somebody's question.
///
/// `dots`: names without a dot are for search domains, as `ndots` says that was asked for. `turn`
/// is which of several who have a name comes first.
pub(crate) fn to(
    bytes: &[u8],
    names: &Names,
    who: &str,
    way: Way,
    dots: bool,
    turn: usize,
) -> Said {
    let question = match wire::read(bytes) {
        Ok(question) => question,
        Err(Refusal::Nothing) => return Said::Nothing,
        Err(Refusal::Answer(answer)) => return Said::Answer(answer),
    };
    let known = question.name.as_deref().and_then(|name| known(names, who, name, question.kind));
    let records = match known {
        Some(Records::Addresses(all)) => Records::Addresses(rotated(all, turn)),
        Some(records) => records,
        // For those who reach nobody else there are no other names. To say that it failed would
        // have many ask again and again.
        None if !names.leads_out(who) => Records::Missing,
        None if dots && question.name.as_ref().is_some_and(|name| !name.contains('.')) => {
            Records::Missing
        }
        None => return Said::PassedOn(Box::new(question)),
    };
    Said::Answer(question.answer(&records, most(&question, way)))
}

/// The longest answer to a question that came this way.
pub(crate) fn most(question: &Question, way: Way) -> usize {
    match way {
        Way::Datagram => question.datagram_max(),
        Way::Stream => usize::from(u16::MAX),
    }
}

/// What the book says.
fn known(names: &Names, who: &str, name: &str, kind: Kind) -> Option<Records> {
    if kind == Kind::Name {
        return Some(Records::Name(names.whose(who, wire::reversed(name)?)?));
    }
    let mut all = names.find(who, name)?;
    all.retain(|address| match kind {
        Kind::V4 => address.is_ipv4(),
        Kind::V6 => address.is_ipv6(),
        Kind::Any => true,
        // The name is ours, and has nothing else.
        Kind::Name | Kind::Other => false,
    });
    Some(Records::Addresses(all))
}

fn rotated(mut all: Vec<IpAddr>, turn: usize) -> Vec<IpAddr> {
    if let Some(by) = turn.checked_rem(all.len()) {
        all.rotate_left(by);
    }
    all
}

#[cfg(test)]
mod tests {
    use hickory_proto::{
        op::{Message, ResponseCode},
        rr::RecordType,
    };

    use super::*;
    use crate::{names::Place, wire::tests::asked};

    fn names() -> Names {
        let mut names = Names::default();
        let mut set = |who: &str, addresses: &[&str], leads_out| {
            let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
            let (network, network_name) = ("id".to_owned(), "mine".to_owned());
            let all = vec![who.to_owned(), "web".to_owned()];
            names.set(who, vec![Place { network, network_name, names: all, addresses }], leads_out);
        };
        set("a", &["10.0.0.2", "fd00::2"], true);
        set("b", &["10.0.0.3"], false);
        names
    }

    /// The answer to a question: its code and its data, or nothing if it is passed on.
    fn said(
        who: &str,
        name: &str,
        kind: RecordType,
        turn: usize,
    ) -> Option<(ResponseCode, String)> {
        match to(&asked(name, kind, None), &names(), who, Way::Datagram, false, turn) {
            Said::Nothing => panic!("nothing is said"),
            Said::PassedOn(_) => None,
            Said::Answer(bytes) => {
                let message = Message::from_vec(&bytes).unwrap();
                let data = message.answers.iter().map(|record| record.data.to_string());
                Some((message.metadata.response_code, data.collect::<Vec<_>>().join(" ")))
            }
        }
    }

    #[test]
    fn names_of_ours_are_answered_whatever_is_asked_of_them() {
        let ok = |data: &str| Some((ResponseCode::NoError, data.to_owned()));
        assert_eq!(said("a", "A.", RecordType::A, 0), ok("10.0.0.2"));
        assert_eq!(said("a", "a.mine.", RecordType::AAAA, 0), ok("fd00::2"));
        assert_eq!(said("a", "b.", RecordType::AAAA, 0), ok(""), "it has none");
        assert_eq!(said("a", "b.", RecordType::MX, 0), ok(""));
        assert_eq!(said("a", "web.", RecordType::A, 0), ok("10.0.0.2 10.0.0.3"));
        assert_eq!(said("a", "web.", RecordType::A, 1), ok("10.0.0.3 10.0.0.2"), "in turn");
        assert_eq!(said("b", "2.0.0.10.in-addr.arpa.", RecordType::PTR, 0), ok("a.mine."));
    }

    #[test]
    fn others_are_asked_for_the_rest_by_those_who_may() {
        for name in ["example.com.", "9.0.0.10.in-addr.arpa.", "b.other."] {
            let kind = if name.contains("arpa") { RecordType::PTR } else { RecordType::A };
            assert_eq!(said("a", name, kind, 0), None, "{name}");
            let missing = Some((ResponseCode::NXDomain, String::new()));
            assert_eq!(said("b", name, kind, 0), missing, "{name}");
        }
        let to = |dots| to(&asked("x.", RecordType::A, None), &names(), "a", Way::Stream, dots, 0);
        assert!(matches!(to(false), Said::PassedOn(_)));
        assert!(matches!(to(true), Said::Answer(_)), "it is for the search domains");
    }
}
