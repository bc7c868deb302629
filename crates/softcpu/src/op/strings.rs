//! String instructions: one element, or as many as rcx says, whole pages at a time where both
//! sides are plain memory.
//!
//! A repeated one has its registers where it has got to whenever it stops, so it can be
//! interrupted between pages and go on from there.

use std::sync::atomic::Ordering;

use hv::{memory::PAGE, state::gpr};

use super::{Flow, Op, read, write};
use crate::{
    alu::{Alu, Cmp},
    cpu::{Cpu, ES, RIP, SEGMENTS},
    fault::Did,
    flags::DF,
    mmu::{Access, Place},
    word::Word,
};

/// How it is repeated: [`Op::src`].
pub(crate) const ONCE: u8 = 0;
pub(crate) const WHILE_EQUAL: u8 = 1;
pub(crate) const WHILE_DIFFERENT: u8 = 2;

/// What an element's step did.
struct Step {
    /// How many elements.
    elements: u64,
    /// Whether a comparison ends the repetition.
    ends: bool,
}

impl Step {
    fn one() -> Step {
        Step { elements: 1, ends: false }
    }
}

/// Carries out one element, or all that are left, by steps that move the registers themselves.
#[inline(always)]
fn repeat(
    cpu: &mut Cpu,
    op: &Op,
    mut step: impl FnMut(&mut Cpu, &Op, u64) -> Did<Step>,
) -> Did<Flow> {
    if op.src == ONCE {
        step(cpu, op, 1)?;
        return Ok(Flow::Next);
    }
    let mask = op.shape.address_mask();
    let mut done = 0;
    loop {
        let rcx = cpu.regs[gpr::RCX];
        let left = rcx & mask;
        if left == 0 {
            return Ok(Flow::Next);
        }
        let step = step(cpu, op, left)?;
        set(&mut cpu.regs[gpr::RCX], left.wrapping_sub(step.elements), mask);
        if step.ends || left == step.elements {
            return Ok(Flow::Next);
        }
        done += step.elements;
        // Alone each element is an instruction of its own, with its own reads and writes.
        if cpu.alone || done >= PAGE as u64 && interrupted(cpu) {
            cpu.regs[RIP] = cpu.linear(cpu.regs[RIP].wrapping_add(op.imm.into()));
            return Ok(Flow::Leave);
        }
    }
}

fn interrupted(cpu: &Cpu) -> bool {
    cpu.machine.seats.get(cpu.index).is_some_and(|seat| seat.attention.load(Ordering::Relaxed))
        || cpu.machine.chips.next_deadline(cpu.index).is_some_and(|at| at <= cpu.machine.now())
}

/// Sets as much of a register as an address has.
#[inline(always)]
fn set(register: &mut u64, value: u64, mask: u64) {
    *register = if mask == 0xffff { *register & !mask | value & mask } else { value & mask };
}

/// Moves rsi or rdi behind so many elements.
#[inline(always)]
fn advance<T: Word>(cpu: &mut Cpu, op: &Op, register: usize, elements: u64) {
    let bytes = elements.wrapping_mul(T::BYTES);
    let by = if cpu.other_flags & DF == 0 { bytes } else { bytes.wrapping_neg() };
    let value = cpu.regs[register].wrapping_add(by);
    set(&mut cpu.regs[register], value, op.shape.address_mask());
}

/// The linear address of an element.
#[inline(always)]
fn place<T: Word>(cpu: &mut Cpu, op: &Op, register: usize, write: bool) -> Did<u64> {
    let offset = cpu.regs[register] & op.shape.address_mask();
    let segment = if register == gpr::RDI { SEGMENTS + ES } else { usize::from(op.segment) & 31 };
    // The base of es is zero where segments are flat.
    let base = cpu.regs[segment];
    if cpu.mode.code == 64 {
        return Ok(base.wrapping_add(offset));
    }
    cpu.check_segment(segment - SEGMENTS, offset, T::BYTES, write)?;
    Ok(base.wrapping_add(offset) & 0xffff_ffff)
}

/// Bytes up to the end of an address's page.
fn room(linear: u64) -> u64 {
    PAGE as u64 - linear % PAGE as u64
}

/// Where whole elements upwards from an address lie in guest memory; nothing, if they do not.
fn run<T: Word>(cpu: &mut Cpu, linear: u64, access: Access) -> Did<Option<usize>> {
    let user = cpu.cpl == 3;
    let Place::Ram(at) = cpu.translate(linear, access, user)? else { return Ok(None) };
    let plain = access == Access::Read || !cpu.memory.dirty().is_watched(at / PAGE);
    Ok((plain && room(linear) >= T::BYTES).then_some(at))
}

/// Whether many elements can be taken at once.
fn many(cpu: &Cpu, left: u64) -> bool {
    left > 1 && cpu.mode.code == 64 && cpu.other_flags & DF == 0 && !cpu.alone
}

#[expect(clippy::cast_possible_truncation, reason = "less than a page")]
fn length<T: Word>(elements: u64) -> usize {
    (elements * T::BYTES) as usize
}

