//! Transfers of control between segments and privileges: far jumps, calls and returns, `iret`,
//! `syscall`, `sysenter` and their ways back.
//!
//! Source: Intel SDM volume 2, the instructions' own pages; volume 3, 5.8.

use hv::state::{Segment, gpr};

use crate::{
    control,
    cpu::{CS, Cpu, DS, ES, FS, GS, R11, RIP, SS, access},
    fault::{Did, Exception, vector},
    flags,
    flags::{AC, ARITHMETIC, DF, FIXED, ID, IF, IOPL, NT, RF, TF},
    mmu::canonical,
    msr,
    segment::{Descriptor, code_of, null, rpl},
    word::Word,
};

/// A flat segment, as `syscall` and `sysenter` make them.
fn flat(selector: u64, access: u32) -> Segment {
    Segment { selector: u16::cut(selector), base: 0, limit: u32::MAX, access }
}

/// Flat code of long mode, flat code of 32 bits, and flat data, with privilege 0.
const CODE_64: u32 = 0xa09b;
const CODE_32: u32 = 0xc09b;
const DATA: u32 = 0xc093;
/// Privilege 3 in a descriptor.
const DPL_3: u32 = 0x60;

impl Cpu {
    /// Pops a value of so many bytes off the current stack, with rsp left to the caller: `at` is
    /// how far above the top it is.
    pub(crate) fn peek(&mut self, at: u64, bytes: u64) -> Did<u64> {
        let mask = self.stack_mask();
        let offset = self.regs[gpr::RSP].wrapping_add(at) & mask;
        let linear = self.stack_address(offset, bytes, false)?;
        match bytes {
            2 => self.load::<u16>(linear),
            4 => self.load::<u32>(linear),
            _ => self.load::<u64>(linear),
        }
    }

    /// Bits of the stack pointer that count.
    pub(crate) fn stack_mask(&self) -> u64 {
        match self.mode.stack {
            64 => u64::MAX,
            32 => 0xffff_ffff,
            _ => 0xffff,
        }
    }

    /// Sets as much of the stack pointer as counts.
    pub(crate) fn set_stack_pointer(&mut self, value: u64) {
        let mask = self.stack_mask();
        let rsp = &mut self.regs[gpr::RSP];
        *rsp = match mask {
            0xffff => *rsp & !mask | value & mask,
            _ => value & mask,
        };
    }

    /// The linear address of an offset in the stack.
    pub(crate) fn stack_address(&mut self, offset: u64, bytes: u64, write: bool) -> Did<u64> {
        if self.mode.code == 64 {
            if !canonical(offset) {
                return Err(self.raise(Exception::coded(vector::SS, 0)));
            }
            return Ok(offset);
        }
        self.check_segment(SS, offset, bytes, write)?;
        Ok(self.segments[SS].base.wrapping_add(offset) & 0xffff_ffff)
    }

    /// Pushes a value of 2, 4 or 8 bytes.
    pub(crate) fn push(&mut self, value: u64, bytes: u64) -> Did {
        let offset = self.regs[gpr::RSP].wrapping_sub(bytes) & self.stack_mask();
        let linear = self.stack_address(offset, bytes, true)?;
        match bytes {
            2 => self.store::<u16>(linear, value)?,
            4 => self.store::<u32>(linear, value)?,
            _ => self.store::<u64>(linear, value)?,
        }
        self.set_stack_pointer(offset);
        Ok(())
    }

    /// Pops a value of 2, 4 or 8 bytes.
    pub(crate) fn pop(&mut self, bytes: u64) -> Did<u64> {
        let value = self.peek(0, bytes)?;
        self.set_stack_pointer(self.regs[gpr::RSP].wrapping_add(bytes));
        Ok(value)
    }

    /// Checks where a near transfer goes.
    pub(crate) fn check_target(&mut self, target: u64) -> Did {
        let fine = match self.mode.code {
            64 => canonical(target),
            _ => target <= u64::from(self.segments[CS].limit),
        };
        if fine { Ok(()) } else { Err(self.protection(0)) }
    }

