//! From iced's names of x87 instructions to the bytes that the host carries out.
//!
//! Source: Intel SDM volume 2, appendix B.17; the aliases: AMD APM volume 5, appendix A.
#![expect(clippy::wildcard_enum_match_arm, reason = "thousands of other instructions")]

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};

use super::{Area, Memory, X87};
use crate::fpu::area::Format;

/// Instructions that are carried out here rather than by the host.
pub(super) fn control(code: Code) -> Option<X87> {
    use Format::{Doubles, Words};
    Some(match code {
        Code::Wait => X87::Nothing { waits: true },
        Code::Fneni | Code::Feni | Code::Fndisi | Code::Fdisi | Code::Fnsetpm | Code::Fsetpm => {
            X87::Nothing { waits: false }
        }
        Code::Fninit | Code::Finit => X87::Initialize,
        Code::Fnclex | Code::Fclex => X87::Clear,
        Code::Fldcw_m2byte => X87::LoadControl,
        Code::Fnstcw_m2byte | Code::Fstcw_m2byte => X87::StoreControl,
        Code::Fnstsw_m2byte | Code::Fstsw_m2byte | Code::Fnstsw_AX | Code::Fstsw_AX => {
            X87::StoreStatus
        }
        Code::Fnstenv_m14byte | Code::Fstenv_m14byte => X87::Area(Area::StoreEnvironment, Words),
        Code::Fnstenv_m28byte | Code::Fstenv_m28byte => X87::Area(Area::StoreEnvironment, Doubles),
        Code::Fldenv_m14byte => X87::Area(Area::LoadEnvironment, Words),
        Code::Fldenv_m28byte => X87::Area(Area::LoadEnvironment, Doubles),
        Code::Fnsave_m94byte | Code::Fsave_m94byte => X87::Area(Area::Save, Words),
        Code::Fnsave_m108byte | Code::Fsave_m108byte => X87::Area(Area::Save, Doubles),
        Code::Frstor_m94byte => X87::Area(Area::Restore, Words),
        Code::Frstor_m108byte => X87::Area(Area::Restore, Doubles),
        Code::Fxsave_m512byte => X87::Fxsave(false),
        Code::Fxsave64_m512byte => X87::Fxsave(true),
        Code::Fxrstor_m512byte => X87::Fxrstor(false),
        Code::Fxrstor64_m512byte => X87::Fxrstor(true),
        // fistp with another rounding: processors of level 1 need not have fisttp.
        Code::Fisttp_m16int => X87::Truncating(0xdf, 3 << 3, 2),
        Code::Fisttp_m32int => X87::Truncating(0xdb, 3 << 3, 4),
        Code::Fisttp_m64int => X87::Truncating(0xdf, 7 << 3, 8),
        _ => return None,
    })
}

/// Whether a `wait` belongs to the instruction.
pub(super) fn begins_with_wait(code: Code) -> bool {
    matches!(
        code,
        Code::Fstenv_m14byte
            | Code::Fstenv_m28byte
            | Code::Fstcw_m2byte
            | Code::Fstsw_m2byte
            | Code::Fstsw_AX
            | Code::Fsave_m94byte
            | Code::Fsave_m108byte
            | Code::Finit
            | Code::Fclex
            | Code::Feni
            | Code::Fdisi
            | Code::Fsetpm
    )
}

/// Instructions that the host carries out.
pub(super) fn native(instruction: &Instruction) -> Option<X87> {
    let code = instruction.code();
    if let Some((opcode, field)) = memory(code) {
        let len = instruction.memory_size().size();
        let memory =
            if stores(instruction.mnemonic()) { Memory::Store(len) } else { Memory::Load(len) };
        return Some(X87::Native(opcode, field << 3, memory));
    }
    if let Some((opcode, modrm)) = stack(code) {
        return Some(X87::Native(opcode, modrm + st(instruction)?, Memory::None));
    }
    fixed(code).map(|(opcode, modrm)| X87::Native(opcode, modrm, Memory::None))
}

/// The register that is not st0, if there is one: the other operand is always st0.
fn st(instruction: &Instruction) -> Option<u8> {
    (0..instruction.op_count())
        .filter(|&n| instruction.op_kind(n) == OpKind::Register)
        .map(|n| instruction.op_register(n))
        .filter(|register| register.is_st())
        .filter_map(|register| u8::try_from(register.number()).ok())
        .max()
}

fn stores(mnemonic: Mnemonic) -> bool {
    use Mnemonic::{Fbstp, Fist, Fistp, Fst, Fstp};
    matches!(mnemonic, Fst | Fstp | Fist | Fistp | Fbstp)
}

/// Whether it compares into rflags.
pub(super) fn sets_flags(mnemonic: Mnemonic) -> bool {
    use Mnemonic::{Fcomi, Fcomip, Fucomi, Fucomip};
    matches!(mnemonic, Fcomi | Fcomip | Fucomi | Fucomip)
}

