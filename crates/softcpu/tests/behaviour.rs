//! What a program on the processor sees: modes, exceptions, devices, code that changes itself,
//! other processors, and a state that goes on elsewhere.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::cast_possible_truncation,
    reason = "a test may fail where it stands"
)]

#[path = "guest/machine.rs"]
mod machine;

use std::{
    os::fd::AsFd as _,
    thread,
    time::{Duration, Instant},
};

use hv::{
    Clock, Doorbell, Exit, Place,
    state::{Activity, Segment, gpr},
};
use iced_x86::code_asm::*;
use machine::{CODE, STACK, TABLES, TSS, first, gate, long_mode, machine, on, program, put};

/// Steps of an assembler that cannot fail in these programs.
macro_rules! asm {
    ($a:ident, $($line:expr;)*) => { $( $line.expect("an instruction"); )* };
}

#[test]
fn a_program_runs_until_it_halts() {
    let (memory, vm) = machine(1);
    program(&memory, |a| {
        let mut again = a.create_label();
        asm! { a,
            a.mov(ecx, 100);
            a.xor(eax, eax);
            a.set_label(&mut again);
            a.add(rax, rcx);
            a.dec(ecx);
            a.jnz(again);
            a.hlt();
        }
    });
    let mut vcpu = first(&memory, &vm);
    assert_eq!(vcpu.run().unwrap(), Exit::Stuck);
    assert_eq!(vcpu.state().unwrap().gpr[gpr::RAX], 5050);
}

#[test]
fn real_mode_leads_to_long_mode() {
    let (memory, vm) = machine(1);
    let mut vcpu = vm.vcpu(0).unwrap();
    let reset = vcpu.state().unwrap();
    assert_eq!((reset.rip, reset.segments[1].base), (0xfff0, 0xffff_0000));
    // The tables that it loads are those of the harness.
    let wanted = long_mode(&memory, reset.clone());
    let mut real = CodeAssembler::new(16).unwrap();
    memory.write(0x800, &[0x27, 0, 0, 0x50, 0, 0]).unwrap();
    asm! { real,
        real.mov(ax, 0);
        real.mov(ds, ax);
        real.lgdt(ptr(0x800));
        real.mov(eax, cr0);
        real.or(eax, 1);
        real.mov(cr0, eax);
        real.db(&[0x66, 0xea, 0x00, 0x40, 0x10, 0x00, 0x20, 0x00]);
    }
    put(&memory, CODE - 0x1_0000, real);
    let mut protected = CodeAssembler::new(32).unwrap();
    asm! { protected,
        protected.mov(eax, 0x18);
        protected.mov(ds, eax);
        protected.mov(ss, eax);
        protected.mov(eax, 0x620);
        protected.mov(cr4, eax);
        protected.mov(eax, machine::TABLES as u32);
        protected.mov(cr3, eax);
        protected.mov(ecx, 0xc000_0080u32);
        protected.rdmsr();
        protected.or(eax, 0x101);
        protected.wrmsr();
        protected.mov(eax, 0x8000_0001u32);
        protected.mov(cr0, eax);
        protected.db(&[0xea, 0x00, 0x80, 0x10, 0x00, 0x10, 0x00]);
    }
    put(&memory, CODE + 0x4000, protected);
    let mut long = CodeAssembler::new(64).unwrap();
    asm! { long,
        long.mov(rax, 0x1122_3344_5566_7788u64);
        long.hlt();
    }
    put(&memory, CODE + 0x8000, long);
    let mut state = reset;
    state.segments[1] = Segment { selector: 0xf000, base: 0xf_0000, limit: 0xffff, access: 0x9b };
    state.rip = 0;
    vcpu.set_state(&state).unwrap();
    assert_eq!(vcpu.run().unwrap(), Exit::Stuck);
    let after = vcpu.state().unwrap();
    assert_eq!(after.gpr[gpr::RAX], 0x1122_3344_5566_7788);
    assert_eq!(after.segments[1], wanted.segments[1]);
    assert_eq!(after.cr0 & 0x8000_0001, 0x8000_0001);
}

