//! Kernels made up here, and what becomes of them.

use hv::{
    CpuState,
    state::{Activity, Events, FpuState, Segment, Table},
};
use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;

fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

/// A bzImage with one sector of set-up code and `payload` behind it.
fn bzimage(payload: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 1024];
    put(&mut file, 0x1f1, &[1]);
    put(&mut file, 0x1fe, &0xaa55u16.to_le_bytes());
    put(&mut file, 0x200, &[0xeb, 0x66]);
    put(&mut file, 0x202, b"HdrS");
    put(&mut file, 0x206, &0x020fu16.to_le_bytes());
    put(&mut file, 0x211, &[1]);
    put(&mut file, 0x214, &0x10_0000u32.to_le_bytes());
    put(&mut file, 0x22c, &0x7fff_ffffu32.to_le_bytes());
    put(&mut file, 0x234, &[1]);
    put(&mut file, 0x236, &1u16.to_le_bytes());
    put(&mut file, 0x238, &2047u32.to_le_bytes());
    put(&mut file, 0x258, &(16 * MIB).to_le_bytes());
    put(&mut file, 0x260, &(2 * 1024 * 1024u32).to_le_bytes());
    file.extend(payload);
    file
}

/// An ELF file with one segment of code at 16 MiB, and a note if it has a PVH entry.
fn elf(pvh: Option<u32>) -> Vec<u8> {
    let mut file = vec![0; 0x1000];
    put(&mut file, 0, b"\x7fELF\x02\x01\x01");
    put(&mut file, 16, &[2, 0, 62, 0]);
    put(&mut file, 24, &(16 * MIB + 0x10).to_le_bytes());
    put(&mut file, 32, &64u64.to_le_bytes());
    put(&mut file, 54, &[56, 0, 2, 0]);
    let mut segment = |n: usize, kind: u32, offset: u64, at: u64, bytes: u64, memory: u64| {
        let header = 64 + 56 * n;
        put(&mut file, header, &kind.to_le_bytes());
        for (field, value) in [(8, offset), (24, at), (32, bytes), (40, memory)] {
            put(&mut file, header + field, &value.to_le_bytes());
        }
    };
    segment(0, 1, 0x400, 16 * MIB, 0x200, 0x9000);
    segment(1, 4, 0x300, 0, 40, 40);
    put(&mut file, 0x400, b"code");
    if let Some(entry) = pvh {
        // A note of another owner first.
        put(&mut file, 0x300, &[2, 0, 0, 0, 1, 0, 0, 0, 18, 0, 0, 0, b'G', 0, 0, 0, 9, 0, 0, 0]);
        put(&mut file, 0x314, &[4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0]);
        put(&mut file, 0x320, b"Xen\0");
        put(&mut file, 0x324, &entry.to_le_bytes());
    }
    file
}

fn cargo(command_line: &str) -> Cargo<'_> {
    Cargo { command_line, initrd_bytes: 0, rsdp: Some(0xe_0000) }
}

fn reset() -> CpuState {
    CpuState {
        gpr: [9; 16],
        rip: 0xfff0,
        rflags: 2,
        segments: [Segment::default(); 6],
        tr: Segment::default(),
        ldt: Segment::default(),
        gdt: Table::default(),
        idt: Table::default(),
        cr0: 0x6000_0010,
        cr2: 0,
        cr3: 0,
        cr4: 0,
        cr8: 0,
        xcr0: 1,
        debug: [0; 6],
        msrs: vec![(0x10, 0), (0x1b, 0xfee0_0900), (0xc000_0080, 0), (0xc000_0102, 0)],
        fpu: FpuState::default(),
        apic: Vec::new(),
        activity: Activity::Running,
        events: Events::default(),
    }
}

