//! Processor models: what `cpuid` says, the same on every host and for every backend.
//!
//! A guest never sees the host's own processor, so that a snapshot can go on elsewhere: each model
//! is a level of the x86-64 psABI and nothing beyond it but what kernels need.
//!
//! No model says that its processor is free of Meltdown and its kin (leaf 7, edx bit 29, and the
//! register `IA32_ARCH_CAPABILITIES`), although the software processor is: a guest that has heard
//! so at its start leaves its mitigations off for good, and would go on without them when its
//! snapshot moves to KVM on a host's processor that needs them. Who knows that a guest stays where
//! it is can switch them off on the kernel's command line (`mitigations=off`).
//!
//! Source: x86-64 psABI, 3.1.1 (micro-architecture levels); Intel SDM volume 2, `CPUID`; AMD APM
//! volume 3, appendix E; Linux `Documentation/virt/kvm/x86/cpuid.rst`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A level of x86-64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Model {
    /// SSE2: every x86-64 processor.
    #[serde(rename = "x86-64-v1")]
    V1,
    /// SSE4.2, popcnt, cmpxchg16b: since about 2009.
    #[default]
    #[serde(rename = "x86-64-v2")]
    V2,
    /// AVX2, BMI, FMA: since about 2013.
    #[serde(rename = "x86-64-v3")]
    V3,
}

/// What of an answer depends on the processor and the machine rather than on the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The processor's number at its local APIC.
    pub apic_id: u8,
    /// How many processors there are.
    pub vcpus: u8,
    /// Whether the local APIC is switched on.
    pub apic: bool,
    /// cr4.OSXSAVE.
    pub osxsave: bool,
    /// What xcr0 holds, for the size of the area in use.
    pub xcr0: u64,
}

/// eax, ebx, ecx, edx.
pub type Answer = [u32; 4];

/// Family 6, model 0x1a, stepping 5: the first that had level 2 (Nehalem). By it the C library knows
/// that unaligned copies are no slower.
pub const SIGNATURE: u32 = 0x0001_06a5;

/// Bits of leaf 1, edx: fpu, vme, de, pse, tsc, msr, pae, mce, cx8, apic, sep, mtrr, pge, mca,
/// cmov, pat, clflush, mmx, fxsr, sse, sse2.
const LEAF1_EDX: u32 =
    bits(&[0, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 19, 23, 24, 25, 26]);

/// Bits of leaf 1, ecx, of everybody: x2apic, the deadline timer, "runs under a hypervisor".
const LEAF1_ECX: u32 = bits(&[21, 24, 31]);

/// Those of level 2: sse3, ssse3, cx16, sse4.1, sse4.2, popcnt.
const LEAF1_ECX_V2: u32 = bits(&[0, 9, 13, 19, 20, 23]);

/// Those of level 3: fma, movbe, xsave, avx, f16c.
const LEAF1_ECX_V3: u32 = bits(&[12, 22, 26, 28, 29]);

/// Leaf 7, ebx and edx, of level 2: `rep movsb` and `rep stosb` are the quickest way to copy and to
/// fill (erms), few bytes too (fsrm). Every processor has the instructions; that they are quick is a
/// hint, and in software it is very true.
const LEAF7_EBX_V2: u32 = bits(&[9]);
const LEAF7_EDX_V2: u32 = bits(&[4]);

/// Leaf 7, ebx, of level 3: bmi1, avx2, bmi2.
const LEAF7_EBX_V3: u32 = bits(&[3, 5, 8]);

/// Leaf 0x8000_0001, edx: syscall, nx, rdtscp, long mode.
const EXTENDED_EDX: u32 = bits(&[11, 20, 27, 29]);

/// Leaf 0x8000_0001, ecx: lahf in long mode; of level 3, lzcnt.
const EXTENDED_ECX: u32 = bits(&[0]);
const EXTENDED_ECX_V3: u32 = bits(&[5]);

/// osxsave, of leaf 1's ecx.
const OSXSAVE: u32 = 1 << 27;

/// apic, of leaf 1's edx.
const APIC: u32 = 1 << 9;

/// Highest of the basic leaves.
const BASIC_MAX: u32 = 0xd;

/// The leaves of the hypervisor.
const HYPERVISOR: u32 = 0x4000_0000;
const HYPERVISOR_FEATURES: u32 = HYPERVISOR + 1;

/// kvm-clock by the newer registers, no delays after port access, a clock that is the same on all
/// processors. Interfaces of KVM, which guests take whoever offers them.
const KVM_FEATURES: u32 = bits(&[1, 3, 24]);

/// The extended leaves.
const EXTENDED: u32 = 0x8000_0000;
const EXTENDED_MAX: u32 = EXTENDED + 8;

/// Bits of physical and of linear addresses.
const ADDRESS_BITS: u32 = 40 | 48 << 8;

