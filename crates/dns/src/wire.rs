//! Questions and answers as bytes. Parsing is hickory's; what is refused, and what is said then,
//! stands here.

use std::net::IpAddr;

use hickory_proto::{
    op::{Edns, Header, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, RData, Record, RecordType, rdata},
    serialize::binary::{BinDecodable as _, BinDecoder},
};

/// Longest question that is read, in bytes: a name takes 255 at most, the rest is EDNS.
pub(crate) const QUESTION_MAX: usize = 4096;
/// Longest datagram that is sent, whatever its receiver would take, in bytes.
pub(crate) const DATAGRAM_MAX: usize = 4096;
/// Longest datagram that everybody takes. Source: RFC 1035, section 4.2.1.
const DATAGRAM_MIN: u16 = 512;
/// Bytes of a header. Source: RFC 1035, section 4.1.1.
const HEADER: usize = 12;
/// For how long an address may be remembered: containers come and go.
const TTL_SECONDS: u32 = 5;
/// The only version of EDNS. Source: RFC 6891, section 6.1.3.
const EDNS_VERSION: u8 = 0;

/// What somebody asks.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    id: u16,
    recursion: bool,
    query: Query,
    /// The longest answer that whoever asks takes in one datagram, with EDNS.
    payload: Option<u16>,
    /// The name in lower case and without the last dot; none if no name of ours is like that.
    pub(crate) name: Option<String>,
    pub(crate) kind: Kind,
}

/// Of what kind the answer should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    V4,
    V6,
    Any,
    /// The name that goes with an address.
    Name,
    Other,
}

impl Kind {
    fn of(kind: RecordType) -> Kind {
        const ALL: [(RecordType, Kind); 4] = [
            (RecordType::A, Kind::V4),
            (RecordType::AAAA, Kind::V6),
            (RecordType::ANY, Kind::Any),
            (RecordType::PTR, Kind::Name),
        ];
        ALL.iter().find(|(of, _)| *of == kind).map_or(Kind::Other, |(_, kind)| *kind)
    }
}

/// Why bytes are no question of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is nobody to be answered, or it is an answer itself.
    Nothing,
    /// This is to be said.
    Answer(Vec<u8>),
}

/// Reads a question.
///
/// # Errors
/// [`Refusal`].
pub(crate) fn read(bytes: &[u8]) -> Result<Question, Refusal> {
    let header = Header::read(&mut BinDecoder::new(bytes)).map_err(|_| Refusal::Nothing)?;
    let (id, op_code) = (header.id, header.op_code);
    if bytes.len() < HEADER || header.message_type == MessageType::Response {
        return Err(Refusal::Nothing);
    }
    let refused = |code| {
        let bytes = Message::error_msg(id, op_code, code).to_vec();
        bytes.map_or(Refusal::Nothing, Refusal::Answer)
    };
    if op_code != OpCode::Query {
        return Err(refused(ResponseCode::NotImp));
    }
    let message = Message::from_vec(bytes).map_err(|_| refused(ResponseCode::FormErr))?;
    let [query] = message.queries.as_slice() else {
        return Err(refused(ResponseCode::FormErr));
    };
    if message.edns.as_ref().is_some_and(|edns| edns.version() != EDNS_VERSION) {
        return Err(refused(ResponseCode::BADVERS));
    }
    // Whole zones are for nobody, ours or others'.
    if [RecordType::AXFR, RecordType::IXFR].contains(&query.query_type()) {
        return Err(refused(ResponseCode::Refused));
    }
    if query.query_class() != DNSClass::IN {
        return Err(refused(ResponseCode::Refused));
    }
    Ok(Question {
        id,
        recursion: message.metadata.recursion_desired,
        payload: message.edns.as_ref().map(Edns::max_payload),
        name: text(query.name()),
        kind: Kind::of(query.query_type()),
        query: query.clone(),
    })
}

/// A name in lower case and without its last dot.
fn text(name: &Name) -> Option<String> {
    let mut labels = Vec::new();
    for label in name.iter() {
        let label = std::str::from_utf8(label).ok().filter(|label| !label.contains('.'))?;
        labels.push(label.to_lowercase());
    }
    Some(labels.join(".")).filter(|name| !name.is_empty())
}

/// What is said to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Records {
    /// Addresses; none where there are none of the kind that was asked for.
    Addresses(Vec<IpAddr>),
    /// A name.
    Name(String),
    /// There is no such name.
    Missing,
    /// It is not known whether there is.
    Failed,
}

impl Question {
    /// The longest answer it takes in one datagram.
    pub(crate) fn datagram_max(&self) -> usize {
        usize::from(self.payload.unwrap_or(0).max(DATAGRAM_MIN)).min(DATAGRAM_MAX)
    }

