//! Device rules: what they mean, and how version 1 and version 2 are told.
//!
//! An access asks for one or more of read, write and mknod on one device. Each of these bits is
//! judged by the last rule that names the device and the bit, and allowed if there is none; the
//! access is allowed if all its bits are.

mod program;

use std::collections::BTreeMap;

use workload::{DeviceKind, DeviceRule};

pub(crate) use self::program::program;
use crate::CgroupError;

/// Read, write and mknod, numbered as `BPF_DEVCG_ACC_…` in linux/bpf.h.
const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const ALL: u8 = MKNOD | READ | WRITE;

/// Which accesses a rule is about.
fn access_bits(rule: &DeviceRule) -> u8 {
    let bit = |asked: bool, bit: u8| if asked { bit } else { 0 };
    bit(rule.mknod, MKNOD) | bit(rule.read, READ) | bit(rule.write, WRITE)
}

/// The same rules as one default and exceptions to it: the form that version 1 knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judgement {
    /// What happens where no exception applies.
    allow: bool,
    exceptions: BTreeMap<Key, u8>,
}

/// The devices of an exception; `None` is all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    block: bool,
    major: Option<u32>,
    minor: Option<u32>,
}

impl Key {
    fn covers(self, other: Key) -> bool {
        let number = |all: Option<u32>, one: Option<u32>| all.is_none() || all == one;
        self.block == other.block
            && number(self.major, other.major)
            && number(self.minor, other.minor)
    }

    fn overlaps(self, other: Key) -> bool {
        let number = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        self.block == other.block
            && number(self.major, other.major)
            && number(self.minor, other.minor)
    }
}

impl Judgement {
    /// # Errors
    /// `Unsupported` for a rule that takes back part of an earlier, wider one: a default with
    /// exceptions cannot say that.
    pub(crate) fn of(rules: &[DeviceRule]) -> Result<Judgement, CgroupError> {
        let mut judgement = Judgement { allow: true, exceptions: BTreeMap::new() };
        for rule in rules {
            judgement.take(rule)?;
        }
        judgement.spread();
        Ok(judgement)
    }

    fn take(&mut self, rule: &DeviceRule) -> Result<(), CgroupError> {
        let bits = access_bits(rule);
        let everything = rule.kind.is_none() && rule.major.is_none() && rule.minor.is_none();
        if everything && bits == ALL {
            *self = Judgement { allow: rule.allow, exceptions: BTreeMap::new() };
            return Ok(());
        }
        let blocks: &[bool] = match rule.kind {
            Some(DeviceKind::Block) => &[true],
            Some(DeviceKind::Character) => &[false],
            None => &[false, true],
            // Opening a FIFO is not a device access.
            Some(DeviceKind::Fifo) => &[],
        };
        for block in blocks {
            let key = Key { block: *block, major: rule.major, minor: rule.minor };
            if rule.allow == self.allow {
                self.take_back(key, bits)?;
            } else if bits != 0 {
                *self.exceptions.entry(key).or_default() |= bits;
            }
        }
        Ok(())
    }

    fn take_back(&mut self, key: Key, bits: u8) -> Result<(), CgroupError> {
        for (known, known_bits) in &mut self.exceptions {
            if key.covers(*known) {
                *known_bits &= !bits;
            } else if key.overlaps(*known) && *known_bits & bits != 0 {
                return Err(CgroupError::Unsupported {
                    what: "devices".into(),
                    why: "cgroup v1 cannot take back part of an earlier device rule".into(),
                });
            }
        }
        self.exceptions.retain(|_, bits| *bits != 0);
        Ok(())
    }

    /// Gives each exception what wider ones have: the kernel wants one that covers an access
    /// alone.
    fn spread(&mut self) {
        let wider = self.exceptions.clone();
        for (key, bits) in &mut self.exceptions {
            for (_, more) in wider.iter().filter(|(wide, _)| wide.covers(*key)) {
                *bits |= more;
            }
        }
    }