/// Bytes of the legacy area and header of `xsave`, and of the upper halves of AVX after them.
const XSAVE_BASE: u32 = 576;
const XSAVE_AVX: u32 = 256;

const fn bits(of: &[u32]) -> u32 {
    let (mut all, mut n) = (0, 0);
    while n < of.len() {
        all |= 1 << of[n];
        n += 1;
    }
    all
}

impl Model {
    /// What `cpuid` answers.
    pub fn cpuid(self, leaf: u32, subleaf: u32, at: &Position) -> Answer {
        match leaf {
            0 => named(BASIC_MAX, *b"Genu", *b"ineI", *b"ntel"),
            1 => self.features(at),
            4 => cache(subleaf, at.vcpus),
            7 if subleaf == 0 && self >= Model::V3 => {
                [0, LEAF7_EBX_V2 | LEAF7_EBX_V3, 0, LEAF7_EDX_V2]
            }
            7 if subleaf == 0 && self >= Model::V2 => [0, LEAF7_EBX_V2, 0, LEAF7_EDX_V2],
            0xb => topology(subleaf, at),
            0xd if self >= Model::V3 => xsave(subleaf, at.xcr0),
            HYPERVISOR => {
                let [_, b, c, d] = named(0, *b"KVMK", *b"VMKV", *b"M\0\0\0");
                [HYPERVISOR_FEATURES, b, d, c]
            }
            HYPERVISOR_FEATURES => [KVM_FEATURES, 0, 0, 0],
            EXTENDED => [EXTENDED_MAX, 0, 0, 0],
            0x8000_0001 => [0, 0, self.extended(), EXTENDED_EDX],
            0x8000_0002..=0x8000_0004 => self.brand(leaf - 0x8000_0002),
            EXTENDED_MAX => [ADDRESS_BITS, 0, 0, 0],
            _ => [0; 4],
        }
    }

    /// Every leaf and subleaf that answers something, for a backend that is told them all.
    pub fn leaves() -> impl Iterator<Item = (u32, u32)> {
        let basic = (0..=BASIC_MAX).filter(|leaf| ![4, 0xb, 0xd].contains(leaf));
        let basic = basic.map(|leaf| (leaf, 0));
        let many = [(4, 4), (0xb, 3), (0xd, 3)];
        let many = many.into_iter().flat_map(|(leaf, of)| (0..of).map(move |n| (leaf, n)));
        let hypervisor = (HYPERVISOR..=HYPERVISOR_FEATURES).map(|leaf| (leaf, 0));
        basic.chain(many).chain(hypervisor).chain((EXTENDED..=EXTENDED_MAX).map(|leaf| (leaf, 0)))
    }

    fn features(self, at: &Position) -> Answer {
        let mut ecx = LEAF1_ECX;
        if self >= Model::V2 {
            ecx |= LEAF1_ECX_V2;
        }
        if self >= Model::V3 {
            ecx |= LEAF1_ECX_V3;
            ecx |= if at.osxsave { OSXSAVE } else { 0 };
        }
        let edx = LEAF1_EDX & !if at.apic { 0 } else { APIC };
        let hyperthreads = if at.vcpus > 1 { 1 << 28 } else { 0 };
        // Cache lines of 64 bytes, as clflush counts them.
        let ebx = u32::from(at.apic_id) << 24 | u32::from(at.vcpus) << 16 | 8 << 8;
        // Family 6, model 15, stepping 11: the first Intel generation with all of level 1, which
        // kernels know no tricks for that a guest could not do.
        [SIGNATURE, ebx, ecx, edx | hyperthreads]
    }

    fn extended(self) -> u32 {
        if self >= Model::V3 { EXTENDED_ECX | EXTENDED_ECX_V3 } else { EXTENDED_ECX }
    }

    /// A third of the 48 bytes of its name.
    fn brand(self, third: u32) -> Answer {
        let mut name = [0; 48];
        let text = format!("Wythe {self}");
        name[..text.len()].copy_from_slice(text.as_bytes());
        let words = &name[16 * third as usize..];
        std::array::from_fn(|n| {
            u32::from_le_bytes([words[4 * n], words[4 * n + 1], words[4 * n + 2], words[4 * n + 3]])
        })
    }
}

/// An answer that spells a name in ebx, edx, ecx.
fn named(eax: u32, ebx: [u8; 4], edx: [u8; 4], ecx: [u8; 4]) -> Answer {
    [eax, u32::from_le_bytes(ebx), u32::from_le_bytes(ecx), u32::from_le_bytes(edx)]
}

