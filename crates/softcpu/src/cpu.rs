//! One processor's registers, and what its instructions reach.

use std::sync::Arc;

use hv::{
    GuestMemory, Model,
    state::{Activity, Segment, Table, gpr},
};

use crate::{
    control::{Control, Mode},
    device::Device,
    fault::{Stop, vector},
    flags::{self, Flags},
    fpu::Fpu,
    machine::Machine,
    msr::Msrs,
    op::Float,
    tlb::Tlb,
};

/// Where the instruction pointer stands beside the general registers: while a block is carried out
/// it is where the block begins.
pub(crate) const RIP: usize = 16;
/// Always zero: the base of what has no base.
pub(crate) const ZERO: usize = 17;
/// Bases of es, cs, ss, ds, fs and gs.
pub(crate) const SEGMENTS: usize = 18;
/// Always [`AHEAD`]: an index for displacements that do not fit.
pub(crate) const INDEX_AHEAD: usize = 24;
/// How many places there are; a power of two, so that a number needs no check.
const PLACES: usize = 32;

/// What a distance of 32 bits with a sign lacks if it is of 33.
pub(crate) const AHEAD: u64 = 1 << 32;

/// Segment registers in the encoding's order.
pub(crate) const ES: usize = 0;
pub(crate) const CS: usize = 1;
pub(crate) const SS: usize = 2;
pub(crate) const DS: usize = 3;
pub(crate) const FS: usize = 4;
pub(crate) const GS: usize = 5;

/// Where `syscall` keeps rflags.
pub(crate) const R11: usize = 11;

/// Bits of [`Segment::access`].
pub(crate) mod access {
    /// Bits 0 to 3: type.
    pub(crate) const TYPE: u32 = 0xf;
    /// Was used.
    pub(crate) const ACCESSED: u32 = 1;
    /// Code: can be read. Data: can be written.
    pub(crate) const READ_WRITE: u32 = 2;
    /// Code: conforming. Data: grows downwards.
    pub(crate) const CONFORMING_DOWN: u32 = 4;
    /// Code.
    pub(crate) const CODE: u32 = 8;
    /// Code or data, not the system's.
    pub(crate) const ORDINARY: u32 = 1 << 4;
    /// Present.
    pub(crate) const PRESENT: u32 = 1 << 7;
    /// 64-bit code.
    pub(crate) const LONG: u32 = 1 << 13;
    /// 32-bit code or stack.
    pub(crate) const BIG: u32 = 1 << 14;
    /// No segment.
    pub(crate) const UNUSABLE: u32 = 1 << 16;
}

/// A processor.
#[derive(Debug)]
pub(crate) struct Cpu {
    /// General registers, then the places named above.
    pub(crate) regs: [u64; PLACES],
    /// The arithmetic flags.
    pub(crate) flags: Flags,
    /// The other bits of rflags.
    pub(crate) other_flags: u64,
    /// The TLB of the current privilege.
    pub(crate) tlb: Tlb,
    /// That of the other one, users' or the supervisor's.
    pub(crate) other_tlb: Tlb,
    /// Guest memory.
    pub(crate) memory: GuestMemory,
    /// Why the last instruction stopped, if it did.
    pub(crate) stop: Stop,
    /// Whether the instruction is carried out on its own, as [`Stop::Alone`] asks.
    pub(crate) alone: bool,
    /// Current privilege level.
    pub(crate) cpl: u8,
    /// How instructions are decoded.
    pub(crate) mode: Mode,
    /// Control registers.
    pub(crate) control: Control,
    pub(crate) xcr0: u64,
    pub(crate) debug: [u64; 6],
    /// Segment registers; of their bases the copies in `regs` are used.
    pub(crate) segments: [Segment; 6],
    pub(crate) tr: Segment,
    pub(crate) ldt: Segment,
    pub(crate) gdt: Table,
    pub(crate) idt: Table,
    pub(crate) msrs: Msrs,
    /// x87 and SSE; taken out while one of their instructions is carried out.
    pub(crate) fpu: Option<Box<Fpu>>,
    /// What operations of floating point are, as long as there are such operations.
    pub(crate) floats: Vec<Float>,
    /// What it does.
    pub(crate) activity: Activity,
    /// The last instruction holds interrupts off for one.
    pub(crate) shadow: bool,
    /// NMIs wait for `iret`.
    pub(crate) nmi_masked: bool,
    /// An exception or interrupt that a state brought and that is to be delivered first.
    pub(crate) waiting: Option<crate::deliver::Event>,
    /// What the instruction reads and writes beyond memory.
    pub(crate) device: Device,
    /// What all processors share.
    pub(crate) machine: Arc<Machine>,
    /// Its number.
    pub(crate) index: u8,
    pub(crate) model: Model,
    /// Instructions carried out so far: those of blocks that were begun. A comparison and its branch
    /// are one of them, and so is going on behind a block.
    pub(crate) instructions: u64,
    /// How often it has waited in a loop.
    pub(crate) pauses: u64,
}

