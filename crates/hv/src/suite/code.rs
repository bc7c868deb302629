//! The guest's bytes.
#![allow(unsafe_code, reason = "symbols of the assembler's")]

use std::{arch::global_asm, slice};

global_asm!(include_str!("guest.s"));

unsafe extern "C" {
    static hv_suite_start: u8;
    static hv_suite_end: u8;
    static hv_suite_other: u8;
    static hv_suite_other_end: u8;
}

/// What lies between two symbols of one section.
fn between(start: *const u8, end: *const u8) -> &'static [u8] {
    // SAFETY: the assembler puts all of these bytes into one read-only section, in this order.
    unsafe { slice::from_raw_parts(start, end.addr() - start.addr()) }
}

/// The guest, which stands at 0x10000.
pub(super) fn guest() -> &'static [u8] {
    between(&raw const hv_suite_start, &raw const hv_suite_end)
}

/// The second processor's first steps, which stand at 0xa000.
pub(super) fn other() -> &'static [u8] {
    between(&raw const hv_suite_other, &raw const hv_suite_other_end)
}
