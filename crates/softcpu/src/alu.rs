//! Arithmetic on integers: operands in, result and flags out.
//!
//! Source: Intel SDM volume 2, the instructions' own pages. What is undefined there is as the
//! simplest processor would leave it.

use crate::{
    flags::{Flags, carries},
    word::Word,
};

/// An operation with two operands.
pub(crate) trait Alu {
    /// Whether the result goes anywhere.
    const WRITES: bool = true;

    fn apply<T: Word>(a: u64, b: u64, flags: &Flags) -> (u64, Flags);
}

#[inline(always)]
fn adding<T: Word>(a: u64, b: u64, carry: u64) -> (u64, Flags) {
    let sum = a.wrapping_add(b).wrapping_add(carry);
    let out = (a & b) | ((a | b) & !sum);
    (sum & T::MASK, Flags { result: T::signed(sum), carry: placed::<T>(out), turned: 0 })
}

#[inline(always)]
fn subtracting<T: Word>(a: u64, b: u64, borrow: u64) -> (u64, Flags) {
    let difference = a.wrapping_sub(b).wrapping_sub(borrow);
    let out = (!a & b) | ((!a | b) & difference);
    (
        difference & T::MASK,
        Flags { result: T::signed(difference), carry: placed::<T>(out), turned: 0 },
    )
}

/// The carries out of each bit of a width, as [`Flags::carry`] has them.
#[inline(always)]
fn placed<T: Word>(out: u64) -> u64 {
    if T::BITS == 64 { out } else { out << (64 - T::BITS) | out & 8 }
}

#[inline(always)]
fn logical<T: Word>(result: u64) -> (u64, Flags) {
    (result, Flags { result: T::signed(result), carry: 0, turned: 0 })
}

macro_rules! alu {
    ($name:ident, $writes:literal, |$a:ident, $b:ident, $flags:ident| $body:expr) => {
        pub(crate) struct $name;

        impl Alu for $name {
            const WRITES: bool = $writes;

            #[inline(always)]
            fn apply<T: Word>($a: u64, $b: u64, $flags: &Flags) -> (u64, Flags) {
                $body
            }
        }
    };
}

alu!(Add, true, |a, b, _flags| adding::<T>(a, b, 0));
alu!(Adc, true, |a, b, flags| adding::<T>(a, b, u64::from(flags.cf())));
alu!(Sub, true, |a, b, _flags| subtracting::<T>(a, b, 0));
alu!(Sbb, true, |a, b, flags| subtracting::<T>(a, b, u64::from(flags.cf())));
alu!(Cmp, false, |a, b, _flags| subtracting::<T>(a, b, 0));
alu!(And, true, |a, b, _flags| logical::<T>(a & b));
alu!(Test, false, |a, b, _flags| logical::<T>(a & b));
alu!(Or, true, |a, b, _flags| logical::<T>(a | b));
alu!(Xor, true, |a, b, _flags| logical::<T>(a ^ b));

/// An operation with one operand.
pub(crate) trait Unary {
    fn apply<T: Word>(a: u64, flags: &Flags) -> (u64, Flags);
}

macro_rules! unary {
    ($name:ident, |$a:ident, $flags:ident| $body:expr) => {
        pub(crate) struct $name;

        impl Unary for $name {
            #[inline(always)]
            fn apply<T: Word>($a: u64, $flags: &Flags) -> (u64, Flags) {
                $body
            }
        }
    };
}

unary!(Inc, |a, flags| {
    let (sum, new) = adding::<T>(a, 1, 0);
    (sum, new.with_cf(flags.cf()))
});
unary!(Dec, |a, flags| {
    let (difference, new) = subtracting::<T>(a, 1, 0);
    (difference, new.with_cf(flags.cf()))
});
unary!(Neg, |a, _flags| subtracting::<T>(0, a, 0));
unary!(Not, |a, flags| (!a & T::MASK, *flags));

/// A shift or rotation by a count that is masked already and not zero.
pub(crate) trait Shift {
    fn apply<T: Word>(a: u64, count: u32, flags: &Flags) -> (u64, Flags);
}

/// The count that a processor uses: five bits, six for 64-bit operands.
#[inline(always)]
pub(crate) fn count<T: Word>(count: u64) -> u32 {
    let count = (count & 0xff) as u8 as u32;
    if T::BITS == 64 { count & 63 } else { count & 31 }
}

#[inline(always)]
fn bit(of: u64, number: u32) -> bool {
    number < 64 && of >> number & 1 != 0
}

#[inline(always)]
fn top<T: Word>(of: u64) -> bool {
    of >> (T::BITS - 1) & 1 != 0
}