    /// The code segment that a far jump, call or return goes to: checked, not yet loaded.
    fn code_segment(&mut self, selector: u16, cpl: u8, same: bool) -> Did<Descriptor> {
        if selector & !3 == 0 {
            return Err(self.protection(0));
        }
        let descriptor = self.descriptor(selector, vector::GP)?;
        let dpl = descriptor.dpl();
        let privilege = if descriptor.conforming() {
            dpl <= cpl
        } else if same {
            rpl(selector) <= cpl && dpl == cpl
        } else {
            dpl == rpl(selector)
        };
        let both = access::LONG | access::BIG;
        let torn = self.control.long() && descriptor.access() & both == both;
        if !descriptor.code() || !privilege || torn {
            return Err(self.protection(code_of(selector)));
        }
        if !descriptor.present() {
            return Err(self.raise(Exception::coded(vector::NP, code_of(selector))));
        }
        Ok(descriptor)
    }

    fn check_far(&mut self, segment: &Segment, offset: u64) -> Did {
        let long = self.control.long() && segment.access & access::LONG != 0;
        let fine = if long { canonical(offset) } else { offset <= u64::from(segment.limit) };
        if fine { Ok(()) } else { Err(self.protection(0)) }
    }

    /// `jmp` to another segment. Gates and task segments are not followed: `#GP`.
    pub(crate) fn jump_far(&mut self, selector: u16, offset: u64) -> Did {
        if !self.control.protected() {
            self.set_real_code(selector, offset);
            return Ok(());
        }
        let descriptor = self.code_segment(selector, self.cpl, true)?;
        let segment = descriptor.segment(selector);
        self.check_far(&segment, offset)?;
        self.mark_accessed(&descriptor)?;
        self.set_code(segment, self.cpl);
        self.regs[RIP] = offset;
        Ok(())
    }

    fn set_real_code(&mut self, selector: u16, offset: u64) {
        self.segments[CS].selector = selector;
        self.segments[CS].base = u64::from(selector) << 4;
        self.regs[RIP] = offset;
        self.renew_mode();
    }

    /// `call` to another segment; `bytes` is the operand's size, `next` where it comes back to.
    pub(crate) fn call_far(&mut self, selector: u16, offset: u64, bytes: u64, next: u64) -> Did {
        let rsp = self.regs[gpr::RSP];
        let old = self.segments[CS].selector;
        if !self.control.protected() {
            self.push(old.into(), bytes)?;
            return match self.push(next, bytes) {
                Ok(()) => {
                    self.set_real_code(selector, offset);
                    Ok(())
                }
                Err(stopped) => {
                    self.regs[gpr::RSP] = rsp;
                    Err(stopped)
                }
            };
        }
        let descriptor = self.code_segment(selector, self.cpl, true)?;
        let segment = descriptor.segment(selector);
        self.check_far(&segment, offset)?;
        self.mark_accessed(&descriptor)?;
        let pushed = self.push(old.into(), bytes).and_then(|()| self.push(next, bytes));
        if let Err(stopped) = pushed {
            self.regs[gpr::RSP] = rsp;
            return Err(stopped);
        }
        self.set_code(segment, self.cpl);
        self.regs[RIP] = offset;
        Ok(())
    }

    /// `retf`, which takes so many bytes more off the stack.
    pub(crate) fn return_far(&mut self, bytes: u64, more: u64) -> Did {
        let offset = self.peek(0, bytes)?;
        let selector = u16::cut(self.peek(bytes, bytes)?);
        if !self.control.protected() {
            self.set_stack_pointer(self.regs[gpr::RSP].wrapping_add(2 * bytes + more));
            self.set_real_code(selector, offset);
            return Ok(());
        }
        self.leave_to(selector, offset, bytes, 2 * bytes + more, 2 * bytes + more, more, false)
    }

