//! One floating-point instruction in both processors, and what of the results must be the same.
#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(clippy::wildcard_enum_match_arm, reason = "iced's lists are long")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "bits are taken apart"
)]

use std::fmt::Write as _;

use hv::state::FpuState;
use iced_x86::{Instruction, Mnemonic};
use softcpu::fpu::{Environment, Fpu, Stop, execute};

use crate::{
    encodings::{self, Encoding, Family},
    fpu_leeway::{Part, Seen, leaves_out, unspecified},
    host::{self, DATA, DATA_LEN, Event, Host, Outcome},
    model::{ARITHMETIC, Model, memory_operand},
    random::Random,
};

/// How many bytes at the operand are new in each case: the longest operand.
const FRESH: usize = 512;

/// Instruction bytes and the state before them.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// The instruction.
    pub(crate) code: Vec<u8>,
    /// Registers.
    pub(crate) gpr: [u64; 16],
    /// Arithmetic flags.
    pub(crate) flags: u64,
    /// Floating-point registers.
    pub(crate) fpu: FpuState,
    /// Where in the data pages the operand lies, and what lies there.
    pub(crate) memory: (u64, Vec<u8>),
}

impl Case {
    /// An instruction with empty registers, and zeros in memory at rsi and rdi.
    pub(crate) fn blank(code: &[u8], offset: u64) -> Case {
        let mut gpr = [0; 16];
        gpr[6] = DATA + offset;
        gpr[7] = DATA + offset;
        let memory = (offset, vec![0; FRESH]);
        Case { code: code.to_vec(), gpr, flags: 0x202, fpu: FpuState::default(), memory }
    }
}

/// Compares one case.
pub(crate) fn check(host: &mut Host, case: &Case) -> Result<(), String> {
    let mut mirror = host.data().to_vec();
    let instruction = encodings::decode(64, &case.code).expect("a case decodes");
    compare(host, &mut mirror, case, &instruction)
}

/// Draws cases of a family, each of its encodings in turn, and compares.
pub(crate) fn check_random(host: &mut Host, family: Family, seed: u64, cases: usize) {
    let mut encodings = encodings::all();
    encodings.retain(|encoding| encoding.family == family);
    let mut random = Random::new(seed);
    let mut mirror = vec![0; DATA_LEN];
    host.data().fill(0);
    let mut failures: Vec<(Mnemonic, String)> = Vec::new();
    for (number, encoding) in (0..cases).zip(encodings.iter().cycle()) {
        let (case, instruction) = draw(&mut random, encoding);
        if let Err(difference) = compare(host, &mut mirror, &case, &instruction) {
            mirror.copy_from_slice(host.data());
            let known = failures.iter().filter(|(of, _)| *of == instruction.mnemonic()).count();
            if known < 2 {
                let text = format!("case {number} of seed {seed}: {difference}{}\n", before(&case));
                failures.push((instruction.mnemonic(), text));
            }
        }
    }
    let text: String = failures.into_iter().map(|(_, text)| text).collect();
    assert!(text.is_empty(), "{text}");
}

/// What went in, as far as it can matter.
fn before(case: &Case) -> String {
    let Case { gpr, flags, fpu, memory: (offset, bytes), .. } = case;
    let FpuState { control, status, tags, mxcsr, .. } = fpu;
    let mut text = format!(
        "  before: flags {flags:x} control {control:x} status {status:x} tags {tags:x} mxcsr {mxcsr:x}\n  gpr {gpr:x?}\n  memory at {offset:x}: {:02x?}\n",
        &bytes[..bytes.len().min(32)]
    );
    for (n, register) in fpu.st.iter().enumerate() {
        let _ = writeln!(text, "  st{n} {register:02x?}");
    }
    for (n, register) in fpu.xmm.iter().enumerate() {
        let _ = writeln!(text, "  xmm{n} {register:02x?}");
    }
    text
}