/// Runs a program whose exceptions all end in a handler that halts; gives its stack's values.
fn faulting(write: impl FnOnce(&mut CodeAssembler)) -> (hv::CpuState, Vec<u64>) {
    let (memory, vm) = machine(1);
    program(&memory, write);
    memory.write(0x9000, &[0xf4; 0x100]).unwrap();
    for vector in 0..32 {
        gate(&memory, vector, 0x9000 + vector);
    }
    let mut vcpu = first(&memory, &vm);
    assert_eq!(vcpu.run().unwrap(), Exit::Stuck);
    let state = vcpu.state().unwrap();
    let stack = (0..6).map(|n| memory.load(state.gpr[gpr::RSP] + 8 * n).unwrap()).collect();
    (state, stack)
}

#[test]
fn a_page_fault_says_where_and_why() {
    let (state, stack) = faulting(|a| {
        asm! { a,
            a.mov(rax, 0x1234_5678_9000u64);
            a.mov(dword_ptr(rax), 1);
        }
    });
    assert_eq!(state.rip, 0x9000 + 14 + 1);
    assert_eq!((state.cr2, stack[0]), (0x1234_5678_9000, 2));
    assert_eq!((stack[1], stack[2]), (CODE + 10, 0x10));
}

#[test]
fn a_distance_of_two_gibibytes_is_one_from_the_next_instruction() {
    const AHEAD: [u8; 4] = 0x7fff_ffff_u32.to_le_bytes();
    let ahead = |before: &[u8], opcode: &[u8], behind: &[u8]| {
        let bytes = [before, opcode, &AHEAD, behind].concat();
        let (state, stack) = faulting(|a| a.db(&bytes).expect("bytes"));
        let next = CODE + bytes.len() as u64;
        assert_eq!(state.cr2, next + 0x7fff_ffff, "{opcode:x?}: {stack:x?}");
        assert_eq!(state.rip, 0x9000 + 14 + 1, "{opcode:x?}");
    };
    let nops = [0x90; 4];
    ahead(&nops, &[0x8b, 0x05], &[]); // mov eax, [rip + ...]
    ahead(&nops, &[0x83, 0x3d], &[7]); // cmp dword [rip + ...], 7
    ahead(&nops, &[0xe9], &[]); // jmp
    ahead(&nops, &[0xe8], &[]); // call
    ahead(&[0x31, 0xc0], &[0x0f, 0x84], &[]); // xor eax, eax; je
    ahead(&[0x39, 0xc0], &[0x0f, 0x84], &[]); // cmp eax, eax; je
    let (state, _) = faulting(|a| {
        a.db(&[0x90, 0x48, 0x8d, 0x05, 0xff, 0xff, 0xff, 0x7f, 0x0f, 0x0b]).expect("bytes")
    });
    assert_eq!(state.gpr[gpr::RAX], CODE + 8 + 0x7fff_ffff, "lea rax, [rip + ...]");
}

#[test]
fn an_address_in_the_instruction_has_all_its_bits() {
    // The first 512 GiB once more behind themselves.
    const ALIAS: u64 = 1 << 39;
    let (memory, vm) = machine(1);
    program(&memory, |a| {
        for (opcode, address) in [
            (&[0x48, 0xa1][..], ALIAS + 0xa000), // mov rax, [...]
            (&[0xa3], ALIAS + 0xa010),           // mov [...], eax
            (&[0xa0], 0x1234_5678_9000),         // mov al, [...]
        ] {
            a.db(&[opcode, &address.to_le_bytes()].concat()).expect("bytes");
        }
    });
    memory.store(0xa000, 0x1122_3344_5566_7788_u64).unwrap();
    memory.write(0x9000, &[0xf4]).unwrap();
    gate(&memory, 14, 0x9000);
    let mut vcpu = first(&memory, &vm);
    memory.store(TABLES + 8, memory.load::<u64>(TABLES).unwrap()).unwrap();
    assert_eq!(vcpu.run().unwrap(), Exit::Stuck);
    let state = vcpu.state().unwrap();
    assert_eq!((state.gpr[gpr::RAX], state.cr2), (0x1122_3344_5566_7788, 0x1234_5678_9000));
    assert_eq!(memory.load::<u64>(0xa010).unwrap(), 0x5566_7788);
}

