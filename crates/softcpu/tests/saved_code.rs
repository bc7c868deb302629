//! What a processor has decoded serves another one, and only while the memory is as it was.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

#[path = "guest/machine.rs"]
mod machine;

use std::{fs::File, io, os::unix::fs::FileExt as _};

use hv::{Exit, GuestMemory, HvError, Vcpu, memory::PAGE, state::gpr};
use iced_x86::code_asm::*;
use machine::{CODE, first, on, put};

/// An immediate that is nowhere else.
const MARK: u32 = 0x1357_9bdf;

/// What the program leaves in rax, rdx, rsi and rdi.
const RESULT: [u64; 4] = [10_100, MARK as u64, 10_100, 0x0123_4567_89ab_cdef];

/// Steps of an assembler that cannot fail in these programs.
macro_rules! asm {
    ($a:ident, $($line:expr;)*) => { $( $line.expect("an instruction"); )* };
}

/// Calls, loops, memory, and the mark in rdx.
fn program() -> CodeAssembler {
    let mut a = CodeAssembler::new(64).unwrap();
    let (mut again, mut add) = (a.create_label(), a.create_label());
    asm! { a,
        a.mov(rdi, 0x0123_4567_89ab_cdefu64);
        a.mov(ecx, 100);
        a.xor(eax, eax);
        a.set_label(&mut again);
        a.call(add);
        a.dec(ecx);
        a.jnz(again);
        a.mov(dword_ptr(0x20_0000u64), eax);
        a.movzx(esi, word_ptr(0x20_0000u64));
        a.xor(edx, edx);
        a.xor(edx, MARK.cast_signed());
        a.hlt();
        a.set_label(&mut add);
        a.lea(rax, qword_ptr(rax + rcx * 2));
        a.ret();
    }
    a
}

/// Runs what is in the memory; gives some registers.
fn run(memory: &GuestMemory, with: Option<&File>) -> ([u64; 4], Box<dyn Vcpu>) {
    let vm = on(memory, 1);
    let mut vcpu = first(memory, &vm);
    if let Some(file) = with {
        vcpu.load_code(file).unwrap();
    }
    assert_eq!(vcpu.run().unwrap(), Exit::Stuck);
    let state = vcpu.state().unwrap();
    ([gpr::RAX, gpr::RDX, gpr::RSI, gpr::RDI].map(|n| state.gpr[n]), vcpu)
}

/// A memory with the program, and what a processor has decoded that ran it.
fn saved() -> (GuestMemory, File) {
    let memory = GuestMemory::new(4 << 20).unwrap();
    put(&memory, CODE, program());
    let (result, mut vcpu) = run(&memory, None);
    assert_eq!(result, RESULT);
    let file = tempfile::tempfile().unwrap();
    vcpu.save_code(&file).unwrap();
    (memory, file)
}

/// Another memory that begins as this one is.
fn copy(memory: &GuestMemory) -> GuestMemory {
    let file = memory.file().try_clone_to_owned().unwrap();
    GuestMemory::restore(file.into(), 0, memory.bytes() as u64).unwrap()
}

fn bytes(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// What one has decoded that carries out something else in place of the mark: behind the examples,
/// which are of the same instructions.
fn altered(file: File) -> File {
    let mark = MARK.to_le_bytes();
    let at = bytes(&file).windows(4).rposition(|window| window == mark).unwrap();
    file.write_all_at(&7u32.to_le_bytes(), at as u64).unwrap();
    file
}

#[test]
fn what_one_has_decoded_another_carries_out() {
    let (memory, file) = saved();
    assert_eq!(run(&copy(&memory), Some(&file)).0, RESULT);
    // It is used: what was decoded in another way is carried out in that way.
    assert_eq!(run(&copy(&memory), Some(&altered(file))).0[1], 7);
}

#[test]
fn a_page_that_was_written_is_decoded_anew() {
    let (memory, file) = saved();
    let other = copy(&memory);
    other.store(CODE + PAGE as u64 - 1, 0u8).unwrap();
    assert_eq!(run(&other, Some(&altered(file))).0, RESULT);
}

#[test]
fn what_was_not_used_is_handed_on() {
    let (memory, file) = saved();
    let other = copy(&memory);
    let vm = on(&other, 1);
    let mut vcpu = first(&other, &vm);
    vcpu.load_code(&file).unwrap();
    let again = tempfile::tempfile().unwrap();
    vcpu.save_code(&again).unwrap();
    assert_eq!(run(&copy(&memory), Some(&altered(again))).0[1], 7);
    // Of a page that was written it is of no use.
    other.store(CODE + PAGE as u64 - 1, 0u8).unwrap();
    let none = tempfile::tempfile().unwrap();
    vcpu.save_code(&none).unwrap();
    assert!(!bytes(&none).windows(4).any(|window| window == MARK.to_le_bytes()));
}

#[test]
fn what_another_version_wrote_is_refused() {
    let (memory, file) = saved();
    let vm = on(&memory, 1);
    let mut vcpu = first(&memory, &vm);
    let whole = bytes(&file);
    for at in [0, 12, 20] {
        file.write_all_at(&[whole[at] ^ 1], at as u64).unwrap();
        let refused = vcpu.load_code(&file).unwrap_err();
        let HvError::Host { source, .. } = refused else { panic!("{refused}") };
        assert_eq!(source.kind(), io::ErrorKind::InvalidData, "{source}");
        file.write_all_at(&[whole[at]], at as u64).unwrap();
    }
    assert!(vcpu.load_code(&tempfile::tempfile().unwrap()).is_err());
}

#[test]
fn one_that_is_cut_off_has_less() {
    let (memory, file) = saved();
    let whole = file.metadata().unwrap().len();
    for length in (whole - 100..whole).step_by(7) {
        file.set_len(length).unwrap();
        assert_eq!(run(&copy(&memory), Some(&file)).0, RESULT);
    }
}
