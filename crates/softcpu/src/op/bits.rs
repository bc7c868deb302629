//! Single bits, searches for them, and their number.

use super::{Flow, Op, address, offset, read, segmented, write};
use crate::{alu, cpu::Cpu, fault::Did, flags::Flags, word::Word};

/// What becomes of a bit that was looked at: nothing, or it is set, cleared or turned.
pub(crate) const TEST: u8 = 0;
pub(crate) const SET: u8 = 1;
pub(crate) const RESET: u8 = 2;
pub(crate) const TURN: u8 = 3;

#[inline(always)]
fn changed<const HOW: u8>(value: u64, mask: u64) -> u64 {
    match HOW {
        SET => value | mask,
        RESET => value & !mask,
        TURN => value ^ mask,
        _ => value,
    }
}

#[inline(always)]
fn mask<T: Word>(bit: u64) -> u64 {
    1 << (bit & u64::from(T::BITS - 1))
}

#[inline(always)]
fn register<const HOW: u8, T: Word>(cpu: &mut Cpu, op: &Op, bit: u64) -> Did<Flow> {
    let (value, mask) = (read::<T>(cpu, op.dst), mask::<T>(bit));
    cpu.flags = cpu.flags.with_cf(value & mask != 0);
    if HOW != TEST {
        write::<T>(cpu, op.dst, changed::<HOW>(value, mask));
    }
    Ok(Flow::Next)
}

/// A bit of a register, by its number in a register.
pub(crate) fn rr<const HOW: u8, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let bit = read::<T>(cpu, op.src);
    register::<HOW, T>(cpu, op, bit)
}

/// By an immediate.
pub(crate) fn ri<const HOW: u8, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    register::<HOW, T>(cpu, op, op.imm::<u8>())
}

#[inline(always)]
fn memory<const HOW: u8, const LOCK: bool, T: Word>(
    cpu: &mut Cpu,
    linear: u64,
    bit: u64,
) -> Did<Flow> {
    let mask = mask::<T>(bit);
    let change = |value| (changed::<HOW>(value, mask), value & mask != 0);
    let was = if HOW == TEST {
        cpu.load::<T>(linear)? & mask != 0
    } else if LOCK {
        cpu.modify_locked::<T, _>(linear, change)?
    } else {
        cpu.modify::<T, _>(linear, change)?
    };
    cpu.flags = cpu.flags.with_cf(was);
    Ok(Flow::Next)
}

/// A bit of memory by its number in a register, which reaches beyond the operand.
pub(crate) fn mr<const HOW: u8, const LOCK: bool, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let bit = read::<T>(cpu, op.dst);
    let words = T::signed(bit).cast_signed() >> T::BITS.trailing_zeros();
    let reach = words.cast_unsigned().wrapping_mul(T::BYTES);
    let offset = offset(cpu, op).wrapping_add(reach);
    let linear = if op.shape.is_flat() {
        offset.wrapping_add(cpu.regs[usize::from(op.segment) & 31])
    } else {
        segmented(cpu, op, offset, T::BYTES, HOW != TEST)?
    };
    memory::<HOW, LOCK, T>(cpu, linear, bit)
}

/// By an immediate, which does not.
pub(crate) fn mi<const HOW: u8, const LOCK: bool, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let linear = address::<T>(cpu, op, HOW != TEST)?;
    memory::<HOW, LOCK, T>(cpu, linear, op.imm::<u8>())
}

#[inline(always)]
fn operand<const MEMORY: bool, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<u64> {
    if MEMORY {
        let linear = address::<T>(cpu, op, false)?;
        cpu.load::<T>(linear)
    } else {
        Ok(read::<T>(cpu, op.src))
    }
}

/// `bsf` and `bsr`: of zero the target stays, as processors do it.
pub(crate) fn scan<const UP: bool, const MEMORY: bool, T: Word>(
    cpu: &mut Cpu,
    op: &Op,
) -> Did<Flow> {
    let value = operand::<MEMORY, T>(cpu, op)?;
    cpu.flags = Flags { result: value, carry: 0, turned: 0 };
    if value != 0 {
        let bit = if UP { value.trailing_zeros() } else { 63 - value.leading_zeros() };
        write::<T>(cpu, op.dst, bit.into());
    }
    Ok(Flow::Next)
}

pub(crate) fn population<const MEMORY: bool, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let value = operand::<MEMORY, T>(cpu, op)?;
    write::<T>(cpu, op.dst, value.count_ones().into());
    // Zero as the value says, everything else clear.
    cpu.flags = Flags::from_bits(if value == 0 { crate::flags::ZF } else { 0 });
    Ok(Flow::Next)
}

/// `crc32`; the target has 32 bits that count, whatever its name.
pub(crate) fn checksum<const MEMORY: bool, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let value = operand::<MEMORY, T>(cpu, op)?;
    let old = u32::cut(read::<u32>(cpu, op.dst));
    write::<u32>(cpu, op.dst, alu::crc32c(old, value, T::BYTES).into());
    Ok(Flow::Next)
}
