//! Hearing what others do to what is ours on a host: tables flushed, the bridge or its addresses
//! gone.
//!
//! Two sockets listen, and the kernel's socket filters pass over all that is of no concern: what
//! this process's own table socket does, and every link but the bridge. Whoever waits here is
//! woken by nothing else.
//!
//! Source: nfnetlink's `NFNLGRP_NFTABLES`, rtnetlink(7); `struct nlmsghdr`, `ifinfomsg`,
//! `ifaddrmsg`.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    pipe::{PipeFlags, pipe_with},
};
use sys::{
    netlink::{Family, Listener, attributes},
    seccomp::SockFilter,
};

use crate::{Host, Network, NetworkError};

const NFNLGRP_NFTABLES: u32 = 7;
const RTNLGRP_LINK: u32 = 1;
const RTNLGRP_IPV4_IFADDR: u32 = 5;
const RTNLGRP_IPV6_IFADDR: u32 = 9;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_DELADDR: u16 = 21;
const IFF_UP: u32 = 1;

/// Messages of nf_tables by which something of a table goes: table, chain, rule, set, element.
const REMOVALS: [u16; 5] = [2, 5, 8, 11, 14];
/// A table that is there anew, or goes dormant.
const NEW_TABLE: u16 = 0;

/// Waits for others' changes. It hears from the moment it is made.
#[derive(Debug)]
pub struct Watch {
    rules: Listener,
    links: Listener,
    table: String,
    /// Closed by [`Watching`].
    end: OwnedFd,
}

/// As long as this is there, the [`Watch`] waits.
#[derive(Debug)]
pub struct Watching {
    _end: OwnedFd,
}

/// What was heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Somebody changed rules of the host, whosesoever.
    pub rules: bool,
    /// Something of ours may be gone.
    pub loss: bool,
}

impl Host {
    /// Begins to listen for what others do to our tables and to this network's bridge.
    ///
    /// # Errors
    /// If sockets cannot be had.
    pub fn watch(&self, network: &Network) -> Result<(Watch, Watching), NetworkError> {
        let (own, table) = {
            let table = self.table();
            let own = table.socket.port().map_err(io::Error::from).map_err(NetworkError::Open)?;
            (own, table.name.clone())
        };
        let open = || {
            let rules = Listener::open(Family::Netfilter, &[NFNLGRP_NFTABLES], &not_by(own))?;
            let groups = [RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR];
            let links = Listener::open(Family::Route, &groups, &loss_of(0))?;
            Ok((rules, links, pipe_with(PipeFlags::CLOEXEC)?))
        };
        let (rules, links, (end, other)) = self.run(open).map_err(NetworkError::Open)?;
        let watch = Watch { rules, links, table, end };
        self.heed(&watch, network)?;
        Ok((watch, Watching { _end: other }))
    }

    /// Has a watch listen for this network's bridge as it is now; whether there is one.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn heed(&self, watch: &Watch, network: &Network) -> Result<bool, NetworkError> {
        let index = || Ok(self.link(&network.bridge)?.map(|link| link.index));
        let Some(bridge) = index()? else { return Ok(false) };
        let filtered = watch.links.filter(&loss_of(bridge));
        filtered.map_err(io::Error::from).map_err(NetworkError::Open)?;
        // It may have gone before it was listened for.
        Ok(index()? == Some(bridge))
    }
}

impl Watch {
    /// Waits for a change that others make; `None` when nobody wants to know any more.
    pub fn wait(&mut self) -> Option<Heard> {
        loop {
            if self.ended() {
                return None;
            }
            let heard = self.hear();
            if heard != Heard::default() {
                return Some(heard);
            }
        }
    }

    /// Lets others come to an end with what they do, and takes what was heard meanwhile; whether
    /// it is still wanted.
    pub fn settle(&mut self, pause: Duration) -> bool {
        let by = std::time::Instant::now() + pause;
        loop {
            let left = by.saturating_duration_since(std::time::Instant::now());
            let end = &mut [PollFd::new(&self.end, PollFlags::IN)];
            let time = Timespec::try_from(left).ok();
            match poll(end, time.as_ref()) {
                Err(Errno::INTR) => {}
                Ok(0) | Err(_) => break,
                Ok(_) => return false,
            }
        }
        self.hear();
        true
    }

    /// Waits until there is something to hear, or it is not wanted any more: whether it is that.
    fn ended(&self) -> bool {
        let mut all = [
            PollFd::from_borrowed_fd(self.end.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.rules.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.links.as_fd(), PollFlags::IN),
        ];
        while let Err(Errno::INTR) = poll(&mut all, None) {}
        let [end, ..] = &all;
        !end.revents().is_empty()
    }

    fn hear(&mut self) -> Heard {
        let mut heard = Heard::default();
        let table = &self.table;
        let told = self.rules.hear(|kind, body| {
            heard.rules = true;
            heard.loss |= takes_from(table, kind, body);
        });
        if told.is_err() {
            heard = Heard { rules: true, loss: true };
        }
        // What the filter lets through is a loss, and so may be what there was no room for.
        let mut lost = false;
        heard.loss |= self.links.hear(|_, _| lost = true).is_err();
        heard.loss |= lost;
        heard
    }
}

