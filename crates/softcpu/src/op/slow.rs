//! Instructions that programs seldom have: segment registers, far transfers, decimal arithmetic,
//! single flags, tables.

use hv::state::gpr;

use super::{Flow, HIGH, Op, address, after, leave, read, write};
use crate::{
    cpu::{Cpu, SS},
    fault::{Did, Exception, vector},
    flags::{self, AF, CF, DF, Flags, PF, SF, ZF},
    word::Word,
};

/// al and ah.
const AL: u8 = 0;
const AH: u8 = HIGH;

/// A segment register, `src`, into a register or memory.
pub(crate) fn from_segment<const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let selector = cpu.segments[usize::from(op.src) % 6].selector;
    super::system::put_word(cpu, op, MEMORY, selector.into())
}

/// A register or memory into a segment register, `src`.
pub(crate) fn to_segment<const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let selector = super::system::word::<MEMORY>(cpu, op)?;
    load(cpu, op, u16::cut(selector))
}

fn load(cpu: &mut Cpu, op: &Op, selector: u16) -> Did<Flow> {
    let register = usize::from(op.src) % 6;
    cpu.load_segment(register, selector)?;
    // Whoever loads ss is about to load rsp.
    cpu.shadow |= register == SS;
    leave(cpu, op)
}

pub(crate) fn push_segment(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let selector = cpu.segments[usize::from(op.src) % 6].selector;
    cpu.push(selector.into(), op.bytes.into())?;
    Ok(Flow::Next)
}

pub(crate) fn pop_segment(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let rsp = cpu.regs[gpr::RSP];
    let selector = u16::cut(cpu.pop(op.bytes.into())?);
    load(cpu, op, selector).inspect_err(|_| cpu.regs[gpr::RSP] = rsp)
}

/// A far pointer in memory: offset, then selector.
fn pointer(cpu: &mut Cpu, op: &Op) -> Did<(u16, u64)> {
    let linear = address::<u16>(cpu, op, false)?;
    let offset = match op.bytes {
        2 => cpu.load::<u16>(linear)?,
        4 => cpu.load::<u32>(linear)?,
        _ => cpu.load::<u64>(linear)?,
    };
    let at = cpu.linear(linear.wrapping_add(op.bytes.into()));
    Ok((u16::cut(cpu.load::<u16>(at)?), offset))
}

/// `lds` and its kin: the segment register is `src`.
pub(crate) fn load_pointer(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let (selector, offset) = pointer(cpu, op)?;
    let flow = load(cpu, op, selector)?;
    match op.bytes {
        2 => write::<u16>(cpu, op.dst, offset),
        4 => write::<u32>(cpu, op.dst, offset),
        _ => write::<u64>(cpu, op.dst, offset),
    }
    Ok(flow)
}

/// The pointer in the instruction itself: the selector is in `disp`.
pub(crate) fn jump_far_i(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    cpu.jump_far(u16::cut(op.disp()), op.imm::<u32>())?;
    Ok(Flow::Leave)
}

pub(crate) fn jump_far_m(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let (selector, offset) = pointer(cpu, op)?;
    cpu.jump_far(selector, offset)?;
    Ok(Flow::Leave)
}

pub(crate) fn call_far_i(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    cpu.call_far(u16::cut(op.disp()), op.imm::<u32>(), op.bytes.into(), after(cpu, op))?;
    Ok(Flow::Leave)
}

pub(crate) fn call_far_m(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let (selector, offset) = pointer(cpu, op)?;
    cpu.call_far(selector, offset, op.bytes.into(), after(cpu, op))?;
    Ok(Flow::Leave)
}

pub(crate) fn ret_far(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    cpu.return_far(op.bytes.into(), op.imm::<u16>())?;
    Ok(Flow::Leave)
}

pub(crate) fn clc(cpu: &mut Cpu, _op: &Op) -> Did<Flow> {
    cpu.flags = cpu.flags.with_cf(false);
    Ok(Flow::Next)
}

pub(crate) fn stc(cpu: &mut Cpu, _op: &Op) -> Did<Flow> {
    cpu.flags = cpu.flags.with_cf(true);
    Ok(Flow::Next)
}

pub(crate) fn cmc(cpu: &mut Cpu, _op: &Op) -> Did<Flow> {
    cpu.flags = cpu.flags.with_cf(!cpu.flags.cf());
    Ok(Flow::Next)
}

pub(crate) fn cld(cpu: &mut Cpu, _op: &Op) -> Did<Flow> {
    cpu.other_flags &= !DF;
    Ok(Flow::Next)
}

pub(crate) fn std(cpu: &mut Cpu, _op: &Op) -> Did<Flow> {
    cpu.other_flags |= DF;
    Ok(Flow::Next)
}

pub(crate) fn lahf(cpu: &mut Cpu, _op: &Op) -> Did<Flow> {
    let value = cpu.rflags() & (SF | ZF | AF | PF | CF) | flags::FIXED;
    write::<u8>(cpu, AH, value);
    Ok(Flow::Next)
}

