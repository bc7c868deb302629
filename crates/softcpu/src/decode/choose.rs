//! Which handler an instruction gets, by its mnemonic and the kinds of its operands.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the decoder knows more instructions and operands than a processor has"
)]

use iced_x86::{Code, Instruction, Mnemonic as M, OpKind, Register};

use super::place;
use crate::{
    alu::{
        Adc, Add, Alu, And, Cmp, Dec, Inc, Neg, Not, Or, Rcl, Rcr, Rol, Ror, Sar, Sbb, Shl, Shr,
        Sub, Test, Xor,
    },
    control::Mode,
    cpu::ZERO,
    op::{
        Any, Handler, Op, Plain, atomic, bits, branch, by_width, integer, moves, multiply, shifts,
        slow, stack, strings, system,
    },
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

/// A handler, if the operation writes its result anywhere.
fn writes<O: Alu>(handler: Handler) -> Option<Handler> {
    O::WRITES.then_some(handler)
}

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

impl Choice<'_> {
    /// Registers and immediates where handlers expect them: the first register in `dst`, a second
    /// in `src`, an immediate cut to the first operand's width.
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
                self.op.imm = self.i.immediate(n) & mask(self.bytes.max(1));
                break;
            }
        }
    }

    /// Whether the memory operand is a register and a displacement in a flat segment.
    fn plain(&self) -> bool {
        let zero = |place: u8| usize::from(place) == ZERO;
        self.op.flat && zero(self.op.index) && zero(self.op.segment)
    }

    fn long(&self) -> bool {
        self.mode.code == 64
    }

    /// Leaves the block after this one.
    fn looking(&mut self, handler: Handler) -> Option<Handler> {
        self.looks_around = true;
        Some(handler)
    }

    fn arithmetic(&mut self) -> Option<Handler> {
        let (bytes, locked) = (self.bytes, self.i.has_lock_prefix());
        let plain = self.plain();
        macro_rules! two {
            ($operation:ty) => {
                match (self.kinds, locked) {
                    ((Kind::Register, Kind::Register), _) => {
                        self.silent =
                            writes::<$operation>(by_width!(bytes, integer::rr_silent, $operation));
                        by_width!(bytes, integer::rr, $operation)
                    }
                    ((Kind::Register, Kind::Immediate), _) => {
                        self.silent =
                            writes::<$operation>(by_width!(bytes, integer::ri_silent, $operation));
                        by_width!(bytes, integer::ri, $operation)
                    }
                    ((Kind::Register, Kind::Memory), _) if plain => {
                        by_width!(bytes, integer::rm, Plain, $operation)
                    }
                    ((Kind::Register, Kind::Memory), _) => {
                        by_width!(bytes, integer::rm, Any, $operation)
                    }
                    ((Kind::Memory, Kind::Register), false) if plain => {
                        by_width!(bytes, integer::mr, Plain, $operation)
                    }
                    ((Kind::Memory, Kind::Register), false) => {
                        by_width!(bytes, integer::mr, Any, $operation)
                    }
                    ((Kind::Memory, Kind::Immediate), false) if plain => {
                        by_width!(bytes, integer::mi, Plain, $operation)
                    }
                    ((Kind::Memory, Kind::Immediate), false) => {
                        by_width!(bytes, integer::mi, Any, $operation)
                    }
                    ((Kind::Memory, Kind::Register), true) => {
                        by_width!(bytes, integer::mr_locked, $operation)
                    }
                    ((Kind::Memory, Kind::Immediate), true) => {
                        by_width!(bytes, integer::mi_locked, $operation)
                    }
                    _ => return None,
                }
            };
        }
        macro_rules! one {
            ($operation:ty) => {
                match (self.kinds.0, locked) {
                    (Kind::Register, _) => {
                        self.silent = Some(by_width!(bytes, integer::r_silent, $operation));
                        by_width!(bytes, integer::r, $operation)
                    }
                    (_, false) => by_width!(bytes, integer::m, $operation),
                    (_, true) => by_width!(bytes, integer::m_locked, $operation),
                }
            };
        }
        macro_rules! wide {
            ($handler:ident) => {
                if self.kinds.0 == Kind::Memory {
                    by_width_const!(bytes, multiply::$handler, true)
                } else {
                    by_width_const!(bytes, multiply::$handler, false)
                }
            };
        }
        Some(match self.i.mnemonic() {
            M::Add => two!(Add),
            M::Or => two!(Or),
            M::Adc => two!(Adc),
            M::Sbb => two!(Sbb),
            M::And => two!(And),
            M::Sub => two!(Sub),
            M::Xor => two!(Xor),
            M::Cmp => two!(Cmp),
            M::Test => two!(Test),
            M::Inc => one!(Inc),
            M::Dec => one!(Dec),
            M::Neg => one!(Neg),
            M::Not => one!(Not),
            M::Mul => wide!(unsigned),
            M::Div => wide!(divide),
            M::Idiv => wide!(divide_signed),
            M::Imul => match (self.i.op_count(), self.kinds.1) {
                (1, _) => wide!(signed),
                (2, Kind::Register) => by_width!(bytes, multiply::rr),
                (2, _) => by_width!(bytes, multiply::rm),
                (_, Kind::Register) => by_width!(bytes, multiply::rri),
                _ => by_width!(bytes, multiply::rmi),
            },
            _ => return None,
        })
    }

    fn moves(&mut self) -> Option<Handler> {
        let (bytes, kinds, locked) = (self.bytes, self.kinds, self.i.has_lock_prefix());
        let from = size(self.i, 1);
        let (memory, plain) = (kinds.1 == Kind::Memory, self.plain());
        macro_rules! widening {
            ($register:ident, $memory:ident) => {
                match (memory, from, bytes) {
                    (true, 1, 4) if plain => moves::$memory::<Plain, u8, u32>,
                    (true, 2, 4) if plain => moves::$memory::<Plain, u16, u32>,
                    (true, 4, 8) if plain => moves::$memory::<Plain, u32, u64>,
                    (false, 1, 2) => moves::$register::<u8, u16>,
                    (false, 1, 4) => moves::$register::<u8, u32>,
                    (false, 1, _) => moves::$register::<u8, u64>,
                    (false, 2, 2) => moves::$register::<u16, u16>,
                    (false, 2, 4) => moves::$register::<u16, u32>,
                    (false, 2, _) => moves::$register::<u16, u64>,
                    (false, _, 2) => moves::$register::<u16, u16>,
                    (false, _, 4) => moves::$register::<u32, u32>,
                    (false, _, _) => moves::$register::<u32, u64>,
                    (true, 1, 2) => moves::$memory::<Any, u8, u16>,
                    (true, 1, 4) => moves::$memory::<Any, u8, u32>,
                    (true, 1, _) => moves::$memory::<Any, u8, u64>,
                    (true, 2, 2) => moves::$memory::<Any, u16, u16>,
                    (true, 2, 4) => moves::$memory::<Any, u16, u32>,
                    (true, 2, _) => moves::$memory::<Any, u16, u64>,
                    (true, _, 2) => moves::$memory::<Any, u16, u16>,
                    (true, _, 4) => moves::$memory::<Any, u32, u32>,
                    (true, _, _) => moves::$memory::<Any, u32, u64>,
                }
            };
        }
        let mnemonic = self.i.mnemonic();
        Some(match mnemonic {
            M::Mov => return self.mov(),
            M::Lea => by_width!(bytes, moves::lea),
            M::Movzx => widening!(zero_rr, zero_rm),
            M::Movsx | M::Movsxd => widening!(sign_rr, sign_rm),
            M::Bswap => by_width!(bytes, moves::bswap),
            M::Cbw => moves::widen::<u8, u16>,
            M::Cwde => moves::widen::<u16, u32>,
            M::Cdqe => moves::widen::<u32, u64>,
            M::Cwd => moves::sign_into_rdx::<u16>,
            M::Cdq => moves::sign_into_rdx::<u32>,
            M::Cqo => moves::sign_into_rdx::<u64>,
            M::Xchg if kinds == (Kind::Register, Kind::Register) => {
                by_width!(bytes, moves::exchange_rr)
            }
            M::Xchg => by_width!(bytes, atomic::exchange),
            M::Xadd if kinds.0 == Kind::Register => by_width!(bytes, atomic::exchange_add_rr),
            M::Xadd if locked => by_width_const!(bytes, atomic::exchange_add, true),
            M::Xadd => by_width_const!(bytes, atomic::exchange_add, false),
            M::Cmpxchg if kinds.0 == Kind::Register => {
                by_width!(bytes, atomic::compare_exchange_rr)
            }
            M::Cmpxchg if locked => by_width_const!(bytes, atomic::compare_exchange, true),
            M::Cmpxchg => by_width_const!(bytes, atomic::compare_exchange, false),
            M::Cmpxchg8b => atomic::compare_exchange_8,
            M::Cmpxchg16b => atomic::compare_exchange_16,
            _ if self.i.is_jcc_short_or_near() => return None,
            _ => return self.conditional_moves(),
        })
    }

    fn conditional_moves(&mut self) -> Option<Handler> {
        let condition = self.condition()?;
        let (bytes, memory) = (self.bytes, self.kinds.1 == Kind::Memory);
        let name = self.i.code();
        if is_setcc(name) {
            return Some(if self.kinds.0 == Kind::Memory {
                by_condition!(condition, moves::set_m)
            } else {
                by_condition!(condition, moves::set_r)
            });
        }
        if !is_cmovcc(name) {
            return None;
        }
        Some(match (bytes, memory) {
            (2, false) => by_condition!(condition, moves::conditional_rr, u16),
            (4, false) => by_condition!(condition, moves::conditional_rr, u32),
            (_, false) => by_condition!(condition, moves::conditional_rr, u64),
            (2, true) => by_condition!(condition, moves::conditional_rm, u16),
            (4, true) => by_condition!(condition, moves::conditional_rm, u32),
            (_, true) => by_condition!(condition, moves::conditional_rm, u64),
        })
    }

    /// The condition's number as the opcode has it.
    fn condition(&self) -> Option<u8> {
        (self.i.condition_code() as u8).checked_sub(1)
    }

    fn mov(&mut self) -> Option<Handler> {
        let (bytes, plain) = (self.bytes, self.plain());
        let special = |register: Register| {
            register.is_segment_register() || register.is_cr() || register.is_dr()
        };
        let registers = (self.i.op_register(0), self.i.op_register(1));
        let number = |register: Register| u8::try_from(register.number()).unwrap_or_default();
        if self.kinds.0 == Kind::Register && special(registers.0) {
            let to = registers.0;
            if to.is_segment_register() {
                if to == Register::CS {
                    return None;
                }
                let memory = self.kinds.1 == Kind::Memory;
                if !memory {
                    self.op.dst = place(registers.1);
                }
                self.op.src = number(to);
                return self.looking(if memory {
                    slow::to_segment::<true>
                } else {
                    slow::to_segment::<false>
                });
            }
            self.op.src = place(registers.1);
            self.op.dst = number(to);
            return if to.is_cr() {
                self.looking(system::to_control)
            } else {
                Some(system::to_debug)
            };
        }
        if self.kinds.1 == Kind::Register && special(registers.1) {
            let from = registers.1;
            let memory = self.kinds.0 == Kind::Memory;
            if memory {
                self.op.dst = 0;
            } else {
                self.op.dst = place(registers.0);
            }
            self.op.src = number(from);
            return Some(if from.is_cr() {
                system::from_control
            } else if from.is_dr() {
                system::from_debug
            } else if memory {
                slow::from_segment::<true>
            } else {
                slow::from_segment::<false>
            });
        }
        Some(match self.kinds {
            (Kind::Register, Kind::Register) => by_width!(bytes, moves::rr),
            (Kind::Register, Kind::Immediate) => by_width!(bytes, moves::ri),
            (Kind::Register, Kind::Memory) if plain => by_width!(bytes, moves::rm, Plain),
            (Kind::Register, Kind::Memory) => by_width!(bytes, moves::rm, Any),
            (Kind::Memory, Kind::Register) if plain => by_width!(bytes, moves::mr, Plain),
            (Kind::Memory, Kind::Register) => by_width!(bytes, moves::mr, Any),
            (Kind::Memory, Kind::Immediate) if plain => by_width!(bytes, moves::mi, Plain),
            (Kind::Memory, Kind::Immediate) => by_width!(bytes, moves::mi, Any),
            _ => return None,
        })
    }

    fn shifts(&mut self) -> Option<Handler> {
        let (bytes, memory) = (self.bytes, self.kinds.0 == Kind::Memory);
        let by_cl = self.kinds.1 == Kind::Register;
        if self.kinds.1 == Kind::Immediate {
            self.op.imm &= 0xff;
        }
        macro_rules! shift {
            ($operation:ty) => {
                match (memory, by_cl) {
                    (false, false) => {
                        // One by nothing leaves the flags as they were.
                        let some = self.op.imm & if bytes == 8 { 63 } else { 31 } != 0;
                        let silent = by_width!(bytes, shifts::ri_silent, $operation);
                        self.silent = some.then_some(silent);
                        by_width!(bytes, shifts::ri, $operation)
                    }
                    (false, true) => by_width!(bytes, shifts::rc, $operation),
                    (true, false) => by_width!(bytes, shifts::mi, $operation),
                    (true, true) => by_width!(bytes, shifts::mc, $operation),
                }
            };
        }
        macro_rules! double {
            ($left:literal) => {
                match (memory, kind(self.i, 2) == Kind::Immediate) {
                    (false, true) => by_width_const!(bytes, shifts::double_r, $left, false),
                    (false, false) => by_width_const!(bytes, shifts::double_r, $left, true),
                    (true, true) => by_width_const!(bytes, shifts::double_m, $left, false),
                    (true, false) => by_width_const!(bytes, shifts::double_m, $left, true),
                }
            };
        }
        Some(match self.i.mnemonic() {
            M::Shl | M::Sal => shift!(Shl),
            M::Shr => shift!(Shr),
            M::Sar => shift!(Sar),
            M::Rol => shift!(Rol),
            M::Ror => shift!(Ror),
            M::Rcl => shift!(Rcl),
            M::Rcr => shift!(Rcr),
            M::Shld => double!(true),
            M::Shrd => double!(false),
            _ => return None,
        })
    }

    fn bits(&mut self) -> Option<Handler> {
        let (bytes, locked) = (self.bytes, self.i.has_lock_prefix());
        macro_rules! bit {
            ($how:expr) => {
                match (self.kinds, locked) {
                    ((Kind::Register, Kind::Register), _) => {
                        by_width_const!(bytes, bits::rr, $how)
                    }
                    ((Kind::Register, _), _) => by_width_const!(bytes, bits::ri, $how),
                    ((_, Kind::Register), false) => {
                        by_width_const!(bytes, bits::mr, $how, false)
                    }
                    ((_, Kind::Register), true) => by_width_const!(bytes, bits::mr, $how, true),
                    (_, false) => by_width_const!(bytes, bits::mi, $how, false),
                    (_, true) => by_width_const!(bytes, bits::mi, $how, true),
                }
            };
        }
        let memory = self.kinds.1 == Kind::Memory;
        macro_rules! search {
            ($up:literal) => {
                if memory {
                    by_width_const!(bytes, bits::scan, $up, true)
                } else {
                    by_width_const!(bytes, bits::scan, $up, false)
                }
            };
        }
        Some(match self.i.mnemonic() {
            M::Bt => bit!(bits::TEST),
            M::Bts => bit!(bits::SET),
            M::Btr => bit!(bits::RESET),
            M::Btc => bit!(bits::TURN),
            M::Bsf => search!(true),
            M::Bsr => search!(false),
            M::Popcnt if memory => by_width_const!(bytes, bits::population, true),
            M::Popcnt => by_width_const!(bytes, bits::population, false),
            M::Crc32 => {
                let from = size(self.i, 1);
                if memory {
                    by_width_const!(from, bits::checksum, true)
                } else {
                    by_width_const!(from, bits::checksum, false)
                }
            }
            _ => return None,
        })
    }

    fn branches(&mut self) -> Option<Handler> {
        let i = self.i;
        if i.op_count() > 0
            && matches!(
                i.op_kind(0),
                OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64
            )
        {
            self.op.imm = i.near_branch_target().wrapping_sub(self.start);
            self.op.bytes = match i.op_kind(0) {
                OpKind::NearBranch16 => 2,
                OpKind::NearBranch32 => 4,
                _ => 8,
            };
        }
        let (long, bytes, memory) = (self.long(), self.bytes, self.kinds.0 == Kind::Memory);
        Some(match i.mnemonic() {
            M::Jmp if i.is_jmp_short_or_near() && long => branch::jump,
            M::Jmp if i.is_jmp_short_or_near() => branch::jump_narrow,
            M::Jmp if i.is_jmp_near_indirect() && memory => by_width!(bytes, branch::jump_m),
            M::Jmp if i.is_jmp_near_indirect() => by_width!(bytes, branch::jump_r),
            M::Call if i.is_call_near() && long => branch::call,
            M::Call if i.is_call_near() => branch::call_narrow,
            M::Call if i.is_call_near_indirect() && memory => by_width!(bytes, branch::call_m),
            M::Call if i.is_call_near_indirect() => by_width!(bytes, branch::call_r),
            M::Jmp | M::Call => return self.far(),
            M::Ret => {
                self.op.bytes = match i.code() {
                    Code::Retnw | Code::Retnw_imm16 => 2,
                    Code::Retnd | Code::Retnd_imm16 => 4,
                    _ => 8,
                };
                self.op.imm = if self.kinds.0 == Kind::Immediate { i.immediate(0) } else { 0 };
                if long && self.op.bytes == 8 { branch::ret } else { branch::ret_narrow }
            }
            M::Loop => self.counted(0),
            M::Loope => self.counted(1),
            M::Loopne => self.counted(2),
            M::Jcxz | M::Jecxz | M::Jrcxz => self.counted(3),
            _ if i.is_jcc_short_or_near() => {
                let condition = self.condition()?;
                if long {
                    by_condition!(condition, branch::conditional)
                } else {
                    by_condition!(condition, branch::conditional_narrow)
                }
            }
            _ => return None,
        })
    }

    fn counted(&mut self, how: u8) -> Handler {
        use Code as C;
        self.op.src = how;
        self.op.address_bits = match self.i.code() {
            C::Loop_rel8_16_CX
            | C::Loop_rel8_32_CX
            | C::Loope_rel8_16_CX
            | C::Loope_rel8_32_CX
            | C::Loopne_rel8_16_CX
            | C::Loopne_rel8_32_CX
            | C::Jcxz_rel8_16
            | C::Jcxz_rel8_32 => 16,
            C::Loop_rel8_64_RCX
            | C::Loop_rel8_16_RCX
            | C::Loope_rel8_64_RCX
            | C::Loope_rel8_16_RCX
            | C::Loopne_rel8_64_RCX
            | C::Loopne_rel8_16_RCX
            | C::Jrcxz_rel8_64
            | C::Jrcxz_rel8_16 => 64,
            _ => 32,
        };
        branch::counted
    }

    fn far(&mut self) -> Option<Handler> {
        let call = self.i.mnemonic() == M::Call;
        if self.i.is_jmp_far() || self.i.is_call_far() {
            let wide = self.i.op_kind(0) == OpKind::FarBranch32;
            self.op.bytes = if wide { 4 } else { 2 };
            self.op.imm =
                if wide { self.i.far_branch32().into() } else { self.i.far_branch16().into() };
            self.op.disp = self.i.far_branch_selector().into();
            return self.looking(if call { slow::call_far_i } else { slow::jump_far_i });
        }
        // The selector stands behind the offset.
        self.op.bytes = u8::try_from(self.i.memory_size().size() - 2).ok()?;
        self.looking(if call { slow::call_far_m } else { slow::jump_far_m })
    }

    fn stack(&mut self) -> Option<Handler> {
        let i = self.i;
        let moved = usize::try_from(i.stack_pointer_increment().unsigned_abs()).ok()?;
        let (long, memory) = (self.long(), self.kinds.0 == Kind::Memory);
        let segment = self.kinds.0 == Kind::Register && i.op_register(0).is_segment_register();
        Some(match i.mnemonic() {
            M::Push | M::Pop if segment => {
                let number = i.op_register(0).number();
                self.op.src = u8::try_from(number).ok()?;
                self.op.bytes = u8::try_from(moved).ok()?;
                if i.mnemonic() == M::Push {
                    slow::push_segment
                } else {
                    return self.looking(slow::pop_segment);
                }
            }
            M::Push => match self.kinds.0 {
                Kind::Register if long && moved == 8 => stack::push_r64,
                Kind::Register => by_width!(moved, stack::push_r),
                Kind::Memory => by_width!(moved, stack::push_m),
                _ => {
                    self.op.imm = i.immediate(0) & mask(moved);
                    if long && moved == 8 {
                        stack::push_i64
                    } else {
                        by_width!(moved, stack::push_i)
                    }
                }
            },
            M::Pop if memory => by_width!(moved, stack::pop_m),
            M::Pop if long && moved == 8 => stack::pop_r64,
            M::Pop => by_width!(moved, stack::pop_r),
            M::Leave => match i.code() {
                Code::Leavew => stack::leave_frame::<u16>,
                Code::Leaved => stack::leave_frame::<u32>,
                _ => stack::leave_frame::<u64>,
            },
            M::Enter => {
                self.op.imm = i.immediate(0);
                self.op.src = i.immediate8_2nd();
                match i.code() {
                    Code::Enterw_imm16_imm8 => stack::enter_frame::<u16>,
                    Code::Enterd_imm16_imm8 => stack::enter_frame::<u32>,
                    _ => stack::enter_frame::<u64>,
                }
            }
            M::Pusha => stack::push_all::<u16>,
            M::Pushad => stack::push_all::<u32>,
            M::Popa => stack::pop_all::<u16>,
            M::Popad => stack::pop_all::<u32>,
            M::Pushf => stack::push_flags::<u16>,
            M::Pushfd => stack::push_flags::<u32>,
            M::Pushfq => stack::push_flags::<u64>,
            M::Popf => stack::pop_flags::<u16>,
            M::Popfd => stack::pop_flags::<u32>,
            M::Popfq => stack::pop_flags::<u64>,
            _ => return None,
        })
    }

    fn strings(&mut self) -> Option<Handler> {
        let i = self.i;
        if !i.is_string_instruction() {
            return None;
        }
        self.op.src = if i.has_repne_prefix() {
            strings::WHILE_DIFFERENT
        } else if i.has_rep_prefix() {
            strings::WHILE_EQUAL
        } else {
            strings::ONCE
        };
        Some(match i.mnemonic() {
            M::Movsb => strings::movs::<u8>,
            M::Movsw => strings::movs::<u16>,
            M::Movsd => strings::movs::<u32>,
            M::Movsq => strings::movs::<u64>,
            M::Stosb => strings::stos::<u8>,
            M::Stosw => strings::stos::<u16>,
            M::Stosd => strings::stos::<u32>,
            M::Stosq => strings::stos::<u64>,
            M::Lodsb => strings::lods::<u8>,
            M::Lodsw => strings::lods::<u16>,
            M::Lodsd => strings::lods::<u32>,
            M::Lodsq => strings::lods::<u64>,
            M::Scasb => strings::scas::<u8>,
            M::Scasw => strings::scas::<u16>,
            M::Scasd => strings::scas::<u32>,
            M::Scasq => strings::scas::<u64>,
            M::Cmpsb => strings::cmps::<u8>,
            M::Cmpsw => strings::cmps::<u16>,
            M::Cmpsd => strings::cmps::<u32>,
            M::Cmpsq => strings::cmps::<u64>,
            M::Insb => strings::ins::<u8>,
            M::Insw => strings::ins::<u16>,
            M::Insd => strings::ins::<u32>,
            M::Outsb => strings::outs::<u8>,
            M::Outsw => strings::outs::<u16>,
            M::Outsd => strings::outs::<u32>,
            _ => return None,
        })
    }

    fn flags_and_decimal(&mut self) -> Option<Handler> {
        let i = self.i;
        Some(match i.mnemonic() {
            M::Nop
            | M::Endbr32
            | M::Endbr64
            | M::Rdsspd
            | M::Rdsspq
            | M::Reservednop
            | M::Prefetch
            | M::Prefetchw
            | M::Prefetchnta
            | M::Prefetcht0
            | M::Prefetcht1
            | M::Prefetcht2
            | M::Clflush
            | M::Mfence
            | M::Lfence
            | M::Sfence => moves::nop,
            M::Clc => slow::clc,
            M::Stc => slow::stc,
            M::Cmc => slow::cmc,
            M::Cld => slow::cld,
            M::Std => slow::std,
            M::Lahf => slow::lahf,
            M::Sahf => slow::sahf,
            M::Salc => slow::salc,
            M::Xlatb => {
                self.xlat();
                slow::translate
            }
            M::Daa => slow::decimal::<false>,
            M::Das => slow::decimal::<true>,
            M::Aaa => slow::unpacked::<false>,
            M::Aas => slow::unpacked::<true>,
            M::Aam => slow::split,
            M::Aad => slow::join,
            M::Bound if self.bytes == 2 => slow::bound::<u16>,
            M::Bound => slow::bound::<u32>,
            _ => return None,
        })
    }

    /// The operand of `xlat` is at rbx + al, which the decoder names as base and index.
    fn xlat(&mut self) {
        self.op.disp = 0;
    }

    fn segments(&mut self) -> Option<Handler> {
        use crate::cpu::{DS, ES, FS, GS, SS};
        let (memory, bytes) = (self.kinds.0 == Kind::Memory, self.op.bytes);
        let pointer = |choice: &mut Self, segment: usize| {
            choice.op.src = u8::try_from(segment).ok()?;
            choice.looking(slow::load_pointer)
        };
        macro_rules! either {
            ($($handler:ident)::+ $(, $value:literal)*) => {
                if memory {
                    $($handler)::+::<$($value,)* true>
                } else {
                    $($handler)::+::<$($value,)* false>
                }
            };
        }
        Some(match self.i.mnemonic() {
            M::Les => return pointer(self, ES),
            M::Lds => return pointer(self, DS),
            M::Lss => return pointer(self, SS),
            M::Lfs => return pointer(self, FS),
            M::Lgs => return pointer(self, GS),
            M::Arpl => {
                if memory {
                    self.op.src = self.op.dst;
                }
                either!(slow::adjust_rpl)
            }
            M::Lldt => either!(system::load_ldt),
            M::Ltr => either!(system::load_task),
            M::Sldt | M::Str => {
                self.op.src = u8::from(self.i.mnemonic() == M::Str);
                self.op.bytes = bytes;
                either!(system::store_selector)
            }
            M::Verr => either!(system::verify, false),
            M::Verw => either!(system::verify, true),
            M::Lar if self.kinds.1 == Kind::Memory => system::look_up::<false, true>,
            M::Lar => system::look_up::<false, false>,
            M::Lsl if self.kinds.1 == Kind::Memory => system::look_up::<true, true>,
            M::Lsl => system::look_up::<true, false>,
            M::Lmsw => {
                self.looks_around = true;
                either!(system::lmsw)
            }
            M::Smsw => either!(system::smsw),
            M::Lgdt | M::Lidt | M::Sgdt | M::Sidt => return self.tables(),
            _ => return None,
        })
    }

    fn tables(&mut self) -> Option<Handler> {
        let i = self.i;
        self.op.bytes = match i.code() {
            Code::Lgdt_m1632_16 | Code::Lidt_m1632_16 => 2,
            Code::Lgdt_m1664 | Code::Lidt_m1664 => 8,
            _ => 4,
        };
        self.op.src = u8::from(matches!(i.mnemonic(), M::Lidt | M::Sidt));
        let load = matches!(i.mnemonic(), M::Lgdt | M::Lidt);
        Some(if load { system::load_table } else { system::store_table })
    }

    fn system(&mut self) -> Option<Handler> {
        let i = self.i;
        let looking: Handler = match i.mnemonic() {
            M::Sti => system::sti,
            M::Hlt => system::hlt,
            M::Wrmsr => system::wrmsr,
            M::Invlpg => system::invlpg,
            M::Syscall => system::syscall,
            M::Sysenter => system::sysenter,
            M::Sysret | M::Sysretq => {
                self.op.src = u8::from(i.code() == Code::Sysretq);
                system::sysret
            }
            M::Sysexit | M::Sysexitq => {
                self.op.src = u8::from(i.code() == Code::Sysexitq);
                system::sysexit
            }
            M::Iret | M::Iretd | M::Iretq => {
                self.op.bytes = match i.code() {
                    Code::Iretw => 2,
                    Code::Iretd => 4,
                    _ => 8,
                };
                system::iret
            }
            M::Retf => {
                self.op.bytes = match i.code() {
                    Code::Retfw | Code::Retfw_imm16 => 2,
                    Code::Retfd | Code::Retfd_imm16 => 4,
                    _ => 8,
                };
                self.op.imm = if self.kinds.0 == Kind::Immediate { i.immediate(0) } else { 0 };
                slow::ret_far
            }
            M::Int | M::Int3 | M::Into => {
                self.op.imm = match i.mnemonic() {
                    M::Int => i.immediate(0) & 0xff,
                    M::Int3 => 3,
                    _ => 4,
                };
                if i.mnemonic() == M::Into { system::into } else { system::interrupt }
            }
            M::Int1 => system::int1,
            _ => return self.simple_system(),
        };
        self.looking(looking)
    }

    fn simple_system(&mut self) -> Option<Handler> {
        let i = self.i;
        let bytes = match i.mnemonic() {
            M::In => size(i, 0),
            M::Out => size(i, 1),
            _ => 0,
        };
        Some(match i.mnemonic() {
            M::Cli => system::cli,
            M::Pause => system::pause,
            M::Cpuid => system::cpuid,
            M::Rdtsc => system::rdtsc,
            M::Rdtscp => system::rdtscp,
            M::Rdpmc => system::rdpmc,
            M::Rdmsr => system::rdmsr,
            M::Swapgs => system::swapgs,
            M::Clts => system::clts,
            M::Invd | M::Wbinvd => system::privileged_nop,
            M::In | M::Out => {
                let n = u32::from(i.mnemonic() == M::In);
                let immediate = kind(i, n) == Kind::Immediate;
                self.op.imm = if immediate { i.immediate(n) & 0xff } else { 0 };
                self.op.src = u8::from(!immediate);
                if i.mnemonic() == M::In {
                    by_width!(bytes, system::port_in)
                } else {
                    by_width!(bytes, system::port_out)
                }
            }
            M::Ud0 | M::Ud1 | M::Ud2 => system::undefined,
            _ => return None,
        })
    }
}