#[test]
fn an_address_that_is_none_is_a_protection_fault() {
    let (state, stack) = faulting(|a| {
        asm! { a,
            a.mov(rax, 0x8000_0000_0000u64);
            a.mov(ecx, dword_ptr(rax));
        }
    });
    assert_eq!((state.rip, stack[0]), (0x9000 + 13 + 1, 0));
    let (state, _) = faulting(|a| {
        asm! { a,
            a.mov(rbp, 0x8000_0000_0000u64);
            a.mov(ecx, dword_ptr(rbp));
        }
    });
    assert_eq!(state.rip, 0x9000 + 12 + 1);
}

#[test]
fn division_by_nothing_and_unknown_instructions_fault() {
    let (state, stack) = faulting(|a| {
        asm! { a, a.xor(ecx, ecx); a.div(ecx); }
    });
    assert_eq!((state.rip, stack[0]), (0x9001, CODE + 2));
    let (state, stack) = faulting(|a| {
        asm! { a, a.nop(); a.ud2(); }
    });
    assert_eq!((state.rip, stack[0]), (0x9007, CODE + 1));
    // What the model does not have is not there.
    let (state, _) = faulting(|a| {
        asm! { a, a.vpxor(ymm0, ymm1, ymm2); }
    });
    assert_eq!(state.rip, 0x9007);
}

#[test]
fn a_breakpoint_and_a_step_come_after_the_instruction() {
    let (state, stack) = faulting(|a| {
        asm! { a, a.int3(); }
    });
    assert_eq!((state.rip, stack[0]), (0x9004, CODE + 1));
    let (state, stack) = faulting(|a| {
        asm! { a,
            a.push(0x102);
            a.popfq();
            a.nop();
            a.nop();
        }
    });
    assert_eq!(state.rip, 0x9002);
    assert_eq!(stack[0], CODE + 5 + 1 + 1);
    assert_eq!(state.debug[4] & 1 << 14, 1 << 14);
}

#[test]
fn a_fault_without_a_handler_is_double_and_then_triple() {
    let (memory, vm) = machine(1);
    program(&memory, |a| {
        asm! { a, a.ud2(); }
    });
    let mut vcpu = first(&memory, &vm);
    assert_eq!(vcpu.run().unwrap(), Exit::TripleFault);
    gate(&memory, 8, 0x9000);
    memory.write(0x9000, &[0xf4]).unwrap();
    let state = long_mode(&memory, vcpu.state().unwrap());
    vcpu.set_state(&state).unwrap();
    assert_eq!(vcpu.run().unwrap(), Exit::Stuck);
    assert_eq!(vcpu.state().unwrap().rip, 0x9001);
}

#[test]
fn an_interrupt_stack_is_used_where_the_gate_says() {
    let (memory, vm) = machine(1);
    program(&memory, |a| {
        asm! { a, a.ud2(); }
    });
    memory.write(0x9000, &[0xf4]).unwrap();
    gate(&memory, 6, 0x9000);
    let low: u64 = memory.load(machine::IDT + 16 * 6).unwrap();
    memory.store(machine::IDT + 16 * 6, low | 2 << 32).unwrap();
    memory.store(TSS + 36 + 8, 0x7_0000u64).unwrap();
    let mut vcpu = first(&memory, &vm);
    assert_eq!(vcpu.run().unwrap(), Exit::Stuck);
    assert_eq!(vcpu.state().unwrap().gpr[gpr::RSP], 0x7_0000 - 40);
    assert_eq!(memory.load::<u64>(0x7_0000 - 16), Ok(STACK));
}

