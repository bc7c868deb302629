//! Which frames the guest wants, and what it says about that.
//!
//! Source: virtio 1.2, 5.1.6.5 (control virtqueue).

use serde::{Deserialize, Serialize};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// Most addresses of one kind that are kept; with more, all of that kind are wanted.
const ADDRESSES_MAX: usize = 64;

/// What the guest wants to receive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Filter {
    promiscuous: bool,
    all_multicast: bool,
    all_unicast: bool,
    no_multicast: bool,
    no_unicast: bool,
    no_broadcast: bool,
    /// None: too many to be kept.
    unicast: Option<Vec<Mac>>,
    multicast: Option<Vec<Mac>>,
    /// The driver has said nothing yet: every frame is wanted. One that has no control queue
    /// never does.
    unset: bool,
}

impl Default for Filter {
    fn default() -> Filter {
        Filter {
            promiscuous: false,
            all_multicast: false,
            all_unicast: false,
            no_multicast: false,
            no_unicast: false,
            no_broadcast: false,
            unicast: Some(Vec::new()),
            multicast: Some(Vec::new()),
            unset: true,
        }
    }
}

/// What a command on the control queue asks for beside the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Nothing: it is done.
    Done,
    /// Another address of the device.
    Address(Mac),
    /// It has announced itself.
    Announced,
    /// It wants these of the offloads that were agreed on, and no others.
    Offloads(u64),
}

impl Filter {
    /// Whether the guest wants a frame.
    pub(super) fn wants(&self, own: Mac, frame: &[u8]) -> bool {
        let Some((target, _)) = frame.split_first_chunk::<6>() else { return false };
        if self.unset || self.promiscuous {
            return true;
        }
        if *target == [0xff; 6] {
            return !self.no_broadcast;
        }
        let among = |kept: &Option<Vec<Mac>>| kept.as_ref().is_none_or(|it| it.contains(target));
        if target[0] & 1 != 0 {
            !self.no_multicast && (self.all_multicast || among(&self.multicast))
        } else {
            !self.no_unicast && (self.all_unicast || *target == own || among(&self.unicast))
        }
    }

    /// Carries out a command: class, number, and what belongs to it. Nothing, if it is none or
    /// wrong.
    pub(super) fn command(&mut self, bytes: &[u8]) -> Option<Command> {
        let ([class, number], rest) = bytes.split_first_chunk::<2>()?;
        match (class, number) {
            (0, mode) => self.mode(*mode, rest),
            (1, 0) => self.table(rest),
            (1, 1) => Some(Command::Address(*rest.first_chunk()?)),
            (3, 0) => Some(Command::Announced),
            (5, 0) => Some(Command::Offloads(u64::from_le_bytes(*rest.first_chunk()?))),
            _ => None,
        }
    }

    fn mode(&mut self, mode: u8, rest: &[u8]) -> Option<Command> {
        let flag = match mode {
            0 => &mut self.promiscuous,
            1 => &mut self.all_multicast,
            2 => &mut self.all_unicast,
            3 => &mut self.no_multicast,
            4 => &mut self.no_unicast,
            5 => &mut self.no_broadcast,
            _ => return None,
        };
        *flag = *rest.first()? != 0;
        self.unset = false;
        Some(Command::Done)
    }

    /// Two tables, each a count and so many addresses.
    fn table(&mut self, rest: &[u8]) -> Option<Command> {
        let (unicast, rest) = addresses(rest)?;
        let (multicast, _) = addresses(rest)?;
        (self.unicast, self.multicast) = (unicast, multicast);
        self.unset = false;
        Some(Command::Done)
    }
}

/// One table, and what stands behind it.
fn addresses(bytes: &[u8]) -> Option<(Option<Vec<Mac>>, &[u8])> {
    let (count, rest) = bytes.split_first_chunk::<4>()?;
    let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
    let (table, rest) = rest.split_at_checked(count.checked_mul(6)?)?;
    let kept = (count <= ADDRESSES_MAX).then(|| {
        table.chunks_exact(6).filter_map(|address| address.first_chunk().copied()).collect()
    });
    Some((kept, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Mac = [2, 0, 0, 0, 0, 1];
    const OTHER: Mac = [2, 0, 0, 0, 0, 2];
    const GROUP: Mac = [1, 0, 0x5e, 0, 0, 1];
    const ALL: Mac = [0xff; 6];

    fn wanted(filter: &Filter) -> [bool; 4] {
        [OWN, OTHER, GROUP, ALL].map(|target| filter.wants(OWN, &[&target[..], &[0; 8]].concat()))
    }

    fn table(unicast: &[Mac], multicast: &[Mac]) -> Vec<u8> {
        let mut bytes = vec![1, 0];
        for table in [unicast, multicast] {
            bytes.extend(u32::try_from(table.len()).unwrap().to_le_bytes());
            bytes.extend(table.concat());
        }
        bytes
    }

    #[test]
    fn a_driver_gets_what_it_asked_for() {
        let mut filter = Filter::default();
        assert_eq!(wanted(&filter), [true; 4]);
        assert_eq!(filter.command(&[0, 0, 0]), Some(Command::Done));
        assert_eq!(wanted(&filter), [true, false, false, true]);
        assert_eq!(filter.command(&table(&[OTHER], &[GROUP])), Some(Command::Done));
        assert_eq!(wanted(&filter), [true; 4]);
        assert_eq!(filter.command(&table(&[], &[])), Some(Command::Done));
        for (mode, want) in [
            (0, [true; 4]),
            (1, [true, false, true, true]),
            (2, [true, true, false, true]),
            (4, [false, false, false, true]),
            (5, [true, false, false, false]),
        ] {
            assert_eq!(filter.command(&[0, mode, 1]), Some(Command::Done));
            assert_eq!(wanted(&filter), want, "{mode}");
            assert_eq!(filter.command(&[0, mode, 0]), Some(Command::Done));
        }
        let many = vec![OWN; 65];
        assert_eq!(filter.command(&table(&many, &[])), Some(Command::Done));
        assert_eq!(wanted(&filter), [true, true, false, true]);
        assert!(!filter.wants(OWN, &[0xff; 5]));
    }

    #[test]
    fn other_commands_and_none() {
        let mut filter = Filter::default();
        assert_eq!(filter.command(&[1, 1, 2, 0, 0, 0, 0, 2]), Some(Command::Address(OTHER)));
        assert_eq!(filter.command(&[3, 0]), Some(Command::Announced));
        assert_eq!(filter.command(&[5, 0, 2, 0, 0, 0, 0, 0, 0, 0]), Some(Command::Offloads(2)));
        let before = filter.clone();
        let short = table(&[OTHER], &[GROUP]);
        for none in [
            &[][..],
            &[0],
            &[0, 0],
            &[0, 6, 1],
            &[1, 1, 2, 0, 0, 0, 0],
            &[1, 2],
            &[2, 0, 1, 0],
            &[4, 0, 1, 0],
            &[5, 0, 1],
            &[1, 0, 0xff, 0xff, 0xff, 0xff],
            &short[..short.len() - 1],
        ] {
            assert_eq!(filter.command(none), None, "{none:?}");
        }
        assert_eq!(filter, before);
    }
}
