//! A local APIC: what interrupts its processor, in which order, and the page of registers behind
//! which it stands.
//!
//! ```text
//! message, timer ──▶ requested (IRR) ──processor takes it──▶ in service (ISR) ──EOI──▶ done
//! ```
//!
//! The registers are kept as they lie in the page, which is also how they are saved.
//!
//! Source: Intel SDM volume 3, chapter 11.

mod access;
mod base;
mod save;
mod timer;
mod vectors;

pub(super) use access::{Effect, MSR_FIRST};
pub use base::Refused;
pub use timer::Moment;

use super::message::{Message, Mode};

/// Register numbers: a sixteenth of the offset in the page, and what an x2APIC's MSR has above
/// 0x800.
mod reg {
    pub(super) const ID: usize = 0x02;
    pub(super) const VERSION: usize = 0x03;
    pub(super) const TASK_PRIORITY: usize = 0x08;
    pub(super) const ARBITRATION: usize = 0x09;
    pub(super) const PROCESSOR_PRIORITY: usize = 0x0a;
    pub(super) const EOI: usize = 0x0b;
    pub(super) const REMOTE_READ: usize = 0x0c;
    pub(super) const LOGICAL: usize = 0x0d;
    pub(super) const FORMAT: usize = 0x0e;
    pub(super) const SPURIOUS: usize = 0x0f;
    pub(super) const IN_SERVICE: usize = 0x10;
    pub(super) const TRIGGER: usize = 0x18;
    pub(super) const REQUEST: usize = 0x20;
    pub(super) const REQUEST_LAST: usize = 0x27;
    pub(super) const ERRORS: usize = 0x28;
    pub(super) const COMMAND: usize = 0x30;
    pub(super) const COMMAND_HIGH: usize = 0x31;
    pub(super) const LVT_TIMER: usize = 0x32;
    pub(super) const LVT_THERMAL: usize = 0x33;
    pub(super) const LVT_LINT0: usize = 0x35;
    pub(super) const LVT_LINT1: usize = 0x36;
    pub(super) const LVT_ERROR: usize = 0x37;
    pub(super) const TIMER_INITIAL: usize = 0x38;
    pub(super) const TIMER_CURRENT: usize = 0x39;
    pub(super) const TIMER_DIVIDE: usize = 0x3e;
    pub(super) const SELF_IPI: usize = 0x3f;
}

/// Registers of the page.
const REGISTERS: usize = 64;

/// An integrated APIC with six entries in its local vector table.
const VERSION: u32 = 0x0005_0014;

/// Entries of the local vector table: masked.
const MASKED: u32 = 1 << 16;

/// Their delivery mode, and the one that asks the PICs.
const LVT_MODE: u32 = 7 << 8;
const LVT_EXTERNAL: u32 = 7 << 8;

/// The spurious-interrupt register: switched on by software.
const SOFTWARE_ENABLED: u32 = 1 << 8;

/// Bits of the error register: an illegal vector sent, received; an illegal register.
const SENT_ILLEGAL: u32 = 1 << 5;
const RECEIVED_ILLEGAL: u32 = 1 << 6;
const ILLEGAL_REGISTER: u32 = 1 << 7;

/// Vectors below belong to exceptions.
const VECTOR_MIN: u8 = 16;

/// One local APIC.
#[derive(Clone, Debug)]
pub(super) struct Lapic {
    /// Which processor's; its ID as well.
    index: u8,
    /// `IA32_APIC_BASE`.
    base: u64,
    /// The registers; those that are computed when read are zero here.
    page: [u32; REGISTERS],
    /// Errors since the error register was last written.
    errors: u32,
    timer: timer::Timer,
    pub(super) nmi: bool,
    pub(super) init: bool,
    pub(super) startup: Option<u8>,
}

impl Lapic {
    /// As after power-up.
    pub(super) fn new(index: u8) -> Lapic {
        let mut lapic = Lapic {
            index,
            base: base::after_power_up(index),
            page: [0; REGISTERS],
            errors: 0,
            timer: timer::Timer::default(),
            nmi: false,
            init: false,
            startup: None,
        };
        lapic.reset();
        lapic
    }

    /// What INIT does: everything but the ID and where the page is.
    ///
    /// The first processor's LINT0 asks the PICs, as firmware leaves it ("virtual wire": there is
    /// no firmware here to do it).
    ///
    /// Source: Intel SDM volume 3, 11.4.7.1; MultiProcessor Specification 1.4, 3.6.2.2.
    pub(super) fn reset(&mut self) {
        self.page = [0; REGISTERS];
        self.page[reg::FORMAT] = u32::MAX;
        self.page[reg::SPURIOUS] = 0xff;
        self.page[reg::LVT_TIMER..=reg::LVT_ERROR].fill(MASKED);
        if self.index == 0 {
            self.page[reg::LVT_LINT0] = LVT_EXTERNAL;
        }
        self.errors = 0;
        self.timer = timer::Timer::default();
        self.nmi = false;
        self.startup = None;
    }

