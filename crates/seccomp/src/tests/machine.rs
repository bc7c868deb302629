//! An interpreter of classic BPF as seccomp uses it.

use workload::SeccompAction;

use crate::Instruction;

/// One system call, as the kernel shows it to a filter (`struct seccomp_data`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) arch: u32,
    pub(super) number: u32,
    pub(super) args: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        let mut bytes = [self.number.to_le_bytes(), self.arch.to_le_bytes()].concat();
        // The instruction pointer.
        bytes.extend([0; 8]);
        bytes.extend(self.args.iter().flat_map(|arg| arg.to_le_bytes()));
        let at = usize::try_from(offset).unwrap();
        assert_eq!(at % 4, 0, "the kernel takes aligned words only");
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }
}

/// The verdict, and after how many instructions.
pub(super) fn run(program: &[Instruction], call: &Call) -> (SeccompAction, usize) {
    let (mut accumulator, mut at, mut steps) = (0_u32, 0_usize, 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        let test = |holds: bool| usize::from(if holds { jt } else { jf });
        at += 1;
        steps += 1;
        match code {
            0x20 => accumulator = call.word(k),
            0x54 => accumulator &= k,
            0x05 => at += usize::try_from(k).unwrap(),
            0x15 => at += test(accumulator == k),
            0x25 => at += test(accumulator > k),
            0x35 => at += test(accumulator >= k),
            0x06 => return (action(k), steps),
            other => panic!("instruction {other:#x}"),
        }
    }
}

/// Source: seccomp(2).
fn action(value: u32) -> SeccompAction {
    let data = u16::try_from(value & 0xffff).unwrap();
    match value & 0xffff_0000 {
        0x8000_0000 => SeccompAction::KillProcess,
        0 => SeccompAction::KillThread,
        0x0003_0000 => SeccompAction::Trap,
        0x0005_0000 => SeccompAction::Errno(data),
        0x7fc0_0000 => SeccompAction::Notify,
        0x7ff0_0000 => SeccompAction::Trace(data),
        0x7ffc_0000 => SeccompAction::Log,
        0x7fff_0000 => SeccompAction::Allow,
        other => panic!("action {other:#x}"),
    }
}
