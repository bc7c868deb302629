//! Random integer instructions, with states in which they do something.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::wildcard_enum_match_arm,
    reason = "bits are taken apart, and instructions are many"
)]

use iced_x86::{
    ConstantOffsets, CpuidFeature as F, Decoder, DecoderOptions, FlowControl, Instruction,
    Mnemonic as M, OpKind, Register,
};

use crate::{
    host::{CODE, DATA, DATA_LEN},
    random::Random,
};

/// One instruction and what is before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    /// Its bytes.
    pub(crate) code: Vec<u8>,
    /// General registers.
    pub(crate) gpr: [u64; 16],
    /// rflags.
    pub(crate) flags: u64,
    /// Bases of fs and gs.
    pub(crate) bases: [u64; 2],
    /// What lies at the border of the two data pages.
    pub(crate) data: [u8; FRESH_LEN],
}

/// Where the fresh bytes lie: around the border of the two pages.
pub(crate) const FRESH: usize = DATA_LEN / 2 - FRESH_LEN / 2;
/// How many they are.
pub(crate) const FRESH_LEN: usize = 64;

/// Arithmetic flags and the direction flag.
const FLAGS: u64 = 0xcd5;

/// The iced decoder's view of a case.
pub(crate) fn decode(code: &[u8]) -> Instruction {
    Decoder::with_ip(64, code, CODE, DecoderOptions::NONE).decode()
}

/// Opcodes that are none in 64-bit mode, on every processor.
const NONE: [&[u8]; 19] = [
    &[0x06],
    &[0x07],
    &[0x0e],
    &[0x16],
    &[0x17],
    &[0x1e],
    &[0x1f],
    &[0x27],
    &[0x2f],
    &[0x37],
    &[0x3f],
    &[0x60],
    &[0x61],
    &[0x82],
    &[0x9a],
    &[0xce],
    &[0xd6],
    &[0xea],
    &[0x0f, 0x0b],
];

/// What only the kernel may do, with registers only.
const PRIVILEGED: [&[u8]; 16] = [
    &[0xf4],             // hlt
    &[0xfa],             // cli
    &[0xfb],             // sti
    &[0xe4, 0x60],       // in al, 0x60
    &[0xed],             // in eax, dx
    &[0xe6, 0x80],       // out 0x80, al
    &[0xee],             // out dx, al
    &[0x0f, 0x06],       // clts
    &[0x0f, 0x09],       // wbinvd
    &[0x0f, 0x30],       // wrmsr
    &[0x0f, 0x32],       // rdmsr
    &[0x0f, 0x20, 0xc0], // mov rax, cr0
    &[0x0f, 0x22, 0xd8], // mov cr3, rax
    &[0x0f, 0x21, 0xf8], // mov rax, dr7
    &[0x0f, 0x23, 0xc0], // mov dr0, rax
    &[0x0f, 0x01, 0xf0], // lmsw ax
];

/// Whether an instruction is an integer instruction of a program, and the same everywhere.
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
    let registers: Vec<_> =
        (0..instruction.op_count()).map(|n| instruction.op_register(n)).collect();
    let special = registers.iter().any(|register| {
        register.is_cr() || register.is_dr() || register.is_xmm() || register.is_mm()
    });
    // Selectors are read, not loaded: what a program may load depends on the host's kernel.
    let segment = registers.first().is_some_and(|register| register.is_segment_register())
        && instruction.mnemonic() != M::Push;
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
    known && !special && !segment && flow && !far && !instruction.is_invalid() && !odd(instruction)
}