#[test]
fn devices_are_asked_and_told_in_order() {
    let (memory, vm) = machine(1);
    program(&memory, |a| {
        asm! { a,
            a.mov(rbx, 0xd000_0000u64);
            a.mov(eax, dword_ptr(rbx + 4));
            a.add(dword_ptr(rbx + 8), eax);
            a.mov(dx, 0x3f8);
            a.in_(al, dx);
            a.out(0x80, al);
            a.hlt();
        }
    });
    let mut vcpu = first(&memory, &vm);
    let mut seen = Vec::new();
    loop {
        match vcpu.run().unwrap() {
            Exit::MmioRead { address, data } => {
                seen.push(format!("read {address:x} {}", data.len()));
                data.copy_from_slice(&(u32::try_from(address & 0xff).unwrap()).to_le_bytes());
            }
            Exit::MmioWrite { address, data } => seen.push(format!("write {address:x} {data:?}")),
            Exit::PortRead { port, data } => {
                seen.push(format!("in {port:x}"));
                data[0] = 0x5a;
            }
            Exit::PortWrite { port, data } => seen.push(format!("out {port:x} {data:x?}")),
            exit => {
                assert_eq!(exit, Exit::Stuck);
                break;
            }
        }
    }
    let expected = [
        "read d0000004 4",
        "read d0000008 4",
        "write d0000008 [12, 0, 0, 0]",
        "in 3f8",
        "out 80 [5a]",
    ];
    assert_eq!(seen, expected);
}

#[test]
fn a_string_goes_out_byte_by_byte_and_comes_in_again() {
    let (memory, vm) = machine(1);
    memory.write(0x20_0000, b"hello").unwrap();
    program(&memory, |a| {
        asm! { a,
            a.mov(rsi, 0x20_0000u64);
            a.mov(ecx, 5);
            a.mov(dx, 0x3f8);
            a.rep().outsb();
            a.mov(rdi, 0x20_1000u64);
            a.mov(ecx, 3);
            a.rep().insb();
            a.hlt();
        }
    });
    let mut vcpu = first(&memory, &vm);
    let (mut out, mut next) = (Vec::new(), b'x');
    loop {
        match vcpu.run().unwrap() {
            Exit::PortWrite { data, .. } => out.extend_from_slice(data),
            Exit::PortRead { data, .. } => {
                data[0] = next;
                next += 1;
            }
            _ => break,
        }
    }
    assert_eq!(out, b"hello");
    let mut came = [0; 4];
    memory.read(0x20_1000, &mut came).unwrap();
    assert_eq!(&came, b"xyz\0");
}

#[test]
fn a_doorbell_rings_without_an_exit() {
    let (memory, vm) = machine(1);
    program(&memory, |a| {
        asm! { a,
            a.mov(rbx, 0xd000_0050u64);
            a.mov(dword_ptr(rbx), 7);
            a.mov(dword_ptr(rbx), 8);
            a.hlt();
        }
    });
    let ring = rustix::event::eventfd(0, rustix::event::EventfdFlags::empty()).unwrap();
    let place = Place::Memory(0xd000_0050);
    let bell = Doorbell { place, bytes: 4, value: Some(7) };
    vm.doorbell(bell, ring.try_clone().unwrap()).unwrap();
    let mut vcpu = first(&memory, &vm);
    assert_eq!(
        vcpu.run().unwrap(),
        Exit::MmioWrite { address: 0xd000_0050, data: &8u32.to_le_bytes() }
    );
    let mut count = [0; 8];
    rustix::io::read(&ring, &mut count).unwrap();
    assert_eq!(u64::from_ne_bytes(count), 1);
}

#[test]
fn code_that_writes_itself_runs_as_written() {
    let (memory, vm) = machine(1);
    // The immediate of the addition, its second byte, becomes 16.
    program(&memory, |a| {
        let mut again = a.create_label();
        asm! { a,
            a.lea(rbx, ptr(again));
            a.mov(ecx, 3);
            a.xor(eax, eax);
            a.set_label(&mut again);
            a.add(eax, 1);
            a.mov(byte_ptr(rbx + 1), 16);
            a.dec(ecx);
            a.jnz(again);
            a.hlt();
        }
    });
    let mut vcpu = first(&memory, &vm);
    assert_eq!(vcpu.run().unwrap(), Exit::Stuck);
    assert_eq!(vcpu.state().unwrap().gpr[gpr::RAX], 1 + 16 + 16);
}

