//! Interrupts and exceptions on their way to the guest's handlers.
//!
//! Source: Intel SDM volume 3, chapter 6.

use hv::state::{Segment, gpr};

use crate::{
    cpu::{CS, Cpu, RIP, SS, access},
    fault::{Did, Exception, Stop, nested, vector},
    flags,
    mmu::canonical,
    segment::{Descriptor, code_of, null},
    word::Word,
};

/// What comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The processor's own; of a fault the address is that of the instruction.
    Exception(Exception),
    /// `int n`, `int3`, `into`.
    Software(u8),
    /// From a controller, or an NMI.
    Hardware(u8),
}

impl Event {
    fn vector(self) -> u8 {
        match self {
            Event::Exception(exception) => exception.vector,
            Event::Software(vector) | Event::Hardware(vector) => vector,
        }
    }

    fn code(self) -> Option<u32> {
        match self {
            Event::Exception(exception) => exception.code,
            Event::Software(_) | Event::Hardware(_) => None,
        }
    }

    /// The bit in an error code that says that no program asked for it.
    fn external(self) -> u32 {
        u32::from(!matches!(self, Event::Software(_)))
    }
}

/// A gate of the IDT.
#[derive(Clone, Copy, Debug)]
struct Gate {
    selector: u16,
    offset: u64,
    kind: u64,
    dpl: u8,
    present: bool,
    stack: u64,
}

/// Gate types.
const INTERRUPT_16: u64 = 6;
const TRAP_16: u64 = 7;
const INTERRUPT_32: u64 = 14;
const TRAP_32: u64 = 15;

/// Where rsp0 and the first interrupt stack are in a TSS of long mode.
const TSS_RSP: u64 = 4;
const TSS_IST: u64 = 36;

impl Cpu {
    /// Delivers an event, and whatever follows from that. rip is that of the instruction to come
    /// back to.
    ///
    /// # Errors
    /// [`Stop::TripleFault`], noted in `stop`, and the stops that have nothing to do with faults.
    pub(crate) fn deliver(&mut self, event: Event) -> Did {
        let mut event = event;
        loop {
            if let Event::Exception(Exception { vector: vector::PF, address, .. }) = event {
                self.control.cr2 = address;
            }
            if let Event::Exception(Exception { vector: vector::DB, address, .. }) = event {
                self.debug[4] |= address;
            }
            let alone = std::mem::replace(&mut self.alone, true);
            let done = self.attempt(event);
            self.alone = alone;
            if done.is_ok() {
                return Ok(());
            }
            let Stop::Exception(second) = self.stop else { return done };
            let first = match event {
                Event::Exception(exception) => exception.vector,
                // An interrupt is nothing that a fault could add up with.
                Event::Software(_) | Event::Hardware(_) => vector::NMI,
            };
            match nested(first, second) {
                Ok(next) => event = Event::Exception(next),
                Err(stop) => return Err(self.stopped(stop)),
            }
        }
    }

    /// Delivers a software interrupt, whose faults are the instruction's own.
    pub(crate) fn deliver_once(&mut self, event: Event) -> Did {
        let alone = std::mem::replace(&mut self.alone, true);
        let done = self.attempt(event);
        self.alone = alone;
        done
    }

    fn attempt(&mut self, event: Event) -> Did {
        if !self.control.protected() {
            return self.deliver_real(event.vector());
        }
        let gate = self.gate(event)?;
        if self.control.long() {
            self.deliver_long(event, &gate)
        } else {
            self.deliver_protected(event, &gate)
        }
    }

    fn deliver_real(&mut self, vector: u8) -> Did {
        let entry = u64::from(vector) * 4;
        if entry + 3 > u64::from(self.idt.limit) {
            return Err(self.raise(Exception::plain(vector::DF)));
        }
        let target = self.load_system::<u32>(self.idt.base.wrapping_add(entry))?;
        let rsp = self.regs[gpr::RSP];
        let frame = [self.rflags(), self.segments[CS].selector.into(), self.regs[RIP]];
        let mut sp = rsp;
        for value in frame {
            sp = sp.wrapping_sub(2) & 0xffff;
            let at = self.segments[SS].base.wrapping_add(sp);
            self.store::<u16>(at & 0xffff_ffff, value)?;
        }
        self.regs[gpr::RSP] = rsp & !0xffff | sp;
        self.other_flags &= !(flags::IF | flags::TF | flags::AC | flags::RF);
        self.segments[CS].selector = u16::cut(target >> 16);
        self.segments[CS].base = (target >> 16) << 4;
        self.regs[RIP] = target & 0xffff;
        self.renew_mode();
        Ok(())
    }