#[test]
fn a_bzimage_goes_where_it_likes_to_be() {
    let file = Source::from(bzimage(&[7; 0x400]));
    let kernel = Kernel::read(&file).unwrap();
    assert_eq!(kernel.pieces, [Piece { from: 1024, bytes: 0x400, guest: 16 * MIB }]);
    assert_eq!((kernel.start, kernel.end), (16 * MIB, 18 * MIB));
    assert_eq!(kernel.entry, Entry::Long { rip: 16 * MIB + 0x200 });
    let memory = GuestMemory::new(64 * MIB).unwrap();
    let plan = plan(kernel, &memory, &cargo("console=ttyS0")).unwrap();
    plan.load(&memory, &file, &[], &[9; 32]).unwrap();
    assert_eq!(memory.load::<u8>(16 * MIB + 0x3ff), Ok(7));
    let mut text = [0; 14];
    memory.read(layout::COMMAND_LINE, &mut text).unwrap();
    assert_eq!(&text, b"console=ttyS0\0");
}

#[test]
fn the_zero_page_says_where_everything_is() {
    let file = Source::from(bzimage(&[7; 0x400]));
    let memory = GuestMemory::new(64 * MIB).unwrap();
    let initrds = [Source::from(vec![1u8; 5]), Source::from(vec![2u8; 3])];
    let cargo = Cargo { initrd_bytes: initrd_bytes(&initrds).unwrap(), ..cargo("x") };
    let plan = plan(Kernel::read(&file).unwrap(), &memory, &cargo).unwrap();
    plan.load(&memory, &file, &initrds, &[9; 32]).unwrap();
    let at = |offset: u64| memory.load::<u32>(layout::ZERO_PAGE + offset).unwrap();
    assert_eq!([at(0x202), at(0x70), at(0x228)], [0x5372_6448, 0xe_0000, 0x2_0000]);
    assert_eq!(memory.load::<u8>(layout::ZERO_PAGE + 0x210), Ok(0xff));
    let (address, bytes) = (u64::from(at(0x218)), at(0x21c));
    assert_eq!((address, bytes), (64 * MIB - 4096, 11));
    let mut archives = [0; 11];
    memory.read(address, &mut archives).unwrap();
    assert_eq!(archives, [1, 1, 1, 1, 1, 0, 0, 0, 2, 2, 2]);
    let seed = u64::from(at(0x250));
    assert_eq!(memory.load::<u64>(seed), Ok(0), "the only one");
    assert_eq!(memory.load::<u64>(seed + 8), Ok(32 << 32 | 9));
    assert_eq!(memory.load::<u64>(seed + 40), Ok(0x0909_0909_0909_0909));
    assert_eq!(memory.load::<u8>(layout::ZERO_PAGE + 0x1e8), Ok(4));
    let last = 0x2d0 + 3 * 20;
    assert_eq!([at(last), at(last + 8), at(last + 16)], [0x10_0000, 63 << 20, 1]);
    assert_eq!(memory.load::<u64>(layout::PAGE_TABLES), Ok(layout::PAGE_TABLES + 0x1003));
    assert_eq!(memory.load::<u64>(0xb000 + 8 * 2047), Ok((2047 << 21) | 0x83));
}

#[test]
fn memory_above_the_hole_is_in_the_map() {
    let memory = GuestMemory::new(4096 * MIB).unwrap();
    let map = memory_map(memory.ranges());
    let shown: Vec<_> = map.iter().map(|r| (r.start, r.start + r.bytes, r.kind)).collect();
    use Kind::{Reserved, Usable};
    assert_eq!(
        shown,
        [
            (0, 0x9_fc00, Usable),
            (0x9_fc00, 0xa_0000, Reserved),
            (0xe_0000, 0x10_0000, Reserved),
            (0x10_0000, 0xc000_0000, Usable),
            (0x1_0000_0000, 0x1_4000_0000, Usable),
        ]
    );
}