/// Whether it asks about the host rather than about the processor, or is another instruction on
/// other processors.
fn odd(instruction: &Instruction) -> bool {
    matches!(
        instruction.mnemonic(),
        // Far, or the kernel's; some of these are among the privileged above.
        M::Retf | M::Iret | M::Iretd | M::Iretq | M::Lss | M::Lfs | M::Lgs | M::Invd | M::Wbinvd
            | M::Invlpg | M::Lmsw | M::Clts | M::Cli | M::Sti | M::Hlt | M::In | M::Out
            | M::Insb | M::Insw | M::Insd | M::Outsb | M::Outsw | M::Outsd | M::Wait
            // Kernels keep these from programs (UMIP), or answer in the processor's place.
            | M::Sgdt | M::Sidt | M::Sldt | M::Str | M::Smsw
            // These ask about the host's own descriptors.
            | M::Lar | M::Lsl | M::Verr | M::Verw
            // Of 0F 0D, what is no prefetch is undefined on some.
            | M::Reservednop
            // bsf and bsr on older processors, with other results.
            | M::Lzcnt | M::Tzcnt
    )
}

/// Prefixes in a random order, the last but one perhaps a REX without effect.
fn prefixes(random: &mut Random) -> Vec<u8> {
    let mut chosen = Vec::new();
    for (prefix, n) in [(0x66, 4), (0x67, 10), (0xf0, 10)] {
        if random.one_in(n) {
            chosen.push(prefix);
        }
    }
    if random.one_in(8) {
        chosen.push(random.pick(&[0xf2, 0xf3]));
    }
    if random.one_in(8) {
        chosen.push(random.pick(&[0x64, 0x65, 0x64, 0x65, 0x26, 0x2e, 0x36, 0x3e]));
    }
    for n in (1..chosen.len()).rev() {
        chosen.swap(n, random.below(n as u64 + 1) as usize);
    }
    if !chosen.is_empty() && random.one_in(40) {
        let last = chosen.pop().unwrap_or_default();
        chosen.extend([0x40 | random.below(16) as u8, last]);
    }
    chosen
}

/// Bytes that may be an instruction.
fn bytes(random: &mut Random) -> Vec<u8> {
    let mut code = prefixes(random);
    if random.one_in(2) {
        code.push(0x40 | random.below(16) as u8);
    }
    let opcode = random.bits() as u8;
    match random.below(32) {
        0..15 => code.push(opcode),
        15..30 => code.extend([0x0f, opcode]),
        30 => code.extend([0x0f, 0x38, 0xf0 | opcode & 1]),
        _ => {
            code = if random.one_in(2) { random.pick(&NONE) } else { random.pick(&PRIVILEGED) }
                .to_vec();
        }
    }
    for _ in 0..12 {
        code.push(random.bits() as u8);
    }
    code.truncate(15);
    code
}

/// Whether processors agree about these prefixes on this instruction.
fn agreed(code: &[u8], instruction: &Instruction) -> bool {
    let prefixes: Vec<u8> = code
        .iter()
        .copied()
        .take_while(|byte| matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3))
        .collect();
    let has = |wanted: &[u8]| prefixes.iter().any(|byte| wanted.contains(byte));
    // What the prefixes of operands, strings and segments make of a branch differs between makers.
    let branch = instruction.flow_control() != FlowControl::Next;
    if branch && has(&[0x66, 0xf2, 0xf3, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65]) {
        return false;
    }
    // Of strings that compare nothing, "while not equal" is not defined.
    if instruction.is_string_instruction()
        && has(&[0xf2])
        && !matches!(
            instruction.mnemonic(),
            M::Cmpsb | M::Cmpsw | M::Cmpsd | M::Cmpsq | M::Scasb | M::Scasw | M::Scasd | M::Scasq
        )
    {
        return false;
    }
    // A pause with REX.B is an exchange, or is not.
    let opcode = code.get(prefixes.len());
    !(opcode == Some(&0x90)
        && has(&[0xf3])
        && has(&[0x41, 0x43, 0x45, 0x47, 0x49, 0x4b, 0x4d, 0x4f]))
}

