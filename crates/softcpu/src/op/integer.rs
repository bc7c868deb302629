//! Additions, comparisons, logic: two operands or one, in registers or memory.

use super::{At, Flow, Op, address, branch::branch_to, read, write};
use crate::{
    alu::{Alu, Unary},
    cpu::Cpu,
    fault::Did,
    word::Word,
};

/// Register and register.
#[inline(always)]
pub(crate) fn rr<O: Alu, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let (a, b) = (read::<T>(cpu, op.dst), read::<T>(cpu, op.src));
    let (result, flags) = O::apply::<T>(a, b, &cpu.flags);
    cpu.flags = flags;
    if O::WRITES {
        write::<T>(cpu, op.dst, result);
    }
    Ok(Flow::Next)
}

/// Register and immediate.
#[inline(always)]
pub(crate) fn ri<O: Alu, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let (result, flags) = O::apply::<T>(read::<T>(cpu, op.dst), op.imm::<T>(), &cpu.flags);
    cpu.flags = flags;
    if O::WRITES {
        write::<T>(cpu, op.dst, result);
    }
    Ok(Flow::Next)
}

/// Register and register, where nobody asks for the flags.
pub(crate) fn rr_silent<O: Alu, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let (a, b) = (read::<T>(cpu, op.dst), read::<T>(cpu, op.src));
    let (result, _) = O::apply::<T>(a, b, &cpu.flags);
    write::<T>(cpu, op.dst, result);
    Ok(Flow::Next)
}

/// Register and immediate, where nobody asks for the flags.
pub(crate) fn ri_silent<O: Alu, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let (result, _) = O::apply::<T>(read::<T>(cpu, op.dst), op.imm::<T>(), &cpu.flags);
    write::<T>(cpu, op.dst, result);
    Ok(Flow::Next)
}

/// One register, where nobody asks for the flags.
pub(crate) fn r_silent<O: Unary, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let (result, _) = O::apply::<T>(read::<T>(cpu, op.dst), &cpu.flags);
    write::<T>(cpu, op.dst, result);
    Ok(Flow::Next)
}

/// Register and register, and the branch behind it.
pub(crate) fn rr_branch<const N: u8, O: Alu, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    rr::<O, T>(cpu, op)?;
    let taken = cpu.flags.condition::<N>();
    branch_to(cpu, op, taken)
}

/// Register and immediate, and the branch behind it.
pub(crate) fn ri_branch<const N: u8, O: Alu, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    ri::<O, T>(cpu, op)?;
    let taken = cpu.flags.condition::<N>();
    branch_to(cpu, op, taken)
}

/// One register, and the branch behind it.
pub(crate) fn r_branch<const N: u8, O: Unary, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    r::<O, T>(cpu, op)?;
    let taken = cpu.flags.condition::<N>();
    branch_to(cpu, op, taken)
}

/// Register and memory.
pub(crate) fn rm<A: At, O: Alu, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    if let Some(linear) = A::quick(cpu, op)
        && let Some(b) = cpu.quick_load::<T>(linear)
    {
        let (result, flags) = O::apply::<T>(read::<T>(cpu, op.dst), b, &cpu.flags);
        cpu.flags = flags;
        if O::WRITES {
            write::<T>(cpu, op.dst, result);
        }
        return Ok(Flow::Next);
    }
    rm_long::<A, O, T>(cpu, op)
}

#[cold]
#[inline(never)]
fn rm_long<A: At, O: Alu, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let linear = A::address::<T>(cpu, op, false)?;
    let b = cpu.load::<T>(linear)?;
    let (result, flags) = O::apply::<T>(read::<T>(cpu, op.dst), b, &cpu.flags);
    cpu.flags = flags;
    if O::WRITES {
        write::<T>(cpu, op.dst, result);
    }
    Ok(Flow::Next)
}

/// Memory and a value, if the TLB knows where that is; whether it did.
#[inline(always)]
fn quick<A: At, O: Alu, T: Word>(cpu: &mut Cpu, op: &Op, b: u64) -> bool {
    let Some(linear) = A::quick(cpu, op) else { return false };
    if !O::WRITES {
        let Some(a) = cpu.quick_load::<T>(linear) else { return false };
        cpu.flags = O::apply::<T>(a, b, &cpu.flags).1;
        return true;
    }
    let Some(at) = cpu.quick_place::<T>(linear) else { return false };
    let (result, flags) = O::apply::<T>(cpu.memory.get::<T>(at).wide(), b, &cpu.flags);
    cpu.memory.set(at, T::cut(result));
    cpu.flags = flags;
    true
}

#[inline(always)]
fn memory<A: At, O: Alu, T: Word>(cpu: &mut Cpu, op: &Op, b: u64) -> Did<Flow> {
    let linear = A::address::<T>(cpu, op, O::WRITES)?;
    let flags = cpu.flags;
    cpu.flags = if O::WRITES {
        cpu.modify::<T, _>(linear, |a| O::apply::<T>(a, b, &flags))?
    } else {
        O::apply::<T>(cpu.load::<T>(linear)?, b, &flags).1
    };
    Ok(Flow::Next)
}

/// Memory and register.
pub(crate) fn mr<A: At, O: Alu, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let b = read::<T>(cpu, op.dst);
    if quick::<A, O, T>(cpu, op, b) {
        return Ok(Flow::Next);
    }
    mr_long::<A, O, T>(cpu, op)
}

#[cold]
#[inline(never)]
fn mr_long<A: At, O: Alu, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let b = read::<T>(cpu, op.dst);
    memory::<A, O, T>(cpu, op, b)
}

/// Memory and immediate.
pub(crate) fn mi<A: At, O: Alu, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    if quick::<A, O, T>(cpu, op, op.imm::<T>()) {
        return Ok(Flow::Next);
    }
    mi_long::<A, O, T>(cpu, op)
}

#[cold]
#[inline(never)]
fn mi_long<A: At, O: Alu, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    memory::<A, O, T>(cpu, op, op.imm::<T>())
}

/// Memory and register, in one step.
pub(crate) fn mr_locked<O: Alu, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let (b, flags) = (read::<T>(cpu, op.dst), cpu.flags);
    let linear = address::<T>(cpu, op, true)?;
    cpu.flags = cpu.modify_locked::<T, _>(linear, |a| O::apply::<T>(a, b, &flags))?;
    Ok(Flow::Next)
}

/// Memory and immediate, in one step.
pub(crate) fn mi_locked<O: Alu, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let flags = cpu.flags;
    let linear = address::<T>(cpu, op, true)?;
    cpu.flags = cpu.modify_locked::<T, _>(linear, |a| O::apply::<T>(a, op.imm::<T>(), &flags))?;
    Ok(Flow::Next)
}

/// One register.
#[inline(always)]
pub(crate) fn r<O: Unary, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let (result, flags) = O::apply::<T>(read::<T>(cpu, op.dst), &cpu.flags);
    cpu.flags = flags;
    write::<T>(cpu, op.dst, result);
    Ok(Flow::Next)
}

/// One place in memory.
pub(crate) fn m<O: Unary, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let flags = cpu.flags;
    let linear = address::<T>(cpu, op, true)?;
    cpu.flags = cpu.modify::<T, _>(linear, |a| O::apply::<T>(a, &flags))?;
    Ok(Flow::Next)
}

/// One place in memory, in one step.
pub(crate) fn m_locked<O: Unary, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let flags = cpu.flags;
    let linear = address::<T>(cpu, op, true)?;
    cpu.flags = cpu.modify_locked::<T, _>(linear, |a| O::apply::<T>(a, &flags))?;
    Ok(Flow::Next)
}
