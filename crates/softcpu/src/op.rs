//! One decoded instruction: what carries it out, and its operands resolved as far as they can be.

pub(crate) mod atomic;
pub(crate) mod bits;
pub(crate) mod branch;
pub(crate) mod descriptors;
pub(crate) mod float;
pub(crate) mod integer;
pub(crate) mod moves;
pub(crate) mod multiply;
pub(crate) mod shifts;
pub(crate) mod slow;
pub(crate) mod stack;
pub(crate) mod strings;
pub(crate) mod system;

use iced_x86::Instruction;

use crate::{
    cpu::{Cpu, RIP, SEGMENTS},
    fault::Did,
    fpu,
    word::Word,
};

/// What carries an instruction out.
pub(crate) type Handler = fn(&mut Cpu, &Op) -> Did<Flow>;

/// Where it goes on afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Flow {
    /// With the next operation of the block.
    Next,
    /// At the target of a direct branch; rip is set.
    Taken,
    /// Behind the block; rip is set.
    Fall,
    /// At rip.
    Jump,
    /// At rip, after a look at what else there is to do: the mode, interrupts or translations may
    /// be others.
    Leave,
}

/// An instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Op {
    /// What carries it out.
    pub(crate) run: Handler,
    /// Of the memory operand: the displacement, relative to the block's beginning if the base is
    /// rip. Of a near branch: its target, relative to the same.
    pub(crate) disp: i32,
    /// An immediate operand, see [`Op::imm`] and [`Op::wide`]. Of floating point: which of
    /// [`Cpu::floats`] it is.
    pub(crate) imm: u32,
    /// Its base, as a place in [`Cpu::regs`].
    pub(crate) base: u8,
    /// Its index.
    pub(crate) index: u8,
    /// The place of the segment's base.
    pub(crate) segment: u8,
    /// What else there is to know of the memory operand.
    pub(crate) shape: Shape,
    /// First operand, or the one that is a register.
    pub(crate) dst: u8,
    /// Second operand.
    pub(crate) src: u8,
    /// Bytes of the operands, where the handler is not of one width.
    pub(crate) bytes: u8,
    /// Where the next one begins, relative to the block.
    pub(crate) next: u8,
}

// There are hundreds of thousands.
const _: () = assert!(size_of::<Op>() == 24);

impl Op {
    /// The displacement, or the distance of a branch.
    #[inline(always)]
    pub(crate) fn disp(&self) -> u64 {
        i64::from(self.disp).cast_unsigned()
    }

    /// What has 64 bits: what is moved into a register, the address in an instruction.
    #[inline(always)]
    pub(crate) fn wide(&self) -> u64 {
        u64::from(self.imm) | u64::from(self.disp.cast_unsigned()) << 32
    }

    pub(crate) fn set_wide(&mut self, value: u64) {
        let [a, b, c, d, rest @ ..] = value.to_le_bytes();
        self.imm = u32::from_le_bytes([a, b, c, d]);
        self.disp = i32::from_le_bytes(rest);
    }

    /// The immediate operand, its sign extended to a width.
    #[inline(always)]
    pub(crate) fn imm<T: Word>(&self) -> u64 {
        i64::from(self.imm.cast_signed()).cast_unsigned() & T::MASK
    }
}

/// What is known of a memory operand beside its registers: how far the index is shifted (bits 0 and
/// 1), whether it is flat and whether in the stack (bits 2 and 3), and how many times 16 bits of an
/// address do not count (bits 4 and 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape(u8);

impl Shape {
    /// Base, index, displacement and segment are simply added up.
    const FLAT: u8 = 1 << 2;
    /// It is in the stack, whose faults are others.
    const STACK: u8 = 1 << 3;

    /// An operand in a flat segment.
    pub(crate) const fn new() -> Shape {
        Shape(Shape::FLAT)
    }

    /// As it was saved, if it is one.
    pub(crate) fn from_byte(byte: u8) -> Option<Shape> {
        (byte < 64).then_some(Shape(byte))
    }

