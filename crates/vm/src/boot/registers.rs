//! How the first processor stands when a kernel begins.

use hv::{
    CpuState, GuestMemory,
    memory::NotMemory,
    state::{Activity, Events, Segment, Table, gpr},
};

use super::Entry;
use crate::layout;

/// Selectors of the descriptor table, as Linux wants them (`__BOOT_CS`, `__BOOT_DS`).
const CODE: u16 = 0x10;
const DATA: u16 = 0x18;
const TASK: u16 = 0x20;

/// Descriptors: flat code of 64 and of 32 bits, flat data, a task of 104 bytes that is busy.
const CODE_64: u64 = 0x00af_9b00_0000_ffff;
const CODE_32: u64 = 0x00cf_9b00_0000_ffff;
const DATA_FLAT: u64 = 0x00cf_9300_0000_ffff;
const TASK_BUSY: u64 = 0x0000_8b00_0000_0067;

/// What cr0, cr4 and EFER are made of.
const PROTECTION: u64 = 1;
const EXTENSION_TYPE: u64 = 1 << 4;
const PAGING: u64 = 1 << 31;
const PHYSICAL_ADDRESS_EXTENSION: u64 = 1 << 5;
const LONG_MODE_ENABLE: u64 = 1 << 8;
const LONG_MODE_ACTIVE: u64 = 1 << 10;
const EFER: u32 = 0xc000_0080;

/// Page table entries: present and writable; a page of 2 MiB.
const PRESENT: u64 = 0b11;
const LARGE: u64 = 1 << 7;

/// How much is mapped one to one, in GiB: all that is below the addresses of devices, and these.
const MAPPED_GIB: u64 = 4;

/// Bytes of a page of entries.
const PAGE: u64 = 4096;

fn table(entry: Entry) -> [u64; 5] {
    let code = match entry {
        Entry::Long { .. } => CODE_64,
        Entry::Protected { .. } => CODE_32,
    };
    [0, 0, code, DATA_FLAT, TASK_BUSY]
}

/// Writes the descriptor table, and page tables where there is paging.
pub(super) fn load(memory: &GuestMemory, entry: Entry) -> Result<(), NotMemory> {
    for (at, descriptor) in (layout::GDT..).step_by(8).zip(table(entry)) {
        memory.store(at, descriptor)?;
    }
    if let Entry::Protected { .. } = entry {
        return Ok(());
    }
    let (pointers, directories) = (layout::PAGE_TABLES + PAGE, layout::PAGE_TABLES + 2 * PAGE);
    memory.store(layout::PAGE_TABLES, pointers | PRESENT)?;
    for gib in 0..MAPPED_GIB {
        memory.store(pointers + 8 * gib, (directories + PAGE * gib) | PRESENT)?;
    }
    for n in 0..MAPPED_GIB * 512 {
        memory.store(directories + 8 * n, n << 21 | PRESENT | LARGE)?;
    }
    Ok(())
}

/// Memory types are decided by MTRRs, and by default memory is written back. Kernels look whether
/// firmware has switched them on.
///
/// Source: Intel SDM volume 3, 12.11.2.1.
const MTRR_DEFAULT: u32 = 0x2ff;
const MTRR_DEFAULT_VALUE: u64 = 1 << 11 | 6;

/// What firmware does to every processor that has it.
pub fn firmware(state: &mut CpuState) {
    for (number, value) in &mut state.msrs {
        if *number == MTRR_DEFAULT {
            *value = MTRR_DEFAULT_VALUE;
        }
    }
}

impl Entry {
    /// Makes the state of a processor after its reset that of one that begins here.
    pub fn apply(self, state: &mut CpuState) {
        state.gpr = [0; 16];
        state.rflags = 2;
        state.activity = Activity::Running;
        state.events = Events::default();
        state.gdt = Table { base: layout::GDT, limit: 8 * 5 - 1 };
        state.idt = Table::default();
        state.ldt = Segment { access: 1 << 16 | 0x82, ..Segment::default() };
        state.tr = Segment { selector: TASK, base: 0, limit: 0x67, access: 0x8b };
        let flat = |selector, access| Segment { selector, base: 0, limit: u32::MAX, access };
        state.segments = [flat(DATA, 0xc093); 6];
        state.cr0 = PROTECTION | EXTENSION_TYPE;
        state.cr4 = 0;
        state.cr3 = 0;
        state.msrs.retain(|(number, _)| *number != EFER);
        let efer = match self {
            Entry::Long { rip } => {
                state.rip = rip;
                state.gpr[gpr::RSI] = layout::ZERO_PAGE;
                state.segments[1] = flat(CODE, 0xa09b);
                state.cr0 |= PAGING;
                state.cr3 = layout::PAGE_TABLES;
                state.cr4 = PHYSICAL_ADDRESS_EXTENSION;
                LONG_MODE_ENABLE | LONG_MODE_ACTIVE
            }
            Entry::Protected { eip } => {
                state.rip = eip.into();
                state.gpr[gpr::RBX] = layout::START_INFO;
                state.segments[1] = flat(CODE, 0xc09b);
                0
            }
        };
        let at = state.msrs.partition_point(|(number, _)| *number < EFER);
        state.msrs.insert(at, (EFER, efer));
    }
}