#[inline(always)]
fn shifted<T: Word>(result: u64, cf: bool, of: bool) -> (u64, Flags) {
    let flags = Flags { result: T::signed(result), carry: carries(cf, of, false), turned: 0 };
    (result & T::MASK, flags)
}

macro_rules! shift {
    ($name:ident, |$a:ident, $count:ident, $flags:ident| $body:expr) => {
        pub(crate) struct $name;

        impl Shift for $name {
            #[inline(always)]
            fn apply<T: Word>($a: u64, $count: u32, $flags: &Flags) -> (u64, Flags) {
                $body
            }
        }
    };
}

shift!(Shl, |a, count, _flags| {
    let result = a << count & T::MASK;
    let cf = count <= T::BITS && bit(a, T::BITS - count.min(T::BITS));
    shifted::<T>(result, cf, cf != top::<T>(result))
});
shift!(Shr, |a, count, _flags| {
    let result = a >> count;
    shifted::<T>(result, bit(a, count - 1), top::<T>(a))
});
shift!(Sar, |a, count, _flags| {
    let signed = T::signed(a).cast_signed();
    let result = (signed >> count).cast_unsigned() & T::MASK;
    shifted::<T>(result, (signed >> (count - 1)) & 1 != 0, false)
});
shift!(Rol, |a, count, flags| {
    let by = count % T::BITS;
    let result = if by == 0 { a } else { (a << by | a >> (T::BITS - by)) & T::MASK };
    let cf = result & 1 != 0;
    (result, flags.with_cf_of(cf, cf != top::<T>(result)))
});
shift!(Ror, |a, count, flags| {
    let by = count % T::BITS;
    let result = if by == 0 { a } else { (a >> by | a << (T::BITS - by)) & T::MASK };
    let cf = top::<T>(result);
    (result, flags.with_cf_of(cf, cf != bit(result, T::BITS - 2)))
});
shift!(Rcl, |a, count, flags| {
    let by = count % (T::BITS + 1);
    if by == 0 {
        return (a, *flags);
    }
    let whole = u128::from(a) | u128::from(flags.cf()) << T::BITS;
    let turned = whole << by | whole >> (T::BITS + 1 - by);
    let (result, cf) = split::<T>(turned);
    (result, flags.with_cf_of(cf, cf != top::<T>(result)))
});
shift!(Rcr, |a, count, flags| {
    let by = count % (T::BITS + 1);
    if by == 0 {
        return (a, *flags);
    }
    let whole = u128::from(a) | u128::from(flags.cf()) << T::BITS;
    let turned = whole >> by | whole << (T::BITS + 1 - by);
    let (result, cf) = split::<T>(turned);
    (result, flags.with_cf_of(cf, top::<T>(result) != bit(result, T::BITS - 2)))
});

/// A width and the carry above it.
fn split<T: Word>(whole: u128) -> (u64, bool) {
    let [low, _] = halves(whole);
    (low & T::MASK, whole >> T::BITS & 1 != 0)
}

/// Lower and upper half.
pub(crate) fn halves(whole: u128) -> [u64; 2] {
    #[expect(clippy::cast_possible_truncation, reason = "the halves themselves")]
    [whole as u64, (whole >> 64) as u64]
}

/// `shld`: `a` moves up by a count that is not zero, `b`'s upper bits come in below.
pub(crate) fn shift_left_double<T: Word>(
    a: u64,
    b: u64,
    count: u32,
    _flags: &Flags,
) -> (u64, Flags) {
    // For 16 bits a count above 16 is undefined; the bits of the first operand come again.
    let whole = if T::BITS == 16 {
        u128::from(a) << 32 | u128::from(b) << 16 | u128::from(a)
    } else {
        u128::from(a) << T::BITS | u128::from(b)
    };
    let width = if T::BITS == 16 { 48 } else { 2 * T::BITS };
    let [result, _] = halves(whole >> (width - T::BITS - count));
    let cf = whole >> (width - count) & 1 != 0;
    shifted::<T>(result & T::MASK, cf, top::<T>(a) != top::<T>(result))
}

/// `shrd`: `a` moves down, `b`'s lower bits come in above.
pub(crate) fn shift_right_double<T: Word>(
    a: u64,
    b: u64,
    count: u32,
    _flags: &Flags,
) -> (u64, Flags) {
    let whole = if T::BITS == 16 {
        u128::from(a) << 32 | u128::from(b) << 16 | u128::from(a)
    } else {
        u128::from(b) << T::BITS | u128::from(a)
    };
    let [result, _] = halves(whole >> count);
    let cf = whole >> (count - 1) & 1 != 0;
    shifted::<T>(result & T::MASK, cf, top::<T>(a) != top::<T>(result))
}

/// Flags after a multiplication: carry and overflow say whether the upper half says something.
pub(crate) fn multiplied<T: Word>(low: u64, more: bool) -> Flags {
    Flags { result: T::signed(low), carry: carries(more, more, false), turned: 0 }
}

