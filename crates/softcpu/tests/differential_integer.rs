//! Integer instructions against the host's own processor: every register, flag and byte.
//!
//! `SOFTCPU_CASES` sets how many cases, `SOFTCPU_SEED` where they begin; a failure prints the case
//! so that it can be kept below as a regression.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::wildcard_enum_match_arm,
    reason = "bits are taken apart, and instructions are many"
)]

#[path = "native/host.rs"]
mod host;
#[path = "native/random.rs"]
mod random;
#[path = "native/soft.rs"]
mod soft;

use std::fmt::Write as _;

use host::{CODE, DATA, DATA_LEN, Event, Host, Outcome, State};
use iced_x86::{
    CpuidFeature as F, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic as M, OpKind,
    Register,
};
use random::Random;
use soft::Soft64;
use testkit::need;

/// How many cases without `SOFTCPU_CASES`.
const CASES: u64 = 20_000;

/// Arithmetic flags.
const CF: u64 = 1;
const PF: u64 = 4;
const AF: u64 = 16;
const ZF: u64 = 64;
const SF: u64 = 128;
const OF: u64 = 2048;
const ALL: u64 = CF | PF | AF | ZF | SF | OF;
const DF: u64 = 1024;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// One instruction and what is before it.
#[derive(Clone, Debug)]
struct Case {
    code: Vec<u8>,
    gpr: [u64; 16],
    flags: u64,
    /// What lies at the beginning of both data pages' border.
    data: [u8; 64],
}

/// Where the fresh bytes lie: around the border of the two pages.
const FRESH: usize = DATA_LEN / 2 - 32;

#[test]
fn integers_do_what_the_host_does() {
    let host = Host::new();
    if !need::ptrace(host.is_ok()) {
        return;
    }
    let mut host = host.expect("a child to trace");
    let (seed, cases) = (setting("SOFTCPU_SEED", 1), setting("SOFTCPU_CASES", CASES));
    let mut random = Random::new(seed);
    let mut soft = Soft64::new();
    let mut failures: Vec<(M, String)> = Vec::new();
    for number in 0..cases {
        let (case, instruction) = loop {
            if let Some(drawn) = draw(&mut random) {
                break drawn;
            }
        };
        if let Err(difference) = compare(&mut host, &mut soft, &case, &instruction) {
            let known = failures.iter().filter(|(of, _)| *of == instruction.mnemonic()).count();
            if known < 2 {
                let text =
                    format!("case {number} of seed {seed}: {difference}  before: {case:x?}\n");
                failures.push((instruction.mnemonic(), text));
            }
            soft.set_data(0, host.data());
        }
    }
    let text: String = failures.into_iter().map(|(_, text)| text).collect();
    assert!(text.is_empty(), "{text}");
}

/// Whether an instruction is an integer instruction of a program.
fn wanted(instruction: &Instruction) -> bool {
    let features = [
        F::INTEL8086,
        F::INTEL186,
        F::INTEL386,
        F::INTEL486,
        F::X64,
        F::CMOV,
        F::CX8,
        F::CMPXCHG16B,
        F::POPCNT,
        F::SSE4_2,
        F::MULTIBYTENOP,
    ];
    let known = instruction.cpuid_features().iter().all(|feature| features.contains(feature));
    let segment = (0..instruction.op_count())
        .map(|n| instruction.op_register(n))
        .any(|register| register.is_segment_register() || register.is_cr() || register.is_dr());
    let vector = (0..instruction.op_count())
        .map(|n| instruction.op_register(n))
        .any(|register| register.is_xmm() || register.is_mm());
    let flow = matches!(
        instruction.flow_control(),
        FlowControl::Next
            | FlowControl::ConditionalBranch
            | FlowControl::UnconditionalBranch
            | FlowControl::IndirectBranch
            | FlowControl::Call
            | FlowControl::IndirectCall
            | FlowControl::Return
    );
    let far = (0..instruction.op_count())
        .any(|n| matches!(instruction.op_kind(n), OpKind::FarBranch16 | OpKind::FarBranch32))
        || instruction.is_jmp_far_indirect()
        || instruction.is_call_far_indirect();
    let odd = matches!(
        instruction.mnemonic(),
        M::Pushf
            | M::Pushfq
            | M::Popf
            | M::Popfq
            | M::Retf
            | M::Iret
            | M::Iretd
            | M::Iretq
            | M::Cli
            | M::Sti
            | M::Hlt
            | M::In
            | M::Out
            | M::Insb
            | M::Insw
            | M::Insd
            | M::Outsb
            | M::Outsw
            | M::Outsd
            | M::Invd
            | M::Wbinvd
            | M::Clts
            | M::Invlpg
            | M::Lmsw
            | M::Smsw
            | M::Lss
            | M::Lfs
            | M::Lgs
            | M::Wait
            // Kernels keep these from programs (UMIP), which this processor cannot.
            | M::Sgdt
            | M::Sidt
            | M::Sldt
            | M::Str
            // These ask about the host's own descriptors.
            | M::Lar
            | M::Lsl
            | M::Verr
            | M::Verw
            // Of 0F 0D, what is no prefetch is undefined on some.
            | M::Reservednop
    );
    known
        && !segment
        && !vector
        && flow
        && !far
        && !odd
        && !instruction.is_invalid()
        && instruction.memory_segment() != Register::FS
        && instruction.memory_segment() != Register::GS
}

