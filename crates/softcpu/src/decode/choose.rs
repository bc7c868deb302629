//! Which handler an instruction gets, by its mnemonic and the kinds of its operands.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the decoder knows more instructions and operands than a processor has"
)]

mod compute;
mod control;
mod moves;

pub(super) use compute::fused;
use iced_x86::{Instruction, OpKind};

use super::place;
use crate::{
    control::Mode,
    cpu::ZERO,
    op::{Handler, Op},
};

/// An operation that is ready.
pub(super) struct Chosen {
    pub(super) op: Op,
    /// Whether it always leaves the block.
    pub(super) looks_around: bool,
    /// What does the same without the flags.
    pub(super) silent: Option<Handler>,
}

/// Kinds of operands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Register,
    Memory,
    Immediate,
    None,
}

fn kind(instruction: &Instruction, n: u32) -> Kind {
    if n >= instruction.op_count() {
        return Kind::None;
    }
    match instruction.op_kind(n) {
        OpKind::Register => Kind::Register,
        OpKind::Memory => Kind::Memory,
        OpKind::Immediate8
        | OpKind::Immediate8_2nd
        | OpKind::Immediate16
        | OpKind::Immediate32
        | OpKind::Immediate64
        | OpKind::Immediate8to16
        | OpKind::Immediate8to32
        | OpKind::Immediate8to64
        | OpKind::Immediate32to64 => Kind::Immediate,
        _ => Kind::None,
    }
}

/// Bytes of an operand.
fn size(instruction: &Instruction, n: u32) -> usize {
    match kind(instruction, n) {
        Kind::Register => instruction.op_register(n).size(),
        Kind::Memory => instruction.memory_size().size(),
        Kind::Immediate | Kind::None => 0,
    }
}

/// All bits of so many bytes.
fn mask(bytes: usize) -> u64 {
    if bytes >= 8 { u64::MAX } else { (1 << (8 * bytes)) - 1 }
}

/// What choosing works on.
struct Choice<'a> {
    op: Op,
    i: &'a Instruction,
    mode: Mode,
    start: u64,
    /// Bytes of the first operand.
    bytes: usize,
    /// Kinds of the first two.
    kinds: (Kind, Kind),
    looks_around: bool,
    silent: Option<Handler>,
}

/// Finishes an operation whose memory operand and place are there; nothing, if there is no such
/// instruction.
pub(super) fn operation(op: Op, i: &Instruction, start: u64, mode: Mode) -> Option<Chosen> {
    let kinds = (kind(i, 0), kind(i, 1));
    let mut choice =
        Choice { op, i, mode, start, bytes: size(i, 0), kinds, looks_around: false, silent: None };
    choice.op.bytes = u8::try_from(choice.bytes).unwrap_or(0);
    choice.operands();
    choice.op.run = choice
        .arithmetic()
        .or_else(|| choice.moves())
        .or_else(|| choice.shifts())
        .or_else(|| choice.bits())
        .or_else(|| choice.branches())
        .or_else(|| choice.stack())
        .or_else(|| choice.strings())
        .or_else(|| choice.flags_and_decimal())
        .or_else(|| choice.segments())
        .or_else(|| choice.system())?;
    Some(Chosen { op: choice.op, looks_around: choice.looks_around, silent: choice.silent })
}

impl Choice<'_> {
    /// Registers and immediates where handlers expect them: the first register in `dst`, a second
    /// in `src`.
    fn operands(&mut self) {
        let mut registers = (0..self.i.op_count())
            .filter(|n| kind(self.i, *n) == Kind::Register)
            .map(|n| self.i.op_register(n));
        if let Some(first) = registers.next() {
            self.op.dst = place(first);
        }
        if let Some(second) = registers.next() {
            self.op.src = place(second);
        }
        for n in 0..self.i.op_count() {
            if kind(self.i, n) == Kind::Immediate {
                self.immediate(self.i.immediate(n));
                break;
            }
        }
    }

    /// Sets the immediate operand, which but for a move's is no wider than 32 bits.
    fn immediate(&mut self, value: u64) {
        let [a, b, c, d, ..] = value.to_le_bytes();
        self.op.imm = u32::from_le_bytes([a, b, c, d]);
    }

    /// Whether the memory operand is a register and a displacement in a flat segment.
    fn plain(&self) -> bool {
        let zero = |place: u8| usize::from(place) == ZERO;
        self.op.shape.is_flat() && zero(self.op.index) && zero(self.op.segment)
    }

    fn long(&self) -> bool {
        self.mode.code == 64
    }

    /// Leaves the block after this one.
    fn looking(&mut self, handler: Handler) -> Option<Handler> {
        self.looks_around = true;
        Some(handler)
    }

    /// The condition's number as the opcode has it.
    fn condition(&self) -> Option<u8> {
        (self.i.condition_code() as u8).checked_sub(1)
    }
}
