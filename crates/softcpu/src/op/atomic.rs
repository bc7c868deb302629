//! Exchanges with memory, in one step where they are locked.

use hv::state::gpr;

use super::{Flow, Op, address, read, write};
use crate::{
    alu::{Add, Alu, Cmp},
    cpu::Cpu,
    fault::Did,
    mmu::{Access, Place},
    word::Word,
};

/// `xchg` with memory, which is always locked.
pub(crate) fn exchange<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let new = read::<T>(cpu, op.dst);
    let linear = address::<T>(cpu, op, true)?;
    let old = cpu.modify_locked::<T, _>(linear, |old| (new, old))?;
    write::<T>(cpu, op.dst, old);
    Ok(Flow::Next)
}

pub(crate) fn exchange_add_rr<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let (a, b) = (read::<T>(cpu, op.dst), read::<T>(cpu, op.src));
    let (sum, flags) = Add::apply::<T>(a, b, &cpu.flags);
    cpu.flags = flags;
    write::<T>(cpu, op.src, a);
    write::<T>(cpu, op.dst, sum);
    Ok(Flow::Next)
}

pub(crate) fn exchange_add<const LOCK: bool, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let (b, flags) = (read::<T>(cpu, op.dst), cpu.flags);
    let linear = address::<T>(cpu, op, true)?;
    let change = |a| {
        let (sum, flags) = Add::apply::<T>(a, b, &flags);
        (sum, (a, flags))
    };
    let (old, flags) = if LOCK {
        cpu.modify_locked::<T, _>(linear, change)?
    } else {
        cpu.modify::<T, _>(linear, change)?
    };
    cpu.flags = flags;
    write::<T>(cpu, op.dst, old);
    Ok(Flow::Next)
}

pub(crate) fn compare_exchange_rr<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let (wanted, there) = (read::<T>(cpu, 0), read::<T>(cpu, op.dst));
    cpu.flags = Cmp::apply::<T>(wanted, there, &cpu.flags).1;
    if wanted == there {
        let new = read::<T>(cpu, op.src);
        write::<T>(cpu, op.dst, new);
    } else {
        // The target stays as it is, above 32 bits too.
        write::<T>(cpu, 0, there);
    }
    Ok(Flow::Next)
}

/// `cmpxchg` with memory, which is written in either case.
pub(crate) fn compare_exchange<const LOCK: bool, T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let (wanted, new) = (read::<T>(cpu, 0), read::<T>(cpu, op.dst));
    let linear = address::<T>(cpu, op, true)?;
    let change = |there| (if there == wanted { new } else { there }, there);
    let there = if LOCK {
        cpu.modify_locked::<T, _>(linear, change)?
    } else {
        cpu.modify::<T, _>(linear, change)?
    };
    cpu.flags = Cmp::apply::<T>(wanted, there, &cpu.flags).1;
    if there != wanted {
        write::<T>(cpu, 0, there);
    }
    Ok(Flow::Next)
}

/// `cmpxchg8b`.
pub(crate) fn compare_exchange_8(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let pair = |cpu: &Cpu, high: u8, low: u8| read::<u32>(cpu, high) << 32 | read::<u32>(cpu, low);
    let (wanted, new) = (pair(cpu, 2, 0), pair(cpu, 1, 3));
    let linear = address::<u64>(cpu, op, true)?;
    let change = |there| (if there == wanted { new } else { there }, there);
    let there = cpu.modify_locked::<u64, _>(linear, change)?;
    if there != wanted {
        write::<u32>(cpu, 0, there & 0xffff_ffff);
        write::<u32>(cpu, 2, there >> 32);
    }
    cpu.flags = cpu.flags.with_zf(there == wanted);
    Ok(Flow::Next)
}

/// `cmpxchg16b`; misaligned it faults.
pub(crate) fn compare_exchange_16(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let linear = address::<u64>(cpu, op, true)?;
    if !linear.is_multiple_of(16) {
        return Err(cpu.protection(0));
    }
    let whole = |high: u64, low: u64| u128::from(high) << 64 | u128::from(low);
    let wanted = whole(cpu.regs[gpr::RDX], cpu.regs[gpr::RAX]);
    let new = whole(cpu.regs[gpr::RCX], cpu.regs[gpr::RBX]);
    cpu.check_writable::<u64>(linear)?;
    let user = cpu.cpl == 3;
    let there = match cpu.translate(linear, Access::Write, user)? {
        Place::Ram(at) => {
            let there = cpu.memory.compare_exchange_16(at, wanted, new);
            cpu.memory.dirty().mark(at, 16);
            there
        }
        Place::Device(at) => {
            let (low, high) = (cpu.device_read(at, 8)?, cpu.device_read(at + 8, 8)?);
            let there = whole(high, low);
            let [low, high] = crate::alu::halves(if there == wanted { new } else { there });
            cpu.device_write(at, 8, low);
            cpu.device_write(at + 8, 8, high);
            there
        }
    };
    if there != wanted {
        let [low, high] = crate::alu::halves(there);
        cpu.regs[gpr::RAX] = low;
        cpu.regs[gpr::RDX] = high;
    }
    cpu.flags = cpu.flags.with_zf(there == wanted);
    Ok(Flow::Next)
}
