//! From an instruction's bytes to the operation that carries it out.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the decoder knows more instructions and operands than a processor has"
)]

mod choose;
mod features;

use iced_x86::{
    Decoder, DecoderError, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register,
};

pub(crate) use features::offered;

use hv::Model;

use crate::{
    control::Mode,
    cpu::{INDEX_AHEAD, RIP, SEGMENTS, ZERO},
    op::{Float, HIGH, Handler, Op, Shape, branch, float, system},
};

/// Most instructions of a block.
pub(crate) const BLOCK_MAX: usize = 64;

/// Most bytes of a block: places in it are kept in a byte each.
pub(crate) const BYTES_MAX: usize = 255;

/// Most bytes of an instruction.
pub(crate) const INSTRUCTION_MAX: usize = 15;

/// Instructions in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Code<'a> {
    pub(crate) bytes: &'a [u8],
    /// The address of the first.
    pub(crate) start: u64,
    pub(crate) mode: Mode,
    pub(crate) model: Model,
}

/// What bytes were decoded to. One that is used again needs no memory of its own for a block.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    /// One operation for each instruction, and perhaps one that goes on behind the block.
    pub(crate) ops: Vec<Op>,
    /// What each has to do with the flags.
    quiet: Vec<Quiet>,
}

/// `lzcnt` and `tzcnt` are `bsr` and `bsf` with a prefix that means nothing.
const OPTIONS: u32 = DecoderOptions::NO_MPFX_0FBC | DecoderOptions::NO_MPFX_0FBD;

impl Decoded {
    /// Decodes a block that begins at an address: up to a branch, an instruction that has to look
    /// around afterwards, or the end of the bytes. Of no whole instruction there is no operation.
    /// Those of floating point are added to those that there are.
    pub(crate) fn block(&mut self, code: Code<'_>, most: usize, floats: &mut Vec<Float>) {
        self.ops.clear();
        self.quiet.clear();
        let whole = self.instructions(code, most, floats);
        silence(&mut self.ops, &self.quiet);
        if let Some(end) = whole.filter(|_| !self.ops.is_empty()) {
            self.ops.push(fall(end));
        }
    }

    /// Its instructions; if nothing leaves the block at its end, where that is.
    fn instructions(
        &mut self,
        code: Code<'_>,
        most: usize,
        floats: &mut Vec<Float>,
    ) -> Option<usize> {
        let mut decoder = Decoder::with_ip(code.mode.code.into(), code.bytes, code.start, OPTIONS);
        let mut instruction = Instruction::default();
        let mut before = Instruction::default();
        let mut at = 0;
        while decoder.can_decode() && self.ops.len() < most {
            decoder.decode_out(&mut instruction);
            if decoder.last_error() == DecoderError::NoMoreBytes {
                break;
            }
            let next = decoder.position();
            let Decoding { op, ends, silent } = operation(&instruction, code, next, floats);
            if code.mode.code == 64
                && instruction.is_jcc_short_or_near()
                && !std::ptr::fn_addr_eq(op.run, branch::far_ahead as Handler)
                && let Some(last) = self.ops.last_mut()
                && let Some(run) = choose::fused(&before, &instruction)
            {
                (last.run, last.disp, last.next) = (run, op.disp, op.next);
                return None;
            }
            self.ops.push(op);
            self.quiet.push(Quiet::of(&instruction, silent));
            if ends {
                return None;
            }
            std::mem::swap(&mut before, &mut instruction);
            at = next;
        }
        Some(at)
    }
}

/// The operation that goes on behind a block of so many bytes.
pub(crate) fn fall(bytes: usize) -> Op {
    Op { run: branch::fall, ..plain(bytes) }
}

/// An operation that has nothing but its place.
fn plain(next: usize) -> Op {
    let zero = u8::try_from(ZERO).unwrap_or_default();
    Op {
        run: system::undefined,
        imm: 0,
        disp: 0,
        base: zero,
        index: zero,
        segment: zero,
        shape: Shape::new(),
        dst: zero,
        src: 0,
        bytes: 0,
        next: u8::try_from(next).unwrap_or(u8::MAX),
    }
}

/// What an instruction has to do with the arithmetic flags.
#[derive(Debug)]
struct Quiet {
    reads: u32,
    writes: u32,
    /// Whether it can stop, and the flags be seen there.
    stops: bool,
    silent: Option<Handler>,
}

impl Quiet {
    fn of(instruction: &Instruction, silent: Option<Handler>) -> Quiet {
        // Of an instruction with a silent handler everything is known; others may do anything.
        Quiet {
            reads: instruction.rflags_read(),
            writes: instruction.rflags_modified(),
            stops: silent.is_none() && !harmless(instruction),
            silent,
        }
    }
}

/// Whether an instruction can neither fault nor be left: moves among registers, comparisons.
fn harmless(instruction: &Instruction) -> bool {
    use iced_x86::Mnemonic as M;
    let registers = (0..instruction.op_count()).all(|n| {
        let register = instruction.op_register(n);
        instruction.op_kind(n) != OpKind::Register || register.is_gpr()
    });
    let memory = (0..instruction.op_count()).any(|n| instruction.op_kind(n) == OpKind::Memory);
    let lea = instruction.mnemonic() == M::Lea;
    lea || registers
        && !memory
        && matches!(
            instruction.mnemonic(),
            M::Mov | M::Movzx | M::Movsx | M::Movsxd | M::Cmp | M::Test | M::Bswap | M::Nop
        )
}