/// What does a comparison and the conditional branch behind it in one, if there is such a handler.
pub(super) fn fused(first: &Instruction, branch: &Instruction) -> Option<Handler> {
    let number = (branch.condition_code() as u8).checked_sub(1)?;
    macro_rules! two {
        ($handler:ident, $operation:ty) => {
            match size(first, 0) {
                1 => by_condition!(number, integer::$handler, $operation, u8),
                4 => by_condition!(number, integer::$handler, $operation, u32),
                8 => by_condition!(number, integer::$handler, $operation, u64),
                _ => return None,
            }
        };
    }
    Some(match (first.mnemonic(), kind(first, 0), kind(first, 1)) {
        (M::Cmp, Kind::Register, Kind::Register) => two!(rr_branch, Cmp),
        (M::Cmp, Kind::Register, Kind::Immediate) => two!(ri_branch, Cmp),
        (M::Test, Kind::Register, Kind::Register) => two!(rr_branch, Test),
        (M::Test, Kind::Register, Kind::Immediate) => two!(ri_branch, Test),
        (M::Dec, Kind::Register, _) if matches!(number, 4 | 5) => two!(r_branch, Dec),
        _ => return None,
    })
}

fn is_setcc(code: Code) -> bool {
    (Code::Seto_rm8..=Code::Setg_rm8).contains(&code)
}

fn is_cmovcc(code: Code) -> bool {
    (Code::Cmovo_r16_rm16..=Code::Cmovg_r64_rm64).contains(&code)
}
