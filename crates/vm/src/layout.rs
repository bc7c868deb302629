//! Where things are in a machine: guest-physical addresses, ports and interrupt lines.
//!
//! ```text
//!      0x500  GDT of the first instruction       0x9_fc00  reserved, as on every PC
//!     0x6000  PVH: start of info                 0xe_0000  ACPI tables; 0xf_f000 generation
//!     0x7000  Linux: the zero page              0x10_0000  kernel; initrd at the end of memory
//!     0x8000  Linux: a seed for its random numbers
//!     0x9000  page tables, 4 GiB one to one   0xc000_0000  nothing
//!    0x2_0000 command line                    0xd000_0000  virtio devices, a page each
//!                                             0xfec0_0000  I/O APIC;  0xfee0_0000  local APICs
//!                                           0x1_0000_0000  the rest of memory
//! ```

/// The descriptor table that a kernel begins with.
pub const GDT: u64 = 0x500;

/// PVH: `hvm_start_info`, the memory map and the list of modules behind it.
pub const START_INFO: u64 = 0x6000;

/// Linux: `boot_params`.
pub const ZERO_PAGE: u64 = 0x7000;

/// Linux: the list that the zero page points to.
pub const SETUP_DATA: u64 = 0x8000;

/// Six pages: one of level 4, one of level 3, four of level 2.
pub const PAGE_TABLES: u64 = 0x9000;

/// The command line, with a zero at its end.
pub const COMMAND_LINE: u64 = 0x2_0000;

/// Longest command line of any kernel, in bytes and without the zero. Linux says its own limit in
/// the header; that of x86-64 has been 2,047 since 2.6.
pub const COMMAND_LINE_MAX: usize = 0xfff;

/// Where low memory ends: the extended BIOS data area of a PC, which kernels leave alone.
pub const EBDA: u64 = 0x9_fc00;

/// Where the legacy video memory begins, and nothing is.
pub const VIDEO: u64 = 0xa_0000;

/// ACPI tables, where a BIOS has them: kernels look here for the first.
pub const ACPI: u64 = 0xe_0000;

/// Room for them.
pub const ACPI_BYTES: usize = 0x1_f000;

/// The generation of the machine, 16 bytes, in a page that the guest leaves alone.
pub const GENERATION: u64 = 0xf_f000;

/// Where memory above the legacy area begins; nothing of a kernel lies below.
pub const HIGH: u64 = 0x10_0000;

/// First of the virtio devices.
pub const VIRTIO: u64 = 0xd000_0000;

/// Room of each.
pub const VIRTIO_BYTES: u64 = 0x1000;

/// Most virtio devices of a machine: an image's layers are one each.
pub const VIRTIO_MAX: usize = 160;

/// I/O APIC.
pub const IO_APIC: u64 = 0xfec0_0000;

/// Local APICs.
pub const LOCAL_APIC: u64 = 0xfee0_0000;

/// The serial port, COM1.
pub const SERIAL_PORT: u16 = 0x3f8;
/// Its line.
pub const SERIAL_LINE: u32 = 4;

/// The clock of the PC.
pub const RTC_PORT: u16 = 0x70;
/// Its line.
pub const RTC_LINE: u32 = 8;

/// Data of the keyboard controller.
pub const KEYBOARD_DATA_PORT: u16 = 0x60;
/// Its status and commands.
pub const KEYBOARD_COMMAND_PORT: u16 = 0x64;
/// Its line.
pub const KEYBOARD_LINE: u32 = 1;

/// A guest that panics says so here, as under QEMU.
pub const PANIC_PORT: u16 = 0x505;

/// ACPI power management: events, control, timer, general events.
pub const PM_PORT: u16 = 0x600;
/// How many ports it has.
pub const PM_PORTS: u8 = 14;
/// Its line.
pub const PM_LINE: u32 = 9;

/// A write of [`RESET_VALUE`] resets the machine.
pub const RESET_PORT: u16 = 0xcf9;
/// Reset of processor and system, as the PIIX has it.
pub const RESET_VALUE: u8 = 0x06;
