//! `push`, `pop` and their kin.

use hv::state::gpr;

use super::{Flow, Op, address, leave, read, write};
use crate::{
    cpu::Cpu,
    fault::Did,
    flags::{IF, IOPL, RF, VM},
    word::Word,
};

/// A push of eight bytes in 64-bit mode.
#[inline(always)]
fn push_wide(cpu: &mut Cpu, value: u64) -> Did<Flow> {
    let rsp = cpu.regs[gpr::RSP].wrapping_sub(8);
    cpu.store::<u64>(rsp, value)?;
    cpu.regs[gpr::RSP] = rsp;
    Ok(Flow::Next)
}

pub(crate) fn push_r64(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let rsp = cpu.regs[gpr::RSP].wrapping_sub(8);
    if let Some(at) = cpu.quick_place::<u64>(rsp) {
        cpu.memory.set(at, cpu.regs[usize::from(op.dst) & 31]);
        cpu.regs[gpr::RSP] = rsp;
        return Ok(Flow::Next);
    }
    push_r64_long(cpu, op)
}

#[cold]
#[inline(never)]
fn push_r64_long(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    push_wide(cpu, cpu.regs[usize::from(op.dst) & 31])
}

pub(crate) fn push_i64(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    push_wide(cpu, op.imm::<u64>())
}

pub(crate) fn pop_r64(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let rsp = cpu.regs[gpr::RSP];
    if let Some(value) = cpu.quick_load::<u64>(rsp) {
        cpu.regs[gpr::RSP] = rsp.wrapping_add(8);
        cpu.regs[usize::from(op.dst) & 31] = value;
        return Ok(Flow::Next);
    }
    pop_r64_long(cpu, op)
}

#[cold]
#[inline(never)]
fn pop_r64_long(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let rsp = cpu.regs[gpr::RSP];
    let value = cpu.load::<u64>(rsp)?;
    cpu.regs[gpr::RSP] = rsp.wrapping_add(8);
    cpu.regs[usize::from(op.dst) & 31] = value;
    Ok(Flow::Next)
}

pub(crate) fn push_r<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let value = read::<T>(cpu, op.dst);
    cpu.push(value, T::BYTES)?;
    Ok(Flow::Next)
}

pub(crate) fn push_i<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    cpu.push(op.imm::<T>(), T::BYTES)?;
    Ok(Flow::Next)
}

pub(crate) fn push_m<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let linear = address::<T>(cpu, op, false)?;
    let value = cpu.load::<T>(linear)?;
    cpu.push(value, T::BYTES)?;
    Ok(Flow::Next)
}

pub(crate) fn pop_r<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let value = cpu.pop(T::BYTES)?;
    write::<T>(cpu, op.dst, value);
    Ok(Flow::Next)
}

/// The address is computed with the stack pointer as it is afterwards.
pub(crate) fn pop_m<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let rsp = cpu.regs[gpr::RSP];
    let value = cpu.pop(T::BYTES)?;
    let stored = address::<T>(cpu, op, true).and_then(|linear| cpu.store::<T>(linear, value));
    if let Err(stopped) = stored {
        cpu.regs[gpr::RSP] = rsp;
        return Err(stopped);
    }
    Ok(Flow::Next)
}

pub(crate) fn leave_frame<T: Word>(cpu: &mut Cpu, _op: &Op) -> Did<Flow> {
    let rsp = cpu.regs[gpr::RSP];
    cpu.set_stack_pointer(cpu.regs[gpr::RBP]);
    match cpu.pop(T::BYTES) {
        Ok(value) => {
            write::<T>(cpu, 5, value);
            Ok(Flow::Next)
        }
        Err(stopped) => {
            cpu.regs[gpr::RSP] = rsp;
            Err(stopped)
        }
    }
}

/// `enter`: `imm` bytes of room, `src` levels of nesting.
pub(crate) fn enter_frame<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let (rsp, rbp) = (cpu.regs[gpr::RSP], cpu.regs[gpr::RBP]);
    let done = enter::<T>(cpu, op);
    if done.is_err() {
        cpu.regs[gpr::RSP] = rsp;
        cpu.regs[gpr::RBP] = rbp;
    }
    done
}

fn enter<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let level = op.src & 31;
    let mut rbp = cpu.regs[gpr::RBP];
    cpu.push(rbp & T::MASK, T::BYTES)?;
    let frame = cpu.regs[gpr::RSP];
    if level > 0 {
        for _ in 1..level {
            rbp = rbp.wrapping_sub(T::BYTES) & cpu.stack_mask();
            let linear = cpu.stack_address(rbp, T::BYTES, false)?;
            let value = cpu.load::<T>(linear)?;
            cpu.push(value, T::BYTES)?;
        }
        cpu.push(frame & T::MASK, T::BYTES)?;
    }
    let top = cpu.regs[gpr::RSP].wrapping_sub(op.imm::<u16>());
    // The new top has to be one that can be written.
    let linear = cpu.stack_address(top & cpu.stack_mask(), T::BYTES, true)?;
    cpu.check_writable::<T>(linear)?;
    cpu.set_stack_pointer(top);
    write::<T>(cpu, 5, frame & T::MASK);
    Ok(Flow::Next)
}

/// `pusha`: eight registers, rsp as it was before.
pub(crate) fn push_all<T: Word>(cpu: &mut Cpu, _op: &Op) -> Did<Flow> {
    let rsp = cpu.regs[gpr::RSP];
    for register in 0..8 {
        let value = if register == 4 { rsp & T::MASK } else { read::<T>(cpu, register) };
        if let Err(stopped) = cpu.push(value, T::BYTES) {
            cpu.regs[gpr::RSP] = rsp;
            return Err(stopped);
        }
    }
    Ok(Flow::Next)
}

pub(crate) fn pop_all<T: Word>(cpu: &mut Cpu, _op: &Op) -> Did<Flow> {
    let mut values = [0; 8];
    for (n, value) in values.iter_mut().enumerate() {
        *value = cpu.peek(n as u64 * T::BYTES, T::BYTES)?;
    }
    cpu.set_stack_pointer(cpu.regs[gpr::RSP].wrapping_add(8 * T::BYTES));
    for (register, value) in (0..8u8).rev().zip(values) {
        if register != 4 {
            write::<T>(cpu, register, value);
        }
    }
    Ok(Flow::Next)
}

pub(crate) fn push_flags<T: Word>(cpu: &mut Cpu, _op: &Op) -> Did<Flow> {
    let rflags = cpu.rflags() & !(RF | VM);
    cpu.push(rflags & T::MASK, T::BYTES)?;
    Ok(Flow::Next)
}

pub(crate) fn pop_flags<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let rflags = cpu.pop(T::BYTES)?;
    let io = u64::from(cpu.cpl) <= (cpu.other_flags & IOPL) >> 12;
    let before = cpu.other_flags;
    cpu.change_flags(rflags & !RF, T::BYTES, cpu.cpl, io);
    cpu.other_flags &= !RF;
    // Most restore what was; only changes beyond arithmetic are worth a look.
    if (before ^ cpu.other_flags) & !IF == 0 && cpu.other_flags & IF & !before == 0 {
        return Ok(Flow::Next);
    }
    leave(cpu, op)
}
