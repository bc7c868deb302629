//! Kernels of a few instructions.

/// Where their instructions are, in guest-physical memory.
pub const CODE: u32 = 0x10_0000;

/// An executable with a PVH entry: 32-bit instructions, at most 128 bytes of them, that are entered
/// at [`CODE`]. It says that it is Linux.
///
/// Source: Linux `include/xen/interface/elfnote.h`, `XEN_ELFNOTE_PHYS32_ENTRY`.
///
/// # Panics
/// If there are more.
pub fn pvh(code: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 0x200];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &[2, 0, 62, 0]);
    put(32, &64u64.to_le_bytes());
    put(54, &[56, 0, 2, 0]);
    let header = |kind: u32, offset: u64, bytes: u64| {
        let mut header = [kind.to_le_bytes(), [0; 4]].concat();
        let at = u64::from(CODE);
        header.extend([offset, at, at, bytes, bytes, 0].map(u64::to_le_bytes).concat());
        header
    };
    put(64, &header(1, 0x100, code.len() as u64));
    put(120, &header(4, 0xc0, 20));
    put(0xc0, &[4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0]);
    put(0xcc, b"Xen\0");
    put(0xd0, &CODE.to_le_bytes());
    put(0x180, b"Linux version 6.1.0-test (a@b) #1\n\0");
    assert!(code.len() <= 0x80, "a kernel of {} bytes", code.len());
    put(0x100, code);
    file
}
