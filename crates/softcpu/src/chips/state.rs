//! All chips together, under one lock, and how they are wired.

use hv::ChipState;

use super::{
    APIC_BASE, Moment, Pending, Refused, TSC_DEADLINE, X2APIC,
    ioapic::{self, IoApic},
    lapic::{Effect, Lapic, MSR_FIRST},
    message::{Message, Set},
    pic::Pics,
    pit::Pit,
};

/// Lines of the PICs.
const ISA_LINES: u8 = 16;

/// Where ISA's line 0 is at the I/O APIC, whose line 0 is nobody's.
const TIMER_PIN: usize = 2;

/// Whether a port is one of the chips': PICs, PIT, speaker, trigger modes.
pub(super) fn is_port(port: u16) -> bool {
    matches!(port, 0x20 | 0x21 | 0x40..=0x43 | 0x61 | 0xa0 | 0xa1 | 0x4d0 | 0x4d1)
}

/// What answers at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    LocalApic(u16),
    IoApic(u64),
}

#[derive(Clone, Debug)]
pub(super) struct State {
    lapics: Vec<Lapic>,
    ioapic: IoApic,
    pics: Pics,
    pit: Pit,
    /// Whom something concerns that happened since it was last asked.
    woken: Set,
}

impl State {
    pub(super) fn new(vcpus: u8) -> State {
        State {
            lapics: (0..vcpus).map(Lapic::new).collect(),
            ioapic: IoApic::new(),
            pics: Pics::new(),
            pit: Pit::new(),
            woken: 0,
        }
    }

    pub(super) fn take_woken(&mut self) -> Set {
        std::mem::take(&mut self.woken)
    }

    pub(super) fn lapic(&self, vcpu: usize) -> Option<&Lapic> {
        self.lapics.get(vcpu)
    }

    pub(super) fn deadline(&self, vcpu: usize) -> Option<u64> {
        let pit = if vcpu == 0 { self.pit.deadline() } else { None };
        let timer = self.lapics.get(vcpu).and_then(Lapic::deadline);
        [timer, pit].into_iter().flatten().min()
    }

    pub(super) fn line(&mut self, line: u32, raised: bool) {
        let Some(line) = u8::try_from(line).ok().filter(|line| usize::from(*line) < ioapic::LINES)
        else {
            return;
        };
        if line < ISA_LINES {
            self.pics.line(line, raised);
            self.wake_for_pics();
        }
        let pin = match usize::from(line) {
            TIMER_PIN => return,
            0 => TIMER_PIN,
            pin => pin,
        };
        self.woken |= self.ioapic.line(pin, raised, &mut self.lapics);
    }

    pub(super) fn message(&mut self, address: u64, data: u32) {
        if let Some(message) = Message::from_msi(address, data) {
            self.woken |= message.deliver(&mut self.lapics);
        }
    }

    pub(super) fn nmi(&mut self, vcpu: usize) {
        if let Some(lapic) = self.lapics.get_mut(vcpu) {
            lapic.nmi = true;
            self.woken |= 1 << vcpu;
        }
    }

    fn wake_for_pics(&mut self) {
        if self.pics.output() {
            for (n, lapic) in self.lapics.iter().enumerate() {
                self.woken |= Set::from(lapic.asks_pics()) << n;
            }
        }
    }

    /// A processor changed something of its own local APIC: what waited may go now.
    fn look_again(&mut self, vcpu: usize) {
        self.woken |= Set::from(self.pending(vcpu).interrupt) << vcpu;
    }

    pub(super) fn pending(&self, vcpu: usize) -> Pending {
        let Some(lapic) = self.lapics.get(vcpu) else { return Pending::default() };
        Pending {
            init: lapic.init,
            startup: lapic.startup.is_some(),
            nmi: lapic.nmi,
            interrupt: self.asks_now(lapic) || lapic.deliverable().is_some(),
        }
    }

    fn asks_now(&self, lapic: &Lapic) -> bool {
        lapic.asks_pics() && self.pics.output()
    }

    pub(super) fn take_interrupt(&mut self, vcpu: usize) -> Option<u8> {
        if self.asks_now(self.lapics.get(vcpu)?) {
            return Some(self.pics.acknowledge());
        }
        self.lapics.get_mut(vcpu)?.begin()
    }

    pub(super) fn take_nmi(&mut self, vcpu: usize) -> bool {
        self.lapics.get_mut(vcpu).is_some_and(|lapic| std::mem::take(&mut lapic.nmi))
    }

    pub(super) fn take_init(&mut self, vcpu: usize) -> bool {
        let Some(lapic) = self.lapics.get_mut(vcpu).filter(|lapic| lapic.init) else {
            return false;
        };
        // A start-up message that came after it stays.
        let startup = lapic.startup;
        lapic.reset();
        lapic.init = false;
        lapic.startup = startup;
        // Whoever takes one thing at a time is to come back for it.
        self.woken |= Set::from(startup.is_some()) << vcpu;
        true
    }

    pub(super) fn take_startup(&mut self, vcpu: usize) -> Option<u8> {
        self.lapics.get_mut(vcpu)?.startup.take()
    }

    pub(super) fn tick(&mut self, now: u64) {
        for (n, lapic) in self.lapics.iter_mut().enumerate() {
            self.woken |= Set::from(lapic.tick(now)) << n;
        }
        if self.pit.tick(now) {
            self.line(0, true);
            self.line(0, false);
        }
    }

    /// What answers a processor at an address.
    pub(super) fn place(&self, vcpu: usize, address: u64) -> Option<Place> {
        let page = self.lapics.get(vcpu)?.page_address();
        if let Some(offset) = page.and_then(|page| address.checked_sub(page))
            && offset < 0x1000
        {
            return u16::try_from(offset).ok().map(Place::LocalApic);
        }
        let offset = address.checked_sub(ioapic::ADDRESS)?;
        (offset < ioapic::BYTES).then_some(Place::IoApic(offset))
    }