/// The opcode as x87 remembers it: the lower three bits of the first byte and the ModRM byte.
pub(super) fn opcode(instruction: &Instruction, opcode: u8, modrm: u8) -> u16 {
    let modrm = if modrm >= 0xc0 { modrm } else { modrm | addressing(instruction) };
    u16::from(opcode & 7) << 8 | u16::from(modrm)
}

/// Mode and register fields of the ModRM byte of a memory operand.
fn addressing(instruction: &Instruction) -> u8 {
    let mode = match instruction.memory_displ_size() {
        0 => 0,
        1 => 1,
        _ => 2,
    };
    let (base, index) = (instruction.memory_base(), instruction.memory_index());
    let narrow = |register: Register| u8::try_from(register.number() & 7).ok();
    match (base, index) {
        (Register::BX, Register::SI) => mode << 6,
        (Register::BX, Register::DI) => mode << 6 | 1,
        (Register::BP, Register::SI) => mode << 6 | 2,
        (Register::BP, Register::DI) => mode << 6 | 3,
        (Register::SI, Register::None) => mode << 6 | 4,
        (Register::DI, Register::None) => mode << 6 | 5,
        (Register::BP, Register::None) => mode << 6 | 6,
        (Register::BX, Register::None) => mode << 6 | 7,
        (Register::RIP | Register::EIP, _) => 5,
        (Register::None, Register::None) if instruction.memory_displ_size() == 2 => 6,
        (Register::None, Register::None)
            if instruction.code_size() == iced_x86::CodeSize::Code64 =>
        {
            4
        }
        (Register::None, Register::None) => 5,
        (Register::None, _) => 4,
        (base, Register::None) => mode << 6 | narrow(base).unwrap_or(4),
        _ => mode << 6 | 4,
    }
}

/// Opcode and the middle field of the ModRM byte.
fn memory(code: Code) -> Option<(u8, u8)> {
    Some(match code {
        Code::Fadd_m32fp => (0xd8, 0),
        Code::Fmul_m32fp => (0xd8, 1),
        Code::Fcom_m32fp => (0xd8, 2),
        Code::Fcomp_m32fp => (0xd8, 3),
        Code::Fsub_m32fp => (0xd8, 4),
        Code::Fsubr_m32fp => (0xd8, 5),
        Code::Fdiv_m32fp => (0xd8, 6),
        Code::Fdivr_m32fp => (0xd8, 7),
        Code::Fld_m32fp => (0xd9, 0),
        Code::Fst_m32fp => (0xd9, 2),
        Code::Fstp_m32fp => (0xd9, 3),
        Code::Fiadd_m32int => (0xda, 0),
        Code::Fimul_m32int => (0xda, 1),
        Code::Ficom_m32int => (0xda, 2),
        Code::Ficomp_m32int => (0xda, 3),
        Code::Fisub_m32int => (0xda, 4),
        Code::Fisubr_m32int => (0xda, 5),
        Code::Fidiv_m32int => (0xda, 6),
        Code::Fidivr_m32int => (0xda, 7),
        Code::Fild_m32int => (0xdb, 0),
        Code::Fist_m32int => (0xdb, 2),
        Code::Fistp_m32int => (0xdb, 3),
        Code::Fld_m80fp => (0xdb, 5),
        Code::Fstp_m80fp => (0xdb, 7),
        Code::Fadd_m64fp => (0xdc, 0),
        Code::Fmul_m64fp => (0xdc, 1),
        Code::Fcom_m64fp => (0xdc, 2),
        Code::Fcomp_m64fp => (0xdc, 3),
        Code::Fsub_m64fp => (0xdc, 4),
        Code::Fsubr_m64fp => (0xdc, 5),
        Code::Fdiv_m64fp => (0xdc, 6),
        Code::Fdivr_m64fp => (0xdc, 7),
        Code::Fld_m64fp => (0xdd, 0),
        Code::Fst_m64fp => (0xdd, 2),
        Code::Fstp_m64fp => (0xdd, 3),
        Code::Fiadd_m16int => (0xde, 0),
        Code::Fimul_m16int => (0xde, 1),
        Code::Ficom_m16int => (0xde, 2),
        Code::Ficomp_m16int => (0xde, 3),
        Code::Fisub_m16int => (0xde, 4),
        Code::Fisubr_m16int => (0xde, 5),
        Code::Fidiv_m16int => (0xde, 6),
        Code::Fidivr_m16int => (0xde, 7),
        Code::Fild_m16int => (0xdf, 0),
        Code::Fist_m16int => (0xdf, 2),
        Code::Fistp_m16int => (0xdf, 3),
        Code::Fbld_m80bcd => (0xdf, 4),
        Code::Fild_m64int => (0xdf, 5),
        Code::Fbstp_m80bcd => (0xdf, 6),
        Code::Fistp_m64int => (0xdf, 7),
        _ => return None,
    })
}

