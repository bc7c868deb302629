//! The referee itself: what the differential tests rely on.

#[path = "native/host.rs"]
mod host;

use host::{CODE, DATA, DATA_LEN, Event, Host, State};
use testkit::need;

const CALM: State = State { gpr: [0; 16], flags: 0x202, bases: [0; 2], fpu: None };

fn host() -> Option<Host> {
    let host = Host::new();
    need::ptrace(host.is_ok()).then(|| host.expect("a child to trace"))
}

#[test]
fn one_instruction_changes_what_it_should_and_nothing_else() {
    let Some(mut host) = host() else { return };
    let mut state = CALM;
    state.gpr[0] = u64::MAX;
    state.gpr[1] = 1;
    let after = host.run(&[0x48, 0x01, 0xc8], &state); // add rax, rcx
    state.gpr[0] = 0;
    state.flags = 0x202 | 0x55; // CF, PF, AF, ZF
    assert_eq!((after.event, after.rip), (Event::Done, 3));
    assert_eq!(after.state, state);
}

#[test]
fn a_repeated_instruction_is_carried_out_to_its_end() {
    let Some(mut host) = host() else { return };
    let mut state = CALM;
    (state.gpr[0], state.gpr[1], state.gpr[7]) = (0x5a, 100, DATA + 7);
    let after = host.run(&[0xf3, 0xaa], &state); // rep stosb
    assert_eq!((after.event, after.rip, after.state.gpr[1]), (Event::Done, 2, 0));
    assert_eq!(after.state.gpr[7], DATA + 107);
    assert!(host.data()[7..107].iter().all(|&byte| byte == 0x5a));
    assert_eq!((host.data()[6], host.data()[107]), (0, 0));
}

#[test]
fn faults_are_told_with_their_address() {
    let Some(mut host) = host() else { return };
    let mut state = CALM;
    state.gpr[6] = DATA + DATA_LEN as u64;
    let after = host.run(&[0x8a, 0x06], &state); // mov al, [rsi]
    let Event::Signal { number: libc::SIGSEGV, address, .. } = after.event else {
        panic!("{:?}", after.event);
    };
    assert_eq!((address, after.rip), (DATA + DATA_LEN as u64, 0));
    let after = host.run(&[0x0f, 0x0b], &state); // ud2
    assert!(matches!(after.event, Event::Signal { number: libc::SIGILL, address: CODE, .. }));
    let after = host.run(&[0xf7, 0xf1], &state); // div ecx
    assert!(matches!(after.event, Event::Signal { number: libc::SIGFPE, .. }));
    // And it goes on after them.
    assert_eq!(host.run(&[0x90], &state).event, Event::Done);
}

#[test]
fn an_instruction_that_jumps_to_itself_is_one_step() {
    let Some(mut host) = host() else { return };
    let after = host.run(&[0xeb, 0xfe], &CALM);
    assert_eq!((after.event, after.rip), (Event::Done, 0));
}
