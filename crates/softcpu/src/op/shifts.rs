//! Shifts and rotations.

use super::{Flow, Op, address, read, write};
use crate::{
    alu::{self, Shift},
    cpu::Cpu,
    fault::Did,
    flags::Flags,
    word::Word,
};

/// rcx, whose lowest byte counts.
const RCX: u8 = 1;

#[inline(always)]
fn register<O: Shift, T: Word>(cpu: &mut Cpu, op: &Op, by: u64) -> Did<Flow> {
    let (a, by) = (read::<T>(cpu, op.dst), alu::count::<T>(by));
    if by == 0 {
        // A result of 32 bits clears those above even so.
        write::<T>(cpu, op.dst, a);
        return Ok(Flow::Next);
    }
    let (result, flags) = O::apply::<T>(a, by, &cpu.flags);
    cpu.flags = flags;
    write::<T>(cpu, op.dst, result);
    Ok(Flow::Next)
}

#[inline(always)]
fn memory<O: Shift, T: Word>(cpu: &mut Cpu, op: &Op, by: u64) -> Did<Flow> {
    let (flags, by) = (cpu.flags, alu::count::<T>(by));
    let linear = address::<T>(cpu, op, true)?;
    let shift = |a| if by == 0 { (a, flags) } else { O::apply::<T>(a, by, &flags) };
    cpu.flags = cpu.modify::<T, _>(linear, shift)?;
    Ok(Flow::Next)
}

/// A register by an immediate.
pub(crate) fn ri<O: Shift, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    register::<O, T>(cpu, op, op.imm::<u8>())
}

/// A register by an immediate, where nobody asks for the flags.
pub(crate) fn ri_silent<O: Shift, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let (a, by) = (read::<T>(cpu, op.dst), alu::count::<T>(op.imm::<u8>()));
    let result = if by == 0 { a } else { O::apply::<T>(a, by, &cpu.flags).0 };
    write::<T>(cpu, op.dst, result);
    Ok(Flow::Next)
}

/// A register by cl.
pub(crate) fn rc<O: Shift, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let by = read::<u8>(cpu, RCX);
    register::<O, T>(cpu, op, by)
}

/// Memory by an immediate.
pub(crate) fn mi<O: Shift, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    memory::<O, T>(cpu, op, op.imm::<u8>())
}

/// Memory by cl.
pub(crate) fn mc<O: Shift, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let by = read::<u8>(cpu, RCX);
    memory::<O, T>(cpu, op, by)
}

/// `shld` and `shrd`: the operation by `LEFT`, the count from cl by `BY_CL`.
#[inline(always)]
fn double<const LEFT: bool, T: Word>(a: u64, b: u64, by: u32, flags: &Flags) -> (u64, Flags) {
    if by == 0 {
        (a, *flags)
    } else if LEFT {
        alu::shift_left_double::<T>(a, b, by, flags)
    } else {
        alu::shift_right_double::<T>(a, b, by, flags)
    }
}

/// Into a register: the other one is `src`.
pub(crate) fn double_r<const LEFT: bool, const BY_CL: bool, T: Word>(
    cpu: &mut Cpu,
    op: &Op,
) -> Did<Flow> {
    let by = alu::count::<T>(if BY_CL { read::<u8>(cpu, RCX) } else { op.imm::<u8>() });
    let (a, b) = (read::<T>(cpu, op.dst), read::<T>(cpu, op.src));
    let (result, flags) = double::<LEFT, T>(a, b, by, &cpu.flags);
    cpu.flags = flags;
    write::<T>(cpu, op.dst, result);
    Ok(Flow::Next)
}

/// Into memory: the register is `dst`.
pub(crate) fn double_m<const LEFT: bool, const BY_CL: bool, T: Word>(
    cpu: &mut Cpu,
    op: &Op,
) -> Did<Flow> {
    let by = alu::count::<T>(if BY_CL { read::<u8>(cpu, RCX) } else { op.imm::<u8>() });
    let (b, flags) = (read::<T>(cpu, op.dst), cpu.flags);
    let linear = address::<T>(cpu, op, true)?;
    cpu.flags = cpu.modify::<T, _>(linear, |a| double::<LEFT, T>(a, b, by, &flags))?;
    Ok(Flow::Next)
}