#[test]
fn code_that_a_device_writes_runs_as_written() {
    let (memory, vm) = machine(1);
    program(&memory, |a| {
        asm! { a, a.mov(eax, 1); a.out(0x80, al); }
    });
    let mut vcpu = first(&memory, &vm);
    for value in [1u8, 2, 3] {
        memory.write(CODE + 1, &[value]).unwrap();
        let mut state = vcpu.state().unwrap();
        state.rip = CODE;
        vcpu.set_state(&state).unwrap();
        assert_eq!(vcpu.run().unwrap(), Exit::PortWrite { port: 0x80, data: &[value] });
    }
}

#[test]
fn an_instruction_on_two_pages_runs_and_is_forgotten_with_either() {
    let (memory, vm) = machine(1);
    let at = CODE + 0x1000 - 2;
    let mut a = CodeAssembler::new(64).unwrap();
    asm! { a, a.mov(eax, 0x1111_1111); a.hlt(); }
    put(&memory, at, a);
    let mut vcpu = first(&memory, &vm);
    for (where_, byte, value) in [(at, 0xb8, 0x1111_1111), (at + 4, 0x22, 0x2211_1111)] {
        memory.write(where_, &[byte]).unwrap();
        let mut state = vcpu.state().unwrap();
        state.rip = at;
        state.activity = Activity::Running;
        vcpu.set_state(&state).unwrap();
        assert_eq!(vcpu.run().unwrap(), Exit::Stuck);
        assert_eq!(vcpu.state().unwrap().gpr[gpr::RAX], value);
    }
}

#[test]
fn a_kick_is_never_lost() {
    let (memory, vm) = machine(1);
    program(&memory, |a| {
        let mut here = a.create_label();
        asm! { a, a.set_label(&mut here); a.jmp(here); }
    });
    let mut vcpu = first(&memory, &vm);
    let kick = vcpu.kick();
    kick.kick();
    kick.kick();
    assert_eq!(vcpu.run().unwrap(), Exit::Kicked);
    let later = vcpu.kick();
    let thread = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        later.kick();
    });
    assert_eq!(vcpu.run().unwrap(), Exit::Kicked);
    thread.join().unwrap();
}

#[test]
fn an_interrupt_wakes_a_processor_that_halts() {
    let (memory, vm) = machine(1);
    program(&memory, |a| {
        asm! { a,
            a.sti();
            a.hlt();
            a.cli();
            a.hlt();
        }
    });
    gate(&memory, 0x31, 0x9000);
    let mut handler = CodeAssembler::new(64).unwrap();
    asm! { handler, handler.inc(rbx); handler.iretq(); }
    put(&memory, 0x9000, handler);
    let mut vcpu = first(&memory, &vm);
    let mut state = vcpu.state().unwrap();
    state.gpr[gpr::RBX] = 0;
    // Local APIC on.
    let spurious = 0xf0 / 16 * 4..0xf0 / 16 * 4 + 4;
    if state.apic.len() >= 0x400 {
        let at = if state.apic.len() == 0x400 { 0xf0..0xf4 } else { spurious };
        state.apic[at].copy_from_slice(&0x1ffu32.to_le_bytes());
    }
    vcpu.set_state(&state).unwrap();
    let thread = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        vm.message(0xfee0_0000, 0x31).unwrap();
        vm
    });
    assert_eq!(vcpu.run().unwrap(), Exit::Stuck);
    thread.join().unwrap();
    assert_eq!(vcpu.state().unwrap().gpr[gpr::RBX], 1);
}

