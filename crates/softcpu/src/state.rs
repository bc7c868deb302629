//! The processor's state in neutral words, in and out.

use hv::{
    CpuState, HvError,
    state::{Activity, Events},
};

use crate::{
    control::{self, Control},
    cpu::{CS, Cpu, RIP, SS, access},
    deliver::Event,
    device::Device,
    fault::{Exception, vector},
    fpu::Fpu,
    msr::{APIC_BASE, Msrs, TSC_DEADLINE},
};

impl Cpu {
    /// Everything in it.
    pub(crate) fn save(&self) -> CpuState {
        let mut gpr = [0; 16];
        gpr.copy_from_slice(&self.regs[..16]);
        let mut segments = self.segments;
        for segment in &mut segments {
            segment.access &= 0x1_f0ff;
        }
        CpuState {
            gpr,
            rip: self.regs[RIP],
            rflags: self.rflags(),
            segments,
            tr: self.tr,
            ldt: self.ldt,
            gdt: self.gdt,
            idt: self.idt,
            cr0: self.control.cr0,
            cr2: self.control.cr2,
            cr3: self.control.cr3,
            cr4: self.control.cr4,
            cr8: self.machine.chips.cr8(self.index).into(),
            xcr0: self.xcr0,
            debug: self.debug,
            msrs: self.msr_list(),
            fpu: self.fpu.as_ref().map(|fpu| fpu.state()).unwrap_or_default(),
            apic: self.machine.chips.apic(self.index, self.machine.now()),
            activity: self.activity,
            events: self.save_events(),
        }
    }

    fn save_events(&self) -> Events {
        let mut events = Events {
            nmi_pending: self.machine.chips.pending(self.index).nmi,
            nmi_masked: self.nmi_masked,
            shadow: self.shadow,
            ..Events::default()
        };
        match self.waiting {
            Some(Event::Exception(exception)) => {
                events.exception = Some((exception.vector, exception.code));
            }
            Some(Event::Hardware(vector::NMI)) => events.nmi_pending = true,
            Some(Event::Hardware(vector) | Event::Software(vector)) => {
                events.interrupt = Some(vector);
            }
            None => {}
        }
        events
    }

    /// Replaces everything in it.
    pub(crate) fn restore(&mut self, state: &CpuState) -> Result<(), HvError> {
        check(state)?;
        self.regs[..16].copy_from_slice(&state.gpr);
        self.regs[RIP] = state.rip;
        self.set_rflags(state.rflags);
        self.segments = state.segments;
        (self.tr, self.ldt, self.gdt, self.idt) = (state.tr, state.ldt, state.gdt, state.idt);
        let (cr0, cr2, cr3, cr4) = (state.cr0, state.cr2, state.cr3, state.cr4);
        self.control = Control { cr0: cr0 | control::ET, cr2, cr3, cr4, efer: 0 };
        (self.xcr0, self.debug) = (state.xcr0, state.debug);
        self.fpu = Some(Box::new(Fpu::new(&state.fpu)));
        self.restore_msrs(state)?;
        self.restore_apic(state)?;
        self.activity = state.activity;
        self.restore_events(&state.events);
        self.device = Device::default();
        self.set_cpl(self.privilege());
        self.flush_tlb(false);
        self.renew_mode();
        Ok(())
    }

    /// The privilege that goes with the segments: that of the stack, as processors have it.
    fn privilege(&self) -> u8 {
        if !self.control.protected() {
            return 0;
        }
        let stack = &self.segments[SS];
        let from = if stack.access & access::UNUSABLE == 0 {
            stack.access >> 5
        } else {
            self.segments[CS].selector.into()
        };
        (from & 3).to_le_bytes()[0]
    }

    fn restore_msrs(&mut self, state: &CpuState) -> Result<(), HvError> {
        let offset = self.msrs.tsc_offset;
        self.msrs = Msrs::reset();
        self.msrs.tsc_offset = offset;
        for (msr, value) in &state.msrs {
            if !self.restore_msr(*msr, *value) {
                return Err(HvError::Invalid(format!(
                    "model-specific register {msr:#x} cannot be {value:#x}"
                )));
            }
        }
        Ok(())
    }

    fn restore_apic(&mut self, state: &CpuState) -> Result<(), HvError> {
        let named = |wanted| state.msrs.iter().find(|(msr, _)| *msr == wanted).map(|(_, v)| *v);
        let chips = &self.machine.chips;
        let base = match named(APIC_BASE) {
            Some(base) => base,
            None => {
                let first = if self.index == 0 { 1 << 8 } else { 0 };
                0xfee0_0000 | 1 << 11 | first
            }
        };
        chips.set_apic(self.index, &state.apic, base, self.machine.now())?;
        if let Some(deadline) = named(TSC_DEADLINE).filter(|deadline| *deadline != 0) {
            let refused = chips.write_msr(self.index, TSC_DEADLINE, deadline, self.moment());
            refused.map_err(|_| HvError::Invalid("the timer's deadline is refused".to_owned()))?;
        }
        let priority = chips.set_cr8(self.index, state.cr8);
        priority.map_err(|_| HvError::Invalid(format!("cr8 is {:#x}", state.cr8)))
    }

    fn restore_events(&mut self, events: &Events) {
        self.nmi_masked = events.nmi_masked;
        self.shadow = events.shadow;
        if events.nmi_pending {
            self.machine.chips.nmi(self.index);
        }
        let exception = events.exception.map(|(vector, code)| {
            let address = if vector == vector::PF { self.control.cr2 } else { 0 };
            Event::Exception(Exception { vector, code, address })
        });
        self.waiting = exception.or(events.interrupt.map(Event::Hardware));
    }
}

/// Refuses what no processor of these models can be in.
fn check(state: &CpuState) -> Result<(), HvError> {
    let refuse = |what: &str| Err(HvError::Invalid(what.to_owned()));
    let efer = state.msrs.iter().find(|(msr, _)| *msr == crate::msr::EFER_MSR);
    let efer = efer.map_or(0, |(_, value)| *value);
    let (paging, protected) = (state.cr0 & control::PG != 0, state.cr0 & control::PE != 0);
    if state.cr0 & !control::CR0 != 0 {
        return Err(HvError::Invalid(format!("cr0 is {:#x}", state.cr0)));
    }
    if state.cr4 & !control::CR4 != 0 {
        return Err(HvError::Invalid(format!("cr4 is {:#x}", state.cr4)));
    }
    if paging && !protected {
        return refuse("paging without protection");
    }
    if (efer & control::LMA != 0) != (paging && efer & control::LME != 0) {
        return refuse("long mode that is neither on nor off");
    }
    if efer & control::LMA != 0 && state.cr4 & control::PAE == 0 {
        return refuse("long mode without wide page tables");
    }
    if state.rflags & crate::flags::VM != 0 {
        return refuse("virtual 8086 mode");
    }
    if state.activity == Activity::Running && state.xcr0 & !1 != 0 && state.xcr0 & 1 == 0 {
        return refuse("xcr0 without x87");
    }
    Ok(())
}
