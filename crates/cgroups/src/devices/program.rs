//! Device rules as an eBPF program of type `BPF_PROG_TYPE_CGROUP_DEVICE`. Pure.
//!
//! The program walks the rules from last to first and keeps, in one register, the bits of the
//! access that no rule has judged yet. A rule that denies one of them ends it; one that allows
//! takes its bits off, and when none is left the access is allowed.
//!
//! Sources: linux/bpf.h (`struct bpf_cgroup_dev_ctx`), RFC 9669 (instruction set).

use workload::{DeviceKind, DeviceRule};

use super::{ALL, access_bits};
use crate::CgroupError;

/// Instructions of one program at most. The kernel takes a million for the privileged; rules
/// come from a user's file.
const INSTRUCTIONS_MAX: usize = 65_536;

/// Opcodes used: class, source and operation together (RFC 9669, sections 4 and 5).
mod op {
    /// `dst = *(u32 *)(src + off)`
    pub(super) const LOAD_WORD: u8 = 0x61;
    /// `dst = imm`, 32 bits
    pub(super) const MOV_IMM: u8 = 0xb4;
    /// `dst = src`, 32 bits
    pub(super) const MOV_REG: u8 = 0xbc;
    /// `dst &= imm`, 32 bits
    pub(super) const AND_IMM: u8 = 0x54;
    /// `dst >>= imm`, 32 bits
    pub(super) const RSH_IMM: u8 = 0x74;
    /// `if dst == imm goto`, 64 bits
    pub(super) const JEQ_IMM: u8 = 0x15;
    /// `if dst != imm goto`, 64 bits
    pub(super) const JNE_IMM: u8 = 0x55;
    /// `return r0`
    pub(super) const EXIT: u8 = 0x95;
}

/// Registers: the context, and what is made of it.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
/// Bits of the access not judged yet.
const OPEN: u8 = 2;
const KIND: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// `BPF_DEVCG_DEV_BLOCK`, `BPF_DEVCG_DEV_CHAR`.
const KIND_BLOCK: i32 = 1;
const KIND_CHARACTER: i32 = 2;

