//! What a processor has decoded serves another one, and only where the instructions are the same.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

#[path = "guest/machine.rs"]
mod machine;

use std::{fs::File, io, os::unix::fs::FileExt as _};

use hv::{Exit, HvError, Vcpu, memory::PAGE, state::gpr};
use iced_x86::code_asm::*;
use machine::{CODE, first, machine, put};

/// An immediate that is nowhere else.
const MARK: u32 = 0x1357_9bdf;

/// Steps of an assembler that cannot fail in these programs.
macro_rules! asm {
    ($a:ident, $($line:expr;)*) => { $( $line.expect("an instruction"); )* };
}

/// Calls, loops, memory, and the mark in rdx.
fn program(mark: u32) -> CodeAssembler {
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
        a.xor(edx, mark as i32);
        a.hlt();
        a.set_label(&mut add);
        a.lea(rax, qword_ptr(rax + rcx * 2));
        a.ret();
    }
    a
}

/// Runs a program from an address on with what is in the file; gives some registers.
fn run(program: CodeAssembler, at: u64, with: Option<&File>) -> ([u64; 4], Box<dyn Vcpu>) {
    let (memory, vm) = machine(1);
    put(&memory, at, program);
    let mut vcpu = first(&memory, &vm);
    let mut state = vcpu.state().unwrap();
    state.rip = at;
    vcpu.set_state(&state).unwrap();
    if let Some(file) = with {
        vcpu.load_code(file.try_clone().unwrap()).unwrap();
    }
    assert_eq!(vcpu.run().unwrap(), Exit::Stuck);
    let state = vcpu.state().unwrap();
    ([gpr::RAX, gpr::RDX, gpr::RSI, gpr::RDI].map(|n| state.gpr[n]), vcpu)
}

/// What a processor has decoded that ran the program.
fn saved() -> ([u64; 4], File) {
    let (result, vcpu) = run(program(MARK), CODE, None);
    let file = tempfile::tempfile().unwrap();
    vcpu.save_code(&file).unwrap();
    (result, file)
}

fn bytes(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Where the immediate of the decoded operation is: behind the page's bytes.
fn decoded_mark(file: &File) -> u64 {
    let bytes = bytes(file);
    let mark = MARK.to_le_bytes();
    let found = bytes.windows(4).rposition(|window| window == mark).unwrap();
    let first = bytes.windows(4).position(|window| window == mark).unwrap();
    assert!(found > first + PAGE / 2, "it is in the page and in the operation");
    found as u64
}

#[test]
fn what_one_has_decoded_another_carries_out_wherever_it_lies() {
    let (result, file) = saved();
    assert_eq!(result, [10_100, MARK.into(), 10_100, 0x0123_4567_89ab_cdef]);
    for at in [CODE, CODE + 3 * PAGE as u64] {
        assert_eq!(run(program(MARK), at, Some(&file)).0, result);
    }
    // It is used: what is decoded in another way is carried out in that way.
    file.write_all_at(&7u32.to_le_bytes(), decoded_mark(&file)).unwrap();
    for at in [CODE, CODE + 3 * PAGE as u64] {
        assert_eq!(run(program(MARK), at, Some(&file)).0[1], 7);
    }
}

#[test]
fn a_page_that_differs_is_another() {
    let (_, file) = saved();
    assert_eq!(run(program(MARK + 1), CODE, Some(&file)).0[1], u64::from(MARK + 1));
    // The same instructions elsewhere in the page.
    assert_eq!(run(program(MARK), CODE + 64, Some(&file)).0[1], u64::from(MARK));
}

#[test]
fn what_another_version_wrote_is_refused() {
    let (_, file) = saved();
    let (memory, vm) = machine(1);
    let mut vcpu = first(&memory, &vm);
    let whole = bytes(&file);
    for at in [0, 12, 20] {
        file.write_all_at(&[whole[at] ^ 1], at as u64).unwrap();
        let refused = vcpu.load_code(file.try_clone().unwrap()).unwrap_err();
        let HvError::Host { source, .. } = refused else { panic!("{refused}") };
        assert_eq!(source.kind(), io::ErrorKind::InvalidData, "{source}");
        file.write_all_at(&[whole[at]], at as u64).unwrap();
    }
    assert!(vcpu.load_code(tempfile::tempfile().unwrap()).is_err());
}

#[test]
fn one_that_is_cut_off_has_less() {
    let (result, file) = saved();
    let whole = file.metadata().unwrap().len();
    for length in (whole - PAGE as u64 / 2..whole).step_by(13) {
        file.set_len(length).unwrap();
        assert_eq!(run(program(MARK), CODE, Some(&file)).0, result);
    }
}