/// An instruction of those wanted, or one that is none because of its lock.
fn instruction(random: &mut Random) -> Option<(Vec<u8>, Instruction)> {
    let mut code = bytes(random);
    let found = decode(&code);
    let listed = NONE.iter().chain(&PRIVILEGED).any(|known| code.starts_with(known));
    if wanted(&found) {
        code.truncate(found.len());
        return agreed(&code, &found).then_some((code, found));
    }
    if listed {
        return Some((code, found));
    }
    let locked = code.iter().position(|byte| *byte == 0xf0)?;
    let mut without = code.clone();
    without.remove(locked);
    let bare = decode(&without);
    let plain = found.is_invalid() && wanted(&bare) && bare.flow_control() == FlowControl::Next;
    plain.then_some((code, found))
}

/// The next case, unless what was drawn is not wanted.
pub(crate) fn draw(random: &mut Random) -> Option<(Case, Instruction)> {
    let (code, instruction) = instruction(random)?;
    // One that leads to itself would never end under the host's single steps.
    if instruction.near_branch_target() == CODE {
        return None;
    }
    let middle = DATA + FRESH as u64;
    let mut gpr = [0; 16].map(|_: u64| random.integer());
    for register in &mut gpr {
        if random.one_in(3) {
            *register = middle + random.below(64);
        }
    }
    gpr[4] = match random.below(64) {
        0 => DATA + random.below(16),
        1 => DATA + DATA_LEN as u64 - random.below(16),
        2 => random.integer(),
        n => middle + 8 * random.below(8) + if n < 10 { 3 } else { 0 },
    };
    let mut data = [0; FRESH_LEN];
    let few = random.one_in(3);
    for byte in &mut data {
        *byte = if few { random.below(2) as u8 } else { random.bits() as u8 };
    }
    if random.one_in(2) {
        data[32..40].copy_from_slice(&random.integer().to_le_bytes());
    }
    let bases = if random.one_in(4) { [DATA, middle] } else { [middle, DATA + 0x800] };
    let flags = 0x202 | random.bits() & FLAGS;
    let mut case = Case { code, gpr, flags, bases, data };
    let instruction = suit(random, &mut case, instruction);
    aim(random, &mut case, &instruction);
    let instruction = decode_same(&instruction, &case.code);
    Some((case, instruction))
}

/// Decodes again what was changed, unless it is none.
fn decode_same(before: &Instruction, code: &[u8]) -> Instruction {
    if before.is_invalid() { *before } else { decode(code) }
}

/// Gives an instruction operands that it does something with.
fn suit(random: &mut Random, case: &mut Case, instruction: Instruction) -> Instruction {
    let middle = DATA + FRESH as u64;
    let gpr = &mut case.gpr;
    if instruction.is_string_instruction() {
        gpr[6] = middle + random.below(64);
        gpr[7] = middle + random.below(64);
        gpr[1] = random.below(20);
        if case.code.contains(&0x67) && random.one_in(2) {
            for n in [1, 6, 7] {
                gpr[n] |= random.bits() << 32;
            }
        }
    }
    match instruction.mnemonic() {
        M::Cmpxchg | M::Cmpxchg8b | M::Cmpxchg16b if random.one_in(3) => {
            let same = random.bits() as u8;
            case.data.fill(same);
            gpr[0] = u64::from_le_bytes([same; 8]);
            gpr[2] = gpr[0];
        }
        M::Div | M::Idiv if random.one_in(2) => {
            gpr[2] = random.pick(&[0, 0, u64::MAX, 1]);
        }
        M::Bt | M::Bts | M::Btr | M::Btc if random.one_in(2) => {
            if let Some(offset) = register(&instruction, 1) {
                gpr[offset] = random.below(0x200).wrapping_sub(0x100);
            }
        }
        M::Rol
        | M::Ror
        | M::Rcl
        | M::Rcr
        | M::Shl
        | M::Sal
        | M::Shr
        | M::Sar
        | M::Shld
        | M::Shrd
            if random.one_in(2) =>
        {
            gpr[1] = random.below(70);
        }
        M::Enter => {
            gpr[5] = middle + random.below(64);
            let at = case.code.len() - 3;
            let room = random.below(40) as u8;
            let depth = if random.one_in(3) { random.below(34) as u8 } else { 0 };
            case.code[at..].copy_from_slice(&[room, 0, depth]);
        }
        M::Leave if random.one_in(2) => gpr[5] = middle + random.below(64),
        M::Xlatb => gpr[3] = middle.wrapping_add(random.below(64)).wrapping_sub(gpr[0] & 0xff),
        M::Popf | M::Popfq => calm_flags(case),
        M::Ret if random.one_in(2) => {
            for (n, chunk) in case.data.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                *chunk = (CODE + 16 * n as u64 + 1).to_le_bytes();
            }
        }
        _ => {}
    }
    decode_same(&instruction, &case.code)
}