#[test]
fn a_processor_that_halts_costs_nothing() {
    let (memory, vm) = machine(1);
    program(&memory, |a| {
        asm! { a, a.sti(); a.hlt(); }
    });
    let mut vcpu = first(&memory, &vm);
    let kick = vcpu.kick();
    let (begun, used) = (Instant::now(), host_time_of_this_thread());
    let thread = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        kick.kick();
    });
    assert_eq!(vcpu.run().unwrap(), Exit::Kicked);
    let (used, passed) = (host_time_of_this_thread() - used, begun.elapsed());
    thread.join().unwrap();
    assert!(used * 20 < passed, "{used:?} of {passed:?}");
}

/// How long the host's processors worked for this thread.
fn host_time_of_this_thread() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// Lets two processors run a program each until they write to a port; the second finds its number
/// in rbx.
fn together(memory: &hv::GuestMemory, write: impl FnOnce(&mut CodeAssembler)) {
    let vm = on(memory, 2);
    program(memory, write);
    thread::scope(|scope| {
        for n in [0u8, 1] {
            let mut vcpu = vm.vcpu(n).unwrap();
            let mut state = long_mode(memory, vcpu.state().unwrap());
            state.gpr[gpr::RSP] = STACK - 0x1000 * u64::from(n);
            state.gpr[gpr::RBX] = n.into();
            vcpu.set_state(&state).unwrap();
            scope.spawn(move || {
                assert!(matches!(vcpu.run().unwrap(), Exit::PortWrite { port: 0x80, .. }));
            });
        }
    });
}

#[test]
fn locked_additions_of_two_processors_add_up() {
    const ROUNDS: u64 = 20_000;
    let (memory, _) = machine(2);
    together(&memory, |a| {
        let mut again = a.create_label();
        asm! { a,
            a.mov(rdi, 0x20_0000u64);
            a.mov(ecx, ROUNDS as u32);
            a.set_label(&mut again);
            a.lock().inc(qword_ptr(rdi));
            a.mov(eax, 1);
            a.lock().xadd(qword_ptr(rdi + 8), rax);
            a.dec(ecx);
            a.jnz(again);
            a.out(0x80, al);
        }
    });
    assert_eq!(memory.load::<u64>(0x20_0000), Ok(2 * ROUNDS));
    assert_eq!(memory.load::<u64>(0x20_0008), Ok(2 * ROUNDS));
}

#[test]
fn they_do_in_a_page_that_has_instructions_too() {
    const ROUNDS: u64 = 1_000;
    let (memory, _) = machine(2);
    together(&memory, |a| {
        let mut again = a.create_label();
        asm! { a,
            a.mov(rdi, CODE + 0x800);
            a.mov(ecx, ROUNDS as u32);
            a.set_label(&mut again);
            a.lock().inc(qword_ptr(rdi));
            a.dec(ecx);
            a.jnz(again);
            a.out(0x80, al);
        }
    });
    assert_eq!(memory.load::<u64>(CODE + 0x800), Ok(2 * ROUNDS));
}

/// One adds to eight bytes across the border of two pages, the other to the four behind it.
#[test]
fn a_locked_operand_in_two_pages_is_one_to_others() {
    const ROUNDS: u64 = 2_000;
    const BORDER: u64 = 0x20_1000;
    let (memory, _) = machine(2);
    together(&memory, |a| {
        let (mut wide, mut narrow) = (a.create_label(), a.create_label());
        let (mut both, mut again) = (a.create_label(), a.create_label());
        asm! { a,
            a.mov(rdi, BORDER - 4);
            a.mov(ecx, ROUNDS as u32);
            a.test(ebx, ebx);
            a.jnz(narrow);
            a.set_label(&mut wide);
            a.lock().inc(qword_ptr(rdi));
            a.dec(ecx);
            a.jnz(wide);
            a.jmp(both);
            a.set_label(&mut narrow);
            a.lock().inc(dword_ptr(rdi + 4));
            a.dec(ecx);
            a.jnz(narrow);
            // Then both of them across the border.
            a.set_label(&mut both);
            a.mov(ecx, ROUNDS as u32);
            a.set_label(&mut again);
            a.mov(rax, 1u64 << 32 | 1);
            a.lock().xadd(qword_ptr(rdi), rax);
            a.dec(ecx);
            a.jnz(again);
            a.out(0x80, al);
        }
    });
    let each = ROUNDS + 2 * ROUNDS;
    assert_eq!(memory.load::<u32>(BORDER - 4).map(u64::from), Ok(each));
    assert_eq!(memory.load::<u32>(BORDER).map(u64::from), Ok(each));
}