/// One instruction in the kernel's layout (`struct bpf_insn`, little end first).
fn instruction(code: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> u64 {
    let registers = u64::from(dst) | u64::from(src) << 4;
    let offset = u64::from(offset.cast_unsigned());
    let immediate = u64::from(immediate.cast_unsigned());
    u64::from(code) | registers << 8 | offset << 16 | immediate << 32
}

/// The program for these rules: 1 for allowed, 0 for denied.
///
/// # Errors
/// `Invalid` if there are far too many rules.
pub(crate) fn program(rules: &[DeviceRule]) -> Result<Vec<u64>, CgroupError> {
    let mut code = vec![
        instruction(op::LOAD_WORD, KIND, CONTEXT, 0, 0),
        instruction(op::MOV_REG, OPEN, KIND, 0, 0),
        instruction(op::RSH_IMM, OPEN, 0, 0, 16),
        instruction(op::AND_IMM, KIND, 0, 0, 0xffff),
        instruction(op::LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(op::LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules.iter().rev().filter(|rule| access_bits(rule) != 0) {
        let everything = rule.kind.is_none() && rule.major.is_none() && rule.minor.is_none();
        if everything && access_bits(rule) == ALL {
            // It judges all that is left, and the verifier refuses code that nothing reaches.
            verdict(&mut code, rule.allow);
            return Ok(code);
        }
        judge(&mut code, rule);
        if code.len() > INSTRUCTIONS_MAX {
            let why = format!("{} rules are too many", rules.len());
            return Err(CgroupError::Invalid { what: "devices".into(), why });
        }
    }
    verdict(&mut code, true);
    Ok(code)
}

fn verdict(code: &mut Vec<u64>, allow: bool) {
    code.push(instruction(op::MOV_IMM, RESULT, 0, 0, i32::from(allow)));
    code.push(instruction(op::EXIT, 0, 0, 0, 0));
}

/// One rule: tests that skip it if it does not name the device, then what it says.
fn judge(code: &mut Vec<u64>, rule: &DeviceRule) {
    let Some(tests) = tests(rule) else { return };
    let bits = i32::from(access_bits(rule));
    // Both bodies jump over the two instructions of a verdict.
    let mut body = if rule.allow {
        vec![
            instruction(op::AND_IMM, OPEN, 0, 0, i32::from(ALL) & !bits),
            instruction(op::JNE_IMM, OPEN, 0, 2, 0),
        ]
    } else {
        vec![
            instruction(op::MOV_REG, RESULT, OPEN, 0, 0),
            instruction(op::AND_IMM, RESULT, 0, 0, bits),
            instruction(op::JEQ_IMM, RESULT, 0, 2, 0),
        ]
    };
    verdict(&mut body, rule.allow);
    for (at, (register, value)) in tests.iter().enumerate() {
        let skip = tests.len() - at - 1 + body.len();
        let skip = i16::try_from(skip).expect("a rule has at most eight instructions");
        code.push(instruction(op::JNE_IMM, *register, 0, skip, *value));
    }
    code.extend(body);
}

/// What must be in which register for the rule to name the device; `None` if nothing can:
/// opening a FIFO is not a device access, and device numbers have 32 bits together (makedev(3))
/// where an operand has 31.
fn tests(rule: &DeviceRule) -> Option<Vec<(u8, i32)>> {
    let kind = match rule.kind {
        None => None,
        Some(DeviceKind::Block) => Some(KIND_BLOCK),
        Some(DeviceKind::Character) => Some(KIND_CHARACTER),
        Some(DeviceKind::Fifo) => return None,
    };
    let major = rule.major.map(i32::try_from).transpose().ok()?;
    let minor = rule.minor.map(i32::try_from).transpose().ok()?;
    let tests = [(KIND, kind), (MAJOR, major), (MINOR, minor)];
    Some(tests.into_iter().filter_map(|(register, value)| Some((register, value?))).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::devices::tests::{Access, accesses, allowed, rules};

    /// Runs a program on one access, as far as these programs go.
    fn run(program: &[u64], access: Access) -> u64 {
        let kind = if access.block { KIND_BLOCK } else { KIND_CHARACTER };
        let context =
            [u32::from(access.bits) << 16 | kind.cast_unsigned(), access.major, access.minor];
        let mut registers = [0_u64; 11];
        let mut at = 0;
        loop {
            let [code, regs, off_low, off_high, imm @ ..] = program[at].to_le_bytes();
            let (dst, offset) = (usize::from(regs & 15), i16::from_le_bytes([off_low, off_high]));
            let immediate = u64::from(u32::from_le_bytes(imm));
            let jump = |taken: bool| if taken { usize::try_from(offset).unwrap() } else { 0 };
            at += 1;
            match code {
                op::LOAD_WORD => {
                    registers[dst] = context[usize::try_from(offset / 4).unwrap()].into()
                }
                op::MOV_IMM => registers[dst] = immediate,
                op::MOV_REG => registers[dst] = registers[usize::from(regs >> 4)],
                op::AND_IMM => registers[dst] &= immediate,
                op::RSH_IMM => registers[dst] >>= immediate,
                op::JEQ_IMM => at += jump(registers[dst] == immediate),
                op::JNE_IMM => at += jump(registers[dst] != immediate),
                op::EXIT => return registers[0],
                other => panic!("opcode {other:#x}"),
            }
        }
    }

    #[test]
    fn one_denied_device_is_these_instructions() {
        let rule = DeviceRule {
            allow: false,
            kind: Some(DeviceKind::Character),
            major: Some(1),
            minor: None,
            read: false,
            write: true,
            mknod: false,
        };
        let text: Vec<String> =
            program(&[rule]).unwrap().iter().map(|i| format!("{i:016x}")).collect();
        assert_eq!(
            text,
            [
                "0000000000001361", // w3 = ctx.access_type
                "00000000000032bc", // w2 = w3
                "0000001000000274", // w2 >>= 16: bits not judged
                "0000ffff00000354", // w3 &= 0xffff: kind
                "0000000000041461", // w4 = ctx.major
                "0000000000081561", // w5 = ctx.minor
                "0000000200060355", // if r3 != character skip the rule
                "0000000100050455", // if r4 != 1 skip the rule
                "00000000000020bc", // w0 = w2
                "0000000400000054", // w0 &= write
                "0000000000020015", // if r0 == 0 skip the verdict
                "00000000000000b4", // w0 = 0
                "0000000000000095", // exit
                "00000001000000b4", // w0 = 1
                "0000000000000095", // exit
            ]
        );
    }

    #[test]
    fn the_default_rules_are_short() {
        assert_eq!(program(&workload::profile::device_rules()).unwrap().len(), 73);
    }

    #[test]
    fn far_too_many_rules_are_refused() {
        let rule = workload::profile::device_rules().pop().unwrap();
        assert!(program(&vec![rule; INSTRUCTIONS_MAX]).is_err());
    }

    proptest! {
        #[test]
        fn the_program_judges_as_the_rules_do(rules in rules(), access in accesses()) {
            let verdict = run(&program(&rules).unwrap(), access);
            prop_assert_eq!(verdict == 1, allowed(&rules, access));
        }
    }
}
