//! DHCP for a network with one guest, who always gets the same address. Pure.
//!
//! Source: RFC 2131, RFC 2132.

use std::net::Ipv4Addr;

/// The ports.
pub(crate) const SERVER: u16 = 67;
pub(crate) const CLIENT: u16 = 68;

/// How long a lease lasts, in seconds: a day.
const LEASE_SECONDS: u32 = 86_400;

/// Where the parts of a message are.
const FLAGS: usize = 10;
const CLIENT_ADDRESS: usize = 12;
const YOUR_ADDRESS: usize = 16;
const SERVER_ADDRESS: usize = 20;
const RELAY: usize = 24;
const HARDWARE: usize = 28;
const COOKIE: usize = 236;
const OPTIONS: usize = 240;
const MAGIC: [u8; 4] = [99, 130, 83, 99];

/// Shortest message: that of BOOTP, which some clients insist on (RFC 1542, 2.1).
const MESSAGE_BYTES_MIN: usize = 300;

/// Options.
const MASK: u8 = 1;
const ROUTER: u8 = 3;
const RESOLVER: u8 = 6;
const MTU: u8 = 26;
const WANTED: u8 = 50;
const TIME: u8 = 51;
const KIND: u8 = 53;
const FROM: u8 = 54;
const END: u8 = 255;

/// Kinds of messages.
const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;
const NAK: u8 = 6;
const INFORM: u8 = 8;

/// What the guest is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    pub(crate) address: Ipv4Addr,
    pub(crate) prefix: u8,
    pub(crate) gateway: Ipv4Addr,
    pub(crate) resolver: Ipv4Addr,
    pub(crate) mtu: u16,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) to: Ipv4Addr,
    pub(crate) message: Vec<u8>,
}

/// What is answered to a message, if anything.
pub(crate) fn answer(message: &[u8], lease: &Lease) -> Option<Reply> {
    let address = |at: usize| Some(Ipv4Addr::from(*message.get(at..)?.first_chunk::<4>()?));
    // A request over Ethernet, of this network and no other's.
    let asks = message.get(..3)? == [1, 1, 6] && message.get(COOKIE..OPTIONS)? == MAGIC;
    if !asks || !address(RELAY)?.is_unspecified() {
        return None;
    }
    let options = message.get(OPTIONS..)?;
    let (&[kind], has) = (option(options, KIND)?, address(CLIENT_ADDRESS)?) else { return None };
    let given = |code| option(options, code).and_then(|value| value.first_chunk::<4>().copied());
    if given(FROM).is_some_and(|server| Ipv4Addr::from(server) != lease.gateway) {
        return None;
    }
    let wanted = given(WANTED).map_or(has, Ipv4Addr::from);
    let kind = match kind {
        DISCOVER => OFFER,
        REQUEST if wanted == lease.address => ACK,
        REQUEST => NAK,
        INFORM => ACK,
        _ => return None,
    };
    let informs = option(options, KIND)? == [INFORM];
    let broadcast = message.get(FLAGS)? & 0x80 != 0;
    let to = match kind {
        NAK => Ipv4Addr::BROADCAST,
        _ if !has.is_unspecified() => has,
        _ if broadcast => Ipv4Addr::BROADCAST,
        _ => lease.address,
    };
    let mut reply = vec![0; OPTIONS];
    reply[..HARDWARE].copy_from_slice(message.get(..HARDWARE)?);
    // A reply, in no time, over no relay.
    (reply[0], reply[3]) = (2, 0);
    reply[8..FLAGS].fill(0);
    reply[CLIENT_ADDRESS..RELAY].fill(0);
    reply[HARDWARE..HARDWARE + 16].copy_from_slice(message.get(HARDWARE..HARDWARE + 16)?);
    reply[COOKIE..].copy_from_slice(&MAGIC);
    let mut put = |code: u8, value: &[u8]| {
        reply.extend([code, u8::try_from(value.len()).unwrap_or(0)]);
        reply.extend(value);
    };
    put(KIND, &[kind]);
    put(FROM, &lease.gateway.octets());
    if kind != NAK {
        if !informs {
            put(TIME, &LEASE_SECONDS.to_be_bytes());
        }
        let mask = u32::MAX.checked_shl(32 - u32::from(lease.prefix.min(32))).unwrap_or(0);
        put(MASK, &mask.to_be_bytes());
        put(ROUTER, &lease.gateway.octets());
        put(RESOLVER, &lease.resolver.octets());
        put(MTU, &lease.mtu.to_be_bytes());
        reply[SERVER_ADDRESS..RELAY].copy_from_slice(&lease.gateway.octets());
        if informs {
            reply[CLIENT_ADDRESS..YOUR_ADDRESS].copy_from_slice(&has.octets());
        } else {
            reply[YOUR_ADDRESS..SERVER_ADDRESS].copy_from_slice(&lease.address.octets());
        }
    }
    reply.push(END);
    reply.resize(reply.len().max(MESSAGE_BYTES_MIN), 0);
    Some(Reply { to, message: reply })
}