    /// Goes back to a code segment of the same or an outer privilege. Where it is an outer one, or
    /// `always` says so, the old stack is `stack_at` above the top.
    #[expect(clippy::too_many_arguments, reason = "two instructions, whose frames differ")]
    fn leave_to(
        &mut self,
        selector: u16,
        offset: u64,
        bytes: u64,
        taken: u64,
        stack_at: u64,
        more: u64,
        always: bool,
    ) -> Did {
        if rpl(selector) < self.cpl {
            return Err(self.protection(code_of(selector)));
        }
        let cpl = rpl(selector);
        let descriptor = self.code_segment(selector, cpl, false)?;
        let segment = descriptor.segment(selector);
        self.check_far(&segment, offset)?;
        if cpl == self.cpl && !always {
            self.mark_accessed(&descriptor)?;
            self.set_stack_pointer(self.regs[gpr::RSP].wrapping_add(taken));
            self.set_code(segment, cpl);
            self.regs[RIP] = offset;
            return Ok(());
        }
        let rsp = self.peek(stack_at, bytes)?;
        let ss = u16::cut(self.peek(stack_at + bytes, bytes)?);
        let long = self.control.long() && segment.access & access::LONG != 0;
        let stack = if ss & !3 == 0 && long && cpl != 3 && rpl(ss) == cpl {
            null(ss, cpl)
        } else {
            self.inner_stack(ss, cpl, vector::GP)?
        };
        self.mark_accessed(&descriptor)?;
        let outer = cpl != self.cpl;
        self.segments[SS] = stack;
        self.set_code(segment, cpl);
        if self.mode.stack == 64 {
            self.regs[gpr::RSP] = rsp.wrapping_add(more);
        } else {
            self.set_stack_pointer(rsp.wrapping_add(more));
        }
        self.regs[RIP] = offset;
        if outer {
            self.drop_inner_segments();
        }
        Ok(())
    }

    /// Data segments of an inner privilege do not stay when an outer one is returned to.
    fn drop_inner_segments(&mut self) {
        for register in [ES, DS, FS, GS] {
            let segment = &mut self.segments[register];
            let dpl = (segment.access >> 5 & 3).to_le_bytes()[0];
            let conforming = access::CODE | access::CONFORMING_DOWN;
            let bound = segment.access & conforming != conforming;
            if segment.access & access::UNUSABLE == 0 && bound && dpl < self.cpl {
                *segment = null(0, 0);
            }
        }
        self.renew_mode();
    }

    /// `iret` with operands of so many bytes.
    pub(crate) fn interrupt_return(&mut self, bytes: u64) -> Did {
        self.nmi_masked = false;
        let (old, io) = (self.cpl, u64::from(self.cpl) <= (self.other_flags & IOPL) >> 12);
        let offset = self.peek(0, bytes)?;
        let selector = u16::cut(self.peek(bytes, bytes)?);
        let rflags = self.peek(2 * bytes, bytes)?;
        if !self.control.protected() {
            self.set_stack_pointer(self.regs[gpr::RSP].wrapping_add(3 * bytes));
            self.set_real_code(selector, offset);
            self.change_flags(rflags, bytes, 0, true);
            return Ok(());
        }
        // A nested task is returned to by a task switch, and there are none; nor is there
        // virtual 8086 mode.
        let virtual_8086 = bytes == 4 && !self.control.long() && rflags & flags::VM != 0;
        if self.other_flags & NT != 0 || virtual_8086 {
            return Err(self.protection(0));
        }
        let long = self.mode.code == 64;
        self.leave_to(selector, offset, bytes, 3 * bytes, 3 * bytes, 0, long)?;
        self.change_flags(rflags, bytes, old, io);
        Ok(())
    }

