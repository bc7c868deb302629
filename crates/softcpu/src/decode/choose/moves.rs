//! Moves, the stack and strings.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the decoder knows more instructions and operands than a processor has"
)]

use iced_x86::{Code, Mnemonic as M, Register};

use super::{Choice, Kind, mask, size};
use crate::{
    decode::place,
    op::{
        Any, Handler, Plain, atomic, by_condition, by_width, by_width_const, moves, slow, stack,
        strings, system,
    },
};

impl Choice<'_> {
    pub(super) fn moves(&mut self) -> Option<Handler> {
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
        let far = self.take_far();
        Some(match self.kinds {
            (Kind::Register, Kind::Register) => by_width!(bytes, moves::rr),
            (Kind::Register, Kind::Immediate) => {
                // The one immediate that can have 64 bits.
                self.op.set_wide(self.i.immediate(1) & mask(bytes));
                by_width!(bytes, moves::ri)
            }
            (Kind::Register, Kind::Memory) if far => by_width!(bytes, moves::load_far),
            (Kind::Memory, Kind::Register) if far => by_width!(bytes, moves::store_far),
            (Kind::Register, Kind::Memory) if plain => by_width!(bytes, moves::rm, Plain),
            (Kind::Register, Kind::Memory) => by_width!(bytes, moves::rm, Any),
            (Kind::Memory, Kind::Register) if plain => by_width!(bytes, moves::mr, Plain),
            (Kind::Memory, Kind::Register) => by_width!(bytes, moves::mr, Any),
            (Kind::Memory, Kind::Immediate) if plain => by_width!(bytes, moves::mi, Plain),
            (Kind::Memory, Kind::Immediate) => by_width!(bytes, moves::mi, Any),
            _ => return None,
        })
    }

    /// Whether the operand's address has more bits than a displacement; takes it then.
    fn take_far(&mut self) -> bool {
        let address = self.i.memory_displacement64();
        let bare =
            (self.i.memory_base(), self.i.memory_index()) == (Register::None, Register::None);
        let far = bare && self.op.shape.is_flat() && self.op.disp() != address;
        if far {
            self.op.set_wide(address);
        }
        far
    }

    pub(super) fn stack(&mut self) -> Option<Handler> {
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
                    self.immediate(i.immediate(0));
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
                self.immediate(i.immediate(0));
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

    pub(super) fn strings(&mut self) -> Option<Handler> {
        let i = self.i;
        if !i.is_string_instruction() {
            return None;
        }
        // Where it begins: it goes on there.
        self.op.imm = u32::from(self.op.next) - u32::try_from(i.len()).ok()?;
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
}

fn is_setcc(code: Code) -> bool {
    (Code::Seto_rm8..=Code::Setg_rm8).contains(&code)
}

fn is_cmovcc(code: Code) -> bool {
    (Code::Cmovo_r16_rm16..=Code::Cmovg_r64_rm64).contains(&code)
}