/// Opcode and the ModRM byte with st0; the aliases as the form that is documented.
fn stack(code: Code) -> Option<(u8, u8)> {
    Some(match code {
        Code::Fadd_st0_sti => (0xd8, 0xc0),
        Code::Fmul_st0_sti => (0xd8, 0xc8),
        Code::Fcom_st0_sti | Code::Fcom_st0_sti_DCD0 => (0xd8, 0xd0),
        Code::Fcomp_st0_sti | Code::Fcomp_st0_sti_DCD8 | Code::Fcomp_st0_sti_DED0 => (0xd8, 0xd8),
        Code::Fsub_st0_sti => (0xd8, 0xe0),
        Code::Fsubr_st0_sti => (0xd8, 0xe8),
        Code::Fdiv_st0_sti => (0xd8, 0xf0),
        Code::Fdivr_st0_sti => (0xd8, 0xf8),
        Code::Fld_sti => (0xd9, 0xc0),
        Code::Fxch_st0_sti | Code::Fxch_st0_sti_DDC8 | Code::Fxch_st0_sti_DFC8 => (0xd9, 0xc8),
        Code::Fstpnce_sti => (0xd9, 0xd8),
        Code::Fcmovb_st0_sti => (0xda, 0xc0),
        Code::Fcmove_st0_sti => (0xda, 0xc8),
        Code::Fcmovbe_st0_sti => (0xda, 0xd0),
        Code::Fcmovu_st0_sti => (0xda, 0xd8),
        Code::Fcmovnb_st0_sti => (0xdb, 0xc0),
        Code::Fcmovne_st0_sti => (0xdb, 0xc8),
        Code::Fcmovnbe_st0_sti => (0xdb, 0xd0),
        Code::Fcmovnu_st0_sti => (0xdb, 0xd8),
        Code::Fucomi_st0_sti => (0xdb, 0xe8),
        Code::Fcomi_st0_sti => (0xdb, 0xf0),
        Code::Fadd_sti_st0 => (0xdc, 0xc0),
        Code::Fmul_sti_st0 => (0xdc, 0xc8),
        Code::Fsubr_sti_st0 => (0xdc, 0xe0),
        Code::Fsub_sti_st0 => (0xdc, 0xe8),
        Code::Fdivr_sti_st0 => (0xdc, 0xf0),
        Code::Fdiv_sti_st0 => (0xdc, 0xf8),
        Code::Ffree_sti => (0xdd, 0xc0),
        Code::Fst_sti => (0xdd, 0xd0),
        Code::Fstp_sti | Code::Fstp_sti_DFD0 | Code::Fstp_sti_DFD8 => (0xdd, 0xd8),
        Code::Fucom_st0_sti => (0xdd, 0xe0),
        Code::Fucomp_st0_sti => (0xdd, 0xe8),
        Code::Faddp_sti_st0 => (0xde, 0xc0),
        Code::Fmulp_sti_st0 => (0xde, 0xc8),
        Code::Fsubrp_sti_st0 => (0xde, 0xe0),
        Code::Fsubp_sti_st0 => (0xde, 0xe8),
        Code::Fdivrp_sti_st0 => (0xde, 0xf0),
        Code::Fdivp_sti_st0 => (0xde, 0xf8),
        Code::Ffreep_sti => (0xdf, 0xc0),
        Code::Fucomip_st0_sti => (0xdf, 0xe8),
        Code::Fcomip_st0_sti => (0xdf, 0xf0),
        _ => return None,
    })
}

/// Opcode and ModRM byte.
fn fixed(code: Code) -> Option<(u8, u8)> {
    Some(match code {
        Code::Fnop => (0xd9, 0xd0),
        Code::Fchs => (0xd9, 0xe0),
        Code::Fabs => (0xd9, 0xe1),
        Code::Ftst => (0xd9, 0xe4),
        Code::Fxam => (0xd9, 0xe5),
        Code::Fld1 => (0xd9, 0xe8),
        Code::Fldl2t => (0xd9, 0xe9),
        Code::Fldl2e => (0xd9, 0xea),
        Code::Fldpi => (0xd9, 0xeb),
        Code::Fldlg2 => (0xd9, 0xec),
        Code::Fldln2 => (0xd9, 0xed),
        Code::Fldz => (0xd9, 0xee),
        Code::F2xm1 => (0xd9, 0xf0),
        Code::Fyl2x => (0xd9, 0xf1),
        Code::Fptan => (0xd9, 0xf2),
        Code::Fpatan => (0xd9, 0xf3),
        Code::Fxtract => (0xd9, 0xf4),
        Code::Fprem1 => (0xd9, 0xf5),
        Code::Fdecstp => (0xd9, 0xf6),
        Code::Fincstp => (0xd9, 0xf7),
        Code::Fprem => (0xd9, 0xf8),
        Code::Fyl2xp1 => (0xd9, 0xf9),
        Code::Fsqrt => (0xd9, 0xfa),
        Code::Fsincos => (0xd9, 0xfb),
        Code::Frndint => (0xd9, 0xfc),
        Code::Fscale => (0xd9, 0xfd),
        Code::Fsin => (0xd9, 0xfe),
        Code::Fcos => (0xd9, 0xff),
        Code::Fucompp => (0xda, 0xe9),
        Code::Fcompp => (0xde, 0xd9),
        _ => return None,
    })
}
