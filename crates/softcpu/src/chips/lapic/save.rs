//! The local APIC as it is saved: its page, as KVM's `KVM_GET_LAPIC` has it.
//!
//! Source: Linux `Documentation/virt/kvm/api.rst`, 4.57; the ID is in bits 24 to 31 in either life.

use super::{Lapic, REGISTERS, Refused, VECTOR_MIN, VERSION, reg, vectors};

/// Bytes of the page that hold registers.
pub(in super::super) const PAGE_BYTES: usize = REGISTERS * 16;

/// Where the error register's word holds the errors that are not yet shown.
const ERRORS_HIDDEN: u32 = 8;

impl Lapic {
    pub(in super::super) fn save(&self, now: u64) -> Vec<u8> {
        let mut page = self.page;
        page[reg::ID] = self.id() << 24;
        page[reg::VERSION] = VERSION;
        page[reg::PROCESSOR_PRIORITY] = self.processor_priority().into();
        page[reg::ERRORS] |= self.errors << ERRORS_HIDDEN;
        page[reg::TIMER_CURRENT] = self.count(now);
        if self.is_x2() {
            page[reg::LOGICAL] = self.logical_x2();
        }
        page.iter().flat_map(|word| u128::from(*word).to_le_bytes()).collect()
    }

    /// Takes on what was saved. The deadline of the time stamp counter, NMIs and messages that
    /// wait are not in it.
    ///
    /// # Errors
    /// [`Refused`] for a page of another size and a base that cannot be.
    pub(in super::super) fn restore(
        &mut self,
        page: &[u8],
        base: u64,
        now: u64,
    ) -> Result<(), Refused> {
        if page.len() != PAGE_BYTES {
            return Err(Refused);
        }
        self.reset();
        self.init = false;
        self.restore_base(base)?;
        for (word, bytes) in self.page.iter_mut().zip(page.chunks_exact(16)) {
            *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        self.page[reg::TASK_PRIORITY] &= 0xff;
        self.page[reg::SPURIOUS] &= 0x3ff;
        self.page[reg::TIMER_DIVIDE] &= 0xb;
        self.errors = self.page[reg::ERRORS] >> ERRORS_HIDDEN & 0xff;
        self.page[reg::ERRORS] &= 0xff;
        for of in [reg::IN_SERVICE, reg::TRIGGER, reg::REQUEST] {
            (0..VECTOR_MIN).for_each(|vector| vectors::set(&mut self.page, of, vector, false));
        }
        let count = std::mem::take(&mut self.page[reg::TIMER_CURRENT]);
        self.count_from(count, now);
        Ok(())
    }
}
