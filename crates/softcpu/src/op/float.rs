//! x87, MMX and SSE: what this processor shows of itself to the part that carries them out.

use hv::state::gpr;
use iced_x86::{CpuidFeature, Instruction, Register};

use super::{Float, Flow, Op, address, offset, read, write};
use crate::{
    control::{EM, MP, OSFXSR, OSXMMEXCPT, TS},
    cpu::{Cpu, RIP},
    fault::{Did, Exception, Stopped, vector},
    flags::Flags,
    fpu::{Environment, Operands, Stop},
    word::Word,
};

/// What has to be looked at before: [`Op::src`].
pub(crate) const X87: u8 = 0;
pub(crate) const WAIT: u8 = 1;
pub(crate) const MMX: u8 = 2;
pub(crate) const SSE: u8 = 3;
pub(crate) const SAVE: u8 = 4;

/// Which of these an instruction is.
pub(crate) fn kind(instruction: &Instruction) -> u8 {
    use iced_x86::Mnemonic as M;
    let mnemonic = instruction.mnemonic();
    let mmx = (0..instruction.op_count()).any(|n| instruction.op_register(n).is_mm());
    let is = |feature| instruction.cpuid_features().contains(&feature);
    if mnemonic == M::Wait {
        WAIT
    } else if matches!(mnemonic, M::Fxsave | M::Fxsave64 | M::Fxrstor | M::Fxrstor64) {
        SAVE
    } else if is(CpuidFeature::MMX) || mmx && !is(CpuidFeature::SSE2) {
        MMX
    } else if is(CpuidFeature::FPU) || is(CpuidFeature::FPU287) || is(CpuidFeature::FPU387) {
        X87
    } else if mmx {
        MMX
    } else {
        SSE
    }
}

/// Whether the guest lets it happen.
///
/// Source: Intel SDM volume 3, 2.5 and table 12-1; volume 2, the instructions' own pages.
fn check(cpu: &mut Cpu, kind: u8) -> Did {
    let cr0 = cpu.control.cr0;
    let undefined = match kind {
        MMX => cr0 & EM != 0,
        SSE => cr0 & EM != 0 || cpu.control.cr4 & OSFXSR == 0,
        _ => false,
    };
    if undefined {
        return Err(cpu.undefined());
    }
    let unavailable = match kind {
        X87 | SAVE => cr0 & (EM | TS) != 0,
        WAIT => cr0 & (MP | TS) == MP | TS,
        _ => cr0 & TS != 0,
    };
    if unavailable {
        return Err(cpu.raise(Exception::plain(vector::NM)));
    }
    Ok(())
}

/// Carries one out.
pub(crate) fn run(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    check(cpu, op.src)?;
    let floats = std::mem::take(&mut cpu.floats);
    let done = carry_out(cpu, op, &floats[op.imm as usize]);
    cpu.floats = floats;
    done
}

fn carry_out(cpu: &mut Cpu, op: &Op, float: &Float) -> Did<Flow> {
    // Nothing that an instruction asks of the processor around it lies in its own registers.
    let mut fpu = cpu.fpu.take().expect("the registers are there between instructions");
    let instruction = &float.instruction;
    let done = float.operation.run(&mut fpu, instruction, &mut Around { cpu, op, instruction });
    cpu.fpu = Some(fpu);
    let exception = match done {
        Ok(()) => return Ok(Flow::Next),
        Err(Stop::Fault(stopped)) => return Err(stopped),
        Err(Stop::Undefined) => Exception::plain(vector::UD),
        Err(Stop::Math) => Exception::plain(vector::MF),
        Err(Stop::Simd) if cpu.control.cr4 & OSXMMEXCPT != 0 => Exception::plain(vector::XM),
        Err(Stop::Simd) => Exception::plain(vector::UD),
        Err(Stop::Protection) => Exception::coded(vector::GP, 0),
    };
    Err(cpu.raise(exception))
}

/// The processor as floating point sees it.
struct Around<'a> {
    cpu: &'a mut Cpu,
    op: &'a Op,
    instruction: &'a Instruction,
}

impl Around<'_> {
    /// The linear address of some bytes of the operand.
    fn at(&mut self, offset: u64, write: bool) -> Did<u64> {
        let whole = address::<u8>(self.cpu, self.op, write)?;
        Ok(self.cpu.linear(whole.wrapping_add(offset)))
    }
}