fn draw(random: &mut Random) -> Option<(Case, Instruction)> {
    let mut code = Vec::new();
    for prefix in [0x66, 0x67, 0xf0, 0xf2, 0xf3] {
        if random.one_in(if prefix == 0x66 { 4 } else { 12 }) {
            code.push(prefix);
        }
    }
    if random.one_in(2) {
        code.push(0x40 | random.below(16) as u8);
    }
    let opcode = random.bits() as u8;
    match random.below(4) {
        0 | 1 => code.push(opcode),
        2 => code.extend([0x0f, opcode]),
        _ if random.one_in(8) => code.extend([0x0f, 0x38, 0xf0 | opcode & 1]),
        _ => code.push(opcode),
    }
    for _ in 0..12 {
        code.push(random.bits() as u8);
    }
    code.truncate(15);
    // The host has these with a prefix as other instructions.
    let options = DecoderOptions::NONE;
    let instruction = Decoder::with_ip(64, &code, CODE, options).decode();
    if !wanted(&instruction) || matches!(instruction.mnemonic(), M::Lzcnt | M::Tzcnt) {
        return None;
    }
    // What the prefix of 16 bits makes of a branch differs between makers.
    let branch = instruction.flow_control() != FlowControl::Next;
    // So does what the prefixes of strings make of loops.
    if branch && code[..5].iter().any(|byte| matches!(byte, 0x66 | 0xf2 | 0xf3)) {
        return None;
    }
    // One that leads to itself would never end under the host's single steps.
    if instruction.near_branch_target() == CODE {
        return None;
    }
    code.truncate(instruction.len());
    let mut gpr = [0; 16].map(|_: u64| random.integer());
    for register in &mut gpr {
        if random.one_in(3) {
            *register = DATA + FRESH as u64 + random.below(64);
        }
    }
    gpr[4] = DATA + FRESH as u64 + 8 * random.below(8) + if random.one_in(8) { 3 } else { 0 };
    if instruction.is_string_instruction() {
        gpr[6] = DATA + FRESH as u64 + random.below(64);
        gpr[7] = DATA + FRESH as u64 + random.below(64);
        gpr[1] = random.below(20);
    }
    aim(random, &instruction, &mut gpr);
    let flags = 0x202 | random.bits() & (ALL | DF);
    let mut data = [0; 64];
    for byte in &mut data {
        *byte = random.bits() as u8;
    }
    if random.one_in(2) {
        data[32..40].copy_from_slice(&random.integer().to_le_bytes());
    }
    Some((Case { code, gpr, flags, data }, instruction))
}

/// Lets most memory operands lie in the data pages.
fn aim(random: &mut Random, instruction: &Instruction, gpr: &mut [u64; 16]) {
    let (base, index) = (instruction.memory_base(), instruction.memory_index());
    if !(0..instruction.op_count()).any(|n| instruction.op_kind(n) == OpKind::Memory)
        || base == Register::RIP
        || random.one_in(16)
    {
        return;
    }
    let target = DATA + FRESH as u64 + random.below(60);
    let scaled = if index == Register::None {
        0
    } else {
        if index != base {
            gpr[index.number()] = random.below(0x40);
        }
        gpr[index.number()].wrapping_mul(instruction.memory_index_scale().into())
    };
    if base != Register::None && base.number() != 4 && index != base {
        let displacement = instruction.memory_displacement64();
        gpr[base.number()] = target.wrapping_sub(scaled).wrapping_sub(displacement);
    }
}