    pub(crate) fn byte(self) -> u8 {
        self.0
    }

    #[inline(always)]
    pub(crate) fn scale(self) -> u8 {
        self.0 & 3
    }

    #[inline(always)]
    pub(crate) fn is_flat(self) -> bool {
        self.0 & Shape::FLAT != 0
    }

    #[inline(always)]
    pub(crate) fn is_stack(self) -> bool {
        self.0 & Shape::STACK != 0
    }

    /// Bits of addresses that count.
    #[inline]
    pub(crate) fn address_mask(self) -> u64 {
        u64::MAX >> (u32::from(self.0 >> 4 & 3) * 16)
    }

    pub(crate) fn set_scale(&mut self, scale: u32) {
        self.0 = self.0 & !3 | (scale & 3) as u8;
    }

    pub(crate) fn set_flat(&mut self, flat: bool) {
        self.0 = self.0 & !Shape::FLAT | if flat { Shape::FLAT } else { 0 };
    }

    pub(crate) fn set_stack(&mut self, stack: bool) {
        self.0 = self.0 & !Shape::STACK | if stack { Shape::STACK } else { 0 };
    }

    /// Sets how wide addresses are: 16, 32 or 64 bits.
    pub(crate) fn set_address_bits(&mut self, bits: u8) {
        self.0 = self.0 & !0x30 | (4 - bits / 16) << 4;
    }
}

/// An instruction of floating point, which is looked at again when it is carried out.
#[derive(Debug)]
pub(crate) struct Float {
    pub(crate) instruction: Instruction,
    pub(crate) operation: fpu::Operation,
}

/// The bit of a register's number that says it is the second byte of the register: ah, ch, dh, bh.
pub(crate) const HIGH: u8 = 32;

/// What a register holds, of one width.
#[inline(always)]
pub(crate) fn read<T: Word>(cpu: &Cpu, register: u8) -> u64 {
    let whole = cpu.regs[usize::from(register) & 31];
    if T::BITS == 8 { whole >> ((register & HIGH) >> 2) & 0xff } else { whole & T::MASK }
}

/// Sets a register of one width; a value of 32 bits clears those above.
#[inline(always)]
pub(crate) fn write<T: Word>(cpu: &mut Cpu, register: u8, value: u64) {
    let whole = &mut cpu.regs[usize::from(register) & 31];
    *whole = match T::BITS {
        8 => {
            let shift = (register & HIGH) >> 2;
            *whole & !(0xff << shift) | value << shift
        }
        16 => *whole & !0xffff | value,
        _ => value,
    };
}

/// The linear address of the memory operand.
#[inline(always)]
pub(crate) fn address<T: Word>(cpu: &mut Cpu, op: &Op, write: bool) -> Did<u64> {
    let offset = offset(cpu, op);
    if op.shape.is_flat() {
        return Ok(offset.wrapping_add(cpu.regs[usize::from(op.segment) & 31]));
    }
    segmented(cpu, op, offset, T::BYTES, write)
}

/// How a handler finds the linear address of its memory operand.
pub(crate) trait At {
    /// The address, where that needs no more than additions.
    fn quick(cpu: &Cpu, op: &Op) -> Option<u64>;

    fn address<T: Word>(cpu: &mut Cpu, op: &Op, write: bool) -> Did<u64>;
}

/// A register and a displacement in a flat segment, as most operands are.
pub(crate) struct Plain;

impl At for Plain {
    #[inline(always)]
    fn quick(cpu: &Cpu, op: &Op) -> Option<u64> {
        Some(cpu.regs[usize::from(op.base) & 31].wrapping_add(op.disp()))
    }

    #[inline(always)]
    fn address<T: Word>(cpu: &mut Cpu, op: &Op, _write: bool) -> Did<u64> {
        Ok(cpu.regs[usize::from(op.base) & 31].wrapping_add(op.disp()))
    }
}

/// Any.
pub(crate) struct Any;