#[test]
fn code_that_another_processor_writes_is_seen() {
    let (memory, vm) = machine(2);
    // The first runs a function again and again until it says something else.
    program(&memory, |a| {
        let (mut again, mut function) = (a.create_label(), a.create_label());
        asm! { a,
            a.jmp(again);
            a.set_label(&mut function);
            a.mov(eax, 1);
            a.ret();
            a.set_label(&mut again);
            a.call(function);
            a.cmp(eax, 1);
            a.je(again);
            a.out(0x80, al);
        }
    });
    let mut writer = CodeAssembler::new(64).unwrap();
    asm! { writer,
        writer.mov(rbx, CODE + 2 + 1);
        writer.mov(byte_ptr(rbx), 9);
        writer.out(0x81, al);
    }
    put(&memory, 0x9000, writer);
    let mut reader = first(&memory, &vm);
    let mut writer = vm.vcpu(1).unwrap();
    let mut state = long_mode(&memory, writer.state().unwrap());
    state.rip = 0x9000;
    writer.set_state(&state).unwrap();
    let thread = thread::spawn(move || {
        thread::sleep(Duration::from_millis(30));
        assert!(matches!(writer.run().unwrap(), Exit::PortWrite { port: 0x81, .. }));
    });
    assert_eq!(reader.run().unwrap(), Exit::PortWrite { port: 0x80, data: &[9] });
    thread.join().unwrap();
}

#[test]
fn a_state_goes_on_in_another_machine() {
    let (memory, vm) = machine(1);
    let write = |a: &mut CodeAssembler| {
        let (mut again, mut on) = (a.create_label(), a.create_label());
        asm! { a,
            a.mov(rdi, 0x20_0000u64);
            a.mov(rbx, 0x9e37_79b9u64);
            a.movq(xmm0, rbx);
            a.fldpi();
            a.mov(ecx, 1000);
            a.set_label(&mut again);
            a.imul_3(rbx, rbx, 33);
            a.add(rbx, rcx);
            a.mov(qword_ptr(rdi + rcx * 8), rbx);
            a.paddq(xmm0, xmm0);
            a.fadd_2(st0, st0);
            a.test(ecx, 127);
            a.jnz(on);
            a.out(0x80, al);
            a.set_label(&mut on);
            a.dec(ecx);
            a.jnz(again);
            a.hlt();
        }
    };
    program(&memory, write);
    let mut whole = first(&memory, &vm);
    while whole.run().unwrap() != Exit::Stuck {}
    let mut expected = vec![0; 0x4000];
    memory.read(0x20_0000, &mut expected).unwrap();
    let expected = (whole.state().unwrap(), expected);

    let (memory, vm) = machine(1);
    program(&memory, write);
    let mut vcpu = first(&memory, &vm);
    let mut parts = 0;
    while vcpu.run().unwrap() != Exit::Stuck {
        let (state, chips) = (vcpu.state().unwrap(), vm.chips().unwrap());
        let clock = vm.clock().unwrap();
        let next = on(&memory, 1);
        next.set_clock(clock).unwrap();
        next.set_chips(&chips).unwrap();
        vcpu = next.vcpu(0).unwrap();
        vcpu.set_state(&state).unwrap();
        parts += 1;
    }
    assert_eq!(parts, 7);
    let mut bytes = vec![0; 0x4000];
    memory.read(0x20_0000, &mut bytes).unwrap();
    assert_eq!(bytes, expected.1);
    let after = vcpu.state().unwrap();
    assert_eq!((after.gpr, after.rip, after.rflags), {
        let whole = &expected.0;
        (whole.gpr, whole.rip, whole.rflags)
    });
    assert_eq!(after.fpu, expected.0.fpu);
}