impl Operands for Around<'_> {
    type Fault = Stopped;

    fn address(&self) -> u64 {
        let offset = offset(self.cpu, self.op) & self.op.shape.address_mask();
        let base = self.cpu.regs[usize::from(self.op.segment) & 31];
        self.cpu.linear(base.wrapping_add(offset))
    }

    fn offset(&self) -> u64 {
        offset(self.cpu, self.op) & self.op.shape.address_mask()
    }

    fn instruction_pointer(&self) -> u64 {
        let at = usize::from(self.op.next) - self.instruction.len();
        self.cpu.linear(self.cpu.regs[RIP].wrapping_add(at as u64))
    }

    fn load(&mut self, offset: u64, into: &mut [u8]) -> Did {
        let start = self.at(offset, false)?;
        let mut at = 0;
        while at < into.len() {
            let linear = self.cpu.linear(start.wrapping_add(at as u64));
            let left = into.len() - at;
            let bytes = if left >= 8 {
                8
            } else if left >= 4 {
                4
            } else {
                left.min(2)
            };
            let value = match bytes {
                8 => self.cpu.load::<u64>(linear)?,
                4 => self.cpu.load::<u32>(linear)?,
                2 => self.cpu.load::<u16>(linear)?,
                _ => self.cpu.load::<u8>(linear)?,
            };
            into[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
            at += bytes;
        }
        Ok(())
    }

    fn check_store(&mut self, offset: u64, length: usize) -> Did {
        let start = self.at(offset, true)?;
        let last = self.cpu.linear(start.wrapping_add(length.max(1) as u64 - 1));
        self.cpu.check_writable::<u8>(start)?;
        // No operand reaches into a third page.
        self.cpu.check_writable::<u8>(last)
    }

    fn store(&mut self, offset: u64, bytes: &[u8]) -> Did {
        if bytes.len() > 8 {
            self.check_store(offset, bytes.len())?;
        }
        let start = self.at(offset, true)?;
        let mut at = 0;
        while at < bytes.len() {
            let linear = self.cpu.linear(start.wrapping_add(at as u64));
            let left = bytes.len() - at;
            let length = if left >= 8 {
                8
            } else if left >= 4 {
                4
            } else {
                left.min(2)
            };
            let mut value = [0; 8];
            value[..length].copy_from_slice(&bytes[at..at + length]);
            let value = u64::from_le_bytes(value);
            match length {
                8 => self.cpu.store::<u64>(linear, value)?,
                4 => self.cpu.store::<u32>(linear, value)?,
                2 => self.cpu.store::<u16>(linear, value)?,
                _ => self.cpu.store::<u8>(linear, value)?,
            }
            at += length;
        }
        Ok(())
    }

    fn register(&self, register: Register) -> u64 {
        let place = crate::decode::place(register);
        match register.size() {
            1 => read::<u8>(self.cpu, place),
            2 => read::<u16>(self.cpu, place),
            4 => read::<u32>(self.cpu, place),
            _ => read::<u64>(self.cpu, place),
        }
    }

    fn set_register(&mut self, register: Register, value: u64) {
        let place = crate::decode::place(register);
        match register.size() {
            1 => write::<u8>(self.cpu, place, value & u8::MASK),
            2 => write::<u16>(self.cpu, place, value & u16::MASK),
            4 => write::<u32>(self.cpu, place, value & u32::MASK),
            _ => write::<u64>(self.cpu, place, value),
        }
    }

    fn flags(&self) -> u64 {
        self.cpu.rflags()
    }

    fn set_flags(&mut self, flags: u64) {
        self.cpu.flags = Flags::from_bits(flags);
    }

    fn environment(&self) -> Environment {
        if self.cpu.mode.code == 64 {
            Environment::Long
        } else if self.cpu.control.protected() {
            Environment::Protected
        } else {
            Environment::Real
        }
    }
}

/// `maskmovq` and `maskmovdqu` write at ds:rdi, which is their memory operand.
pub(crate) const HIDDEN_BASE: usize = gpr::RDI;

impl std::fmt::Debug for Around<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Around").field("op", self.op).finish_non_exhaustive()
    }
}
