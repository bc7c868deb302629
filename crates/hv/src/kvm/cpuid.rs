//! A model's `cpuid` in KVM's words, and whether a host can keep what it says.
//!
//! Source: KVM API, `KVM_SET_CPUID2` and `KVM_GET_SUPPORTED_CPUID`.

use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

use crate::model::{Answer, Model, Position};

/// A bit of an answer: leaf, register (0 eax to 3 edx), bit.
type Bit = (u32, usize, u32);

/// Bits whose presence KVM does not tell in this way: what the kernel switches (osxsave, how many
/// processors there are), and that there is a hypervisor.
const ASIDE: &[Bit] = &[(1, 2, 27), (1, 2, 31), (1, 3, 28)];

/// The deadline timer, of which KVM tells by a capability.
const DEADLINE: Bit = (1, 2, 24);

/// What models offer beyond their level, because kernels like it, and what a guest does without
/// where the host has none: x2apic, the deadline timer, KVM's own clock, rdtscp,
/// quick copying by strings.
const EXTRAS: &[Bit] = &[
    (1, 2, 21),
    DEADLINE,
    (7, 1, 9),
    (7, 3, 4),
    (0x4000_0001, 0, 1),
    (0x4000_0001, 0, 3),
    (0x4000_0001, 0, 24),
    (0x8000_0001, 3, 27),
];

/// Names of what models have.
const NAMES: &[(Bit, &str)] = &[
    ((1, 2, 0), "sse3"),
    ((1, 2, 9), "ssse3"),
    ((1, 2, 12), "fma"),
    ((1, 2, 13), "cmpxchg16b"),
    ((1, 2, 19), "sse4.1"),
    ((1, 2, 20), "sse4.2"),
    ((1, 2, 22), "movbe"),
    ((1, 2, 23), "popcnt"),
    ((1, 2, 26), "xsave"),
    ((1, 2, 28), "avx"),
    ((1, 2, 29), "f16c"),
    ((1, 3, 0), "x87"),
    ((1, 3, 2), "debugging extensions"),
    ((1, 3, 3), "large pages"),
    ((1, 3, 4), "tsc"),
    ((1, 3, 5), "msrs"),
    ((1, 3, 6), "pae"),
    ((1, 3, 7), "machine checks"),
    ((1, 3, 8), "cmpxchg8b"),
    ((1, 3, 9), "a local APIC"),
    ((1, 3, 11), "sysenter"),
    ((1, 3, 12), "mtrrs"),
    ((1, 3, 13), "global pages"),
    ((1, 3, 14), "machine check banks"),
    ((1, 3, 15), "cmov"),
    ((1, 3, 16), "pat"),
    ((1, 3, 19), "clflush"),
    ((1, 3, 23), "mmx"),
    ((1, 3, 24), "fxsave"),
    ((1, 3, 25), "sse"),
    ((1, 3, 26), "sse2"),
    ((7, 1, 3), "bmi1"),
    ((7, 1, 5), "avx2"),
    ((7, 1, 8), "bmi2"),
    ((0x8000_0001, 2, 0), "lahf"),
    ((0x8000_0001, 2, 5), "lzcnt"),
    ((0x8000_0001, 3, 11), "syscall"),
    ((0x8000_0001, 3, 20), "nx"),
    ((0x8000_0001, 3, 29), "long mode"),
];

/// All answers of a model for one processor.
pub(super) fn table(model: Model, apic_id: u8, vcpus: u8) -> Vec<kvm_cpuid_entry2> {
    let at = Position { apic_id, vcpus, apic: true, osxsave: false, xcr0: 1 };
    let entry = |(function, index)| {
        let [eax, ebx, ecx, edx] = model.cpuid(function, index, &at);
        let flags = match function {
            4 | 7 | 0xb | 0xd => KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
            _ => 0,
        };
        kvm_cpuid_entry2 { function, index, flags, eax, ebx, ecx, edx, ..Default::default() }
    };
    Model::leaves().map(entry).collect()
}

/// The same without the extras that the host lacks.
pub(super) fn offered(model: Model, apic_id: u8, vcpus: u8, host: &Host) -> Vec<kvm_cpuid_entry2> {
    let mut all = table(model, apic_id, vcpus);
    for (leaf, register, bit) in EXTRAS.iter().filter(|bit| !host.has(bit)) {
        for entry in all.iter_mut().filter(|entry| entry.function == *leaf) {
            let words = [&mut entry.eax, &mut entry.ebx, &mut entry.ecx, &mut entry.edx];
            for word in words.into_iter().skip(*register).take(1) {
                *word &= !(1 << bit);
            }
        }
    }
    all
}

