//! How fast the processor is: loops of a few kinds, in millions of guest instructions in a second
//! of the host's processor.
#![allow(clippy::print_stdout, reason = "a tool for the terminal")]

#[path = "../tests/guest/machine.rs"]
mod machine;

use hv::Exit;
use iced_x86::code_asm::*;
use rustix::time::{ClockId, clock_gettime};

/// Rounds of each loop.
const ROUNDS: u32 = 20_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    report("tight: add, xor, dec, jnz", 4, |a| {
        a.add(rax, rcx)?;
        a.xor(rbx, rax)?;
        a.dec(ecx)
    })?;
    report("mixed: fifteen operations", 15, |a| {
        a.mov(rax, qword_ptr(rsi))?;
        a.add(rax, 3)?;
        a.mov(qword_ptr(rsi + 8), rax)?;
        a.lea(rdx, ptr(rax + rcx * 4 + 7))?;
        a.and(edx, 0xff)?;
        a.movzx(r8d, byte_ptr(rsi + rdx))?;
        a.shl(r8, 3)?;
        a.push(r8)?;
        a.pop(r9)?;
        a.test(r9, r9)?;
        a.cmove(r10, rax)?;
        a.imul_2(r11, rax)?;
        a.sub(r12d, 1)?;
        a.dec(ecx)
    })?;
    report("calls: call, push, pop, ret", 6, |a| {
        let mut over = a.create_label();
        let mut function = a.create_label();
        a.jmp(over)?;
        a.set_label(&mut function)?;
        a.push(rbx)?;
        a.pop(rbx)?;
        a.ret()?;
        a.set_label(&mut over)?;
        a.call(function)?;
        a.dec(ecx)
    })?;
    Ok(())
}

fn report(
    name: &str,
    instructions: u32,
    body: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
) -> Result<(), Box<dyn std::error::Error>> {
    let (memory, vm) = machine::machine(1);
    let mut written = Ok(());
    machine::program(&memory, |a| {
        written = (|| {
            a.mov(rsi, 0x20_0000u64)?;
            a.mov(ecx, ROUNDS)?;
            let mut again = a.create_label();
            a.set_label(&mut again)?;
            body(a)?;
            a.jnz(again)?;
            a.hlt()
        })();
    });
    written?;
    let mut vcpu = machine::first(&memory, &vm);
    let start = seconds();
    let exit = vcpu.run()?;
    assert_eq!(exit, Exit::Stuck);
    let all = f64::from(ROUNDS) * f64::from(instructions);
    println!("{name}: {:.0} million a second", all / (seconds() - start) / 1e6);
    Ok(())
}

/// Seconds that this thread has had of a processor.
#[expect(clippy::cast_precision_loss, reason = "a measure for people")]
fn seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