    pub(super) fn memory_read(
        &mut self,
        vcpu: usize,
        address: u64,
        data: &mut [u8],
        now: impl FnOnce() -> u64,
    ) -> bool {
        match self.place(vcpu, address) {
            Some(Place::LocalApic(offset)) => {
                self.lapics[vcpu].read_page(offset, data, now());
                self.look_again(vcpu);
            }
            Some(Place::IoApic(offset)) => self.ioapic.read(offset, data),
            None => return false,
        }
        true
    }

    pub(super) fn memory_write(
        &mut self,
        vcpu: usize,
        address: u64,
        data: &[u8],
        now: impl FnOnce() -> u64,
    ) -> bool {
        match self.place(vcpu, address) {
            Some(Place::LocalApic(offset)) => {
                let effect = self.lapics[vcpu].write_page(offset, data, now());
                self.carry_out(vcpu, effect);
            }
            Some(Place::IoApic(offset)) => {
                self.woken |= self.ioapic.write(offset, data, &mut self.lapics);
            }
            None => return false,
        }
        true
    }

    fn carry_out(&mut self, vcpu: usize, effect: Effect) {
        match effect {
            Effect::Nothing => {}
            Effect::Send(message) => self.woken |= message.deliver(&mut self.lapics),
            Effect::Ended(vector) => self.woken |= self.ioapic.end(vector, &mut self.lapics),
        }
        self.look_again(vcpu);
    }

    pub(super) fn port_read(&mut self, port: u16, now: u64) -> Option<u8> {
        let value = self.pics.read(port).or_else(|| self.pit.read(port, now));
        self.wake_for_pics();
        value
    }

    pub(super) fn port_write(&mut self, port: u16, value: u8, now: u64) -> bool {
        let known = self.pics.write(port, value) || self.pit.write(port, value, now);
        self.wake_for_pics();
        known
    }

    pub(super) fn read_msr(&self, vcpu: usize, msr: u32, now: Moment) -> Result<u64, Refused> {
        let lapic = self.lapics.get(vcpu).ok_or(Refused)?;
        match msr {
            APIC_BASE => Ok(lapic.base()),
            TSC_DEADLINE => Ok(lapic.tsc_deadline()),
            _ => lapic.read_msr(x2apic(msr)?, now.nanoseconds),
        }
    }

    pub(super) fn write_msr(
        &mut self,
        vcpu: usize,
        msr: u32,
        value: u64,
        now: Moment,
        tsc_khz: u32,
    ) -> Result<(), Refused> {
        let lapic = self.lapics.get_mut(vcpu).ok_or(Refused)?;
        let effect = match msr {
            APIC_BASE => lapic.set_base(value).map(|()| Effect::Nothing),
            TSC_DEADLINE => {
                lapic.set_tsc_deadline(value, now, tsc_khz);
                Ok(Effect::Nothing)
            }
            _ => lapic.write_msr(x2apic(msr)?, value, now.nanoseconds),
        }?;
        self.carry_out(vcpu, effect);
        Ok(())
    }

    pub(super) fn tsc_moved(&mut self, vcpu: usize, now: Moment, tsc_khz: u32) {
        if let Some(lapic) = self.lapics.get_mut(vcpu) {
            let deadline = lapic.tsc_deadline();
            if deadline != 0 {
                lapic.set_tsc_deadline(deadline, now, tsc_khz);
            }
        }
    }

    pub(super) fn cr8(&self, vcpu: usize) -> u8 {
        self.lapics.get(vcpu).map_or(0, |lapic| lapic.task_priority() >> 4)
    }

    pub(super) fn set_cr8(&mut self, vcpu: usize, value: u64) -> Result<(), Refused> {
        let priority = u8::try_from(value).ok().filter(|value| *value < 16).ok_or(Refused)?;
        if let Some(lapic) = self.lapics.get_mut(vcpu) {
            lapic.set_task_priority(priority << 4);
        }
        self.look_again(vcpu);
        Ok(())
    }

    pub(super) fn save(&mut self, now: u64) -> ChipState {
        self.tick(now);
        let (pit, speaker) = self.pit.state();
        ChipState { ioapic: self.ioapic.state().clone(), pics: self.pics.state(), pit, speaker }
    }

    pub(super) fn restore(&mut self, chips: &ChipState, now: u64) {
        self.ioapic.restore(&chips.ioapic);
        self.pics.restore(&chips.pics);
        self.pit.restore(&chips.pit, chips.speaker, now);
        self.wake_for_pics();
    }

    pub(super) fn save_apic(&mut self, vcpu: usize, now: u64) -> Vec<u8> {
        self.tick(now);
        self.lapics.get(vcpu).map_or_else(Vec::new, |lapic| lapic.save(now))
    }

    pub(super) fn restore_apic(
        &mut self,
        vcpu: usize,
        page: &[u8],
        base: u64,
        now: u64,
    ) -> Result<(), Refused> {
        let index = u8::try_from(vcpu).map_err(|_| Refused)?;
        let lapic = self.lapics.get_mut(vcpu).ok_or(Refused)?;
        let mut restored = Lapic::new(index);
        if page.is_empty() {
            restored.restore_base(base)?;
        } else {
            restored.restore(page, base, now)?;
        }
        *lapic = restored;
        self.look_again(vcpu);
        Ok(())
    }
}

fn x2apic(msr: u32) -> Result<usize, Refused> {
    let register = msr.checked_sub(MSR_FIRST).filter(|_| X2APIC.contains(&msr)).ok_or(Refused)?;
    usize::try_from(register).map_err(|_| Refused)
}
