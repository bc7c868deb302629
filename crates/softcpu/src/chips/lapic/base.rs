//! `IA32_APIC_BASE`: where the page is, and which of its three lives an APIC leads.
//!
//! ```text
//! off ◀──▶ xAPIC (a page in memory) ──▶ x2APIC (MSRs) ──▶ off
//! ```
//!
//! Source: Intel SDM volume 3, 11.4.4 and 11.12.5.

use super::Lapic;

/// The register refuses: the guest gets a general-protection fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

const FIRST_PROCESSOR: u64 = 1 << 8;
const X2: u64 = 1 << 10;
const ON: u64 = 1 << 11;
/// Bits 12 to 39: physical addresses of the models here have 40 bits.
const ADDRESS: u64 = ((1 << 40) - 1) & !0xfff;
const DEFAULT: u64 = 0xfee0_0000;

pub(super) fn after_power_up(index: u8) -> u64 {
    DEFAULT | ON | if index == 0 { FIRST_PROCESSOR } else { 0 }
}

impl Lapic {
    pub(in super::super) fn base(&self) -> u64 {
        self.base
    }

    pub(in super::super) fn is_on(&self) -> bool {
        self.base & ON != 0
    }

    pub(super) fn is_x2(&self) -> bool {
        self.base & X2 != 0
    }

    /// Where its page is, if it has one.
    pub(in super::super) fn page_address(&self) -> Option<u64> {
        (self.base & (ON | X2) == ON).then_some(self.base & ADDRESS)
    }

    /// What the guest writes.
    ///
    /// # Errors
    /// [`Refused`] for reserved bits and for a life that cannot follow this one.
    pub(in super::super) fn set_base(&mut self, value: u64) -> Result<(), Refused> {
        if value & !(ADDRESS | FIRST_PROCESSOR | X2 | ON) != 0 {
            return Err(Refused);
        }
        let allowed = match (self.base & (ON | X2), value & (ON | X2)) {
            (_, X2) | (ON_X2, ON) | (0, ON_X2) => false,
            (_, _) => true,
        };
        if !allowed {
            return Err(Refused);
        }
        let was_on = self.is_on();
        self.base = value;
        if was_on && !self.is_on() {
            let waiting = (self.nmi, self.startup);
            self.reset();
            (self.nmi, self.startup) = waiting;
        }
        Ok(())
    }

    /// Sets it as it was saved.
    pub(in super::super) fn restore_base(&mut self, value: u64) -> Result<(), Refused> {
        let legal = value & !(ADDRESS | FIRST_PROCESSOR | ON_X2) == 0 && value & ON_X2 != X2;
        if !legal {
            return Err(Refused);
        }
        self.base = value;
        Ok(())
    }
}

const ON_X2: u64 = ON | X2;