/// The kernel keeps "nested" and "id" of a program over our cases: they are not popped.
fn calm_flags(case: &mut Case) {
    for byte in 0..FRESH_LEN {
        // Wherever the stack begins in the fresh bytes, bits 14 and 21 of what is popped are 0.
        case.data[byte] &= !0x60;
    }
    let top = DATA + FRESH as u64;
    if !(top..top + FRESH_LEN as u64 - 8).contains(&case.gpr[4]) {
        case.gpr[4] = top + 8;
    }
}

/// The number of a general register operand.
fn register(instruction: &Instruction, operand: u32) -> Option<usize> {
    let register = instruction.op_register(operand);
    register.is_gpr().then(|| register.full_register().number())
}

/// Lets most memory operands lie in the data pages.
fn aim(random: &mut Random, case: &mut Case, instruction: &Instruction) {
    let (base, index) = (instruction.memory_base(), instruction.memory_index());
    if !(0..instruction.op_count()).any(|n| instruction.op_kind(n) == OpKind::Memory)
        || random.one_in(16)
    {
        return;
    }
    let target = DATA + FRESH as u64 + random.below(60);
    let target = target.wrapping_sub(match instruction.memory_segment() {
        Register::FS => case.bases[0],
        Register::GS => case.bases[1],
        _ => 0,
    });
    if matches!(base, Register::None | Register::RIP | Register::EIP) {
        if index == Register::None {
            place(case, instruction, target);
        }
        return;
    }
    let gpr = &mut case.gpr;
    let scaled = if index == Register::None {
        0
    } else {
        if index != base {
            gpr[index.full_register().number()] = random.below(0x40);
        }
        gpr[index.full_register().number()].wrapping_mul(instruction.memory_index_scale().into())
    };
    let number = base.full_register().number();
    if number != 4 && index != base {
        let displacement = instruction.memory_displacement64();
        gpr[number] = target.wrapping_sub(scaled).wrapping_sub(displacement);
        if base.size() == 4 && random.one_in(2) {
            gpr[number] = gpr[number] & 0xffff_ffff | random.bits() << 32;
        }
    }
}

/// Sets the displacement of an operand that has nothing else, or the instruction pointer.
fn place(case: &mut Case, instruction: &Instruction, target: u64) {
    let mut decoder = Decoder::with_ip(64, &case.code, CODE, DecoderOptions::NONE);
    let offsets: ConstantOffsets = {
        let again = decoder.decode();
        decoder.get_constant_offsets(&again)
    };
    let relative = matches!(instruction.memory_base(), Register::RIP | Register::EIP);
    let from = if relative { CODE + instruction.len() as u64 } else { 0 };
    let bytes = target.wrapping_sub(from).to_le_bytes();
    let (at, size) = (offsets.displacement_offset(), offsets.displacement_size());
    if offsets.has_displacement() && size >= 4 && at + size <= case.code.len() {
        case.code[at..at + size].copy_from_slice(&bytes[..size]);
    }
}
