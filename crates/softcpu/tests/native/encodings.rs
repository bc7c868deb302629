//! Every instruction of x87, MMX and SSE, found by decoding every opcode.
#![allow(clippy::cast_possible_truncation, reason = "bits are taken apart")]

use iced_x86::{Code, CpuidFeature, Decoder, DecoderOptions, EncodingKind, Instruction, Mnemonic};

use crate::{host::CODE, random::Random};

/// Which opcodes an instruction is among.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// D8 to DF, and wait.
    X87,
    /// 0F xx.
    Sse,
    /// 0F 38 xx and 0F 3A xx.
    Later,
}

/// One instruction in one form: with registers only or with memory.
#[derive(Clone, Debug)]
pub(crate) struct Encoding {
    /// Where it belongs.
    pub(crate) family: Family,
    /// What it decodes to.
    pub(crate) code: Code,
    prefix: Option<u8>,
    wide: bool,
    opcode: Vec<u8>,
    modrm: u8,
}

/// Registers only, and memory at [rsi] (without SIB or displacement, which are none of ours).
const REGISTERS: u8 = 0xc1;
const MEMORY: u8 = 0x06;

/// Decodes one instruction of 32- or 64-bit code.
pub(crate) fn decode(bitness: u32, code: &[u8]) -> Option<Instruction> {
    let instruction = Decoder::with_ip(bitness, code, CODE, DecoderOptions::NONE).decode();
    (!instruction.is_invalid()).then_some(instruction)
}

/// Every instruction of this part, of 64-bit code.
pub(crate) fn all() -> Vec<Encoding> {
    let mut found: Vec<Encoding> = Vec::new();
    for (family, opcode) in opcodes() {
        let prefixes: &[Option<u8>] = match family {
            Family::X87 => &[None, Some(0x66)],
            Family::Sse | Family::Later => &[None, Some(0x66), Some(0xf3), Some(0xf2)],
        };
        for (&prefix, wide, modrm) in forms(prefixes, family) {
            let mut encoding = Encoding {
                family,
                code: Code::INVALID,
                prefix,
                wide,
                opcode: opcode.clone(),
                modrm,
            };
            let Some(instruction) = decode(64, &encoding.bytes(0, modrm, 0)) else { continue };
            encoding.code = instruction.code();
            let memory = modrm < 0xc0;
            let known =
                |other: &Encoding| other.code == encoding.code && (other.modrm < 0xc0) == memory;
            if is_ours(&instruction) && !found.iter().any(known) {
                found.push(encoding);
            }
        }
    }
    found
}

fn opcodes() -> impl Iterator<Item = (Family, Vec<u8>)> {
    let x87 = [0x9b].into_iter().chain(0xd8..=0xdf).map(|byte| (Family::X87, vec![byte]));
    let map = |family, escape: &'static [u8]| {
        (0..=255).map(move |byte| (family, [escape, &[byte]].concat()))
    };
    let sse = map(Family::Sse, &[0x0f]).filter(|(_, bytes)| !matches!(bytes[1], 0x38 | 0x3a));
    let later = map(Family::Later, &[0x0f, 0x38]).chain(map(Family::Later, &[0x0f, 0x3a]));
    x87.chain(sse).chain(later)
}

fn forms(prefixes: &[Option<u8>], family: Family) -> impl Iterator<Item = (&Option<u8>, bool, u8)> {
    let registers: Vec<u8> = match family {
        Family::X87 => (0xc0..=0xff).collect(),
        Family::Sse | Family::Later => (0..8).map(|field| REGISTERS | field << 3).collect(),
    };
    let modrms: Vec<u8> = (0..8).map(|field| MEMORY | field << 3).chain(registers).collect();
    prefixes.iter().flat_map(move |prefix| {
        let modrms = modrms.clone();
        [false, true].into_iter().flat_map(move |wide| {
            modrms.clone().into_iter().map(move |modrm| (prefix, wide, modrm))
        })
    })
}

/// Whether an instruction belongs to x87, MMX and SSE to SSE4.2, and to the part that computes.
fn is_ours(instruction: &Instruction) -> bool {
    use CpuidFeature as F;
    use Mnemonic as M;
    const FEATURES: [F; 13] = [
        F::FPU,
        F::FPU287,
        F::FPU387,
        F::CMOV,
        F::FXSR,
        F::MMX,
        F::SSE,
        F::SSE2,
        F::SSE3,
        F::SSSE3,
        F::SSE4_1,
        F::SSE4_2,
        F::INTEL8086,
    ];
    const ELSEWHERE: [M; 10] = [
        M::Crc32,
        M::Sfence,
        M::Lfence,
        M::Mfence,
        M::Pause,
        M::Prefetchnta,
        M::Prefetcht0,
        M::Prefetcht1,
        M::Prefetcht2,
        M::Cmova,
    ];
    let features = instruction.cpuid_features();
    instruction.encoding() == EncodingKind::Legacy
        && features.iter().all(|feature| FEATURES.contains(feature))
        && (features.iter().any(|&feature| !matches!(feature, F::CMOV | F::INTEL8086))
            || instruction.mnemonic() == M::Wait)
        && !ELSEWHERE.contains(&instruction.mnemonic())
}

impl Encoding {
    /// Its bytes with other registers, and an instruction's worth of random ones behind.
    pub(crate) fn random(&self, random: &mut Random) -> Vec<u8> {
        let rex = if random.one_in(2) { random.below(8) as u8 } else { 0 };
        let registers = random.below(64) as u8;
        let mask = if self.modrm < 0xc0 { 0x38 } else { 0x3f };
        let modrm = self.modrm & !mask | registers & mask;
        let imm = random.bits() as u8;
        let changed = self.bytes(rex, modrm, imm);
        if decode(64, &changed).is_some_and(|instruction| instruction.code() == self.code) {
            changed
        } else {
            self.bytes(rex, self.modrm, imm)
        }
    }

    fn bytes(&self, rex: u8, modrm: u8, imm: u8) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.prefix.into_iter().collect();
        let rex = rex | u8::from(self.wide) << 3;
        if rex != 0 {
            bytes.push(0x40 | rex);
        }
        bytes.extend(&self.opcode);
        bytes.extend([modrm, imm]);
        bytes.resize(15, 0x90);
        bytes
    }
}