/// Unsigned product: lower and upper part.
#[inline(always)]
pub(crate) fn multiply<T: Word>(a: u64, b: u64) -> (u64, u64) {
    let [low, high] = halves(u128::from(a) * u128::from(b));
    if T::BITS == 64 { (low, high) } else { (low & T::MASK, low >> T::BITS) }
}

/// Signed product: lower and upper part, and whether it does not fit into the lower.
#[inline(always)]
pub(crate) fn multiply_signed<T: Word>(a: u64, b: u64) -> (u64, u64, bool) {
    let wide = |of: u64| i128::from(T::signed(of).cast_signed());
    let product = wide(a) * wide(b);
    let [low, high] = halves(product.cast_unsigned());
    if T::BITS == 64 {
        (low, high, product != i128::from(low.cast_signed()))
    } else {
        (low & T::MASK, low >> T::BITS & T::MASK, low != T::signed(low))
    }
}

/// Quotient and remainder of twice the width; nothing if it cannot be said.
pub(crate) fn divide<T: Word>(high: u64, low: u64, by: u64) -> Option<(u64, u64)> {
    if by == 0 {
        return None;
    }
    if T::BITS < 64 || high == 0 {
        let whole = if T::BITS < 64 { high << T::BITS | low } else { low };
        let quotient = whole / by;
        return (quotient <= T::MASK).then_some((quotient, whole % by));
    }
    let whole = u128::from(high) << 64 | u128::from(low);
    let ([quotient, above], [rest, _]) =
        (halves(whole / u128::from(by)), halves(whole % u128::from(by)));
    (above == 0).then_some((quotient, rest))
}

/// The same with signs.
pub(crate) fn divide_signed<T: Word>(high: u64, low: u64, by: u64) -> Option<(u64, u64)> {
    let by = i128::from(T::signed(by).cast_signed());
    let whole = i128::from(T::signed(high).cast_signed()) << T::BITS | i128::from(low);
    let (quotient, rest) = (whole.checked_div(by)?, whole.checked_rem(by)?);
    let [low, _] = halves(quotient.cast_unsigned());
    let fits = i128::from(T::signed(low).cast_signed()) == quotient;
    let [rest, _] = halves(rest.cast_unsigned());
    fits.then_some((low & T::MASK, rest & T::MASK))
}

/// A step of the checksum that `crc32` makes, bits reflected.
///
/// Source: Intel SDM volume 2, `CRC32`, polynomial 0x11EDC6F41.
pub(crate) fn crc32c(mut checksum: u32, value: u64, bytes: u64) -> u32 {
    for n in 0..bytes {
        checksum ^= (value >> (8 * n) & 0xff) as u8 as u32;
        for _ in 0..8 {
            let out = checksum & 1 != 0;
            checksum = checksum >> 1 ^ if out { 0x82f6_3b78 } else { 0 };
        }
    }
    checksum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_leave_the_flags_of_the_width() {
        let none = Flags::default();
        let (sum, flags) = Add::apply::<u8>(0x7f, 1, &none);
        assert_eq!(
            (sum, flags.cf(), flags.of(), flags.sf(), flags.af()),
            (0x80, false, true, true, true)
        );
        let (sum, flags) = Add::apply::<u32>(0xffff_ffff, 1, &none);
        assert_eq!((sum, flags.cf(), flags.of(), flags.zf()), (0, true, false, true));
        let (rest, flags) = Sub::apply::<u16>(0x8000, 1, &none);
        assert_eq!((rest, flags.cf(), flags.of()), (0x7fff, false, true));
        let (_, flags) = Sub::apply::<u64>(0, 1, &none);
        assert!(flags.cf() && flags.sf() && !flags.of());
    }

    #[test]
    fn division_refuses_what_does_not_fit() {
        assert_eq!(divide::<u8>(1, 0, 1), None);
        assert_eq!(divide::<u64>(1, 0, 2), Some((1 << 63, 0)));
        assert_eq!(divide::<u64>(2, 0, 2), None);
        assert_eq!(divide_signed::<u32>(0xffff_ffff, 0x8000_0000, 0xffff_ffff), None);
        assert_eq!(divide_signed::<u64>(u64::MAX, u64::MAX - 6, 2), Some((u64::MAX - 2, u64::MAX)));
        assert_eq!(divide_signed::<u64>(1 << 63, 0, u64::MAX), None);
    }

    #[test]
    fn checksums_are_castagnolis() {
        let mut sum = u32::MAX;
        for byte in b"123456789" {
            sum = crc32c(sum, u64::from(*byte), 1);
        }
        assert_eq!(!sum, 0xe306_9283);
    }
}
