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
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};
use softcpu::fpu::{Environment, Fpu, Operands, Stop, execute, handles};

use crate::{
    host::{self, CODE, DATA, DATA_LEN, Event, Host, Outcome},
    random::Random,
};

/// Which opcodes a run draws from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// D8 to DF, and wait.
    X87,
    /// 0F xx with each of the prefixes.
    Sse,
    /// 0F 38 xx.
    Map38,
    /// 0F 3A xx.
    Map3a,
}

/// Carry, parity, adjust, zero, sign, overflow.
const ARITHMETIC: u64 = 0x8d5;

/// How many bytes at the operand are new in each case: the longest operand.
const FRESH: usize = 512;

/// The guest's side.
struct Model<'a> {
    gpr: [u64; 16],
    flags: u64,
    memory: &'a mut [u8],
    address: u64,
}

impl Model<'_> {
    fn range(&self, offset: u64, len: usize) -> Result<std::ops::Range<usize>, u64> {
        let first = self.address.wrapping_add(offset);
        for n in 0..len as u64 {
            let at = first.wrapping_add(n);
            if !(DATA..DATA + DATA_LEN as u64).contains(&at) {
                return Err(at);
            }
        }
        let start = (first - DATA) as usize;
        Ok(start..start + len)
    }
}

impl Operands for Model<'_> {
    type Fault = u64;

    fn address(&self) -> u64 {
        self.address
    }

    fn offset(&self) -> u64 {
        self.address
    }

    fn instruction_pointer(&self) -> u64 {
        CODE
    }

    fn load(&mut self, offset: u64, into: &mut [u8]) -> Result<(), u64> {
        into.copy_from_slice(&self.memory[self.range(offset, into.len())?]);
        Ok(())
    }

    fn store(&mut self, offset: u64, bytes: &[u8]) -> Result<(), u64> {
        let range = self.range(offset, bytes.len())?;
        self.memory[range].copy_from_slice(bytes);
        Ok(())
    }

    fn check_store(&mut self, offset: u64, len: usize) -> Result<(), u64> {
        self.range(offset, len).map(drop)
    }

    fn register(&self, register: Register) -> u64 {
        let value = self.gpr[register.full_register().number()];
        match register.size() {
            8 => value,
            bytes => value & ((1 << (8 * bytes)) - 1),
        }
    }

    fn set_register(&mut self, register: Register, value: u64) {
        let gpr = &mut self.gpr[register.full_register().number()];
        match register.size() {
            8 => *gpr = value,
            4 => *gpr = value & 0xffff_ffff,
            2 => *gpr = *gpr & !0xffff | value & 0xffff,
            _ => panic!("no instruction sets bytes"),
        }
    }

    fn flags(&self) -> u64 {
        self.flags
    }

    fn set_flags(&mut self, flags: u64) {
        assert_eq!(flags & !ARITHMETIC, 0, "only arithmetic flags");
        self.flags = self.flags & !ARITHMETIC | flags;
    }

    fn environment(&self) -> Environment {
        Environment::Long
    }
}

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