impl At for Any {
    #[inline(always)]
    fn quick(cpu: &Cpu, op: &Op) -> Option<u64> {
        let base = cpu.regs[usize::from(op.segment) & 31];
        op.shape.is_flat().then(|| offset(cpu, op).wrapping_add(base))
    }

    #[inline(always)]
    fn address<T: Word>(cpu: &mut Cpu, op: &Op, write: bool) -> Did<u64> {
        address::<T>(cpu, op, write)
    }
}

/// The memory operand's offset in its segment, before it is cut to the address's width.
#[inline(always)]
pub(crate) fn offset(cpu: &Cpu, op: &Op) -> u64 {
    let base = cpu.regs[usize::from(op.base) & 31];
    let index = cpu.regs[usize::from(op.index) & 31] << op.shape.scale();
    base.wrapping_add(index).wrapping_add(op.disp())
}

#[cold]
#[inline(never)]
pub(crate) fn segmented(cpu: &mut Cpu, op: &Op, offset: u64, bytes: u64, write: bool) -> Did<u64> {
    let offset = offset & op.shape.address_mask();
    let base = cpu.regs[usize::from(op.segment) & 31];
    if cpu.mode.code == 64 {
        return Ok(offset.wrapping_add(base));
    }
    cpu.check_segment(usize::from(op.segment) - SEGMENTS, offset, bytes, write)?;
    Ok(base.wrapping_add(offset) & 0xffff_ffff)
}

/// Where the next instruction is.
#[inline(always)]
pub(crate) fn after(cpu: &Cpu, op: &Op) -> u64 {
    cpu.linear(cpu.regs[RIP].wrapping_add(op.next.into()))
}

/// Goes on behind this instruction after a look around.
#[inline]
pub(crate) fn leave(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    cpu.regs[RIP] = after(cpu, op);
    Ok(Flow::Leave)
}

/// Chooses the handler of a width in bytes.
macro_rules! by_width {
    ($bytes:expr, $($handler:ident)::+ $(, $operation:ty)*) => {
        match $bytes {
            1 => $($handler)::+::<$($operation,)* u8>,
            2 => $($handler)::+::<$($operation,)* u16>,
            4 => $($handler)::+::<$($operation,)* u32>,
            _ => $($handler)::+::<$($operation,)* u64>,
        }
    };
}
pub(crate) use by_width;

/// Chooses the handler of a condition by its number.
macro_rules! by_condition {
    ($number:expr, $($handler:ident)::+ $(, $operation:ty)*) => {
        match $number {
            0 => $($handler)::+::<0 $(, $operation)*>,
            1 => $($handler)::+::<1 $(, $operation)*>,
            2 => $($handler)::+::<2 $(, $operation)*>,
            3 => $($handler)::+::<3 $(, $operation)*>,
            4 => $($handler)::+::<4 $(, $operation)*>,
            5 => $($handler)::+::<5 $(, $operation)*>,
            6 => $($handler)::+::<6 $(, $operation)*>,
            7 => $($handler)::+::<7 $(, $operation)*>,
            8 => $($handler)::+::<8 $(, $operation)*>,
            9 => $($handler)::+::<9 $(, $operation)*>,
            10 => $($handler)::+::<10 $(, $operation)*>,
            11 => $($handler)::+::<11 $(, $operation)*>,
            12 => $($handler)::+::<12 $(, $operation)*>,
            13 => $($handler)::+::<13 $(, $operation)*>,
            14 => $($handler)::+::<14 $(, $operation)*>,
            _ => $($handler)::+::<15 $(, $operation)*>,
        }
    };
}
pub(crate) use by_condition;

/// Handlers of all widths for handlers whose parameters are values.
macro_rules! by_width_const {
    ($bytes:expr, $($handler:ident)::+, $($value:expr),+) => {
        match $bytes {
            1 => $($handler)::+::<$({ $value },)+ u8>,
            2 => $($handler)::+::<$({ $value },)+ u16>,
            4 => $($handler)::+::<$({ $value },)+ u32>,
            _ => $($handler)::+::<$({ $value },)+ u64>,
        }
    };
}
pub(crate) use by_width_const;