#[test]
fn what_was_written_since_is_marked_again() {
    let (memory, vm) = machine(1);
    program(&memory, |a| {
        let mut again = a.create_label();
        asm! { a,
            a.mov(rdi, 0x20_0000u64);
            a.set_label(&mut again);
            a.mov(byte_ptr(rdi), 1);
            a.out(0x80, al);
            a.jmp(again);
        }
    });
    let mut vcpu = first(&memory, &vm);
    for _ in 0..3 {
        vm.log_dirty().unwrap();
        memory.dirty().take();
        assert!(matches!(vcpu.run().unwrap(), Exit::PortWrite { .. }));
        assert!(memory.dirty().is_marked(0x200));
    }
}

#[test]
fn a_line_can_be_an_eventfd() {
    let (_memory, vm) = machine(1);
    let ring = rustix::event::eventfd(0, rustix::event::EventfdFlags::empty()).unwrap();
    vm.line_event(5, ring.as_fd()).unwrap();
    rustix::io::write(&ring, &1u64.to_ne_bytes()).unwrap();
    let raised = || vm.chips().unwrap().pics[0].irr & 1 << 5 != 0;
    for _ in 0..1000 {
        if raised() {
            return;
        }
        thread::sleep(Duration::from_millis(2));
    }
    panic!("the line was never raised");
}

#[test]
fn the_clock_goes_on_from_where_it_is_set() {
    let (_memory, vm) = machine(1);
    vm.set_clock(Clock { nanoseconds: 1 << 50 }).unwrap();
    let now = vm.clock().unwrap().nanoseconds;
    assert!((1 << 50..(1 << 50) + (1 << 40)).contains(&now));
}

#[test]
fn a_processor_is_taken_once_and_only_models_that_are_there() {
    use hv::Hypervisor as _;
    let (memory, vm) = machine(1);
    assert!(vm.vcpu(0).is_ok());
    assert!(vm.vcpu(0).is_err() && vm.vcpu(1).is_err());
    let shape = hv::Shape { vcpus: 1, model: hv::Model::V3 };
    let refused = softcpu::Soft.create(memory, &shape).unwrap_err();
    assert!(refused.to_string().contains("x86-64-v2"), "{refused}");
}

#[test]
fn strings_are_copied_over_pages_and_onto_themselves() {
    let (memory, vm) = machine(1);
    let text: Vec<u8> = (0..10_000u32).map(|n| n.to_le_bytes()[0]).collect();
    memory.write(0x20_0100, &text).unwrap();
    program(&memory, |a| {
        asm! { a,
            a.mov(rsi, 0x20_0100u64);
            a.mov(rdi, 0x22_0033u64);
            a.mov(ecx, 10_000);
            a.rep().movsb();
            a.mov(rdi, 0x24_0001u64);
            a.mov(rax, 0x0102_0304_0506_0708u64);
            a.mov(ecx, 1000);
            a.rep().stosq();
            // A pattern of one byte spreads.
            a.mov(rsi, 0x26_0000u64);
            a.mov(byte_ptr(rsi), 0x77);
            a.lea(rdi, ptr(rsi + 1));
            a.mov(ecx, 8191);
            a.rep().movsb();
            a.hlt();
        }
    });
    let mut vcpu = first(&memory, &vm);
    assert_eq!(vcpu.run().unwrap(), Exit::Stuck);
    let mut copied = vec![0; 10_000];
    memory.read(0x22_0033, &mut copied).unwrap();
    assert_eq!(copied, text);
    assert_eq!(memory.load::<u64>(0x24_0001 + 999 * 8), Ok(0x0102_0304_0506_0708));
    assert_eq!(memory.load::<u64>(0x24_0001 + 1000 * 8), Ok(0));
    let mut spread = vec![0; 8193];
    memory.read(0x26_0000, &mut spread).unwrap();
    assert!(spread[..8192].iter().all(|byte| *byte == 0x77) && spread[8192] == 0);
}