/// The value of an option, the first of its code.
fn option(mut options: &[u8], wanted: u8) -> Option<&[u8]> {
    loop {
        match options {
            [0, rest @ ..] => options = rest,
            [END, ..] | [] | [_] => return None,
            [code, length, rest @ ..] => {
                let (value, rest) = rest.split_at_checked((*length).into())?;
                if *code == wanted {
                    return Some(value);
                }
                options = rest;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEASE: Lease = Lease {
        address: Ipv4Addr::new(10, 0, 2, 15),
        prefix: 24,
        gateway: Ipv4Addr::new(10, 0, 2, 2),
        resolver: Ipv4Addr::new(10, 0, 2, 3),
        mtu: 1500,
    };

    fn ask(kind: u8, has: [u8; 4], options: &[u8]) -> Vec<u8> {
        let mut message = vec![0; OPTIONS];
        message[..4].copy_from_slice(&[1, 1, 6, 3]);
        message[4..8].copy_from_slice(b"xid!");
        message[CLIENT_ADDRESS..YOUR_ADDRESS].copy_from_slice(&has);
        message[HARDWARE..HARDWARE + 6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        message[COOKIE..].copy_from_slice(&MAGIC);
        message.extend([0, KIND, 1, kind]);
        message.extend(options);
        message.push(END);
        message
    }

    fn said(reply: &Reply, code: u8) -> Option<Vec<u8>> {
        option(&reply.message[OPTIONS..], code).map(<[u8]>::to_vec)
    }

    #[test]
    fn a_guest_gets_its_address() {
        let offer = answer(&ask(DISCOVER, [0; 4], &[]), &LEASE).unwrap();
        assert_eq!(offer.to, LEASE.address);
        assert_eq!(offer.message[..8], [2, 1, 6, 0, b'x', b'i', b'd', b'!']);
        assert_eq!(offer.message[YOUR_ADDRESS..SERVER_ADDRESS], [10, 0, 2, 15]);
        assert_eq!(offer.message[HARDWARE..HARDWARE + 7], [2, 0, 0, 0, 0, 1, 0]);
        assert_eq!(offer.message.len(), MESSAGE_BYTES_MIN);
        let values = [(KIND, vec![OFFER]), (MASK, vec![255, 255, 255, 0]), (MTU, vec![5, 220])];
        for (code, value) in values {
            assert_eq!(said(&offer, code), Some(value));
        }
        let wanted = [WANTED, 4, 10, 0, 2, 15, FROM, 4, 10, 0, 2, 2];
        let ack = answer(&ask(REQUEST, [0; 4], &wanted), &LEASE).unwrap();
        assert_eq!(
            (said(&ack, KIND), said(&ack, ROUTER)),
            (Some(vec![ACK]), Some(vec![10, 0, 2, 2]))
        );
        // To keep what it has.
        let renewed = answer(&ask(REQUEST, [10, 0, 2, 15], &[]), &LEASE).unwrap();
        assert_eq!((renewed.to, said(&renewed, KIND)), (LEASE.address, Some(vec![ACK])));
        let mut loud = ask(DISCOVER, [0; 4], &[]);
        loud[FLAGS] = 0x80;
        assert_eq!(answer(&loud, &LEASE).unwrap().to, Ipv4Addr::BROADCAST);
    }

    #[test]
    fn another_address_is_refused_and_another_servers_guest_is_left_alone() {
        let nak = answer(&ask(REQUEST, [0; 4], &[WANTED, 4, 10, 0, 2, 16]), &LEASE).unwrap();
        assert_eq!((nak.to, said(&nak, KIND)), (Ipv4Addr::BROADCAST, Some(vec![NAK])));
        assert_eq!(nak.message[YOUR_ADDRESS..SERVER_ADDRESS], [0; 4]);
        assert_eq!(answer(&ask(REQUEST, [0; 4], &[FROM, 4, 10, 0, 2, 9]), &LEASE), None);
        assert_eq!(answer(&ask(7, [0; 4], &[]), &LEASE), None, "a release");
        let informed = answer(&ask(INFORM, [10, 0, 2, 77], &[]), &LEASE).unwrap();
        assert_eq!((informed.to, said(&informed, TIME)), (Ipv4Addr::new(10, 0, 2, 77), None));
    }

    proptest! {
        #[test]
        fn anything_may_be_asked(options in prop::collection::vec(any::<u8>(), 0..80), cut in 0usize..320) {
            let mut message = ask(DISCOVER, [0; 4], &options);
            message.truncate(cut);
            let _ = answer(&message, &LEASE);
        }
    }
}