    /// Its number.
    pub(super) fn id(&self) -> u32 {
        self.index.into()
    }

    /// Whether it is one of a logical destination.
    ///
    /// Source: Intel SDM volume 3, 11.6.2.2 and 11.12.10.2.
    pub(super) fn is_in(&self, set: u32) -> bool {
        if self.is_x2() {
            let mine = self.logical_x2();
            return mine >> 16 == set >> 16 && mine & set & 0xffff != 0;
        }
        // An xAPIC sees eight bits of it.
        let (mine, set) = (self.page[reg::LOGICAL] >> 24, set & 0xff);
        match self.page[reg::FORMAT] >> 28 {
            0xf => mine & set != 0,
            _ => mine >> 4 == set >> 4 && mine & set & 0xf != 0,
        }
    }

    /// The logical destination of an x2APIC, which follows from its number.
    fn logical_x2(&self) -> u32 {
        self.id() >> 4 << 16 | 1 << (self.id() & 0xf)
    }

    /// Whether a message of this mode reaches it at all.
    pub(super) fn listens(&self, mode: Mode) -> bool {
        match mode {
            Mode::Fixed | Mode::LowestPriority => self.is_enabled(),
            Mode::Smi | Mode::Nmi | Mode::Init | Mode::Startup => self.is_on(),
            Mode::Nobody => false,
        }
    }

    /// Takes a message that it listens to.
    pub(super) fn take(&mut self, message: &Message) {
        match message.mode {
            Mode::Fixed | Mode::LowestPriority => self.request(message.vector, message.level),
            Mode::Nmi => self.nmi = true,
            Mode::Init => {
                self.init = true;
                self.startup = None;
            }
            Mode::Startup => self.startup = Some(message.vector),
            Mode::Smi | Mode::Nobody => {}
        }
    }

    /// Whether software has switched it on.
    fn is_enabled(&self) -> bool {
        self.is_on() && self.page[reg::SPURIOUS] & SOFTWARE_ENABLED != 0
    }

    fn request(&mut self, vector: u8, level: bool) {
        if vector < VECTOR_MIN {
            self.error(RECEIVED_ILLEGAL);
            return;
        }
        vectors::set(&mut self.page, reg::REQUEST, vector, true);
        vectors::set(&mut self.page, reg::TRIGGER, vector, level);
    }

    /// Notes an error and interrupts for it, if it is the first of its kind.
    ///
    /// Source: Intel SDM volume 3, 11.5.3.
    fn error(&mut self, error: u32) {
        let known = self.errors & error != 0;
        self.errors |= error;
        let entry = self.page[reg::LVT_ERROR];
        let vector = entry.to_le_bytes()[0];
        // An illegal vector here would be one more error for ever.
        if !known && entry & MASKED == 0 && vector >= VECTOR_MIN && self.is_enabled() {
            self.request(vector, false);
        }
    }

    /// What the processor is busy with: an interrupt of a lower or equal class has to wait.
    ///
    /// Source: Intel SDM volume 3, 11.8.3.1.
    pub(super) fn processor_priority(&self) -> u8 {
        let task = self.task_priority();
        let service = vectors::highest(&self.page, reg::IN_SERVICE).unwrap_or(0);
        if task >> 4 >= service >> 4 { task } else { service & 0xf0 }
    }

    pub(super) fn task_priority(&self) -> u8 {
        self.page[reg::TASK_PRIORITY].to_le_bytes()[0]
    }

    pub(super) fn set_task_priority(&mut self, priority: u8) {
        self.page[reg::TASK_PRIORITY] = priority.into();
    }

    /// The vector that would interrupt the processor.
    pub(super) fn deliverable(&self) -> Option<u8> {
        let vector = vectors::highest(&self.page, reg::REQUEST)?;
        let now = self.is_enabled() && vector >> 4 > self.processor_priority() >> 4;
        now.then_some(vector)
    }

    /// The processor takes it.
    pub(super) fn begin(&mut self) -> Option<u8> {
        let vector = self.deliverable()?;
        vectors::set(&mut self.page, reg::REQUEST, vector, false);
        vectors::set(&mut self.page, reg::IN_SERVICE, vector, true);
        Some(vector)
    }

    /// The end of the one in service; its vector, if the I/O APIC is to know.
    fn end(&mut self) -> Option<u8> {
        let vector = vectors::highest(&self.page, reg::IN_SERVICE)?;
        vectors::set(&mut self.page, reg::IN_SERVICE, vector, false);
        vectors::get(&self.page, reg::TRIGGER, vector).then_some(vector)
    }

    /// Whether the PICs' interrupts are this processor's.
    pub(super) fn asks_pics(&self) -> bool {
        if !self.is_on() {
            return self.index == 0;
        }
        self.page[reg::LVT_LINT0] & (MASKED | LVT_MODE) == LVT_EXTERNAL
    }
}
