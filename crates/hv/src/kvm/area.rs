//! The area in which `xsave` keeps floating point, from and to neutral words.
//!
//! Source: Intel SDM volume 1, 10.5.1 (`fxsave`) and 13.4 (the header, AVX).

use crate::state::FpuState;

/// Bytes that `KVM_GET_XSAVE` gives.
pub(super) const BYTES: usize = 4096;

const CONTROL: usize = 0;
const STATUS: usize = 2;
const TAGS: usize = 4;
const OPCODE: usize = 6;
const INSTRUCTION: usize = 8;
const OPERAND: usize = 16;
const MXCSR: usize = 24;
const ST: usize = 32;
const XMM: usize = 160;
const HEADER: usize = 512;
const YMM: usize = 576;

/// Bits of the header: which parts are there, rather than as after a reset.
const X87: u64 = 1;
const SSE: u64 = 2;
const AVX: u64 = 4;

/// Words of the area as the kernel's structure has them.
pub(super) type Words = [u32; BYTES / 4];

fn array<const N: usize>(bytes: &[u8; BYTES], at: usize) -> [u8; N] {
    std::array::from_fn(|n| bytes[at + n])
}

fn put(bytes: &mut [u8; BYTES], at: usize, from: &[u8]) {
    bytes[at..at + from.len()].copy_from_slice(from);
}

pub(super) fn read(words: &Words) -> FpuState {
    let mut bytes = [0; BYTES];
    for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    let there = u64::from_le_bytes(array(&bytes, HEADER));
    let mut fpu =
        FpuState { mxcsr: u32::from_le_bytes(array(&bytes, MXCSR)), ..FpuState::default() };
    if there & X87 != 0 {
        fpu.control = u16::from_le_bytes(array(&bytes, CONTROL));
        fpu.status = u16::from_le_bytes(array(&bytes, STATUS));
        fpu.tags = bytes[TAGS];
        fpu.opcode = u16::from_le_bytes(array(&bytes, OPCODE));
        fpu.instruction = u64::from_le_bytes(array(&bytes, INSTRUCTION));
        fpu.operand = u64::from_le_bytes(array(&bytes, OPERAND));
        fpu.st = std::array::from_fn(|n| array(&bytes, ST + 16 * n));
    }
    if there & SSE != 0 {
        fpu.xmm = std::array::from_fn(|n| array(&bytes, XMM + 16 * n));
    }
    if there & AVX != 0 {
        fpu.ymm = std::array::from_fn(|n| array(&bytes, YMM + 16 * n));
    }
    fpu
}

pub(super) fn write(fpu: &FpuState, avx: bool) -> Words {
    let mut bytes = [0; BYTES];
    put(&mut bytes, CONTROL, &fpu.control.to_le_bytes());
    put(&mut bytes, STATUS, &fpu.status.to_le_bytes());
    put(&mut bytes, TAGS, &[fpu.tags]);
    put(&mut bytes, OPCODE, &fpu.opcode.to_le_bytes());
    put(&mut bytes, INSTRUCTION, &fpu.instruction.to_le_bytes());
    put(&mut bytes, OPERAND, &fpu.operand.to_le_bytes());
    put(&mut bytes, MXCSR, &fpu.mxcsr.to_le_bytes());
    fpu.st.iter().enumerate().for_each(|(n, st)| put(&mut bytes, ST + 16 * n, st));
    fpu.xmm.iter().enumerate().for_each(|(n, xmm)| put(&mut bytes, XMM + 16 * n, xmm));
    let mut there = X87 | SSE;
    if avx {
        there |= AVX;
        fpu.ymm.iter().enumerate().for_each(|(n, ymm)| put(&mut bytes, YMM + 16 * n, ymm));
    }
    put(&mut bytes, HEADER, &there.to_le_bytes());
    let word = |n: usize| u32::from_le_bytes(array(&bytes, 4 * n));
    std::array::from_fn(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> FpuState {
        FpuState {
            control: 0x27f,
            status: 0x3800,
            tags: 0x81,
            opcode: 0x1d9,
            instruction: 0xffff_8000_0000_1234,
            operand: 0x5678,
            st: std::array::from_fn(|n| [n.to_le_bytes()[0]; 10]),
            mxcsr: 0x1fa0,
            xmm: std::array::from_fn(|n| [n.to_le_bytes()[0] | 0x40; 16]),
            ymm: std::array::from_fn(|n| [n.to_le_bytes()[0] | 0x80; 16]),
        }
    }

    #[test]
    fn what_goes_in_comes_out() {
        assert_eq!(read(&write(&some(), true)), some());
        let without = FpuState { ymm: [[0; 16]; 16], ..some() };
        assert_eq!(read(&write(&some(), false)), without);
    }

    #[test]
    fn parts_that_are_not_there_are_as_after_a_reset() {
        let mut words = write(&some(), true);
        words[HEADER / 4] = 0;
        assert_eq!(read(&words), FpuState { mxcsr: 0x1fa0, ..FpuState::default() });
    }

    #[test]
    fn places_are_those_of_the_manual() {
        let words = write(&some(), true);
        assert_eq!(words[0], 0x3800_027f);
        assert_eq!(words[1], 0x01d9_0081);
        assert_eq!((words[6], words[8 + 4], words[40]), (0x1fa0, 0x0101_0101, 0x4040_4040));
        assert_eq!((words[128], words[144 + 4]), (7, 0x8181_8181));
    }
}