    /// Lines for `devices.allow` (true) and `devices.deny`, in order.
    ///
    /// Source: Linux, Documentation/admin-guide/cgroup-v1/devices.rst.
    pub(crate) fn v1_lines(&self) -> Vec<(bool, String)> {
        let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
        let exceptions = self.exceptions.iter().map(|(key, bits)| {
            let kind = if key.block { 'b' } else { 'c' };
            let mut line = format!("{kind} {}:{} ", number(key.major), number(key.minor));
            line.extend(
                [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')]
                    .into_iter()
                    .filter(|(bit, _)| bits & bit != 0)
                    .map(|(_, letter)| letter),
            );
            (!self.allow, line)
        });
        std::iter::once((self.allow, "a".to_owned())).chain(exceptions).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One access.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Access {
        pub(crate) block: bool,
        pub(crate) major: u32,
        pub(crate) minor: u32,
        pub(crate) bits: u8,
    }

    /// The meaning of the rules, word for word.
    pub(crate) fn allowed(rules: &[DeviceRule], access: Access) -> bool {
        [MKNOD, READ, WRITE].into_iter().filter(|bit| access.bits & bit != 0).all(|bit| {
            let names = |rule: &&DeviceRule| {
                let kind = match rule.kind {
                    None => true,
                    Some(DeviceKind::Block) => access.block,
                    Some(DeviceKind::Character) => !access.block,
                    Some(DeviceKind::Fifo) => false,
                };
                kind && rule.major.is_none_or(|n| n == access.major)
                    && rule.minor.is_none_or(|n| n == access.minor)
                    && access_bits(rule) & bit != 0
            };
            rules.iter().rev().find(names).is_none_or(|rule| rule.allow)
        })
    }

    /// What the kernel makes of a default and exceptions (security/device_cgroup.c): an allowing
    /// exception must cover all of an access, a denying one any of it.
    fn kernel_v1(judgement: &Judgement, access: Access) -> bool {
        let key = Key { block: access.block, major: Some(access.major), minor: Some(access.minor) };
        let mut matching = judgement.exceptions.iter().filter(|(known, _)| known.covers(key));
        if judgement.allow {
            !matching.any(|(_, bits)| bits & access.bits != 0)
        } else {
            matching.any(|(_, bits)| access.bits & !bits == 0)
        }
    }

    pub(crate) fn rules() -> impl Strategy<Value = Vec<DeviceRule>> {
        let number = || prop_oneof![Just(None), (0_u32..3).prop_map(Some)];
        let kind = prop_oneof![
            Just(None),
            Just(Some(DeviceKind::Block)),
            Just(Some(DeviceKind::Character)),
            Just(Some(DeviceKind::Fifo))
        ];
        let rule = (any::<bool>(), kind, number(), number(), 0_u8..8).prop_map(
            |(allow, kind, major, minor, bits)| DeviceRule {
                allow,
                kind,
                major,
                minor,
                read: bits & READ != 0,
                write: bits & WRITE != 0,
                mknod: bits & MKNOD != 0,
            },
        );
        proptest::collection::vec(rule, 0..12)
    }

    pub(crate) fn accesses() -> impl Strategy<Value = Access> {
        (any::<bool>(), 0_u32..4, 0_u32..4, 1_u8..8)
            .prop_map(|(block, major, minor, bits)| Access { block, major, minor, bits })
    }

    #[test]
    fn the_default_rules_are_a_denial_and_exceptions() {
        let judgement = Judgement::of(&workload::profile::device_rules()).unwrap();
        let lines: Vec<String> = judgement
            .v1_lines()
            .into_iter()
            .map(|(allow, line)| format!("{allow} {line}"))
            .collect();
        assert_eq!(
            lines,
            [
                "false a",
                "true c *:* m",
                "true c 1:3 rwm",
                "true c 1:5 rwm",
                "true c 1:7 rwm",
                "true c 1:8 rwm",
                "true c 1:9 rwm",
                "true c 5:0 rwm",
                "true c 5:2 rwm",
                "true c 136:* rwm",
                "true b *:* m",
            ]
        );
    }

    #[test]
    fn taking_back_part_of_a_wider_rule_is_refused() {
        let rule = |allow, major| DeviceRule {
            allow,
            kind: Some(DeviceKind::Character),
            major,
            minor: None,
            read: true,
            write: true,
            mknod: true,
        };
        let deny_all = DeviceRule { kind: None, ..rule(false, None) };
        let rules = [deny_all, rule(true, None), rule(false, Some(1))];
        assert!(matches!(Judgement::of(&rules), Err(CgroupError::Unsupported { .. })));
    }

    proptest! {
        #[test]
        fn version_1_judges_as_the_rules_do(rules in rules(), access in accesses()) {
            // A minor number of all majors crosses a major of all minors, which no file says.
            let crosses = rules.iter().any(|rule| rule.major.is_none() && rule.minor.is_some());
            if let Ok(judgement) = Judgement::of(&rules) && !crosses {
                prop_assert_eq!(kernel_v1(&judgement, access), allowed(&rules, access));
            }
        }
    }
}