/// What a host can say.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) entries: Vec<kvm_cpuid_entry2>,
    /// Whether local APICs have the deadline timer.
    pub(super) deadline: bool,
}

impl Host {
    fn has(&self, bit: &Bit) -> bool {
        if *bit == DEADLINE { self.deadline } else { has(&self.entries, bit) }
    }

    /// What it lacks to be a model.
    pub(super) fn lacks(&self, model: Model) -> Vec<&'static str> {
        let all = table(model, 0, 1);
        let lacks = |bit: &Bit| !ASIDE.contains(bit) && has(&all, bit) && !self.has(bit);
        NAMES.iter().filter(|(bit, _)| lacks(bit)).map(|(_, name)| *name).collect()
    }
}

fn has(entries: &[kvm_cpuid_entry2], (leaf, register, bit): &Bit) -> bool {
    let entry = entries.iter().find(|entry| entry.function == *leaf && entry.index == 0);
    entry.is_some_and(|entry| answer(entry)[*register] & 1 << bit != 0)
}

fn answer(entry: &kvm_cpuid_entry2) -> Answer {
    [entry.eax, entry.ebx, entry.ecx, entry.edx]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(model: Model) -> Host {
        Host { entries: table(model, 0, 1), deadline: true }
    }

    #[test]
    fn extras_are_left_out_where_there_are_none() {
        let mut host = host(Model::V2);
        host.deadline = false;
        for entry in host.entries.iter_mut().filter(|entry| entry.function == 0x8000_0001) {
            entry.edx &= !(1 << 27);
        }
        assert_eq!(host.lacks(Model::V2), [""; 0]);
        let offered = offered(Model::V2, 0, 1, &host);
        assert!(!has(&offered, &DEADLINE) && !has(&offered, &(0x8000_0001, 3, 27)));
        assert!(has(&offered, &(1, 2, 21)) && has(&offered, &(0x8000_0001, 3, 29)));
    }

    #[test]
    fn a_model_is_what_it_says() {
        for model in [Model::V1, Model::V2, Model::V3] {
            let host = host(model);
            assert_eq!(host.lacks(model), [""; 0]);
            let (offered, all) = (offered(model, 1, 4, &host), table(model, 1, 4));
            assert_eq!(format!("{offered:?}"), format!("{all:?}"));
        }
    }

    #[test]
    fn what_a_host_lacks_is_named() {
        let all = ["sse3", "ssse3", "cmpxchg16b", "sse4.1", "sse4.2", "popcnt"];
        assert_eq!(host(Model::V1).lacks(Model::V2), all);
        let all = ["fma", "movbe", "xsave", "avx", "f16c", "bmi1", "avx2", "bmi2", "lzcnt"];
        assert_eq!(host(Model::V2).lacks(Model::V3), all);
        let nothing = Host { entries: Vec::new(), deadline: true };
        assert!(nothing.lacks(Model::V1).contains(&"long mode"));
    }

    #[test]
    fn every_bit_of_every_model_has_a_name() {
        for leaf in [1, 7, 0x4000_0001, 0x8000_0001] {
            let entries = table(Model::V3, 0, 1);
            let entry = entries.iter().find(|entry| entry.function == leaf).unwrap();
            for (register, word) in answer(entry).into_iter().enumerate() {
                let numbers = leaf == 1 && register < 2;
                for bit in (0..32).filter(|bit| !numbers && word & 1 << bit != 0) {
                    let at = (leaf, register, bit);
                    let named = NAMES.iter().any(|(name, _)| *name == at)
                        || ASIDE.contains(&at)
                        || EXTRAS.contains(&at);
                    assert!(named, "{at:?}");
                }
            }
        }
    }

    #[test]
    fn each_processor_has_its_own_number() {
        let id = |leaf: u32, apic_id| {
            let entries = table(Model::V2, apic_id, 4);
            let entry = *entries.iter().find(|entry| entry.function == leaf).unwrap();
            if leaf == 1 { entry.ebx >> 24 } else { entry.edx }
        };
        assert_eq!([id(1, 3), id(0xb, 3), id(1, 0)], [3, 3, 0]);
    }
}