pub(crate) fn movs<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    repeat(cpu, op, |cpu, op, left| {
        let from = place::<T>(cpu, op, gpr::RSI, false)?;
        let to = place::<T>(cpu, op, gpr::RDI, true)?;
        let elements = if many(cpu, left) { copy::<T>(cpu, from, to, left)? } else { 0 };
        if elements == 0 {
            let value = cpu.load::<T>(from)?;
            cpu.store::<T>(to, value)?;
        }
        advance::<T>(cpu, op, gpr::RSI, elements.max(1));
        advance::<T>(cpu, op, gpr::RDI, elements.max(1));
        Ok(Step { elements: elements.max(1), ends: false })
    })
}

/// Copies as many elements as lie in one page on both sides; gives how many.
fn copy<T: Word>(cpu: &mut Cpu, from: u64, to: u64, left: u64) -> Did<u64> {
    let Some(source) = run::<T>(cpu, from, Access::Read)? else { return Ok(0) };
    let Some(target) = run::<T>(cpu, to, Access::Write)? else { return Ok(0) };
    let elements = (room(from).min(room(to)) / T::BYTES).min(left);
    let distance = target.wrapping_sub(source);
    // Closer than an element an element reads what its own lower part has written.
    if distance != 0 && distance < length::<T>(1) {
        return Ok(0);
    }
    cpu.memory.copy_ascending(source, target, length::<T>(elements));
    Ok(elements)
}

pub(crate) fn stos<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    repeat(cpu, op, |cpu, op, left| {
        let value = read::<T>(cpu, 0);
        let to = place::<T>(cpu, op, gpr::RDI, true)?;
        let elements = if many(cpu, left) { fill::<T>(cpu, to, value, left)? } else { 0 };
        if elements == 0 {
            cpu.store::<T>(to, value)?;
        }
        advance::<T>(cpu, op, gpr::RDI, elements.max(1));
        Ok(Step { elements: elements.max(1), ends: false })
    })
}

/// Writes as many elements as lie in one page; gives how many.
fn fill<T: Word>(cpu: &mut Cpu, to: u64, value: u64, left: u64) -> Did<u64> {
    let Some(target) = run::<T>(cpu, to, Access::Write)? else { return Ok(0) };
    let elements = (room(to) / T::BYTES).min(left);
    let byte = u8::cut(value);
    if value == u64::from(byte) * (T::MASK / 0xff) {
        cpu.memory.fill_at(target, byte, length::<T>(elements));
    } else {
        for n in 0..elements {
            cpu.memory.set(target + length::<T>(n), T::cut(value));
        }
    }
    Ok(elements)
}

pub(crate) fn lods<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    repeat(cpu, op, |cpu, op, _| {
        let from = place::<T>(cpu, op, gpr::RSI, false)?;
        let value = cpu.load::<T>(from)?;
        write::<T>(cpu, 0, value);
        advance::<T>(cpu, op, gpr::RSI, 1);
        Ok(Step::one())
    })
}

pub(crate) fn scas<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    repeat(cpu, op, |cpu, op, _| {
        let at = place::<T>(cpu, op, gpr::RDI, false)?;
        let value = cpu.load::<T>(at)?;
        cpu.flags = Cmp::apply::<T>(read::<T>(cpu, 0), value, &cpu.flags).1;
        advance::<T>(cpu, op, gpr::RDI, 1);
        Ok(compared(cpu, op))
    })
}

pub(crate) fn cmps<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    repeat(cpu, op, |cpu, op, _| {
        let from = place::<T>(cpu, op, gpr::RSI, false)?;
        let to = place::<T>(cpu, op, gpr::RDI, false)?;
        let (a, b) = (cpu.load::<T>(from)?, cpu.load::<T>(to)?);
        cpu.flags = Cmp::apply::<T>(a, b, &cpu.flags).1;
        advance::<T>(cpu, op, gpr::RSI, 1);
        advance::<T>(cpu, op, gpr::RDI, 1);
        Ok(compared(cpu, op))
    })
}

fn compared(cpu: &Cpu, op: &Op) -> Step {
    let wanted = if op.src == WHILE_DIFFERENT { !cpu.flags.zf() } else { cpu.flags.zf() };
    Step { elements: 1, ends: !wanted }
}

/// `ins`: one port, into memory.
pub(crate) fn ins<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    repeat(cpu, op, |cpu, op, _| {
        let port = u16::cut(cpu.regs[gpr::RDX]);
        cpu.check_port(port, T::BYTES)?;
        let to = place::<T>(cpu, op, gpr::RDI, true)?;
        cpu.check_writable::<T>(to)?;
        let value = cpu.port_read(port, T::BYTES)?;
        cpu.store::<T>(to, value)?;
        advance::<T>(cpu, op, gpr::RDI, 1);
        Ok(Step::one())
    })
}

/// `outs`: memory to one port.
pub(crate) fn outs<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    repeat(cpu, op, |cpu, op, _| {
        let port = u16::cut(cpu.regs[gpr::RDX]);
        cpu.check_port(port, T::BYTES)?;
        let from = place::<T>(cpu, op, gpr::RSI, false)?;
        let value = cpu.load::<T>(from)?;
        cpu.port_write(port, T::BYTES, value)?;
        advance::<T>(cpu, op, gpr::RSI, 1);
        Ok(Step::one())
    })
}