/// Gives operations whose flags are written again before anybody can see them the handlers that
/// leave the flags alone.
fn silence(ops: &mut [Op], quiet: &[Quiet]) {
    let mut wanted = u32::MAX;
    for (op, quiet) in ops.iter_mut().zip(quiet).rev() {
        if quiet.writes & wanted == 0
            && quiet.writes != 0
            && let Some(silent) = quiet.silent
        {
            op.run = silent;
        }
        wanted = if quiet.stops { u32::MAX } else { wanted & !quiet.writes | quiet.reads };
    }
}

/// One instruction.
struct Decoding {
    op: Op,
    /// Whether the block ends with it.
    ends: bool,
    /// What does it without the flags.
    silent: Option<Handler>,
}

fn operation(
    instruction: &Instruction,
    code: Code<'_>,
    next: usize,
    floats: &mut Vec<Float>,
) -> Decoding {
    let mut op = plain(next);
    if instruction.code() == iced_x86::Code::INVALID || !offered(instruction, code.model) {
        return Decoding { op, ends: true, silent: None };
    }
    memory(&mut op, instruction, code.start, code.mode);
    op.shape.set_stack(stack(instruction, code.mode));
    let integer = features::is_integer(instruction);
    if !integer && let Some(float) = crate::fpu::Operation::of(instruction) {
        op.run = float::run;
        op.src = float::kind(instruction);
        op.imm = u32::try_from(floats.len()).unwrap_or(u32::MAX);
        floats.push(Float { instruction: *instruction, operation: float });
        return Decoding { op, ends: false, silent: None };
    }
    let Some(chosen) = choose::operation(op, instruction, code.start, code.mode) else {
        return Decoding { op: plain(next), ends: true, silent: None };
    };
    let ends = instruction.flow_control() != FlowControl::Next || chosen.looks_around;
    Decoding { op: chosen.op, ends, silent: chosen.silent }
}

/// Whether the memory that an instruction reaches is the stack's. In 64-bit mode a prefix that
/// names the stack's segment means nothing.
fn stack(instruction: &Instruction, mode: Mode) -> bool {
    let operand = (0..instruction.op_count()).any(|n| instruction.op_kind(n) == OpKind::Memory);
    let segment = instruction.memory_segment();
    if !operand {
        // The decoder counts nothing for what depends on the frame pointer.
        let frame = matches!(instruction.mnemonic(), Mnemonic::Leave | Mnemonic::Enter);
        frame || instruction.stack_pointer_increment() != 0
    } else if mode.code == 64 {
        let base = instruction.memory_base().full_register();
        matches!(base, Register::RSP | Register::RBP)
            && !matches!(segment, Register::FS | Register::GS)
    } else {
        segment == Register::SS
    }
}

/// The place of a general register.
pub(crate) fn place(register: Register) -> u8 {
    // The numbers of registers of eight bits are not those of the registers that they are in.
    let number = u8::try_from(register.full_register().number()).unwrap_or_default();
    match register {
        Register::AH | Register::CH | Register::DH | Register::BH => HIGH | number,
        _ => number,
    }
}

/// The place of a segment's base.
fn segment_place(segment: Register, mode: Mode) -> u8 {
    let flat = mode.code == 64 && !matches!(segment, Register::FS | Register::GS);
    let place = if flat { ZERO } else { SEGMENTS + segment.number() };
    u8::try_from(place).unwrap_or_default()
}

/// Fills in the memory operand, if there is one.
fn memory(op: &mut Op, instruction: &Instruction, start: u64, mode: Mode) {
    let kinds = (0..instruction.op_count()).map(|n| instruction.op_kind(n));
    for kind in kinds {
        let bits = match kind {
            OpKind::Memory => explicit(op, instruction, start),
            OpKind::MemorySegSI | OpKind::MemoryESDI | OpKind::MemorySegDI => 16,
            OpKind::MemorySegESI | OpKind::MemoryESEDI | OpKind::MemorySegEDI => 32,
            OpKind::MemorySegRSI | OpKind::MemoryESRDI | OpKind::MemorySegRDI => 64,
            _ => continue,
        };
        if matches!(kind, OpKind::MemorySegDI | OpKind::MemorySegEDI | OpKind::MemorySegRDI) {
            op.base = u8::try_from(float::HIDDEN_BASE).unwrap_or_default();
        }
        op.shape.set_address_bits(bits);
        op.shape.set_flat(mode.code == 64 && bits == 64);
        if !matches!(kind, OpKind::MemoryESDI | OpKind::MemoryESEDI | OpKind::MemoryESRDI) {
            op.segment = segment_place(instruction.memory_segment(), mode);
        }
    }
}

/// An operand of registers and a displacement; gives how many bits its address has.
fn explicit(op: &mut Op, instruction: &Instruction, start: u64) -> u8 {
    let (base, index) = (instruction.memory_base(), instruction.memory_index());
    op.disp = low(instruction.memory_displacement64());
    if instruction.is_ip_rel_memory_operand() {
        let distance = instruction.memory_displacement64().wrapping_sub(start);
        op.base = u8::try_from(RIP).unwrap_or_default();
        op.disp = low(distance);
        if op.disp() != distance {
            op.index = u8::try_from(INDEX_AHEAD).unwrap_or_default();
        }
        return if base == Register::EIP { 32 } else { 64 };
    }
    if base != Register::None {
        op.base = place(base);
    }
    if index != Register::None {
        op.index = place(index);
        op.shape.set_scale(instruction.memory_index_scale().trailing_zeros());
    }
    let bytes = match (base, index) {
        (Register::None, Register::None) => instruction.memory_displ_size(),
        (Register::None, _) => u32::try_from(index.size()).unwrap_or(8),
        _ => u32::try_from(base.size()).unwrap_or(8),
    };
    match bytes {
        8 => 64,
        2 => 16,
        _ => 32,
    }
}

/// The lower half of a number, its highest bit a sign.
fn low(number: u64) -> i32 {
    let [a, b, c, d, ..] = number.to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}
