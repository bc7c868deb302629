//! Branches, segments, and what only kernels do.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the decoder knows more instructions and operands than a processor has"
)]

use iced_x86::{Code, Mnemonic as M, OpKind};

use super::{super::low, Choice, Kind, kind, size};
use crate::op::{Handler, branch, by_condition, by_width, descriptors, moves, slow, system};

impl Choice<'_> {
    pub(super) fn branches(&mut self) -> Option<Handler> {
        let i = self.i;
        if i.op_count() > 0
            && matches!(
                i.op_kind(0),
                OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64
            )
        {
            let distance = i.near_branch_target().wrapping_sub(self.start);
            self.op.disp = low(distance);
            if self.long() && self.op.disp() != distance {
                return self.far_ahead();
            }
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
                self.immediate(if self.kinds.0 == Kind::Immediate { i.immediate(0) } else { 0 });
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

    /// A branch whose distance has 33 bits.
    fn far_ahead(&mut self) -> Option<Handler> {
        self.op.src = match self.i.mnemonic() {
            M::Jmp => branch::JUMP,
            M::Call => branch::CALL,
            _ => self.condition()?,
        };
        Some(branch::far_ahead)
    }

    fn counted(&mut self, how: u8) -> Handler {
        use Code as C;
        self.op.src = how;
        let bits = match self.i.code() {
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
        self.op.shape.set_address_bits(bits);
        branch::counted
    }

    fn far(&mut self) -> Option<Handler> {
        let call = self.i.mnemonic() == M::Call;
        if self.i.is_jmp_far() || self.i.is_call_far() {
            let wide = self.i.op_kind(0) == OpKind::FarBranch32;
            self.op.bytes = if wide { 4 } else { 2 };
            self.op.imm = if wide { self.i.far_branch32() } else { self.i.far_branch16().into() };
            self.op.disp = i32::from(self.i.far_branch_selector());
            return self.looking(if call { slow::call_far_i } else { slow::jump_far_i });
        }
        // The selector stands behind the offset.
        self.op.bytes = u8::try_from(self.i.memory_size().size() - 2).ok()?;
        self.looking(if call { slow::call_far_m } else { slow::jump_far_m })
    }

    pub(super) fn flags_and_decimal(&mut self) -> Option<Handler> {
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

    pub(super) fn segments(&mut self) -> Option<Handler> {
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
            M::Lldt => either!(descriptors::load_ldt),
            M::Ltr => either!(descriptors::load_task),
            M::Sldt | M::Str => {
                self.op.src = u8::from(self.i.mnemonic() == M::Str);
                self.op.bytes = bytes;
                either!(descriptors::store_selector)
            }
            M::Verr => either!(descriptors::verify, false),
            M::Verw => either!(descriptors::verify, true),
            M::Lar if self.kinds.1 == Kind::Memory => descriptors::look_up::<false, true>,
            M::Lar => descriptors::look_up::<false, false>,
            M::Lsl if self.kinds.1 == Kind::Memory => descriptors::look_up::<true, true>,
            M::Lsl => descriptors::look_up::<true, false>,
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
        Some(if load { descriptors::load_table } else { descriptors::store_table })
    }

    pub(super) fn system(&mut self) -> Option<Handler> {
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
                self.immediate(if self.kinds.0 == Kind::Immediate { i.immediate(0) } else { 0 });
                slow::ret_far
            }
            M::Int | M::Int3 | M::Into => {
                self.op.imm = match i.mnemonic() {
                    M::Int => i.immediate8().into(),
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
                self.immediate(if immediate { i.immediate(n) } else { 0 });
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
