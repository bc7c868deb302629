//! Single accesses to memory that others change at the same time.
//!
//! Each is one instruction, so that it is to the guest what the same instruction of a real
//! processor is: not torn within a cache line, ordered as the processor orders loads and stores,
//! at any alignment. The compiler knows nothing of what is there, so no access of one thread can
//! be a data race with that of another in the language's sense.
#![allow(unsafe_code, reason = "the accesses themselves")]

use std::{arch::asm, fmt::Debug};

/// An unsigned integer that goes in or out in one access.
pub trait Scalar: Copy + Eq + Debug + sealed::Access {}

impl<T: Copy + Eq + Debug + sealed::Access> Scalar for T {}

pub(super) mod sealed {
    /// How it is done; only the mapping does it.
    pub trait Access: Sized {
        /// Reads the value.
        ///
        /// # Safety
        /// All of it can be read.
        unsafe fn load(from: *const u8) -> Self;

        /// Writes the value.
        ///
        /// # Safety
        /// All of it can be written, and nothing of it is borrowed.
        unsafe fn store(to: *mut u8, value: Self);

        /// Writes `new` if `current` is there; gives what was.
        ///
        /// # Safety
        /// As [`Access::store`].
        unsafe fn compare_exchange(at: *mut u8, current: Self, new: Self) -> Self;
    }
}

/// The three accesses of one width: the class of register and its modifier, the accumulator.
macro_rules! access {
    ($scalar:ty, $class:ident, $modifier:literal, $accumulator:tt) => {
        impl sealed::Access for $scalar {
            #[inline(always)]
            unsafe fn load(from: *const u8) -> $scalar {
                let value: $scalar;
                // SAFETY: the caller says that it can be read; nothing else is touched.
                unsafe {
                    asm!(
                        concat!("mov {value", $modifier, "}, [{from}]"),
                        value = out($class) value,
                        from = in(reg) from,
                        options(nostack, preserves_flags, readonly),
                    );
                }
                value
            }

            #[inline(always)]
            unsafe fn store(to: *mut u8, value: $scalar) {
                // SAFETY: the caller says that it can be written and that nobody borrows it.
                unsafe {
                    asm!(
                        concat!("mov [{to}], {value", $modifier, "}"),
                        value = in($class) value,
                        to = in(reg) to,
                        options(nostack, preserves_flags),
                    );
                }
            }

            #[inline(always)]
            unsafe fn compare_exchange(at: *mut u8, current: $scalar, new: $scalar) -> $scalar {
                let there: $scalar;
                // SAFETY: as for a store.
                unsafe {
                    asm!(
                        concat!("lock cmpxchg [{at}], {new", $modifier, "}"),
                        new = in($class) new,
                        at = in(reg) at,
                        inout($accumulator) current => there,
                        options(nostack),
                    );
                }
                there
            }
        }
    };
}

access!(u8, reg_byte, "", "al");
access!(u16, reg, ":x", "ax");
access!(u32, reg, ":e", "eax");
access!(u64, reg, ":r", "rax");

/// Writes 16 bytes if `current` is there; gives what was.
///
/// # Safety
/// All 16 bytes can be written, nothing of them is borrowed, and their address is a multiple of 16.
#[inline(always)]
pub(super) unsafe fn compare_exchange_16(at: *mut u8, current: u128, new: u128) -> u128 {
    let halves = |value: u128| {
        let bytes = value.to_le_bytes();
        let half = |from: usize| std::array::from_fn(|n| bytes[from + n]);
        (u64::from_le_bytes(half(0)), u64::from_le_bytes(half(8)))
    };
    let ((current_low, current_high), (new_low, new_high)) = (halves(current), halves(new));
    let (low, high): (u64, u64);
    // SAFETY: the caller says so; rbx, which the compiler keeps to itself, gets its value back.
    unsafe {
        asm!(
            "xchg rbx, {new_low}",
            "lock cmpxchg16b [{at}]",
            "mov rbx, {new_low}",
            new_low = inout(reg) new_low => _,
            at = in(reg) at,
            inout("rax") current_low => low,
            inout("rdx") current_high => high,
            in("rcx") new_high,
            options(nostack),
        );
    }
    u128::from(high) << 64 | u128::from(low)
}

/// Copies bytes in ascending order; where the two overlap, what was written is read again, as with
/// the processor's own instruction.
///
/// # Safety
/// `from` can be read and `to` written for so many bytes, and nobody else borrows `to`.
#[inline(always)]
pub(super) unsafe fn copy_ascending(from: *const u8, to: *mut u8, bytes: usize) {
    // SAFETY: the caller says so; the direction flag is clear in all of Rust.
    unsafe {
        asm!(
            "rep movsb",
            inout("rcx") bytes => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags),
        );
    }
}

/// Writes one byte everywhere.
///
/// # Safety
/// `to` can be written for so many bytes, and nobody borrows it.
#[inline(always)]
pub(super) unsafe fn fill(to: *mut u8, byte: u8, bytes: usize) {
    // SAFETY: as above.
    unsafe {
        asm!(
            "rep stosb",
            inout("rcx") bytes => _,
            inout("rdi") to => _,
            in("al") byte,
            options(nostack, preserves_flags),
        );
    }
}
