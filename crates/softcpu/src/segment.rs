//! Segments: descriptors, what may be loaded, and what may be reached through them.
//!
//! Source: Intel SDM volume 3, chapters 3 and 5.

use hv::state::Segment;

use crate::{
    cpu::{CS, Cpu, SS, access},
    fault::{Did, Exception, vector},
};

/// A descriptor as it stands in its table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Descriptor {
    /// Its eight bytes.
    pub(crate) bits: u64,
    /// Where it stands, linear.
    pub(crate) at: u64,
}

/// The error code of a selector.
pub(crate) fn code_of(selector: u16) -> u32 {
    u32::from(selector & !3)
}

impl Descriptor {
    pub(crate) fn access(&self) -> u32 {
        let [.., a, b, _] = self.bits.to_le_bytes();
        u32::from(a) | u32::from(b & 0xf0) << 8
    }

    pub(crate) fn present(&self) -> bool {
        self.access() & access::PRESENT != 0
    }

    pub(crate) fn dpl(&self) -> u8 {
        (self.access() >> 5 & 3).to_le_bytes()[0]
    }

    /// Code or data, not a system segment or gate.
    pub(crate) fn ordinary(&self) -> bool {
        self.access() & access::ORDINARY != 0
    }

    pub(crate) fn code(&self) -> bool {
        self.ordinary() && self.access() & access::CODE != 0
    }

    pub(crate) fn conforming(&self) -> bool {
        self.code() && self.access() & access::CONFORMING_DOWN != 0
    }

    pub(crate) fn writable(&self) -> bool {
        !self.code() && self.access() & access::READ_WRITE != 0
    }

    /// As a register has it.
    pub(crate) fn segment(&self, selector: u16) -> Segment {
        let base = self.bits >> 16 & 0x00ff_ffff | self.bits >> 56 << 24;
        let limit = self.bits & 0xffff | self.bits >> 32 & 0xf_0000;
        let limit = if self.bits & 1 << 55 != 0 { limit << 12 | 0xfff } else { limit };
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        Segment { selector, base, limit, access: self.access() }
    }
}

/// Privilege that a selector asks for.
pub(crate) fn rpl(selector: u16) -> u8 {
    (selector & 3).to_le_bytes()[0]
}

impl Cpu {
    /// Reads the descriptor of a selector that is not null.
    pub(crate) fn descriptor(&mut self, selector: u16, fault: u8) -> Did<Descriptor> {
        let offset = u64::from(selector & !7);
        let (base, limit) = if selector & 4 == 0 {
            (self.gdt.base, u64::from(self.gdt.limit))
        } else if self.ldt.access & access::UNUSABLE == 0 {
            (self.ldt.base, u64::from(self.ldt.limit))
        } else {
            (0, 0)
        };
        if offset + 7 > limit {
            return Err(self.raise(Exception::coded(fault, code_of(selector))));
        }
        let at = self.system_linear(base.wrapping_add(offset));
        Ok(Descriptor { bits: self.load_system::<u64>(at)?, at })
    }

    /// A linear address of the processor's own, of 32 bits outside of long mode.
    pub(crate) fn system_linear(&self, address: u64) -> u64 {
        if self.control.long() { address } else { address & 0xffff_ffff }
    }

    /// The upper half of a base, which system descriptors of long mode have behind them.
    pub(crate) fn upper_base(&mut self, descriptor: &Descriptor) -> Did<u64> {
        if !self.control.long() {
            return Ok(0);
        }
        Ok(self.load_system::<u32>(descriptor.at.wrapping_add(8))? << 32)
    }

    /// Sets a descriptor's accessed bit, as the first load of it does.
    pub(crate) fn mark_accessed(&mut self, descriptor: &Descriptor) -> Did {
        if descriptor.access() & access::ACCESSED == 0 {
            let marked = descriptor.bits >> 40 | u64::from(access::ACCESSED);
            self.store_system::<u8>(descriptor.at.wrapping_add(5), marked)?;
        }
        Ok(())
    }

    /// Loads a data segment register: es, ss, ds, fs or gs.
    pub(crate) fn load_segment(&mut self, register: usize, selector: u16) -> Did {
        if !self.control.protected() {
            let segment = &mut self.segments[register];
            segment.selector = selector;
            segment.base = u64::from(selector) << 4;
            self.renew_mode();
            return Ok(());
        }
        let segment = self.data_segment(register, selector)?;
        self.segments[register] = segment;
        self.renew_mode();
        Ok(())
    }

