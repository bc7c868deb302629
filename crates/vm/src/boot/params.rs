//! The zero page: what Linux is told by who loads it.
//!
//! Source: Linux `Documentation/arch/x86/zero-page.rst`, `arch/x86/include/uapi/asm/bootparam.h`.

use super::{Plan, SEED_BYTES, bzimage};
use crate::layout;

/// Its length.
const BYTES: usize = 4096;

const ACPI_RSDP: usize = 0x070;
const MAP_ENTRIES: usize = 0x1e8;
const LOADER: usize = 0x210;
const INITRD: usize = 0x218;
const INITRD_BYTES: usize = 0x21c;
const COMMAND_LINE: usize = 0x228;
const SETUP_DATA: usize = 0x250;
const MAP: usize = 0x2d0;

/// `SETUP_RNG_SEED`.
const SEED: u32 = 9;

/// Fields of the header that a `vmlinux` has none of.
const BOOT_FLAG: usize = 0x1fe;
const MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const ALIGNMENT: usize = 0x230;
const COMMAND_LINE_MAX: usize = 0x238;
const HEADER_END: usize = 0x268;

/// "A loader that has no number."
const UNDEFINED_LOADER: u8 = 0xff;

/// What a `vmlinux` reads of its command line. Source: `COMMAND_LINE_SIZE`, less the zero.
pub(super) const VMLINUX_COMMAND_LINE_MAX: usize = 2047;

/// The header that a `vmlinux` wants to see, from 0x1f1 on, though it has none in its file.
pub(super) fn vmlinux_header() -> Vec<u8> {
    let mut page = vec![0; HEADER_END];
    put(&mut page, BOOT_FLAG, &bzimage::BOOT_FLAG_VALUE.to_le_bytes());
    put(&mut page, MAGIC, &bzimage::MAGIC_VALUE.to_le_bytes());
    put(&mut page, VERSION, &0x020fu16.to_le_bytes());
    put(&mut page, ALIGNMENT, &0x0100_0000u32.to_le_bytes());
    put(&mut page, COMMAND_LINE_MAX, &2047u32.to_le_bytes());
    page.split_off(bzimage::HEADER)
}

/// The page for a plan.
pub(super) fn zero_page(plan: &Plan) -> Vec<u8> {
    let mut page = vec![0; BYTES];
    put(&mut page, bzimage::HEADER, &plan.kernel.header);
    put(&mut page, LOADER, &[UNDEFINED_LOADER]);
    put(&mut page, ACPI_RSDP, &plan.rsdp.unwrap_or(0).to_le_bytes());
    put(&mut page, COMMAND_LINE, &low(layout::COMMAND_LINE));
    put(&mut page, SETUP_DATA, &layout::SETUP_DATA.to_le_bytes());
    if let Some((address, bytes)) = plan.initrd {
        // Both are below 4 GiB: `plan` keeps an initrd under the hole for devices.
        put(&mut page, INITRD, &low(address));
        put(&mut page, INITRD_BYTES, &low(bytes));
    }
    put(&mut page, MAP_ENTRIES, &plan.map.len().to_le_bytes()[..1]);
    for (n, region) in plan.map.iter().enumerate() {
        let at = MAP + 20 * n;
        put(&mut page, at, &region.start.to_le_bytes());
        put(&mut page, at + 8, &region.bytes.to_le_bytes());
        put(&mut page, at + 16, &region.kind.number().to_le_bytes());
    }
    page
}

/// The list that the page points to: its one entry seeds the kernel's random numbers. Older kernels
/// pass over what they do not know.
///
/// Source: `struct setup_data`; Linux 5.20, `SETUP_RNG_SEED`.
pub(super) fn setup_data(seed: &[u8; SEED_BYTES]) -> Vec<u8> {
    let bytes = u32::try_from(SEED_BYTES).expect("a seed is short");
    [&[0; 8], SEED.to_le_bytes().as_slice(), &bytes.to_le_bytes(), seed].concat()
}

/// The lower half of a number.
fn low(value: u64) -> [u8; 4] {
    let [a, b, c, d, ..] = value.to_le_bytes();
    [a, b, c, d]
}

/// Writes bytes at an offset of a page that has room for them.
fn put(page: &mut [u8], at: usize, bytes: &[u8]) {
    page[at..at + bytes.len()].copy_from_slice(bytes);
}
