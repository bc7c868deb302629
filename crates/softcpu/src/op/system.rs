//! What only kernels do, and what asks the processor about itself: ports, flags of interrupts,
//! control and model-specific registers, descriptor tables, halts, software interrupts.

use hv::{
    model::Position,
    state::{Activity, gpr},
};

use super::{Flow, Op, address, after, leave, read, write};
use crate::{
    control::{CD, CR0, CR4, EM, LMA, LME, MP, NW, PAE, PE, PG, PGE, TS, TSD, WP},
    cpu::{CS, Cpu, GS, RIP, access},
    deliver::Event,
    fault::{Did, Exception, vector},
    flags::{IF, IOPL, TF},
    msr,
    word::Word,
};

impl Cpu {
    /// Whether a program may reach a port: by its privilege, or by the map in its TSS.
    ///
    /// Source: Intel SDM volume 1, 19.5.2.
    pub(crate) fn check_port(&mut self, port: u16, bytes: u64) -> Did {
        let io = u64::from(self.cpl) <= (self.other_flags & IOPL) >> 12;
        if !self.control.protected() || io {
            return Ok(());
        }
        let (limit, base) = (u64::from(self.tr.limit), self.tr.base);
        // Types 9 and 11 are task segments of 32 bits; those of 16 have no map.
        if self.tr.access & 8 == 0 || limit < 0x67 {
            return Err(self.protection(0));
        }
        let map = self.load_system::<u16>(self.system_linear(base.wrapping_add(0x66)))?;
        let at = map + u64::from(port) / 8;
        if at + 1 > limit {
            return Err(self.protection(0));
        }
        let bits = self.load_system::<u16>(self.system_linear(base.wrapping_add(at)))?;
        let mask = ((1 << bytes) - 1) << (port % 8);
        if bits & mask == 0 { Ok(()) } else { Err(self.protection(0)) }
    }

    /// Writes cr0.
    pub(crate) fn write_cr0(&mut self, value: u64) -> Did {
        let value = value & CR0 | crate::control::ET;
        let old = self.control.cr0;
        let torn = value & PG != 0 && value & PE == 0 || value & NW != 0 && value & CD == 0;
        let starts = value & PG != 0 && old & PG == 0;
        let long = self.control.efer & LME != 0;
        let no_pae = starts && long && self.control.cr4 & PAE == 0;
        let in_long_code = starts && long && self.segments[CS].access & access::LONG != 0;
        let leaves_long = value & PG == 0 && self.mode.code == 64;
        if torn || no_pae || in_long_code || leaves_long {
            return Err(self.protection(0));
        }
        self.control.cr0 = value;
        if value & PG == 0 {
            self.control.efer &= !LMA;
        } else if long {
            self.control.efer |= LMA;
        }
        if (old ^ value) & (PG | WP | PE) != 0 {
            self.flush_tlb(false);
        }
        self.renew_mode();
        Ok(())
    }

    /// Writes cr4.
    pub(crate) fn write_cr4(&mut self, value: u64) -> Did {
        let leaves = self.control.long() && value & PAE == 0;
        if value & !CR4 != 0 || leaves {
            return Err(self.protection(0));
        }
        self.control.cr4 = value;
        self.flush_tlb(false);
        Ok(())
    }

    /// Writes cr3.
    pub(crate) fn write_cr3(&mut self, value: u64) -> Did {
        // Bits of the address beyond what there is are reserved in long mode.
        if self.control.long() && value >> 40 != 0 {
            return Err(self.protection(0));
        }
        self.control.cr3 = value;
        let keep_global = self.control.cr4 & PGE != 0;
        self.flush_tlb(keep_global);
        Ok(())
    }
}

pub(crate) fn undefined(cpu: &mut Cpu, _op: &Op) -> Did<Flow> {
    Err(cpu.undefined())
}

/// `in`: the port is `imm`, or dx if `src` says so.
pub(crate) fn port_in<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let port = u16::cut(if op.src == 0 { op.imm::<u8>() } else { cpu.regs[gpr::RDX] });
    cpu.check_port(port, T::BYTES)?;
    let value = cpu.port_read(port, T::BYTES)?;
    write::<T>(cpu, 0, value & T::MASK);
    Ok(Flow::Next)
}

pub(crate) fn port_out<T: Word>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let port = u16::cut(if op.src == 0 { op.imm::<u8>() } else { cpu.regs[gpr::RDX] });
    cpu.check_port(port, T::BYTES)?;
    cpu.port_write(port, T::BYTES, read::<T>(cpu, 0))?;
    Ok(Flow::Next)
}

pub(crate) fn cli(cpu: &mut Cpu, _op: &Op) -> Did<Flow> {
    flags_of_interrupts(cpu)?;
    cpu.other_flags &= !IF;
    Ok(Flow::Next)
}

pub(crate) fn sti(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    flags_of_interrupts(cpu)?;
    if cpu.other_flags & IF == 0 {
        cpu.other_flags |= IF;
        cpu.shadow = true;
    }
    leave(cpu, op)
}