fn draw(random: &mut Random, encoding: &Encoding) -> (Case, Instruction) {
    let mut code = encoding.random(random);
    let instruction = encodings::decode(64, &code).expect("an encoding decodes");
    code.truncate(instruction.len());
    let case = state(random, code, instruction.mnemonic());
    (case, instruction)
}

fn state(random: &mut Random, code: Vec<u8>, mnemonic: Mnemonic) -> Case {
    let mut gpr = [0; 16].map(|_: u64| random.integer());
    let offset = match random.below(16) {
        0 => random.below(0x400),
        1 => DATA_LEN as u64 - random.below(24),
        2 => 0xfff0 + random.below(0x20),
        _ => 16 * random.below(64),
    };
    let address = DATA + offset;
    for pointer in [6, 7, 14] {
        gpr[pointer] = address;
    }
    if random.one_in(2) {
        // Lengths of pcmpestri.
        gpr[0] = random.below(40).wrapping_sub(20);
        gpr[2] = random.below(40).wrapping_sub(20);
    }
    let mut fresh: Vec<u8> = (0..FRESH / 16).flat_map(|_| fresh(random)).collect();
    // Bits that would be refused; AMD has one more that is not, 17.
    let mxcsr = match mnemonic {
        Mnemonic::Ldmxcsr => Some(0),
        Mnemonic::Fxrstor | Mnemonic::Fxrstor64 => Some(24),
        _ => None,
    };
    if let Some(mxcsr) = mxcsr {
        fresh[mxcsr + 2] &= !2;
        if !random.one_in(4) {
            fresh[mxcsr + 2..mxcsr + 4].fill(0);
        }
    }
    let flags = 0x202 | random.bits() & ARITHMETIC;
    Case { code, gpr, flags, fpu: floating_point(random), memory: (offset, fresh) }
}

fn fresh(random: &mut Random) -> [u8; 16] {
    let mut bytes = random.vector();
    match random.below(4) {
        0 => bytes[..10].copy_from_slice(&random.extended()),
        1 => {
            // Decimal digits.
            let digits = random.bits() as u128 | u128::from(random.bits()) << 64;
            let digits =
                (0..18).fold(0, |bcd, n| bcd | (((digits >> (4 * n)) & 0xf) % 10) << (4 * n));
            bytes[..10].copy_from_slice(&digits.to_le_bytes()[..10]);
            bytes[9] = (random.bits() as u8) & 0x80;
        }
        _ => {}
    }
    bytes
}

fn floating_point(random: &mut Random) -> FpuState {
    // Most guests leave all exceptions masked; every rounding and precision is used.
    let masks = if random.one_in(3) { (random.bits() as u16) & 0x3f } else { 0x3f };
    let mut fpu = FpuState {
        control: 0x40 | (random.bits() as u16) & 0xf00 | masks,
        status: (random.bits() as u16) & 0x7f00,
        ..FpuState::default()
    };
    if random.one_in(8) {
        fpu.status |= (random.bits() as u16) & 0x7f;
    }
    if fpu.status & !fpu.control & 0x3f != 0 {
        if random.one_in(8) {
            fpu.status |= 0x8080;
        } else {
            fpu.status &= !0x3f;
        }
    }
    fpu.tags = if random.one_in(3) { random.bits() as u8 } else { 0xff };
    fpu.st = [[0; 10]; 8].map(|_: [u8; 10]| match random.below(4) {
        0 => small(random),
        _ => random.extended(),
    });
    let masks = if random.one_in(4) { random.bits() as u32 & 0x1f80 } else { 0x1f80 };
    fpu.mxcsr = masks | random.bits() as u32 & 0xe040;
    if random.one_in(4) {
        fpu.mxcsr |= random.bits() as u32 & 0x3f;
    }
    if random.one_in(3) {
        // As most programs have it.
        fpu.mxcsr = 0x1fa0;
    }
    fpu.xmm = [[0; 16]; 16].map(|_: [u8; 16]| random.vector());
    if random.one_in(4) {
        fpu.xmm[random.below(16) as usize] = fpu.xmm[random.below(16) as usize];
    }
    fpu
}