#[test]
fn an_initrd_stays_below_what_the_kernel_reaches() {
    let mut file = bzimage(&[7; 0x400]);
    put(&mut file, 0x22c, &0x01ff_ffffu32.to_le_bytes());
    let kernel = Kernel::read(&Source::from(file)).unwrap();
    let memory = GuestMemory::new(64 * MIB).unwrap();
    let with = |bytes| {
        let cargo = Cargo { initrd_bytes: bytes, ..cargo("") };
        plan(kernel.clone(), &memory, &cargo).map(|plan| plan.initrd)
    };
    assert_eq!(with(100).unwrap(), Some((32 * MIB - 4096, 100)));
    assert_eq!(with(14 * MIB).unwrap(), Some((18 * MIB, 14 * MIB)));
    assert!(matches!(with(14 * MIB + 1), Err(BootError::InitrdTooLarge { .. })));
    assert!(matches!(with(u64::MAX), Err(BootError::InitrdTooLarge { .. })));
}

#[test]
fn long_mode_is_set_up_as_linux_wants_it() {
    let mut state = reset();
    Entry::Long { rip: 0x100_0200 }.apply(&mut state);
    assert_eq!((state.rip, state.gpr[6], state.rflags), (0x100_0200, 0x7000, 2));
    assert_eq!((state.cr0, state.cr3, state.cr4), (0x8000_0011, 0x9000, 0x20));
    assert_eq!(state.msrs[2], (0xc000_0080, 0x500));
    assert_eq!((state.segments[1].selector, state.segments[1].access), (0x10, 0xa09b));
    assert_eq!((state.segments[3].selector, state.segments[3].access), (0x18, 0xc093));
    assert_eq!(state.msrs.len(), 4);
    let mut state = CpuState { msrs: vec![(0x2ff, 0)], ..reset() };
    firmware(&mut state);
    assert_eq!(state.msrs, [(0x2ff, 0x806)]);
}

#[test]
fn a_vmlinux_begins_at_its_entry_and_gets_a_header() {
    let file = Source::from(elf(None));
    let kernel = Kernel::read(&file).unwrap();
    assert_eq!(kernel.entry, Entry::Long { rip: 16 * MIB + 0x10 });
    assert_eq!((kernel.start, kernel.end), (16 * MIB, 16 * MIB + 0x9000));
    let memory = GuestMemory::new(64 * MIB).unwrap();
    plan(kernel, &memory, &cargo("")).unwrap().load(&memory, &file, &[], &[9; 32]).unwrap();
    assert_eq!(memory.load::<u32>(16 * MIB), Ok(u32::from_le_bytes(*b"code")));
    assert_eq!(memory.load::<u32>(layout::ZERO_PAGE + 0x202), Ok(0x5372_6448));
}

#[test]
fn a_linux_with_both_entries_begins_at_the_one_with_a_seed() {
    let mut file = elf(Some(0x100_0020));
    put(&mut file, 0x328, &[6, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0]);
    put(&mut file, 0x334, b"Linux\0\0\0");
    put(&mut file, 64 + 56 + 32, &60u64.to_le_bytes());
    put(&mut file, 64 + 56 + 40, &60u64.to_le_bytes());
    let kernel = Kernel::read(&Source::from(file)).unwrap();
    assert_eq!(kernel.entry, Entry::Long { rip: 16 * MIB + 0x10 });
}

#[test]
fn a_pvh_kernel_is_handed_its_start_info() {
    let file = Source::from(elf(Some(0x100_0020)));
    let kernel = Kernel::read(&file).unwrap();
    assert_eq!(kernel.entry, Entry::Protected { eip: 0x100_0020 });
    let memory = GuestMemory::new(64 * MIB).unwrap();
    let initrds = [Source::from(vec![3u8; 4096])];
    let cargo = Cargo { initrd_bytes: 4096, ..cargo("x") };
    plan(kernel.clone(), &memory, &cargo)
        .unwrap()
        .load(&memory, &file, &initrds, &[9; 32])
        .unwrap();
    let at = |offset: u64| memory.load::<u64>(layout::START_INFO + offset).unwrap();
    assert_eq!(at(0), 1 << 32 | 0x336e_c578);
    assert_eq!(
        [at(8), at(16), at(24), at(32), at(40), at(48)],
        [1 << 32, 0x6038, 0x2_0000, 0xe_0000, 0x6058, 4]
    );
    assert_eq!([at(56), at(64), at(72)], [64 * MIB - 4096, 4096, 0]);
    assert_eq!([at(0x58), at(0x60), at(0x68)], [0, 0x9_fc00, 1]);
    let mut state = reset();
    kernel.entry.apply(&mut state);
    assert_eq!((state.rip, state.gpr[3], state.cr0), (0x100_0020, 0x6000, 0x11));
    assert_eq!(state.segments[1].access, 0xc09b);
    assert_eq!(memory.load::<u64>(layout::GDT + 0x10), Ok(0x00cf_9b00_0000_ffff));
}

