//! Near branches: direct ones, whose targets are known, and those through registers and memory.

use hv::state::gpr;

use super::{Flow, Op, address, after, by_condition, read};
use crate::{
    cpu::{AHEAD, Cpu, RIP},
    fault::Did,
    mmu::canonical,
    word::Word,
};

/// The target of a direct branch.
#[inline(always)]
fn target(cpu: &Cpu, op: &Op) -> u64 {
    cpu.regs[RIP].wrapping_add(op.disp())
}

/// Where a branch outside of 64-bit mode goes, by the width of its operand.
fn narrow_target(cpu: &mut Cpu, op: &Op) -> Did<u64> {
    let mask = if op.bytes == 2 { 0xffff } else { 0xffff_ffff };
    let target = target(cpu, op) & mask;
    cpu.check_target(target)?;
    Ok(target)
}

/// Goes on behind the block, which ends here because it is long enough.
pub(crate) fn fall(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    cpu.regs[RIP] = after(cpu, op);
    Ok(Flow::Fall)
}

pub(crate) fn jump(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    cpu.regs[RIP] = target(cpu, op);
    Ok(Flow::Taken)
}

pub(crate) fn jump_narrow(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    cpu.regs[RIP] = narrow_target(cpu, op)?;
    Ok(Flow::Taken)
}

/// Goes to the target if the condition holds.
#[inline(always)]
pub(crate) fn branch_to(cpu: &mut Cpu, op: &Op, taken: bool) -> Did<Flow> {
    if taken {
        cpu.regs[RIP] = target(cpu, op);
        Ok(Flow::Taken)
    } else {
        cpu.regs[RIP] = cpu.regs[RIP].wrapping_add(op.next.into());
        Ok(Flow::Fall)
    }
}

pub(crate) fn conditional<const N: u8>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let taken = cpu.flags.condition::<N>();
    branch_to(cpu, op, taken)
}

pub(crate) fn conditional_narrow<const N: u8>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    if cpu.flags.condition::<N>() { jump_narrow(cpu, op) } else { fall(cpu, op) }
}

/// What `src` of [`far_ahead`] says beside a condition's number.
pub(crate) const JUMP: u8 = 16;
pub(crate) const CALL: u8 = 17;

/// A branch so far ahead that the distance from the block's beginning takes one bit more than the
/// operation has for it: `src` is its condition, [`JUMP`] or [`CALL`].
pub(crate) fn far_ahead(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let branch = match op.src {
        JUMP => jump,
        CALL => call,
        condition => by_condition!(condition, conditional),
    };
    let flow = branch(cpu, op)?;
    if flow == Flow::Taken {
        cpu.regs[RIP] = cpu.regs[RIP].wrapping_add(AHEAD);
    }
    Ok(flow)
}

/// `loop`, `loope`, `loopne`, `jcxz`: by `src`, in this order.
pub(crate) fn counted(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let mask = op.shape.address_mask();
    let rcx = cpu.regs[gpr::RCX];
    let count = if op.src == 3 { rcx & mask } else { rcx.wrapping_sub(1) & mask };
    let taken = match op.src {
        0 => count != 0,
        1 => count != 0 && cpu.flags.zf(),
        2 => count != 0 && !cpu.flags.zf(),
        _ => count == 0,
    };
    let target = match (taken, cpu.mode.code) {
        (false, _) => after(cpu, op),
        (true, 64) => target(cpu, op),
        (true, _) => narrow_target(cpu, op)?,
    };
    if op.src != 3 {
        cpu.regs[gpr::RCX] = if mask == 0xffff { rcx & !mask | count } else { count };
    }
    cpu.regs[RIP] = target;
    Ok(if taken { Flow::Taken } else { Flow::Fall })
}

/// `call` to a known target, in 64-bit mode.
pub(crate) fn call(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let rsp = cpu.regs[gpr::RSP].wrapping_sub(8);
    if let Some(at) = cpu.quick_place::<u64>(rsp) {
        cpu.memory.set(at, cpu.regs[RIP].wrapping_add(op.next.into()));
        cpu.regs[gpr::RSP] = rsp;
        cpu.regs[RIP] = target(cpu, op);
        return Ok(Flow::Taken);
    }
    call_long(cpu, op)
}

#[cold]
#[inline(never)]
fn call_long(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let rsp = cpu.regs[gpr::RSP].wrapping_sub(8);
    cpu.store::<u64>(rsp, cpu.regs[RIP].wrapping_add(op.next.into()))?;
    cpu.regs[gpr::RSP] = rsp;
    cpu.regs[RIP] = target(cpu, op);
    Ok(Flow::Taken)
}

pub(crate) fn call_narrow(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let target = narrow_target(cpu, op)?;
    cpu.push(after(cpu, op), op.bytes.into())?;
    cpu.regs[RIP] = target;
    Ok(Flow::Taken)
}

/// Goes to a target that was computed.
#[inline(always)]
fn go(cpu: &mut Cpu, target: u64) -> Did<Flow> {
    cpu.check_target(target)?;
    cpu.regs[RIP] = target;
    Ok(Flow::Jump)
}

pub(crate) fn jump_r<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let target = read::<T>(cpu, op.dst);
    go(cpu, target)
}

pub(crate) fn jump_m<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let linear = address::<T>(cpu, op, false)?;
    let target = cpu.load::<T>(linear)?;
    go(cpu, target)
}

fn call_to<T: Word>(cpu: &mut Cpu, op: &Op, target: u64) -> Did<Flow> {
    cpu.check_target(target)?;
    cpu.push(after(cpu, op), T::BYTES)?;
    cpu.regs[RIP] = target;
    Ok(Flow::Jump)
}

pub(crate) fn call_r<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let target = read::<T>(cpu, op.dst);
    call_to::<T>(cpu, op, target)
}

pub(crate) fn call_m<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let linear = address::<T>(cpu, op, false)?;
    let target = cpu.load::<T>(linear)?;
    call_to::<T>(cpu, op, target)
}

/// `ret` in 64-bit mode, with so many bytes more taken off the stack.
pub(crate) fn ret(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let rsp = cpu.regs[gpr::RSP];
    if let Some(target) = cpu.quick_load::<u64>(rsp)
        && canonical(target)
    {
        cpu.regs[gpr::RSP] = rsp.wrapping_add(8).wrapping_add(op.imm::<u16>());
        cpu.regs[RIP] = target;
        return Ok(Flow::Jump);
    }
    ret_long(cpu, op)
}

#[cold]
#[inline(never)]
fn ret_long(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let rsp = cpu.regs[gpr::RSP];
    let target = cpu.load::<u64>(rsp)?;
    cpu.check_target(target)?;
    cpu.regs[gpr::RSP] = rsp.wrapping_add(8).wrapping_add(op.imm::<u16>());
    cpu.regs[RIP] = target;
    Ok(Flow::Jump)
}

pub(crate) fn ret_narrow(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let bytes = u64::from(op.bytes);
    let target = cpu.peek(0, bytes)?;
    cpu.check_target(target)?;
    cpu.set_stack_pointer(cpu.regs[gpr::RSP].wrapping_add(bytes).wrapping_add(op.imm::<u16>()));
    cpu.regs[RIP] = target;
    Ok(Flow::Jump)
}