pub(crate) fn sahf(cpu: &mut Cpu, _op: &Op) -> Did<Flow> {
    let kept = cpu.flags.bits() & flags::OF;
    cpu.flags = Flags::from_bits(kept | read::<u8>(cpu, AH));
    Ok(Flow::Next)
}

/// `xlat`.
pub(crate) fn translate(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let offset = cpu.regs[gpr::RBX].wrapping_add(read::<u8>(cpu, AL)) & op.shape.address_mask();
    let linear = if op.shape.is_flat() {
        offset.wrapping_add(cpu.regs[usize::from(op.segment) & 31])
    } else {
        super::segmented(cpu, op, offset, 1, false)?
    };
    let value = cpu.load::<u8>(linear)?;
    write::<u8>(cpu, AL, value);
    Ok(Flow::Next)
}

/// `salc`.
pub(crate) fn salc(cpu: &mut Cpu, _op: &Op) -> Did<Flow> {
    let value = if cpu.flags.cf() { 0xff } else { 0 };
    write::<u8>(cpu, AL, value);
    Ok(Flow::Next)
}

/// `bound`: an index and two limits in memory.
pub(crate) fn bound<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let linear = address::<T>(cpu, op, false)?;
    let at = cpu.linear(linear.wrapping_add(T::BYTES));
    let wide = |value| T::signed(value).cast_signed();
    let (low, high) = (wide(cpu.load::<T>(linear)?), wide(cpu.load::<T>(at)?));
    let index = wide(read::<T>(cpu, op.dst));
    if index < low || index > high {
        return Err(cpu.raise(Exception::plain(vector::BR)));
    }
    Ok(Flow::Next)
}

/// `arpl`: the privilege of a selector is lowered to that of another.
pub(crate) fn adjust_rpl<const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    if !cpu.control.protected() {
        return Err(cpu.undefined());
    }
    let other = read::<u16>(cpu, op.src) & 3;
    let change = |value: u64| {
        if value & 3 < other { (value & !3 | other, true) } else { (value, false) }
    };
    let changed = if MEMORY {
        let linear = address::<u16>(cpu, op, true)?;
        cpu.modify::<u16, _>(linear, change)?
    } else {
        let (value, changed) = change(read::<u16>(cpu, op.dst));
        write::<u16>(cpu, op.dst, value);
        changed
    };
    cpu.flags = cpu.flags.with_zf(changed);
    Ok(Flow::Next)
}

/// Sign, zero and parity of al beside other flags.
fn after_decimal(cpu: &mut Cpu, cf: bool, af: bool) {
    let flags = Flags { result: u8::signed(read::<u8>(cpu, AL)), carry: 0, turned: 0 };
    cpu.flags = Flags { carry: flags::carries(cf, false, af), ..flags };
}

/// `daa` and `das`.
pub(crate) fn decimal<const SUBTRACT: bool>(cpu: &mut Cpu, _op: &Op) -> Did<Flow> {
    let al = read::<u8>(cpu, AL);
    let (cf, af) = (cpu.flags.cf(), cpu.flags.af());
    let low = af || al & 15 > 9;
    let high = cf || al > 0x99;
    let by = if low { 6 } else { 0 } + if high { 0x60 } else { 0 };
    let result = if SUBTRACT { al.wrapping_sub(by) } else { al + by } & 0xff;
    let borrow = SUBTRACT && low && al < 6;
    write::<u8>(cpu, AL, result);
    after_decimal(cpu, high || borrow, low);
    Ok(Flow::Next)
}

/// `aaa` and `aas`.
pub(crate) fn unpacked<const SUBTRACT: bool>(cpu: &mut Cpu, _op: &Op) -> Did<Flow> {
    let ax = read::<u16>(cpu, AL);
    let adjust = cpu.flags.af() || ax & 15 > 9;
    let by = if adjust { 0x106 } else { 0 };
    let ax = if SUBTRACT { ax.wrapping_sub(by) } else { ax + by };
    write::<u16>(cpu, AL, ax & 0xff0f);
    after_decimal(cpu, adjust, adjust);
    Ok(Flow::Next)
}

/// `aam`: the base is `imm`.
pub(crate) fn split(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let base = op.imm::<u8>();
    let al = read::<u8>(cpu, AL);
    let (Some(quotient), Some(rest)) = (al.checked_div(base), al.checked_rem(base)) else {
        return Err(cpu.raise(Exception::plain(vector::DE)));
    };
    write::<u16>(cpu, AL, quotient << 8 | rest);
    after_decimal(cpu, false, false);
    Ok(Flow::Next)
}

/// `aad`.
pub(crate) fn join(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let value = read::<u8>(cpu, AL) + read::<u8>(cpu, AH) * (op.imm::<u8>());
    write::<u16>(cpu, AL, value & 0xff);
    after_decimal(cpu, false, false);
    Ok(Flow::Next)
}