/// An integer as an extended real, which remainders and stores as integers like.
fn small(random: &mut Random) -> [u8; 10] {
    let integer = random.integer() >> random.below(64);
    let shift = integer.leading_zeros();
    let mut bytes = [0; 10];
    if integer != 0 {
        bytes[..8].copy_from_slice(&(integer << shift).to_le_bytes());
        let exponent = 16383 + 63 - shift as u16 - (random.below(2) * random.below(64)) as u16;
        bytes[8..].copy_from_slice(&exponent.to_le_bytes());
    }
    bytes[9] |= (random.bits() as u8) & 0x80;
    bytes
}

/// Runs one case in both; `mirror` is what our processor has for the data pages.
fn compare(
    host: &mut Host,
    mirror: &mut [u8],
    case: &Case,
    instruction: &Instruction,
) -> Result<(), String> {
    let (offset, fresh) = &case.memory;
    let start = (*offset as usize).min(DATA_LEN);
    let end = (start + fresh.len()).min(DATA_LEN);
    mirror[start..end].copy_from_slice(&fresh[..end - start]);
    host.data()[start..end].copy_from_slice(&fresh[..end - start]);
    let before = host::State {
        gpr: case.gpr,
        flags: case.flags,
        bases: [0; 2],
        fpu: Some(case.fpu.clone()),
    };
    let theirs = host.run(&case.code, &before);
    let mut fpu = Fpu::new(&case.fpu);
    let address = memory_operand(instruction, &case.gpr);
    let mut model = Model {
        gpr: case.gpr,
        flags: case.flags,
        memory: mirror,
        address,
        environment: Environment::Long,
    };
    let result = execute(&mut fpu, instruction, &mut model);
    let ours = Outcome {
        state: host::State {
            gpr: model.gpr,
            flags: model.flags,
            bases: [0; 2],
            fpu: Some(fpu.state()),
        },
        rip: if result.is_ok() { instruction.len() as u64 } else { 0 },
        event: Event::Done,
    };
    let mut text = String::new();
    let seen = Seen { instruction, case, address, event: theirs.event };
    if leaves_out(Part::Case, &seen) {
        mirror.copy_from_slice(host.data());
        return Ok(());
    }
    if !same_end(&result, theirs.event, address) {
        let _ = writeln!(text, "  ended: ours {result:x?}, host {:x?}", theirs.event);
    }
    differences(&mut text, &seen, &ours, &theirs);
    if leaves_out(Part::Memory, &seen) {
        mirror.copy_from_slice(host.data());
    }
    mask_memory(instruction, host.data(), mirror, start);
    if host.data() != mirror {
        let at = host.data().iter().zip(mirror.iter()).position(|(a, b)| a != b).unwrap_or(0);
        let end = (at + 16).min(DATA_LEN);
        let (theirs, ours) = (&host.data()[at..end], &mirror[at..end]);
        let _ = writeln!(text, "  memory at {at:#x}: ours {ours:02x?}, host {theirs:02x?}");
    }
    if text.is_empty() {
        return Ok(());
    }
    Err(format!("{:?} {:02x?}\n{text}", instruction.code(), case.code))
}

fn same_end(ours: &Result<(), Stop<u64>>, theirs: Event, operand: u64) -> bool {
    /// `si_code` of a fault that is not of paging.
    const KERNEL: i32 = 0x80;
    match (ours, theirs) {
        (Ok(()), Event::Done) => true,
        (Err(Stop::Fault(at)), Event::Signal { number: libc::SIGSEGV, code, address }) => {
            // Microcoded instructions reach their areas in an order of their own.
            let operand = operand..operand + FRESH as u64;
            code != KERNEL && operand.contains(at) && operand.contains(&address)
        }
        (Err(Stop::Protection), Event::Signal { number: libc::SIGSEGV, code, .. }) => {
            code == KERNEL
        }
        (Err(Stop::Math | Stop::Simd), Event::Signal { number: libc::SIGFPE, .. }) => true,
        _ => false,
    }
}