fn flags_of_interrupts(cpu: &mut Cpu) -> Did {
    let io = u64::from(cpu.cpl) <= (cpu.other_flags & IOPL) >> 12;
    if io || !cpu.control.protected() { Ok(()) } else { Err(cpu.protection(0)) }
}

pub(crate) fn hlt(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    cpu.privileged()?;
    cpu.activity = Activity::Halted;
    leave(cpu, op)
}

/// What changes nothing that a guest could see but asks for privilege.
pub(crate) fn privileged_nop(cpu: &mut Cpu, _op: &Op) -> Did<Flow> {
    cpu.privileged()?;
    Ok(Flow::Next)
}

/// The host's other threads may have what this one waits for.
pub(crate) fn pause(cpu: &mut Cpu, _op: &Op) -> Did<Flow> {
    if cpu.machine.vcpus > 1 {
        std::hint::spin_loop();
        cpu.pauses += 1;
        if cpu.pauses.is_multiple_of(64) {
            std::thread::yield_now();
        }
    }
    Ok(Flow::Next)
}

pub(crate) fn cpuid(cpu: &mut Cpu, _op: &Op) -> Did<Flow> {
    let at = Position {
        apic_id: cpu.index,
        vcpus: cpu.machine.vcpus,
        apic: cpu.read_msr(msr::APIC_BASE).is_some_and(|base| base & 1 << 11 != 0),
        osxsave: false,
        xcr0: cpu.xcr0,
    };
    let (leaf, subleaf) = (u32::cut(cpu.regs[gpr::RAX]), u32::cut(cpu.regs[gpr::RCX]));
    let [a, b, c, d] = cpu.model.cpuid(leaf, subleaf, &at);
    let places = [gpr::RAX, gpr::RBX, gpr::RCX, gpr::RDX];
    for (place, value) in places.into_iter().zip([a, b, c, d]) {
        cpu.regs[place] = value.into();
    }
    Ok(Flow::Next)
}

pub(crate) fn rdtsc(cpu: &mut Cpu, _op: &Op) -> Did<Flow> {
    if cpu.control.cr4 & TSD != 0 && cpu.cpl != 0 {
        return Err(cpu.protection(0));
    }
    put_pair(cpu, cpu.tsc());
    Ok(Flow::Next)
}

pub(crate) fn rdtscp(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    rdtsc(cpu, op)?;
    cpu.regs[gpr::RCX] = cpu.msrs.tsc_aux;
    Ok(Flow::Next)
}

/// There are no performance counters, whoever may ask for them.
pub(crate) fn rdpmc(cpu: &mut Cpu, _op: &Op) -> Did<Flow> {
    Err(cpu.protection(0))
}

fn put_pair(cpu: &mut Cpu, value: u64) {
    cpu.regs[gpr::RAX] = value & 0xffff_ffff;
    cpu.regs[gpr::RDX] = value >> 32;
}

pub(crate) fn rdmsr(cpu: &mut Cpu, _op: &Op) -> Did<Flow> {
    let value = cpu.rdmsr()?;
    put_pair(cpu, value);
    Ok(Flow::Next)
}

pub(crate) fn wrmsr(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    cpu.wrmsr()?;
    leave(cpu, op)
}

pub(crate) fn swapgs(cpu: &mut Cpu, _op: &Op) -> Did<Flow> {
    cpu.privileged()?;
    let base = cpu.segments[GS].base;
    cpu.set_base(GS, cpu.msrs.kernel_gs_base);
    cpu.msrs.kernel_gs_base = base;
    Ok(Flow::Next)
}

pub(crate) fn syscall(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    cpu.syscall(after(cpu, op))?;
    Ok(Flow::Leave)
}

/// `src` says whether the way back leads to 64-bit code.
pub(crate) fn sysret(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    cpu.sysret(op.src != 0)?;
    Ok(Flow::Leave)
}

pub(crate) fn sysenter(cpu: &mut Cpu, _op: &Op) -> Did<Flow> {
    cpu.sysenter()?;
    Ok(Flow::Leave)
}

pub(crate) fn sysexit(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    cpu.sysexit(op.src != 0)?;
    Ok(Flow::Leave)
}

pub(crate) fn iret(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    cpu.interrupt_return(op.bytes.into())?;
    Ok(Flow::Leave)
}

/// `int n` and `int3`: the vector is `imm`.
pub(crate) fn interrupt(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    let start = cpu.regs[RIP];
    cpu.regs[RIP] = after(cpu, op);
    if let Err(stopped) = cpu.software_interrupt(op.imm.to_le_bytes()[0]) {
        cpu.regs[RIP] = start;
        return Err(stopped);
    }
    Ok(Flow::Leave)
}

pub(crate) fn into(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    if cpu.flags.of() { interrupt(cpu, op) } else { Ok(Flow::Next) }
}

/// `int1`: a debug trap.
pub(crate) fn int1(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    cpu.regs[RIP] = after(cpu, op);
    cpu.deliver(Event::Exception(Exception::plain(vector::DB)))?;
    Ok(Flow::Leave)
}

impl Cpu {
    /// Delivers a software interrupt; a fault on the way is the instruction's own.
    fn software_interrupt(&mut self, vector: u8) -> Did {
        self.deliver_once(Event::Software(vector))
    }
}