    fn gate(&mut self, event: Event) -> Did<Gate> {
        let vector = u64::from(event.vector());
        let long = self.control.long();
        let (at, bytes) = if long { (vector * 16, 16) } else { (vector * 8, 8) };
        let code = u32::from(event.vector()) * 8 + 2 + event.external();
        if at + bytes - 1 > u64::from(self.idt.limit) {
            return Err(self.protection(code));
        }
        let at = self.system_linear(self.idt.base.wrapping_add(at));
        let low = self.load_system::<u64>(at)?;
        let high = if long { self.load_system::<u64>(at.wrapping_add(8))? } else { 0 };
        let gate = Gate {
            selector: u16::cut(low >> 16),
            offset: low & 0xffff | low >> 32 & 0xffff_0000 | high << 32,
            kind: low >> 40 & 0x1f,
            dpl: u8::cut(low >> 45 & 3),
            present: low >> 47 & 1 != 0,
            stack: if long { low >> 32 & 7 } else { 0 },
        };
        let known = matches!(gate.kind, INTERRUPT_32 | TRAP_32)
            || !long && matches!(gate.kind, INTERRUPT_16 | TRAP_16);
        let open = !matches!(event, Event::Software(_)) || gate.dpl >= self.cpl;
        if !known || !open {
            return Err(self.protection(code));
        }
        if !gate.present {
            return Err(self.raise(Exception::coded(vector::NP, code)));
        }
        Ok(gate)
    }

    /// The handler's code segment and privilege.
    fn handler(&mut self, event: Event, gate: &Gate) -> Did<(Descriptor, u8)> {
        let code = code_of(gate.selector) + event.external();
        if gate.selector & !3 == 0 {
            return Err(self.protection(event.external()));
        }
        let descriptor = match self.descriptor(gate.selector, vector::GP) {
            Ok(descriptor) => descriptor,
            Err(stopped) => {
                if let Stop::Exception(Exception { vector: vector::GP, .. }) = self.stop {
                    return Err(self.protection(code));
                }
                return Err(stopped);
            }
        };
        let long = descriptor.access() & access::LONG != 0;
        let sixty_four = long && descriptor.access() & access::BIG == 0;
        if !descriptor.code() || descriptor.dpl() > self.cpl || self.control.long() && !sixty_four {
            return Err(self.protection(code));
        }
        if !descriptor.present() {
            return Err(self.raise(Exception::coded(vector::NP, code)));
        }
        let cpl = if descriptor.conforming() { self.cpl } else { descriptor.dpl() };
        Ok((descriptor, cpl))
    }

    /// rflags as they are pushed: a fault's instruction may be carried out again without a debug
    /// exception.
    fn pushed_flags(&self, event: Event) -> u64 {
        let fault = matches!(event, Event::Exception(exception) if exception.vector != vector::DB);
        self.rflags() | if fault { flags::RF } else { 0 }
    }

    fn enter(&mut self, gate: &Gate) {
        self.other_flags &= !(flags::TF | flags::NT | flags::RF | flags::VM);
        if matches!(gate.kind, INTERRUPT_16 | INTERRUPT_32) {
            self.other_flags &= !flags::IF;
        }
    }

    fn deliver_long(&mut self, event: Event, gate: &Gate) -> Did {
        let (descriptor, cpl) = self.handler(event, gate)?;
        let switch = cpl != self.cpl;
        let mut rsp = if gate.stack != 0 {
            self.tss_long(TSS_IST + 8 * (gate.stack - 1))?
        } else if switch {
            self.tss_long(TSS_RSP + 8 * u64::from(cpl))?
        } else {
            self.regs[gpr::RSP]
        };
        if !canonical(rsp) {
            let code = event.external();
            return Err(self.raise(Exception::coded(vector::SS, code)));
        }
        rsp &= !0xf;
        let user = cpl == 3;
        let mut push = |cpu: &mut Cpu, value: u64| {
            rsp = rsp.wrapping_sub(8);
            cpu.store_for(rsp, value, user)
        };
        push(self, self.segments[SS].selector.into())?;
        push(self, self.regs[gpr::RSP])?;
        push(self, self.pushed_flags(event))?;
        push(self, self.segments[CS].selector.into())?;
        push(self, self.regs[RIP])?;
        if let Some(code) = event.code() {
            push(self, code.into())?;
        }
        if !canonical(gate.offset) {
            return Err(self.protection(event.external()));
        }
        self.mark_accessed(&descriptor)?;
        self.set_code(descriptor.segment(gate.selector), cpl);
        if switch {
            self.segments[SS] = null(cpl.into(), cpl);
            self.renew_mode();
        }
        self.regs[gpr::RSP] = rsp;
        self.regs[RIP] = gate.offset;
        self.enter(gate);
        Ok(())
    }