/// Whether a message says that something of this table has gone, or that the table has come back
/// as it may not be meant. What others add to it is theirs to know.
fn takes_from(table: &str, kind: u16, body: &[u8]) -> bool {
    let [kind, _] = kind.to_le_bytes();
    let kind = u16::from(kind);
    // The name of the table is the first attribute of all of them.
    let named = || {
        let mut all = attributes(body.get(4..).unwrap_or_default());
        all.any(|(kind, value)| kind == 1 && value.strip_suffix(&[0]) == Some(table.as_bytes()))
    };
    (REMOVALS.contains(&kind) || kind == NEW_TABLE) && named()
}

/// Classic BPF, linux/filter.h: load a word or half a word from a place, compare, end.
const LOAD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const EQUAL: u16 = 0x15;
const ANY_BIT: u16 = 0x45;
const END: u16 = 0x06;

const fn step(code: u16, k: u32, jt: u8, jf: u8) -> SockFilter {
    SockFilter { code, jt, jf, k }
}

/// A number as the filter loads it: it reads the host's bytes as the network's.
fn loaded(number: u32) -> u32 {
    u32::from_be_bytes(number.to_ne_bytes())
}

/// Passes over what the socket with this number does. The number is the last of the header.
fn not_by(own: u32) -> [SockFilter; 4] {
    [step(LOAD, 12, 0, 0), step(EQUAL, loaded(own), 0, 1), step(END, 0, 0, 0), pass()]
}

/// Lets through only that this link goes, goes down, or loses an address: the index stands at the
/// same place in the messages of links and of addresses.
fn loss_of(link: u32) -> [SockFilter; 10] {
    let kind = |kind: u16| u16::from_be_bytes(kind.to_ne_bytes()).into();
    [
        step(LOAD, 20, 0, 0),
        step(EQUAL, loaded(link), 0, 7),
        step(LOAD_HALF, 4, 0, 0),
        step(EQUAL, kind(RTM_DELLINK), 4, 0),
        step(EQUAL, kind(RTM_DELADDR), 3, 0),
        step(EQUAL, kind(RTM_NEWLINK), 0, 3),
        step(LOAD, 24, 0, 0),
        step(ANY_BIT, loaded(IFF_UP), 1, 0),
        pass(),
        step(END, 0, 0, 0),
    ]
}

const fn pass() -> SockFilter {
    step(END, u32::MAX, 0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a filter as the kernel does.
    fn lets_through(filter: &[SockFilter], message: &[u8]) -> bool {
        let (mut at, mut value) = (0, 0);
        loop {
            let SockFilter { code, jt, jf, k } = filter[at];
            at += 1;
            let place = usize::try_from(k).unwrap_or_default();
            let jump = |holds| usize::from(if holds { jt } else { jf });
            match code {
                LOAD => value = u32::from_be_bytes(*message[place..].first_chunk().unwrap()),
                LOAD_HALF => {
                    value = u16::from_be_bytes(*message[place..].first_chunk().unwrap()).into();
                }
                EQUAL => at += jump(value == k),
                ANY_BIT => at += jump(value & k != 0),
                _ => return k != 0,
            }
        }
    }

    fn message(kind: u16, by: u32, link: u32, flags: u32) -> Vec<u8> {
        let kind = kind.to_ne_bytes();
        [
            &32_u32.to_ne_bytes()[..],
            &kind,
            &[0; 2],
            &[0; 4],
            &by.to_ne_bytes(),
            &[0; 4],
            &link.to_ne_bytes(),
            &flags.to_ne_bytes(),
            &[0; 4],
        ]
        .concat()
    }

    #[test]
    fn only_the_loss_of_one_link_wakes() {
        let filter = loss_of(7);
        let heard = |kind, link, flags| lets_through(&filter, &message(kind, 0, link, flags));
        assert!(heard(RTM_DELLINK, 7, 0));
        assert!(heard(RTM_DELADDR, 7, 0));
        assert!(heard(RTM_NEWLINK, 7, 0), "it goes down");
        assert!(!heard(RTM_NEWLINK, 7, IFF_UP | 0x1000));
        for kind in [RTM_DELLINK, RTM_DELADDR, RTM_NEWLINK] {
            assert!(!heard(kind, 8, 0));
        }
        assert!(!heard(20, 7, 0), "an address comes");
    }

    #[test]
    fn own_changes_do_not_wake() {
        let filter = not_by(0x0102_0304);
        assert!(!lets_through(&filter, &message(10 << 8, 0x0102_0304, 0, 0)));
        assert!(lets_through(&filter, &message(10 << 8, 0x0403_0201, 0, 0)));
    }

    #[test]
    fn what_goes_from_another_table_is_no_loss() {
        let body = |name: &str| {
            let length = u16::try_from(name.len() + 5).unwrap();
            let mut body = [&[2, 0, 0, 0], &length.to_ne_bytes()[..], &[1, 0]].concat();
            body.extend_from_slice(name.as_bytes());
            body.resize((body.len() + 1).next_multiple_of(4), 0);
            body
        };
        let of = |kind: u16, name| takes_from("wythe", 10 << 8 | kind, &body(name));
        assert!(of(2, "wythe") && of(14, "wythe") && of(0, "wythe"));
        assert!(!of(2, "wythe-probe") && !of(2, "fw"));
        assert!(!of(12, "wythe"), "an element comes");
        assert!(!takes_from("wythe", 10 << 8 | 2, &[]));
    }
}