/// Caches: 32 KiB for data and for instructions, 1 MiB for both, each of one core.
fn cache(subleaf: u32, vcpus: u8) -> Answer {
    let (kind, level, ways, sets) = match subleaf {
        0 => (1, 1, 8, 64),
        1 => (2, 1, 8, 64),
        2 => (3, 2, 16, 1024),
        _ => return [0; 4],
    };
    let cores = u32::from(vcpus.next_power_of_two()).saturating_sub(1);
    [kind | level << 5 | 1 << 8 | cores << 26, 63 | (ways - 1) << 22, sets - 1, 0]
}

/// One thread for each core, all cores in one package.
fn topology(subleaf: u32, at: &Position) -> Answer {
    let id = u32::from(at.apic_id);
    match subleaf {
        0 => [0, 1, 1 << 8, id],
        1 => {
            let shift = u32::from(at.vcpus).next_power_of_two().trailing_zeros();
            [shift, u32::from(at.vcpus), 2 << 8 | 1, id]
        }
        _ => [0, 0, subleaf, id],
    }
}

/// The layout of what `xsave` saves.
fn xsave(subleaf: u32, xcr0: u64) -> Answer {
    match subleaf {
        0 => {
            let used = if xcr0 & 4 != 0 { XSAVE_BASE + XSAVE_AVX } else { XSAVE_BASE };
            [7, used, XSAVE_BASE + XSAVE_AVX, 0]
        }
        2 => [XSAVE_AVX, XSAVE_BASE, 0, 0],
        _ => [0; 4],
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Model::V1 => "x86-64-v1",
            Model::V2 => "x86-64-v2",
            Model::V3 => "x86-64-v3",
        })
    }
}

impl FromStr for Model {
    type Err = String;

    fn from_str(text: &str) -> Result<Model, String> {
        [Model::V1, Model::V2, Model::V3]
            .into_iter()
            .find(|model| model.to_string() == text)
            .ok_or_else(|| format!("{text:?}: it is x86-64-v1, x86-64-v2 or x86-64-v3"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: Position = Position { apic_id: 0, vcpus: 1, apic: true, osxsave: false, xcr0: 1 };

    fn text(words: &[u32]) -> String {
        words.iter().flat_map(|word| word.to_le_bytes()).map(char::from).collect()
    }

    #[test]
    fn names_are_spelled_as_programs_read_them() {
        let [max, b, c, d] = Model::V2.cpuid(0, 0, &ALONE);
        assert_eq!((max, text(&[b, d, c]).as_str()), (0xd, "GenuineIntel"));
        let [max, b, c, d] = Model::V2.cpuid(0x4000_0000, 0, &ALONE);
        assert_eq!((max, text(&[b, c, d]).as_str()), (0x4000_0001, "KVMKVMKVM\0\0\0"));
        let brand = (0x8000_0002..=0x8000_0004).flat_map(|leaf| Model::V3.cpuid(leaf, 0, &ALONE));
        let brand = text(&brand.collect::<Vec<_>>());
        assert_eq!(brand.trim_end_matches('\0'), "Wythe x86-64-v3");
        assert_eq!("x86-64-v2".parse(), Ok(Model::V2));
        assert!("x86-64-v9".parse::<Model>().unwrap_err().contains("x86-64-v1"));
    }

    #[test]
    fn a_level_has_what_the_one_below_has() {
        let all = |model: Model| {
            Model::leaves().filter(|(leaf, _)| matches!(leaf, 1 | 7 | 0x8000_0001)).map(
                move |(leaf, n)| {
                    let [_, b, c, d] = model.cpuid(leaf, n, &ALONE);
                    [if leaf == 7 { b } else { 0 }, c, d]
                },
            )
        };
        for (lower, upper) in [(Model::V1, Model::V2), (Model::V2, Model::V3)] {
            for (lower, upper) in all(lower).zip(all(upper)) {
                assert_eq!(lower, std::array::from_fn(|n| lower[n] & upper[n]));
            }
        }
        assert_eq!(Model::V1.cpuid(1, 0, &ALONE)[2] & 1 << 23, 0, "no popcnt");
        assert_ne!(Model::V2.cpuid(1, 0, &ALONE)[2] & 1 << 23, 0);
    }

    #[test]
    fn what_the_kernel_switches_is_seen() {
        let at = Position { apic: false, osxsave: true, xcr0: 7, ..ALONE };
        assert_eq!(Model::V3.cpuid(1, 0, &at)[3] & APIC, 0);
        assert_ne!(Model::V3.cpuid(1, 0, &at)[2] & OSXSAVE, 0);
        assert_eq!(Model::V2.cpuid(1, 0, &at)[2] & OSXSAVE, 0, "no xsave, nothing to switch");
        assert_eq!(Model::V3.cpuid(0xd, 0, &at)[1], 832);
        let four = Position { apic_id: 3, vcpus: 4, ..ALONE };
        assert_eq!(Model::V2.cpuid(0xb, 1, &four), [2, 4, 0x201, 3]);
    }
}