/// The flags that an instruction leaves defined.
///
/// Source: Intel SDM volume 2, the instructions' own pages.
fn defined(instruction: &Instruction, case: &Case) -> u64 {
    let bits = match instruction.op_kind(0) {
        OpKind::Register => instruction.op_register(0).size() * 8,
        _ => instruction.memory_size().size() * 8,
    } as u64;
    let count = || {
        let last = instruction.op_count() - 1;
        let count = match instruction.op_kind(last) {
            OpKind::Immediate8 => instruction.immediate8().into(),
            _ => case.gpr[1] & 0xff,
        };
        count & if bits == 64 { 63 } else { 31 }
    };
    match instruction.mnemonic() {
        M::And | M::Or | M::Xor | M::Test => ALL & !AF,
        M::Mul | M::Imul => CF | OF,
        M::Div | M::Idiv => 0,
        M::Bsf | M::Bsr => ZF,
        M::Bt | M::Bts | M::Btr | M::Btc => CF | ZF,
        M::Shl | M::Sal | M::Shr | M::Sar => match count() {
            0 => ALL,
            1 => ALL & !AF,
            count if count > bits => PF | ZF | SF,
            _ => ALL & !AF & !OF,
        },
        M::Rol | M::Ror | M::Rcl | M::Rcr => match count() {
            0 | 1 => ALL,
            _ => ALL & !OF,
        },
        M::Shld | M::Shrd => match count() {
            0 => ALL,
            1 => ALL & !AF,
            count if count > bits => 0,
            _ => ALL & !AF & !OF,
        },
        _ => ALL,
    }
}

/// Whether the result is undefined, too.
fn undefined(instruction: &Instruction, case: &Case) -> bool {
    let double = matches!(instruction.mnemonic(), M::Shld | M::Shrd);
    let narrow = instruction.mnemonic() == M::Bswap && instruction.op0_register().size() == 2;
    let _whole = case;
    double && defined(instruction, case) == 0 || narrow
}

fn same(a: &Outcome, b: &Outcome) -> bool {
    match (a.event, b.event) {
        (Event::Done, Event::Done) => true,
        (
            Event::Signal { number: a, address: at, .. },
            Event::Signal { number: b, address: there, .. },
        ) => a == b && (a != libc::SIGSEGV || at == there),
        _ => false,
    }
}

fn compare(
    host: &mut Host,
    soft: &mut Soft64,
    case: &Case,
    instruction: &Instruction,
) -> Result<(), String> {
    host.data()[FRESH..FRESH + 64].copy_from_slice(&case.data);
    soft.set_data(FRESH, &case.data);
    let before = State { gpr: case.gpr, flags: case.flags, fpu: None };
    let native = host.run(&case.code, &before);
    let ours = soft.run(&case.code, &before);
    let mut text = String::new();
    if !same(&native, &ours) || native.rip != ours.rip {
        let _ = writeln!(
            text,
            "  host {:?} at {:x}, ours {:?} at {:x}",
            native.event, native.rip, ours.event, ours.rip
        );
    }
    let mask = defined(instruction, case) | DF;
    if native.event == Event::Done && (native.state.flags ^ ours.state.flags) & mask != 0 {
        let _ = writeln!(
            text,
            "  flags: host {:x}, ours {:x}, defined {mask:x}",
            native.state.flags, ours.state.flags
        );
    }
    let loose = undefined(instruction, case);
    if native.state.gpr != ours.state.gpr && !loose {
        for (n, (a, b)) in native.state.gpr.iter().zip(ours.state.gpr).enumerate() {
            if *a != b {
                let _ = writeln!(text, "  register {n}: host {a:x}, ours {b:x}");
            }
        }
    }
    let ours = soft.data();
    if host.data() != ours && !loose {
        let at = host.data().iter().zip(&ours).position(|(a, b)| a != b).unwrap_or(0);
        let end = (at + 16).min(DATA_LEN);
        let _ = writeln!(
            text,
            "  data at {at:x}: host {:x?}, ours {:x?}",
            &host.data()[at..end],
            &ours[at..end]
        );
    } else if loose {
        soft.set_data(0, host.data());
    }
    if text.is_empty() { Ok(()) } else { Err(format!("{:?}\n{text}", instruction.code())) }
}