/// What is said of a changed bzImage.
fn refused(change: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut file = bzimage(&[0; 0x400]);
    change(&mut file);
    let memory = GuestMemory::new(64 * MIB).unwrap();
    let kernel = Kernel::read(&Source::from(file));
    kernel.and_then(|kernel| plan(kernel, &memory, &cargo(""))).unwrap_err().to_string()
}

#[test]
fn what_is_wrong_with_a_kernel_is_said() {
    let said = refused(|file| put(file, 0x202, b"XXXX"));
    assert_eq!(said, "this is no kernel: neither a bzImage nor an ELF file for x86-64");
    let said = refused(|file| put(file, 0x206, &[4, 2]));
    assert!(said.contains("2.04, older than 2.12"), "{said}");
    let said = refused(|file| put(file, 0x236, &[0]));
    assert!(said.contains("no 64-bit entry"), "{said}");
    let said = refused(|file| file.truncate(0x220));
    assert!(said.contains("ends within"), "{said}");
    let said = refused(|file| put(file, 0x1f1, &[64]));
    assert!(said.contains("nothing follows 64 sectors"), "{said}");
    let said = refused(|file| put(file, 0x258, &u64::MAX.to_le_bytes()));
    assert!(said.contains("0xffffffffffffffff"), "{said}");
    let said = refused(|file| put(file, 0x260, &u32::MAX.to_le_bytes()));
    assert_eq!(
        said,
        "the kernel wants memory from 0x1000000 to 0x100ffffff, and the machine's ends at 0x4000000"
    );
}

#[test]
fn a_command_line_has_an_end() {
    let memory = GuestMemory::new(64 * MIB).unwrap();
    let kernel = Kernel::read(&Source::from(bzimage(&[0; 0x400]))).unwrap();
    let with = |text: &str| plan(kernel.clone(), &memory, &cargo(text)).map(drop);
    assert!(with(&"x".repeat(2047)).is_ok());
    let long = with(&"x".repeat(2048)).unwrap_err();
    assert_eq!(long.to_string(), "the command line has 2048 bytes, and this kernel reads 2047");
    assert!(matches!(with("a\0b"), Err(BootError::CommandLineZero)));
}

#[test]
fn a_file_is_read_as_bytes_are() {
    let bytes = bzimage(&[5; 0x1400]);
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &bytes).unwrap();
    let file = Source::from(file);
    let kernel = Kernel::read(&file).unwrap();
    assert_eq!(kernel, Kernel::read(&Source::from(bytes)).unwrap());
    let memory = GuestMemory::new(64 * MIB).unwrap();
    plan(kernel, &memory, &cargo("")).unwrap().load(&memory, &file, &[], &[9; 32]).unwrap();
    assert_eq!(memory.load::<u8>(16 * MIB + 0x13ff), Ok(5));
}

proptest! {
    /// Whatever is changed: it is refused, or it goes into memory and nowhere else.
    #[test]
    fn no_file_hurts(
        which in 0usize..3,
        changes in prop::collection::vec((0usize..0x480, any::<u8>()), 0..12),
        cut in 0usize..0x1100,
    ) {
        let mut file = match which {
            0 => bzimage(&[1; 0x400]),
            1 => elf(None),
            _ => elf(Some(0x100_0020)),
        };
        for (at, byte) in changes {
            if let Some(place) = file.get_mut(at) {
                *place = byte;
            }
        }
        file.truncate(file.len().saturating_sub(cut.saturating_sub(0x800)));
        fuzzing::kernel(&file);
    }
}
