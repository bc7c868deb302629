//! Multiplication and division.

use super::{Flow, Op, address, read, write};
use crate::{
    alu,
    cpu::Cpu,
    fault::{Did, Exception, vector},
    word::Word,
};

/// rax and rdx.
const RAX: u8 = 0;
const RDX: u8 = 2;
/// ah.
const AH: u8 = super::HIGH;

/// The one operand: a register if `dst` names one, memory otherwise.
#[inline(always)]
fn operand<T: Word, const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Did<u64> {
    if MEMORY {
        let linear = address::<T>(cpu, op, false)?;
        cpu.load::<T>(linear)
    } else {
        Ok(read::<T>(cpu, op.dst))
    }
}

/// Puts a result of twice the width into rdx and rax, or ax.
#[inline(always)]
fn put<T: Word>(cpu: &mut Cpu, low: u64, high: u64) {
    write::<T>(cpu, RAX, low);
    write::<T>(cpu, if T::BITS == 8 { AH } else { RDX }, high);
}

#[inline(always)]
fn upper<T: Word>(cpu: &Cpu) -> u64 {
    read::<T>(cpu, if T::BITS == 8 { AH } else { RDX })
}

pub(crate) fn unsigned<const MEMORY: bool, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let b = operand::<T, MEMORY>(cpu, op)?;
    let (low, high) = alu::multiply::<T>(read::<T>(cpu, RAX), b);
    cpu.flags = alu::multiplied::<T>(low, high != 0);
    put::<T>(cpu, low, high);
    Ok(Flow::Next)
}

pub(crate) fn signed<const MEMORY: bool, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let b = operand::<T, MEMORY>(cpu, op)?;
    let (low, high, more) = alu::multiply_signed::<T>(read::<T>(cpu, RAX), b);
    cpu.flags = alu::multiplied::<T>(low, more);
    put::<T>(cpu, low, high);
    Ok(Flow::Next)
}

#[inline(always)]
fn product<T: Word>(cpu: &mut Cpu, op: &Op, a: u64, b: u64) -> Did<Flow> {
    let (low, _, more) = alu::multiply_signed::<T>(a, b);
    cpu.flags = alu::multiplied::<T>(low, more);
    write::<T>(cpu, op.dst, low);
    Ok(Flow::Next)
}

/// `imul` of two registers.
pub(crate) fn rr<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let (a, b) = (read::<T>(cpu, op.dst), read::<T>(cpu, op.src));
    product::<T>(cpu, op, a, b)
}

pub(crate) fn rm<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let linear = address::<T>(cpu, op, false)?;
    let b = cpu.load::<T>(linear)?;
    let a = read::<T>(cpu, op.dst);
    product::<T>(cpu, op, a, b)
}

/// `imul` of a register and an immediate into another.
pub(crate) fn rri<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let a = read::<T>(cpu, op.src);
    product::<T>(cpu, op, a, op.imm::<T>())
}

pub(crate) fn rmi<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let linear = address::<T>(cpu, op, false)?;
    let a = cpu.load::<T>(linear)?;
    product::<T>(cpu, op, a, op.imm::<T>())
}

pub(crate) fn divide<const MEMORY: bool, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let by = operand::<T, MEMORY>(cpu, op)?;
    let result = alu::divide::<T>(upper::<T>(cpu), read::<T>(cpu, RAX), by);
    quotient::<T>(cpu, result)
}

pub(crate) fn divide_signed<const MEMORY: bool, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let by = operand::<T, MEMORY>(cpu, op)?;
    let result = alu::divide_signed::<T>(upper::<T>(cpu), read::<T>(cpu, RAX), by);
    quotient::<T>(cpu, result)
}

fn quotient<T: Word>(cpu: &mut Cpu, result: Option<(u64, u64)>) -> Did<Flow> {
    let Some((quotient, rest)) = result else {
        return Err(cpu.raise(Exception::plain(vector::DE)));
    };
    put::<T>(cpu, quotient, rest);
    Ok(Flow::Next)
}