/// A control register into a general one: its number is `src`.
pub(crate) fn from_control(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    cpu.privileged()?;
    let value = match op.src {
        0 => cpu.control.cr0,
        2 => cpu.control.cr2,
        3 => cpu.control.cr3,
        4 => cpu.control.cr4,
        8 => cpu.machine.chips.cr8(cpu.index).into(),
        _ => return Err(cpu.undefined()),
    };
    let mask = if cpu.mode.code == 64 { u64::MAX } else { 0xffff_ffff };
    cpu.regs[usize::from(op.dst) & 31] = value & mask;
    Ok(Flow::Next)
}

/// A general register into a control register.
pub(crate) fn to_control(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    cpu.privileged()?;
    let mask = if cpu.mode.code == 64 { u64::MAX } else { 0xffff_ffff };
    let value = cpu.regs[usize::from(op.src) & 31] & mask;
    match op.dst {
        0 if value >> 32 != 0 => return Err(cpu.protection(0)),
        0 => cpu.write_cr0(value)?,
        2 => cpu.control.cr2 = value,
        3 => cpu.write_cr3(value)?,
        4 => cpu.write_cr4(value)?,
        8 => {
            let set = cpu.machine.chips.set_cr8(cpu.index, value);
            set.map_err(|_refused| cpu.protection(0))?;
        }
        _ => return Err(cpu.undefined()),
    }
    leave(cpu, op)
}

pub(crate) fn clts(cpu: &mut Cpu, _op: &Op) -> Did<Flow> {
    cpu.privileged()?;
    cpu.control.cr0 &= !TS;
    Ok(Flow::Next)
}

/// `lmsw`: the lowest four bits of cr0, of which PE can only be set.
pub(crate) fn lmsw<const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    cpu.privileged()?;
    let value = word::<MEMORY>(cpu, op)?;
    let bits = PE | MP | EM | TS;
    let kept = cpu.control.cr0 & PE;
    cpu.write_cr0(cpu.control.cr0 & !bits | value & bits | kept)?;
    leave(cpu, op)
}

/// A 16-bit operand: a register if it is no memory.
pub(crate) fn word<const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Did<u64> {
    if MEMORY {
        let linear = address::<u16>(cpu, op, false)?;
        cpu.load::<u16>(linear)
    } else {
        Ok(read::<u16>(cpu, op.dst))
    }
}

/// Stores what `smsw`, `str`, `sldt` and moves from segment registers give: of 16 bits into
/// memory, of the operand's width into a register.
pub(crate) fn put_word(cpu: &mut Cpu, op: &Op, memory: bool, value: u64) -> Did<Flow> {
    if memory {
        let linear = address::<u16>(cpu, op, true)?;
        cpu.store::<u16>(linear, value)?;
    } else {
        match op.bytes {
            2 => write::<u16>(cpu, op.dst, value & 0xffff),
            4 => write::<u32>(cpu, op.dst, value & 0xffff_ffff),
            _ => write::<u64>(cpu, op.dst, value),
        }
    }
    Ok(Flow::Next)
}

pub(crate) fn smsw<const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    put_word(cpu, op, MEMORY, cpu.control.cr0)
}

/// A debug register into a general one.
pub(crate) fn from_debug(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    cpu.privileged()?;
    let number = debug_place(cpu, op.src)?;
    cpu.regs[usize::from(op.dst) & 31] = cpu.debug[number];
    Ok(Flow::Next)
}

/// A general register into a debug register. Breakpoints are kept and do not strike.
pub(crate) fn to_debug(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    cpu.privileged()?;
    let number = debug_place(cpu, op.dst)?;
    let value = cpu.regs[usize::from(op.src) & 31];
    if number >= 4 && value >> 32 != 0 {
        return Err(cpu.protection(0));
    }
    cpu.debug[number] = match number {
        4 => value & 0xe00f | 0xffff_0ff0,
        5 => value & 0xffff_2bff | 0x400,
        _ => value,
    };
    Ok(Flow::Next)
}

/// Where dr0 to dr7 are in the state; dr4 and dr5 are dr6 and dr7 as long as nobody minds.
fn debug_place(cpu: &mut Cpu, number: u8) -> Did<usize> {
    match number {
        0..=3 => Ok(number.into()),
        4 | 5 if cpu.control.cr4 & crate::control::DE != 0 => Err(cpu.undefined()),
        4 | 6 => Ok(4),
        _ => Ok(5),
    }
}

pub(crate) fn invlpg(cpu: &mut Cpu, op: &Op) -> Did<Flow> {
    cpu.privileged()?;
    let base = cpu.regs[usize::from(op.segment) & 31];
    let offset = super::offset(cpu, op) & op.shape.address_mask();
    let linear = cpu.linear(base.wrapping_add(offset));
    cpu.tlb.flush_page(linear);
    cpu.other_tlb.flush_page(linear);
    leave(cpu, op)
}

/// Whether the instruction that follows is to be stepped over with a trap.
pub(crate) fn single_step(cpu: &Cpu) -> bool {
    cpu.other_flags & TF != 0
}