/// Draws cases and compares.
pub(crate) fn check_random(host: &mut Host, family: Family, seed: u64, cases: u64) {
    let mut random = Random::new(seed);
    let mut mirror = vec![0; DATA_LEN];
    host.data().fill(0);
    let mut failures: Vec<(Mnemonic, String)> = Vec::new();
    for number in 0..cases {
        let (case, instruction) = loop {
            let code = instruction_bytes(&mut random, family);
            if let Some(found) = draw(&mut random, code) {
                break found;
            }
        };
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

fn draw(random: &mut Random, code: Vec<u8>) -> Option<(Case, Instruction)> {
    let instruction = decode(&code)?;
    let case = state(random, code[..instruction.len()].to_vec());
    Some((case, instruction))
}

fn decode(code: &[u8]) -> Option<Instruction> {
    let mut decoder = Decoder::with_ip(64, code, CODE, DecoderOptions::NONE);
    let instruction = decoder.decode();
    (!instruction.is_invalid() && handles(&instruction)).then_some(instruction)
}

/// A random encoding: a memory operand is always at [rsi] or, with REX.B, at [r14].
fn instruction_bytes(random: &mut Random, family: Family) -> Vec<u8> {
    let mut code = Vec::new();
    if family != Family::X87 {
        match random.below(4) {
            0 => {}
            1 => code.push(0x66),
            2 => code.push(0xf3),
            _ => code.push(0xf2),
        }
    }
    if random.one_in(3) {
        code.push(0x40 | random.below(16) as u8);
    }
    match family {
        Family::X87 if random.one_in(100) => code.push(0x9b),
        Family::X87 => code.push(0xd8 | random.below(8) as u8),
        Family::Sse => {
            let opcode = random.bits() as u8;
            // The escapes to the other maps.
            code.extend([0x0f, if matches!(opcode, 0x38 | 0x3a) { 0x58 } else { opcode }]);
        }
        Family::Map38 => code.extend([0x0f, 0x38, random.bits() as u8]),
        Family::Map3a => code.extend([0x0f, 0x3a, random.bits() as u8]),
    }
    let field = (random.below(8) as u8) << 3;
    code.push(match random.below(5) {
        0 | 1 => field | 6,
        _ => 0xc0 | field | random.below(8) as u8,
    });
    code.push(random.bits() as u8);
    code.resize(15, 0x90);
    code
}

fn state(random: &mut Random, code: Vec<u8>) -> Case {
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
    let fresh = (0..FRESH / 16).flat_map(|_| fresh(random)).collect();
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
    let before = host::State { gpr: case.gpr, flags: case.flags, fpu: Some(case.fpu.clone()) };
    let theirs = host.run(&case.code, &before);
    let mut fpu = Fpu::new(&case.fpu);
    let address = memory_operand(instruction, &case.gpr);
    let mut model = Model { gpr: case.gpr, flags: case.flags, memory: mirror, address };
    let result = execute(&mut fpu, instruction, &mut model);
    let ours = Outcome {
        state: host::State { gpr: model.gpr, flags: model.flags, fpu: Some(fpu.state()) },
        rip: if result.is_ok() { instruction.len() as u64 } else { 0 },
        event: Event::Done,
    };
    let mut text = String::new();
    if !same_end(&result, theirs.event) {
        let _ = writeln!(text, "  ended: ours {result:x?}, host {:x?}", theirs.event);
    }
    differences(&mut text, instruction, &ours, &theirs);
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

fn memory_operand(instruction: &Instruction, gpr: &[u64; 16]) -> u64 {
    use OpKind::{Memory, MemorySegRDI};
    let value = |register: Register, _, _| match register {
        Register::DS | Register::SS | Register::ES | Register::CS => Some(0),
        Register::FS | Register::GS => Some(0),
        register => Some(gpr[register.full_register().number()]),
    };
    (0..instruction.op_count())
        .find(|&n| matches!(instruction.op_kind(n), Memory | MemorySegRDI))
        .and_then(|n| instruction.virtual_address(n, 0, value))
        .unwrap_or(0)
}

fn same_end(ours: &Result<(), Stop<u64>>, theirs: Event) -> bool {
    /// `si_code` of a fault that is not of paging.
    const KERNEL: i32 = 0x80;
    match (ours, theirs) {
        (Ok(()), Event::Done) => true,
        (Err(Stop::Fault(at)), Event::Signal { number: libc::SIGSEGV, code, address }) => {
            // Microcoded instructions reach their areas in an order of their own.
            code != KERNEL && *at >> 12 == address >> 12
        }
        (Err(Stop::Protection), Event::Signal { number: libc::SIGSEGV, code, .. }) => {
            code == KERNEL
        }
        (Err(Stop::Math | Stop::Simd), Event::Signal { number: libc::SIGFPE, .. }) => true,
        _ => false,
    }
}

fn differences(text: &mut String, instruction: &Instruction, ours: &Outcome, theirs: &Outcome) {
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
    mask_registers(instruction, &mut a);
    mask_registers(instruction, &mut b);
    let top = |fpu: &FpuState| usize::from(fpu.status >> 11 & 7);
    if theirs.event != Event::Done && uses_mmx(instruction) {
        // Whether an MMX instruction that faults has left x87's mode is nowhere said, and the
        // next attempt does it in any case.
        for fpu in [&mut a, &mut b] {
            let top = top(fpu);
            fpu.st.rotate_right(top);
            fpu.status &= !(7 << 11);
            fpu.tags = 0;
        }
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

fn uses_mmx(instruction: &Instruction) -> bool {
    (0..instruction.op_count()).any(|n| instruction.op_register(n).is_mm())
}

/// What is not compared of registers: the last instruction's opcode and addresses, which
/// processors keep at different times.
///
/// Source: Intel SDM volume 1, 8.1.8 and 8.1.9; AMD APM volume 2, 11.4.4 (`FXSAVE` keeps them only
/// while an exception is pending).
fn mask_registers(_: &Instruction, fpu: &mut FpuState) {
    fpu.opcode = 0;
    fpu.instruction = 0;
    fpu.operand = 0;
}

/// The same in memory: bytes of the areas of `fxsave` (with the mask of mxcsr, which has a bit more
/// on AMD) and `fnstenv`.
fn mask_memory(instruction: &Instruction, theirs: &mut [u8], ours: &mut [u8], start: usize) {
    let fields: &[(usize, usize)] = match instruction.mnemonic() {
        Mnemonic::Fxsave | Mnemonic::Fxsave64 => &[(5, 24), (28, 32)],
        Mnemonic::Fnstenv | Mnemonic::Fnsave
            if instruction.memory_size().size().is_multiple_of(28) =>
        {
            &[(12, 28)]
        }
        Mnemonic::Fnstenv | Mnemonic::Fnsave => &[(6, 14)],
        _ => return,
    };
    for &(from, to) in fields {
        for at in (from..to).map(|n| start + n).filter(|&at| at < DATA_LEN) {
            theirs[at] = 0;
            ours[at] = 0;
        }
    }
}