    /// A push of eight bytes with the privilege of the handler: through the TLB where it can be.
    fn store_for(&mut self, linear: u64, value: u64, user: bool) -> Did {
        if user == (self.cpl == 3) {
            self.store::<u64>(linear, value)
        } else {
            self.store_long::<u64>(linear, value, user)
        }
    }

    fn tss_long(&mut self, at: u64) -> Did<u64> {
        if at + 7 > u64::from(self.tr.limit) {
            return Err(self.raise(Exception::coded(vector::TS, code_of(self.tr.selector))));
        }
        self.load_system::<u64>(self.tr.base.wrapping_add(at))
    }

    fn deliver_protected(&mut self, event: Event, gate: &Gate) -> Did {
        let (descriptor, cpl) = self.handler(event, gate)?;
        let wide = matches!(gate.kind, INTERRUPT_32 | TRAP_32);
        let switch = cpl != self.cpl;
        let old = (self.segments[SS].selector, self.regs[gpr::RSP]);
        let (stack, esp) = if switch {
            let (selector, esp) = self.tss_stack(cpl)?;
            (self.inner_stack(selector, cpl, vector::TS)?, esp)
        } else {
            (self.segments[SS], self.regs[gpr::RSP])
        };
        let mut frame = Frame { stack, sp: esp, wide, user: cpl == 3 };
        if switch {
            frame.push(self, old.0.into())?;
            frame.push(self, old.1)?;
        }
        frame.push(self, self.pushed_flags(event))?;
        frame.push(self, self.segments[CS].selector.into())?;
        frame.push(self, self.regs[RIP])?;
        if let Some(code) = event.code() {
            frame.push(self, code.into())?;
        }
        let offset = if wide { gate.offset & 0xffff_ffff } else { gate.offset & 0xffff };
        let segment = descriptor.segment(gate.selector);
        if offset > u64::from(segment.limit) {
            return Err(self.protection(event.external()));
        }
        self.mark_accessed(&descriptor)?;
        self.segments[SS] = stack;
        self.set_code(segment, cpl);
        self.regs[gpr::RSP] = frame.sp;
        self.regs[RIP] = offset;
        self.enter(gate);
        Ok(())
    }

    /// Stack of an inner privilege, from the TSS of protected mode.
    pub(crate) fn tss_stack(&mut self, cpl: u8) -> Did<(u16, u64)> {
        // Types 9 and 11 are of 32 bits, 1 and 3 of 16.
        let wide = self.tr.access & 8 != 0;
        let at = if wide { 4 + 8 * u64::from(cpl) } else { 2 + 4 * u64::from(cpl) };
        if at + 5 > u64::from(self.tr.limit) {
            return Err(self.raise(Exception::coded(vector::TS, code_of(self.tr.selector))));
        }
        let at = self.tr.base.wrapping_add(at);
        if wide {
            let esp = self.load_system::<u32>(at & 0xffff_ffff)?;
            let ss = self.load_system::<u16>(at.wrapping_add(4) & 0xffff_ffff)?;
            Ok((u16::cut(ss), esp))
        } else {
            let sp = self.load_system::<u16>(at & 0xffff_ffff)?;
            let ss = self.load_system::<u16>(at.wrapping_add(2) & 0xffff_ffff)?;
            Ok((u16::cut(ss), sp))
        }
    }
}

/// A stack of protected mode that becomes the current one only if all of it can be written.
pub(crate) struct Frame {
    pub(crate) stack: Segment,
    pub(crate) sp: u64,
    pub(crate) wide: bool,
    pub(crate) user: bool,
}

impl Frame {
    pub(crate) fn push(&mut self, cpu: &mut Cpu, value: u64) -> Did {
        let bytes = if self.wide { 4 } else { 2 };
        let big = self.stack.access & access::BIG != 0;
        let mask = if big { 0xffff_ffff } else { 0xffff };
        let sp = self.sp.wrapping_sub(bytes) & mask;
        let down = self.stack.access & access::CONFORMING_DOWN != 0;
        let limit = u64::from(self.stack.limit);
        let inside = if down { sp > limit } else { sp + bytes - 1 <= limit };
        if !inside {
            let code = code_of(self.stack.selector);
            return Err(cpu.raise(Exception::coded(vector::SS, code)));
        }
        let linear = self.stack.base.wrapping_add(sp) & 0xffff_ffff;
        if self.wide {
            cpu.store_long::<u32>(linear, value, self.user)?;
        } else {
            cpu.store_long::<u16>(linear, value, self.user)?;
        }
        self.sp = self.sp & !mask | sp;
        Ok(())
    }
}
