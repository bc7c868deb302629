//! Arithmetic, shifts and bits.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the decoder knows more instructions and operands than a processor has"
)]

use iced_x86::{Instruction, Mnemonic as M};

use super::{Choice, Kind, kind, size};
use crate::{
    alu::{
        Adc, Add, Alu, And, Cmp, Dec, Inc, Neg, Not, Or, Rcl, Rcr, Rol, Ror, Sar, Sbb, Shl, Shr,
        Sub, Test, Xor,
    },
    op::{
        Any, Handler, Plain, bits, by_condition, by_width, by_width_const, integer, multiply,
        shifts,
    },
};

impl Choice<'_> {
    pub(super) fn arithmetic(&mut self) -> Option<Handler> {
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

    pub(super) fn shifts(&mut self) -> Option<Handler> {
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

    pub(super) fn bits(&mut self) -> Option<Handler> {
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
}

/// What does a comparison and the conditional branch behind it in one, if there is such a handler.
pub(in crate::decode) fn fused(first: &Instruction, branch: &Instruction) -> Option<Handler> {
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

/// A handler, if the operation writes its result anywhere.
fn writes<O: Alu>(handler: Handler) -> Option<Handler> {
    O::WRITES.then_some(handler)
}