impl Cpu {
    /// One as after power-up: the first runs, the others wait.
    pub(crate) fn new(machine: Arc<Machine>, index: u8, model: Model) -> Cpu {
        let mut cpu = Cpu {
            regs: [0; PLACES],
            flags: Flags::default(),
            other_flags: flags::FIXED,
            tlb: Tlb::new(),
            other_tlb: Tlb::new(),
            memory: machine.memory.clone(),
            stop: Stop::Alone,
            alone: false,
            cpl: 0,
            mode: Mode { code: 16, stack: 16 },
            control: Control::reset(),
            xcr0: 1,
            debug: [0, 0, 0, 0, 0xffff_0ff0, 0x400],
            segments: [Segment::default(); 6],
            tr: Segment::default(),
            ldt: Segment::default(),
            gdt: Table::default(),
            idt: Table::default(),
            msrs: Msrs::reset(),
            fpu: Some(Box::default()),
            floats: Vec::new(),
            activity: Activity::Running,
            shadow: false,
            nmi_masked: false,
            waiting: None,
            device: Device::default(),
            machine,
            index,
            model,
            instructions: 0,
            pauses: 0,
        };
        cpu.reset();
        if index != 0 {
            cpu.activity = Activity::WaitForStartup;
        }
        cpu
    }

    /// Back to how INIT leaves it; floating point and most model-specific registers stay.
    ///
    /// Source: Intel SDM volume 3, table 9-1.
    pub(crate) fn reset(&mut self) {
        self.regs = [0; PLACES];
        self.regs[INDEX_AHEAD] = AHEAD;
        self.regs[gpr::RDX] = hv::model::SIGNATURE.into();
        self.regs[RIP] = 0xfff0;
        self.flags = Flags::from_bits(0);
        self.other_flags = flags::FIXED;
        let caches = self.control.cr0 & (crate::control::CD | crate::control::NW);
        self.control = Control::reset();
        self.control.cr0 |= caches;
        self.debug = [0, 0, 0, 0, 0xffff_0ff0, 0x400];
        for n in 0..6 {
            self.segments[n] = Segment { selector: 0, base: 0, limit: 0xffff, access: 0x93 };
        }
        self.segments[CS] =
            Segment { selector: 0xf000, base: 0xffff_0000, limit: 0xffff, access: 0x9b };
        self.tr = Segment { selector: 0, base: 0, limit: 0xffff, access: 0x8b };
        self.ldt = Segment { selector: 0, base: 0, limit: 0xffff, access: 0x82 };
        self.gdt = Table { base: 0, limit: 0xffff };
        self.idt = Table { base: 0, limit: 0xffff };
        self.set_cpl(0);
        self.flush_tlb(false);
        self.renew_mode();
        self.shadow = false;
        self.nmi_masked = false;
        self.waiting = None;
        self.device = Device::default();
        self.activity = Activity::Running;
    }

    /// Begins where a start-up message says.
    pub(crate) fn start_up(&mut self, page: u8) {
        let selector = u16::from(page) << 8;
        self.segments[CS] =
            Segment { selector, base: u64::from(selector) << 4, limit: 0xffff, access: 0x9b };
        self.regs[RIP] = 0;
        self.renew_mode();
        self.activity = Activity::Running;
    }

    /// rflags.
    pub(crate) fn rflags(&self) -> u64 {
        self.other_flags | self.flags.bits()
    }

    /// Sets all of rflags.
    pub(crate) fn set_rflags(&mut self, rflags: u64) {
        self.flags = Flags::from_bits(rflags);
        self.other_flags = rflags & !flags::ARITHMETIC | flags::FIXED;
    }

    /// Whether interrupts are let in.
    pub(crate) fn interrupts_on(&self) -> bool {
        self.other_flags & flags::IF != 0
    }

    /// Changes the privilege level; users and the supervisor have a TLB each.
    pub(crate) fn set_cpl(&mut self, cpl: u8) {
        if (self.cpl == 3) != (cpl == 3) {
            std::mem::swap(&mut self.tlb, &mut self.other_tlb);
        }
        self.cpl = cpl;
    }

    /// The TLB of a privilege.
    pub(crate) fn tlb_of(&mut self, user: bool) -> &mut Tlb {
        if user == (self.cpl == 3) { &mut self.tlb } else { &mut self.other_tlb }
    }

    /// Forgets all translations, or those that are not global.
    pub(crate) fn flush_tlb(&mut self, keep_global: bool) {
        self.tlb.flush(keep_global);
        self.other_tlb.flush(keep_global);
    }

    /// Draws the consequences of a segment or mode that changed.
    pub(crate) fn renew_mode(&mut self) {
        let bits = |big: u32| if big & access::BIG != 0 { 32 } else { 16 };
        let (code, stack) = (self.segments[CS].access, self.segments[SS].access);
        self.mode = if self.control.long() && code & access::LONG != 0 {
            Mode { code: 64, stack: 64 }
        } else {
            Mode { code: bits(code), stack: bits(stack) }
        };
        for n in 0..6 {
            self.regs[SEGMENTS + n] = self.segments[n].base;
        }
        if self.mode.code == 64 {
            for n in [ES, CS, SS, DS] {
                self.regs[SEGMENTS + n] = 0;
            }
        }
    }

    /// `#UD`.
    pub(crate) fn undefined(&mut self) -> crate::fault::Stopped {
        self.raise(crate::fault::Exception::plain(vector::UD))
    }

    /// `#GP` with an error code.
    pub(crate) fn protection(&mut self, code: u32) -> crate::fault::Stopped {
        self.raise(crate::fault::Exception::coded(vector::GP, code))
    }

    /// Fails unless the privilege is the highest.
    pub(crate) fn privileged(&mut self) -> crate::fault::Did {
        if self.cpl == 0 { Ok(()) } else { Err(self.protection(0)) }
    }
}