    /// An answer that says that it is to be had over TCP.
    pub(crate) fn cut(&self) -> Vec<u8> {
        self.answer(&Records::Addresses(Vec::new()), 0)
    }

    /// The answer in bytes, at most so many.
    pub(crate) fn answer(&self, records: &Records, most: usize) -> Vec<u8> {
        let mut message = Message::response(self.id, OpCode::Query);
        message.metadata.recursion_desired = self.recursion;
        message.metadata.recursion_available = true;
        message.metadata.response_code = match records {
            Records::Addresses(_) | Records::Name(_) => ResponseCode::NoError,
            Records::Missing => ResponseCode::NXDomain,
            Records::Failed => ResponseCode::ServFail,
        };
        message.add_query(self.query.clone());
        if self.payload.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(u16::try_from(DATAGRAM_MAX).unwrap_or(DATAGRAM_MIN));
            message.set_edns(edns);
        }
        let name = self.query.name();
        let record = |data| Record::from_rdata(name.clone(), TTL_SECONDS, data);
        match records {
            Records::Addresses(all) => message.add_answers(all.iter().map(|one| {
                record(match one {
                    IpAddr::V4(four) => RData::A(rdata::A(*four)),
                    IpAddr::V6(six) => RData::AAAA(rdata::AAAA(*six)),
                })
            })),
            Records::Name(own) => {
                let own = Name::from_utf8(format!("{own}.")).ok();
                message.add_answers(own.map(|own| record(RData::PTR(rdata::PTR(own)))))
            }
            Records::Missing | Records::Failed => &mut message,
        };
        match message.to_vec() {
            Ok(bytes) if bytes.len() <= most => bytes,
            // The rest is to be had over TCP.
            Ok(_) | Err(_) => message.truncate().to_vec().unwrap_or_default(),
        }
    }
}

/// The address that a name for reverse lookups stands for.
///
/// Sources: RFC 1035, section 3.5; RFC 3596, section 2.5.
pub(crate) fn reversed(name: &str) -> Option<IpAddr> {
    if let Some(digits) = name.strip_suffix(".in-addr.arpa") {
        let mut bytes: Vec<u8> =
            digits.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
        bytes.reverse();
        return <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    }
    let digits = name.strip_suffix(".ip6.arpa")?;
    let one = |part: &str| u8::from_str_radix(part, 16).ok().filter(|_| part.len() == 1);
    let mut halves: Vec<u8> = digits.split('.').map(one).collect::<Option<_>>()?;
    halves.reverse();
    let bytes: Vec<u8> =
        halves.chunks(2).map(|pair| pair.iter().fold(0, |b, h| b << 4 | h)).collect();
    let whole = halves.len() == 32;
    <[u8; 16]>::try_from(bytes).ok().filter(|_| whole).map(IpAddr::from)
}

/// What an answer of another server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Worth {
    /// It answers something else, or nothing.
    Nothing,
    /// The server cannot or will not say; another may.
    Refused,
    /// The rest is to be had over TCP.
    Cut,
    /// An answer.
    Whole,
}

/// Whether bytes answer a question: the same number, the same question (RFC 5452, section 9).
pub(crate) fn answers(question: &[u8], answer: &[u8]) -> Worth {
    let read = |bytes: &[u8]| {
        let mut decoder = BinDecoder::new(bytes);
        let header = Header::read(&mut decoder).ok()?;
        let query = (header.counts.queries == 1).then(|| Query::read(&mut decoder));
        Some((header, query.transpose().ok()?))
    };
    let (Some((asked, query)), Some((header, same))) = (read(question), read(answer)) else {
        return Worth::Nothing;
    };
    let code = header.response_code;
    let refused = matches!(
        code,
        ResponseCode::FormErr
            | ResponseCode::ServFail
            | ResponseCode::NotImp
            | ResponseCode::Refused
    );
    if header.id != asked.id || header.message_type != MessageType::Response {
        return Worth::Nothing;
    }
    match (query == same, same.is_none(), refused) {
        (true, _, true) | (_, true, true) => Worth::Refused,
        (true, _, false) if header.truncation => Worth::Cut,
        (true, _, false) => Worth::Whole,
        (false, ..) => Worth::Nothing,
    }
}

/// The same message under another number.
pub(crate) fn renumbered(mut message: Vec<u8>, id: [u8; 2]) -> Vec<u8> {
    message.iter_mut().zip(id).for_each(|(byte, new)| *byte = new);
    message
}