    /// Takes over flags as `popf` and `iret` may at a privilege.
    pub(crate) fn change_flags(&mut self, rflags: u64, bytes: u64, cpl: u8, io: bool) {
        let mut mask = ARITHMETIC | TF | DF | NT | AC | ID | RF;
        if cpl == 0 {
            mask |= IOPL;
        }
        if io {
            mask |= IF;
        }
        if bytes == 2 {
            mask &= 0xffff;
        }
        self.set_rflags(self.rflags() & !mask | rflags & mask | FIXED);
    }

    /// `syscall`; `next` is where `sysret` comes back to.
    pub(crate) fn syscall(&mut self, next: u64) -> Did {
        if self.control.efer & control::SCE == 0 || self.mode.code != 64 && !self.control.long() {
            return Err(self.undefined());
        }
        self.regs[gpr::RCX] = next;
        self.regs[R11] = self.rflags() & !RF;
        let target = if self.mode.code == 64 { self.msrs.lstar } else { self.msrs.cstar };
        let selector = self.msrs.star >> 32 & 0xffff;
        self.set_rflags(self.rflags() & !self.msrs.sfmask & !RF);
        self.segments[SS] = flat(selector + 8, DATA);
        self.set_code(flat(selector & !3, CODE_64), 0);
        self.regs[RIP] = target;
        Ok(())
    }

    /// `sysret`, to 64-bit code or to 32-bit code.
    pub(crate) fn sysret(&mut self, wide: bool) -> Did {
        if self.control.efer & control::SCE == 0 || self.mode.code != 64 {
            return Err(self.undefined());
        }
        self.privileged()?;
        let target = self.regs[gpr::RCX];
        if wide && !canonical(target) {
            return Err(self.protection(0));
        }
        let selector = self.msrs.star >> 48 & 0xffff;
        let kept = RF | flags::VM;
        self.set_rflags(self.regs[R11] & 0x003c_7fd7 & !kept);
        let (code, access) = if wide { (selector + 16, CODE_64) } else { (selector, CODE_32) };
        self.segments[SS] = flat((selector + 8) | 3, DATA | DPL_3);
        self.set_code(flat(code, access | DPL_3), 3);
        self.regs[RIP] = if wide { target } else { target & 0xffff_ffff };
        Ok(())
    }

    /// `sysenter`.
    pub(crate) fn sysenter(&mut self) -> Did {
        let selector = self.msrs.kept(msr::SYSENTER_CS) & 0xfffc;
        if !self.control.protected() || selector == 0 {
            return Err(self.protection(0));
        }
        let long = self.control.long();
        self.other_flags &= !(IF | RF | flags::VM);
        self.segments[SS] = flat(selector + 8, DATA);
        self.set_code(flat(selector, if long { CODE_64 } else { CODE_32 }), 0);
        let mask = if long { u64::MAX } else { 0xffff_ffff };
        self.regs[gpr::RSP] = self.msrs.kept(msr::SYSENTER_ESP) & mask;
        self.regs[RIP] = self.msrs.kept(msr::SYSENTER_EIP) & mask;
        Ok(())
    }

    /// `sysexit`, to 64-bit code or to 32-bit code.
    pub(crate) fn sysexit(&mut self, wide: bool) -> Did {
        let selector = self.msrs.kept(msr::SYSENTER_CS) & 0xfffc;
        if !self.control.protected() || selector == 0 || self.cpl != 0 {
            return Err(self.protection(0));
        }
        let (rip, rsp) = (self.regs[gpr::RDX], self.regs[gpr::RCX]);
        if wide && !(canonical(rip) && canonical(rsp)) {
            return Err(self.protection(0));
        }
        let (code, access) = if wide { (selector + 32, CODE_64) } else { (selector + 16, CODE_32) };
        self.segments[SS] = flat((code + 8) | 3, DATA | DPL_3);
        self.set_code(flat(code, access | DPL_3), 3);
        let mask = if wide { u64::MAX } else { 0xffff_ffff };
        self.regs[gpr::RSP] = rsp & mask;
        self.regs[RIP] = rip & mask;
        Ok(())
    }
}
