//! The arithmetic flags, kept as what they follow from.
//!
//! Few instructions' flags are ever asked for, so an operation leaves its result and the carries
//! out of each bit; each flag is one or two operations away from those, without a branch.

/// Carry.
pub(crate) const CF: u64 = 1;
/// Parity of the lowest byte.
pub(crate) const PF: u64 = 1 << 2;
/// Carry out of the lowest half byte.
pub(crate) const AF: u64 = 1 << 4;
/// Zero.
pub(crate) const ZF: u64 = 1 << 6;
/// Sign.
pub(crate) const SF: u64 = 1 << 7;
/// Single step.
pub(crate) const TF: u64 = 1 << 8;
/// Interrupts are on.
pub(crate) const IF: u64 = 1 << 9;
/// Strings go downwards.
pub(crate) const DF: u64 = 1 << 10;
/// Overflow.
pub(crate) const OF: u64 = 1 << 11;
/// Privilege that port access needs.
pub(crate) const IOPL: u64 = 3 << 12;
/// Nested task.
pub(crate) const NT: u64 = 1 << 14;
/// No debug exception for the next instruction.
pub(crate) const RF: u64 = 1 << 16;
/// Virtual 8086 mode.
pub(crate) const VM: u64 = 1 << 17;
/// Alignment check.
pub(crate) const AC: u64 = 1 << 18;
/// Can be changed, so there is `cpuid`.
pub(crate) const ID: u64 = 1 << 21;
/// Bit 1, always set.
pub(crate) const FIXED: u64 = 2;
/// The six that arithmetic sets.
pub(crate) const ARITHMETIC: u64 = CF | PF | AF | ZF | SF | OF;

/// Sign differs from the result's.
const SIGN_TURNED: u8 = 1;
/// Parity differs from the result's.
const PARITY_TURNED: u8 = 2;

/// The six arithmetic flags.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flags {
    /// The result, its sign extended to 64 bits.
    pub(crate) result: u64,
    /// Bit 63: carry; bit 62: whether overflow differs from it; bit 3: the half carry.
    pub(crate) carry: u64,
    /// What of the result's own sign and parity is turned round.
    pub(crate) turned: u8,
}

impl Flags {
    #[inline(always)]
    pub(crate) fn cf(&self) -> bool {
        self.carry >> 63 != 0
    }

    #[inline(always)]
    pub(crate) fn of(&self) -> bool {
        (self.carry ^ self.carry << 1) >> 63 != 0
    }

    #[inline(always)]
    pub(crate) fn af(&self) -> bool {
        self.carry & 8 != 0
    }

    #[inline(always)]
    pub(crate) fn zf(&self) -> bool {
        self.result == 0
    }

    #[inline(always)]
    pub(crate) fn sf(&self) -> bool {
        (self.result >> 63 != 0) ^ (self.turned & SIGN_TURNED != 0)
    }

    #[inline(always)]
    pub(crate) fn pf(&self) -> bool {
        (self.result & 0xff).count_ones() & 1 == 0 && self.turned & PARITY_TURNED == 0
            || (self.result & 0xff).count_ones() & 1 == 1 && self.turned & PARITY_TURNED != 0
    }

    /// As `pushf` has them.
    pub(crate) fn bits(&self) -> u64 {
        let bit = |set: bool, bit: u64| if set { bit } else { 0 };
        bit(self.cf(), CF)
            | bit(self.pf(), PF)
            | bit(self.af(), AF)
            | bit(self.zf(), ZF)
            | bit(self.sf(), SF)
            | bit(self.of(), OF)
    }

    /// From their bits; others are ignored.
    pub(crate) fn from_bits(bits: u64) -> Flags {
        let zero = bits & ZF != 0;
        // A result of zero has its sign clear and its parity set, one of 1 both clear.
        let result = u64::from(!zero);
        let turned = if bits & SF != 0 { SIGN_TURNED } else { 0 }
            | if (bits & PF != 0) == zero { 0 } else { PARITY_TURNED };
        Flags { result, carry: carries(bits & CF != 0, bits & OF != 0, bits & AF != 0), turned }
    }

    /// With another carry.
    #[inline(always)]
    pub(crate) fn with_cf(self, cf: bool) -> Flags {
        Flags { carry: carries(cf, self.of(), self.af()), ..self }
    }

    /// With another carry and overflow.
    #[inline(always)]
    pub(crate) fn with_cf_of(self, cf: bool, of: bool) -> Flags {
        Flags { carry: carries(cf, of, self.af()), ..self }
    }

    /// With another zero flag.
    pub(crate) fn with_zf(self, zf: bool) -> Flags {
        let bits = self.bits() & !ZF;
        Flags::from_bits(if zf { bits | ZF } else { bits })
    }

    /// One of the sixteen conditions, by the lowest four bits of `jcc`'s opcode.
    #[inline(always)]
    pub(crate) fn condition<const N: u8>(&self) -> bool {
        let holds = match N >> 1 {
            0 => self.of(),
            1 => self.cf(),
            2 => self.zf(),
            3 => self.cf() || self.zf(),
            4 => self.sf(),
            5 => self.pf(),
            6 => self.sf() != self.of(),
            _ => self.zf() || self.sf() != self.of(),
        };
        holds ^ (N & 1 != 0)
    }
}

/// The word of carries that says this.
#[inline(always)]
pub(crate) fn carries(cf: bool, of: bool, af: bool) -> u64 {
    u64::from(cf) << 63 | u64::from(cf != of) << 62 | u64::from(af) << 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_of_flags_is_kept() {
        for n in 0..64u64 {
            let all = [CF, PF, AF, ZF, SF, OF];
            let bits =
                all.iter().enumerate().map(|(k, bit)| if n >> k & 1 != 0 { *bit } else { 0 });
            let bits = bits.sum::<u64>();
            let flags = Flags::from_bits(bits);
            assert_eq!(flags.bits(), bits);
            assert_eq!(flags.with_cf(true).bits(), bits | CF);
            assert_eq!(flags.with_cf(false).bits(), bits & !CF);
            assert_eq!(flags.with_cf_of(false, true).bits(), bits & !CF | OF);
            assert_eq!(flags.with_zf(true).bits(), bits | ZF);
            assert_eq!(flags.condition::<7>(), bits & (CF | ZF) == 0);
            assert_eq!(flags.condition::<12>(), (bits & SF != 0) != (bits & OF != 0));
        }
    }
}