/// The number of a message.
pub(crate) fn number(message: &[u8]) -> [u8; 2] {
    let mut id = [0; 2];
    id.iter_mut().zip(message).for_each(|(to, from)| *to = *from);
    id
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A question in bytes.
    pub(crate) fn asked(name: &str, kind: RecordType, payload: Option<u16>) -> Vec<u8> {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_utf8(name).unwrap(), kind));
        if let Some(payload) = payload {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            message.set_edns(edns);
        }
        message.to_vec().unwrap()
    }

    fn code(refusal: &Refusal) -> Option<ResponseCode> {
        match refusal {
            Refusal::Nothing => None,
            Refusal::Answer(bytes) => {
                Some(Message::from_vec(bytes).unwrap().metadata.response_code)
            }
        }
    }

    #[test]
    fn questions_are_read_and_everything_else_is_refused() {
        let good = asked("Web.Mine.", RecordType::AAAA, Some(1400));
        let question = read(&good).unwrap();
        assert_eq!(question.name.as_deref(), Some("web.mine"));
        assert_eq!((question.kind, question.datagram_max()), (Kind::V6, 1400));
        assert_eq!(read(&asked("a.", RecordType::A, None)).unwrap().datagram_max(), 512);

        let of = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            change(&mut bytes);
            read(&bytes).err().map(|refusal| code(&refusal))
        };
        let form = Some(Some(ResponseCode::FormErr));
        assert_eq!(of(&|bytes| bytes[2] |= 0x80), Some(None), "an answer is not answered");
        assert_eq!(of(&|bytes| bytes.truncate(11)), Some(None));
        assert_eq!(of(&|bytes| bytes.truncate(20)), form);
        assert_eq!(of(&|bytes| bytes[5] = 2), form, "two questions");
        assert_eq!(of(&|bytes| bytes[5] = 0), form, "none");
        // A name that points at itself.
        assert_eq!(of(&|bytes| bytes[12..14].copy_from_slice(&[0xc0, 12])), form);
        assert_eq!(of(&|bytes| bytes[2] |= 0x28), Some(Some(ResponseCode::NotImp)), "an update");
        let refused = |kind| code(&read(&asked("a.", kind, None)).unwrap_err());
        assert_eq!(refused(RecordType::AXFR), Some(ResponseCode::Refused));
    }

    #[test]
    fn what_does_not_fit_is_cut_and_says_so() {
        let question = read(&asked("web.", RecordType::A, None)).unwrap();
        let many: Vec<_> = (0..100).map(|last| IpAddr::from([10, 0, 0, last])).collect();
        let cut = question.answer(&Records::Addresses(many.clone()), question.datagram_max());
        let message = Message::from_vec(&cut).unwrap();
        assert!(message.metadata.truncation && cut.len() <= 512);
        let whole = question.answer(&Records::Addresses(many), usize::MAX);
        let message = Message::from_vec(&whole).unwrap();
        assert_eq!((message.metadata.truncation, message.answers.len()), (false, 100));
    }

    #[test]
    fn names_for_reverse_lookups_stand_for_addresses() {
        assert_eq!(reversed("4.3.2.1.in-addr.arpa"), Some(IpAddr::from([1, 2, 3, 4])));
        let six = format!("{}1.0.0.2.ip6.arpa", "0.".repeat(28));
        assert_eq!(reversed(&six), "2001::".parse().ok());
        for bad in ["3.2.1.in-addr.arpa", "a.3.2.1.in-addr.arpa", "1.ip6.arpa", "web", ""] {
            assert_eq!(reversed(bad), None, "{bad}");
        }
        assert_eq!(reversed(&format!("00{}", &six[1..])), None);
    }

    #[test]
    fn only_an_answer_to_the_question_is_one() {
        let question = asked("web.", RecordType::A, None);
        let read = read(&question).unwrap();
        let good = read.answer(&Records::Addresses(Vec::new()), 512);
        assert_eq!(answers(&question, &good), Worth::Whole);
        assert_eq!(answers(&question, &question), Worth::Nothing);
        assert_eq!(answers(&question, &renumbered(good.clone(), [9, 9])), Worth::Nothing);
        assert_eq!(answers(&question, &good[..5]), Worth::Nothing);
        let other = super::read(&asked("db.", RecordType::A, None)).unwrap();
        let other = other.answer(&Records::Addresses(Vec::new()), 512);
        assert_eq!(answers(&question, &other), Worth::Nothing);
        let failed = read.answer(&Records::Failed, 512);
        assert_eq!(answers(&question, &failed), Worth::Refused);
        let mut cut = good.clone();
        cut[2] |= 2;
        assert_eq!(answers(&question, &cut), Worth::Cut);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            crate::fuzzing::datagram(&bytes);
        }

        #[test]
        fn any_change_of_a_question_is_read_or_refused(
            at in 0usize..30, byte: u8, end in 0usize..60,
        ) {
            let mut bytes = asked("web.mine.", RecordType::A, Some(1232));
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes.truncate(end);
            crate::fuzzing::datagram(&bytes);
        }
    }
}
