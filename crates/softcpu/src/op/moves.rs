//! Moves, with and without a condition or a change of width, and `lea`.

use super::{At, Flow, Op, address, offset, read, write};
use crate::{cpu::Cpu, fault::Did, word::Word};

pub(crate) fn nop(_cpu: &mut Cpu, _op: &Op) -> Did<Flow> {
    Ok(Flow::Next)
}

pub(crate) fn rr<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let value = read::<T>(cpu, op.src);
    write::<T>(cpu, op.dst, value);
    Ok(Flow::Next)
}

pub(crate) fn ri<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    write::<T>(cpu, op.dst, op.wide());
    Ok(Flow::Next)
}

pub(crate) fn rm<A: At, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    if let Some(linear) = A::quick(cpu, op)
        && let Some(value) = cpu.quick_load::<T>(linear)
    {
        write::<T>(cpu, op.dst, value);
        return Ok(Flow::Next);
    }
    rm_long::<A, T>(cpu, op)
}

#[cold]
#[inline(never)]
fn rm_long<A: At, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let linear = A::address::<T>(cpu, op, false)?;
    let value = cpu.load::<T>(linear)?;
    write::<T>(cpu, op.dst, value);
    Ok(Flow::Next)
}

pub(crate) fn mr<A: At, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    if let Some(linear) = A::quick(cpu, op)
        && let Some(at) = cpu.quick_place::<T>(linear)
    {
        cpu.memory.set(at, T::cut(read::<T>(cpu, op.dst)));
        return Ok(Flow::Next);
    }
    mr_long::<A, T>(cpu, op)
}

#[cold]
#[inline(never)]
fn mr_long<A: At, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let linear = A::address::<T>(cpu, op, true)?;
    cpu.store::<T>(linear, read::<T>(cpu, op.dst))?;
    Ok(Flow::Next)
}

pub(crate) fn mi<A: At, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    if let Some(linear) = A::quick(cpu, op)
        && let Some(at) = cpu.quick_place::<T>(linear)
    {
        cpu.memory.set(at, T::cut(op.imm::<T>()));
        return Ok(Flow::Next);
    }
    mi_long::<A, T>(cpu, op)
}

#[cold]
#[inline(never)]
fn mi_long<A: At, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let linear = A::address::<T>(cpu, op, true)?;
    cpu.store::<T>(linear, op.imm::<T>())?;
    Ok(Flow::Next)
}

/// From an address that is in the instruction with all its bits.
pub(crate) fn load_far<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let linear = op.wide().wrapping_add(cpu.regs[usize::from(op.segment) & 31]);
    let value = cpu.load::<T>(linear)?;
    write::<T>(cpu, op.dst, value);
    Ok(Flow::Next)
}

/// To such an address.
pub(crate) fn store_far<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let linear = op.wide().wrapping_add(cpu.regs[usize::from(op.segment) & 31]);
    cpu.store::<T>(linear, read::<T>(cpu, op.dst))?;
    Ok(Flow::Next)
}

pub(crate) fn lea<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let value = offset(cpu, op) & op.shape.address_mask() & T::MASK;
    write::<T>(cpu, op.dst, value);
    Ok(Flow::Next)
}

/// A narrower register, zeros above.
pub(crate) fn zero_rr<F: Word, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let value = read::<F>(cpu, op.src);
    write::<T>(cpu, op.dst, value);
    Ok(Flow::Next)
}

pub(crate) fn zero_rm<A: At, F: Word, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    if let Some(linear) = A::quick(cpu, op)
        && let Some(value) = cpu.quick_load::<F>(linear)
    {
        write::<T>(cpu, op.dst, value);
        return Ok(Flow::Next);
    }
    zero_rm_long::<A, F, T>(cpu, op)
}

#[cold]
#[inline(never)]
fn zero_rm_long<A: At, F: Word, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let linear = A::address::<F>(cpu, op, false)?;
    let value = cpu.load::<F>(linear)?;
    write::<T>(cpu, op.dst, value);
    Ok(Flow::Next)
}

/// A narrower register, its sign above.
pub(crate) fn sign_rr<F: Word, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let value = F::signed(read::<F>(cpu, op.src)) & T::MASK;
    write::<T>(cpu, op.dst, value);
    Ok(Flow::Next)
}

pub(crate) fn sign_rm<A: At, F: Word, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    if let Some(linear) = A::quick(cpu, op)
        && let Some(value) = cpu.quick_load::<F>(linear)
    {
        write::<T>(cpu, op.dst, F::signed(value) & T::MASK);
        return Ok(Flow::Next);
    }
    sign_rm_long::<A, F, T>(cpu, op)
}

#[cold]
#[inline(never)]
fn sign_rm_long<A: At, F: Word, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let linear = A::address::<F>(cpu, op, false)?;
    let value = F::signed(cpu.load::<F>(linear)?) & T::MASK;
    write::<T>(cpu, op.dst, value);
    Ok(Flow::Next)
}

/// `cmovcc`; of 32 bits it clears those above even if it does not move.
#[inline(always)]
fn conditional<const N: u8, T: Word>(cpu: &mut Cpu, op: &Op, value: u64) -> Did<Flow> {
    let value = if cpu.flags.condition::<N>() { value } else { read::<T>(cpu, op.dst) };
    write::<T>(cpu, op.dst, value);
    Ok(Flow::Next)
}

pub(crate) fn conditional_rr<const N: u8, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let value = read::<T>(cpu, op.src);
    conditional::<N, T>(cpu, op, value)
}

pub(crate) fn conditional_rm<const N: u8, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let linear = address::<T>(cpu, op, false)?;
    let value = cpu.load::<T>(linear)?;
    conditional::<N, T>(cpu, op, value)
}

/// `setcc`.
pub(crate) fn set_r<const N: u8>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let value = u64::from(cpu.flags.condition::<N>());
    write::<u8>(cpu, op.dst, value);
    Ok(Flow::Next)
}

pub(crate) fn set_m<const N: u8>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let linear = address::<u8>(cpu, op, true)?;
    cpu.store::<u8>(linear, u64::from(cpu.flags.condition::<N>()))?;
    Ok(Flow::Next)
}

/// `movbe` is no instruction of these models; `bswap` is.
pub(crate) fn bswap<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let value = read::<T>(cpu, op.dst).swap_bytes() >> (64 - T::BITS);
    // Of 16 bits the result is undefined; processors give zero.
    write::<T>(cpu, op.dst, if T::BITS == 16 { 0 } else { value });
    Ok(Flow::Next)
}

/// `cbw`, `cwde`, `cdqe`: rax from its lower half.
pub(crate) fn widen<F: Word, T: Word>(cpu: &mut Cpu, _op: &Op) -> Did<Flow> {
    let value = F::signed(read::<F>(cpu, 0)) & T::MASK;
    write::<T>(cpu, 0, value);
    Ok(Flow::Next)
}

/// `cwd`, `cdq`, `cqo`: rdx becomes the sign of rax.
pub(crate) fn sign_into_rdx<T: Word>(cpu: &mut Cpu, _op: &Op) -> Did<Flow> {
    let sign = (T::signed(read::<T>(cpu, 0)).cast_signed() >> 63).cast_unsigned();
    write::<T>(cpu, 2, sign & T::MASK);
    Ok(Flow::Next)
}

/// Exchanges two registers.
pub(crate) fn exchange_rr<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let (a, b) = (read::<T>(cpu, op.dst), read::<T>(cpu, op.src));
    write::<T>(cpu, op.dst, b);
    write::<T>(cpu, op.src, a);
    Ok(Flow::Next)
}
