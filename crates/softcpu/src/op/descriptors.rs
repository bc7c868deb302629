//! Tables of descriptors, the segments that are the system's own, and questions about selectors.

use hv::state::Table;

use super::{
    Flow, Op, address, read,
    system::{put_word, word},
    write,
};
use crate::{
    cpu::{Cpu, access},
    fault::{Did, Exception, Stop, vector},
    segment::{Descriptor, code_of, null, rpl},
    word::Word,
};

/// `lgdt` and `lidt`: `src` says which.
pub(crate) fn load_table(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    cpu.privileged()?;
    let linear = address::<u16>(cpu, op, false)?;
    let limit = u16::cut(cpu.load::<u16>(linear)?);
    let at = cpu.linear(linear.wrapping_add(2));
    let base = match op.bytes {
        8 => cpu.load::<u64>(at)?,
        4 => cpu.load::<u32>(at)?,
        _ => cpu.load::<u32>(at)? & 0x00ff_ffff,
    };
    if !crate::mmu::canonical(base) {
        return Err(cpu.protection(0));
    }
    let table = Table { base, limit };
    if op.src == 0 {
        cpu.gdt = table;
    } else {
        cpu.idt = table;
    }
    Ok(Flow::Next)
}

/// `sgdt` and `sidt`.
pub(crate) fn store_table(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let table = if op.src == 0 { cpu.gdt } else { cpu.idt };
    let linear = address::<u16>(cpu, op, true)?;
    let at = cpu.linear(linear.wrapping_add(2));
    cpu.check_writable::<u16>(linear)?;
    if cpu.mode.code == 64 {
        cpu.store::<u64>(at, table.base)?;
    } else {
        cpu.store::<u32>(at, table.base)?;
    }
    cpu.store::<u16>(linear, table.limit.into())?;
    Ok(Flow::Next)
}

/// `lldt`.
pub(crate) fn load_ldt<const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    protected(cpu)?;
    cpu.privileged()?;
    let selector = u16::cut(word::<MEMORY>(cpu, op)?);
    if selector & !3 == 0 {
        cpu.ldt = null(selector, 0);
        return Ok(Flow::Next);
    }
    let descriptor = system_descriptor(cpu, selector)?;
    if descriptor.access() & (access::TYPE | access::ORDINARY) != 2 {
        return Err(cpu.protection(code_of(selector)));
    }
    if !descriptor.present() {
        return Err(cpu.raise(Exception::coded(vector::NP, code_of(selector))));
    }
    let upper = cpu.upper_base(&descriptor)?;
    cpu.ldt = descriptor.segment(selector);
    cpu.ldt.base |= upper;
    Ok(Flow::Next)
}

/// `ltr`.
pub(crate) fn load_task<const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    protected(cpu)?;
    cpu.privileged()?;
    let selector = u16::cut(word::<MEMORY>(cpu, op)?);
    if selector & !3 == 0 {
        return Err(cpu.protection(0));
    }
    let descriptor = system_descriptor(cpu, selector)?;
    let kind = descriptor.access() & (access::TYPE | access::ORDINARY);
    if kind != 9 && (kind != 1 || cpu.control.long()) {
        return Err(cpu.protection(code_of(selector)));
    }
    if !descriptor.present() {
        return Err(cpu.raise(Exception::coded(vector::NP, code_of(selector))));
    }
    let upper = cpu.upper_base(&descriptor)?;
    // Busy from now on.
    cpu.store_system::<u8>(descriptor.at.wrapping_add(5), descriptor.bits >> 40 & 0xff | 2)?;
    cpu.tr = descriptor.segment(selector);
    cpu.tr.base |= upper;
    cpu.tr.access |= 2;
    Ok(Flow::Next)
}

fn system_descriptor(cpu: &mut Cpu, selector: u16) -> Did<Descriptor> {
    if selector & 4 != 0 {
        return Err(cpu.protection(code_of(selector)));
    }
    cpu.descriptor(selector, vector::GP)
}

fn protected(cpu: &mut Cpu) -> Did {
    if cpu.control.protected() { Ok(()) } else { Err(cpu.undefined()) }
}

/// `sldt` and `str`.
pub(crate) fn store_selector<const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    protected(cpu)?;
    let selector = if op.src == 0 { cpu.ldt.selector } else { cpu.tr.selector };
    put_word(cpu, op, MEMORY, selector.into())
}

/// What `lar`, `lsl`, `verr` and `verw` may see of a selector; nothing, if it hides.
fn visible(cpu: &mut Cpu, selector: u16) -> Did<Option<Descriptor>> {
    if selector & !3 == 0 {
        return Ok(None);
    }
    let descriptor = match cpu.descriptor(selector, vector::GP) {
        Ok(descriptor) => descriptor,
        Err(stopped) => {
            let hidden = matches!(cpu.stop, Stop::Exception(Exception { vector: vector::GP, .. }));
            return if hidden { Ok(None) } else { Err(stopped) };
        }
    };
    let least = cpu.cpl.max(rpl(selector));
    let open = descriptor.conforming() || descriptor.dpl() >= least;
    Ok(open.then_some(descriptor))
}

/// `lar` and `lsl`: into `dst`, by `src`.
pub(crate) fn look_up<const LIMIT: bool, const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    protected(cpu)?;
    let selector = if MEMORY { word::<true>(cpu, op)? } else { read::<u16>(cpu, op.src) };
    let selector = u16::cut(selector);
    let long = cpu.control.long();
    let found = visible(cpu, selector)?.filter(|descriptor| {
        let kind = descriptor.access() & access::TYPE;
        let system = match kind {
            2 | 9 | 11 => true,
            1 | 3 => !long,
            // Gates have rights and no limit.
            4 | 5 => !LIMIT && !long,
            12 => !LIMIT,
            _ => false,
        };
        descriptor.ordinary() || system
    });
    cpu.flags = cpu.flags.with_zf(found.is_some());
    if let Some(descriptor) = found {
        let value = if LIMIT {
            descriptor.segment(selector).limit.into()
        } else {
            descriptor.bits >> 32 & 0x00f0_ff00
        };
        match op.bytes {
            2 => write::<u16>(cpu, op.dst, value & 0xffff),
            4 => write::<u32>(cpu, op.dst, value),
            _ => write::<u64>(cpu, op.dst, value),
        }
    }
    Ok(Flow::Next)
}

/// `verr` and `verw`.
pub(crate) fn verify<const WRITE: bool, const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    protected(cpu)?;
    let selector = u16::cut(word::<MEMORY>(cpu, op)?);
    let found = visible(cpu, selector)?.is_some_and(|descriptor| {
        let readable = !descriptor.code() || descriptor.access() & access::READ_WRITE != 0;
        descriptor.ordinary() && if WRITE { descriptor.writable() } else { readable }
    });
    cpu.flags = cpu.flags.with_zf(found);
    Ok(Flow::Next)
}