    fn data_segment(&mut self, register: usize, selector: u16) -> Did<Segment> {
        if selector & !3 == 0 {
            let stack_of_long = self.mode.code == 64 && self.cpl != 3 && rpl(selector) == self.cpl;
            if register == SS && !stack_of_long {
                return Err(self.protection(0));
            }
            return Ok(null(selector, if register == SS { self.cpl } else { 0 }));
        }
        let descriptor = self.descriptor(selector, vector::GP)?;
        let fine = if register == SS {
            descriptor.ordinary()
                && descriptor.writable()
                && rpl(selector) == self.cpl
                && descriptor.dpl() == self.cpl
        } else {
            let readable = !descriptor.code() || descriptor.access() & access::READ_WRITE != 0;
            let least = self.cpl.max(rpl(selector));
            descriptor.ordinary()
                && readable
                && (descriptor.conforming() || descriptor.dpl() >= least)
        };
        if !fine {
            return Err(self.protection(code_of(selector)));
        }
        if !descriptor.present() {
            let fault = if register == SS { vector::SS } else { vector::NP };
            return Err(self.raise(Exception::coded(fault, code_of(selector))));
        }
        self.mark_accessed(&descriptor)?;
        let mut segment = descriptor.segment(selector);
        segment.access |= access::ACCESSED;
        Ok(segment)
    }

    /// The stack segment of an inner privilege, as interrupts and far calls load it.
    pub(crate) fn inner_stack(&mut self, selector: u16, cpl: u8, fault: u8) -> Did<Segment> {
        if selector & !3 == 0 {
            return Err(self.raise(Exception::coded(fault, 0)));
        }
        let descriptor = self.descriptor(selector, fault)?;
        let fine = descriptor.ordinary()
            && descriptor.writable()
            && rpl(selector) == cpl
            && descriptor.dpl() == cpl;
        if !fine {
            return Err(self.raise(Exception::coded(fault, code_of(selector))));
        }
        if !descriptor.present() {
            return Err(self.raise(Exception::coded(vector::SS, code_of(selector))));
        }
        self.mark_accessed(&descriptor)?;
        let mut segment = descriptor.segment(selector);
        segment.access |= access::ACCESSED;
        Ok(segment)
    }

    /// Checks an access through a segment outside of 64-bit mode.
    pub(crate) fn check_segment(
        &mut self,
        register: usize,
        offset: u64,
        bytes: u64,
        write: bool,
    ) -> Did {
        let segment = &self.segments[register];
        let (kind, last) = (segment.access, offset.wrapping_add(bytes - 1));
        let limit = u64::from(segment.limit);
        let data = kind & access::CODE == 0;
        let inside = if data && kind & access::CONFORMING_DOWN != 0 {
            let most = if kind & access::BIG != 0 { 0xffff_ffff } else { 0xffff };
            offset > limit && last <= most
        } else {
            last <= limit
        };
        let read_write = kind & access::READ_WRITE != 0;
        let fits = if write { data && read_write } else { data || read_write };
        if kind & access::UNUSABLE == 0 && inside && (fits || !self.control.protected()) {
            return Ok(());
        }
        let fault = if register == SS { vector::SS } else { vector::GP };
        Err(self.raise(Exception::coded(fault, 0)))
    }

    /// Makes a code segment the current one; the privilege is the selector's.
    pub(crate) fn set_code(&mut self, mut segment: Segment, cpl: u8) {
        segment.selector = segment.selector & !3 | u16::from(cpl);
        segment.access |= access::ACCESSED;
        self.segments[CS] = segment;
        self.set_cpl(cpl);
        self.renew_mode();
    }
}

/// What a null selector loads.
pub(crate) fn null(selector: u16, dpl: u8) -> Segment {
    Segment { selector, base: 0, limit: 0, access: access::UNUSABLE | u32::from(dpl) << 5 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_read_as_the_manual_draws_it() {
        let flat = Descriptor { bits: 0x00af_9b00_0000_ffff, at: 0 };
        assert_eq!(
            flat.segment(8),
            Segment { selector: 8, base: 0, limit: u32::MAX, access: 0xa09b }
        );
        assert!(flat.code() && flat.present() && !flat.conforming());
        let odd = Descriptor { bits: 0x12c1_f334_5678_9abc, at: 0 };
        let segment = odd.segment(0x1b);
        assert_eq!((segment.base, segment.limit), (0x1234_5678, 0x19ab_cfff));
        assert_eq!((odd.dpl(), odd.writable()), (3, true));
    }
}