fn differences(text: &mut String, seen: &Seen<'_>, ours: &Outcome, theirs: &Outcome) {
    if ours.rip != theirs.rip {
        let _ = writeln!(text, "  rip: ours {}, host {}", ours.rip, theirs.rip);
    }
    for n in 0..16 {
        let (a, b) = (ours.state.gpr[n], theirs.state.gpr[n]);
        if a != b {
            let _ = writeln!(text, "  gpr {n}: ours {a:#x}, host {b:#x}");
        }
    }
    let (a, b) = (ours.state.flags & ARITHMETIC, theirs.state.flags & ARITHMETIC);
    if a != b {
        let _ = writeln!(text, "  flags: ours {a:#x}, host {b:#x}");
    }
    let (mut a, mut b) = (ours.state.fpu.clone().unwrap(), theirs.state.fpu.clone().unwrap());
    if leaves_out(Part::Registers, seen) {
        return;
    }
    for fpu in [&mut a, &mut b] {
        leave_out(fpu, seen);
    }
    if (a.control, a.status, a.tags, a.mxcsr) != (b.control, b.status, b.tags, b.mxcsr) {
        for (who, fpu) in [("ours", &a), ("host", &b)] {
            let FpuState { control, status, tags, mxcsr, .. } = fpu;
            let _ = writeln!(
                text,
                "  {who}: control {control:x} status {status:x} tags {tags:x} mxcsr {mxcsr:x}"
            );
        }
    }
    for n in 0..8 {
        if a.st[n] != b.st[n] {
            let _ = writeln!(text, "  st{n}: ours {:02x?}, host {:02x?}", a.st[n], b.st[n]);
        }
    }
    for n in 0..16 {
        if a.xmm[n] != b.xmm[n] {
            let _ = writeln!(text, "  xmm{n}: ours {:02x?}, host {:02x?}", a.xmm[n], b.xmm[n]);
        }
    }
}

/// Makes the same whatever is not compared.
fn leave_out(fpu: &mut FpuState, seen: &Seen<'_>) {
    forget_addresses(fpu);
    if leaves_out(Part::MmxMode, seen) {
        let top = usize::from(fpu.status >> 11 & 7);
        fpu.st.rotate_right(top);
        fpu.status &= !(7 << 11);
        fpu.tags = 0;
    }
    if leaves_out(Part::Summary, seen) {
        fpu.status &= !0x8080;
    }
    if leaves_out(Part::SimdFlags, seen) {
        fpu.mxcsr &= !0x3f;
    }
    if leaves_out(Part::Nans, seen) {
        let doubles = matches!(
            seen.instruction.mnemonic(),
            Mnemonic::Dppd | Mnemonic::Haddpd | Mnemonic::Hsubpd
        );
        for xmm in &mut fpu.xmm {
            forget_nans(xmm, doubles);
        }
    }
}

/// The last instruction's opcode and addresses are not compared, see [`unspecified`].
fn forget_addresses(fpu: &mut FpuState) {
    fpu.opcode = 0;
    fpu.instruction = 0;
    fpu.operand = 0;
}

/// Nor are some bytes of the areas in memory.
fn mask_memory(instruction: &Instruction, theirs: &mut [u8], ours: &mut [u8], start: usize) {
    for &(from, to) in unspecified(instruction) {
        for at in (from..to).map(|n| start + n).filter(|&at| at < DATA_LEN) {
            theirs[at] = 0;
            ours[at] = 0;
        }
    }
}

/// Makes every NaN the same one: lanes of doubles if they are that, else singles.
fn forget_nans(xmm: &mut [u8; 16], doubles: bool) {
    if doubles {
        for lane in xmm.as_chunks_mut::<8>().0 {
            if f64::from_le_bytes(*lane).is_nan() {
                *lane = f64::NAN.to_le_bytes();
            }
        }
    } else {
        for lane in xmm.as_chunks_mut::<4>().0 {
            if f32::from_le_bytes(*lane).is_nan() {
                *lane = f32::NAN.to_le_bytes();
            }
        }
    }
}
