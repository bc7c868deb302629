//! The state of a processor and of the interrupt chips, in neutral words: what a snapshot keeps,
//! whichever backend took it and whichever restores it.

use serde::{Deserialize, Serialize};

/// Indices of [`CpuState::gpr`], in the encoding's order.
pub mod gpr {
    /// rax.
    pub const RAX: usize = 0;
    /// rcx.
    pub const RCX: usize = 1;
    /// rdx.
    pub const RDX: usize = 2;
    /// rbx.
    pub const RBX: usize = 3;
    /// rsp.
    pub const RSP: usize = 4;
    /// rbp.
    pub const RBP: usize = 5;
    /// rsi.
    pub const RSI: usize = 6;
    /// rdi.
    pub const RDI: usize = 7;
}

/// Everything that a processor holds between two instructions.
///
/// Source: Intel SDM volume 3, chapters 2 and 10; AMD APM volume 2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuState {
    /// rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15.
    pub gpr: [u64; 16],
    /// Next instruction.
    pub rip: u64,
    /// Flags; bit 1 is always set.
    pub rflags: u64,
    /// es, cs, ss, ds, fs, gs, in the encoding's order.
    pub segments: [Segment; 6],
    /// Task register.
    pub tr: Segment,
    /// Local descriptor table.
    pub ldt: Segment,
    /// Global descriptor table.
    pub gdt: Table,
    /// Interrupt descriptor table.
    pub idt: Table,
    /// Control register 0.
    pub cr0: u64,
    /// Address of the last page fault.
    pub cr2: u64,
    /// Page table and PCID.
    pub cr3: u64,
    /// Control register 4.
    pub cr4: u64,
    /// Task priority, 0 to 15.
    pub cr8: u64,
    /// Extended states that are enabled.
    pub xcr0: u64,
    /// dr0 to dr3, dr6, dr7.
    pub debug: [u64; 6],
    /// Model-specific registers by number, ascending; `IA32_TSC` and `IA32_EFER` among them.
    pub msrs: Vec<(u32, u64)>,
    /// x87, MMX, SSE and the upper halves of AVX.
    pub fpu: FpuState,
    /// The local APIC's registers as they lie in its page: 1 KiB, the first four bytes of every 16.
    /// Empty where there is none.
    pub apic: Vec<u8>,
    /// Whether it runs.
    pub activity: Activity,
    /// Interrupts that were on their way into it.
    pub events: Events,
}

/// A segment register with what the processor keeps of its descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// What was loaded.
    pub selector: u16,
    /// First address.
    pub base: u64,
    /// Last offset, in bytes (the granularity is already applied).
    pub limit: u32,
    /// Bits 8 to 15 and 20 to 23 of the descriptor's upper word, as VMX has them: type (0–3),
    /// S (4), DPL (5–6), P (7), AVL (12), L (13), D/B (14), G (15), unusable (16).
    ///
    /// Source: Intel SDM volume 3, table 25-2.
    pub access: u32,
}

/// The place of a descriptor table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// First address.
    pub base: u64,
    /// Last offset, in bytes.
    pub limit: u16,
}

/// The floating-point registers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FpuState {
    /// x87 control word.
    pub control: u16,
    /// x87 status word, with the top of the stack.
    pub status: u16,
    /// Which physical registers are used, one bit each, as FXSAVE has it.
    pub tags: u8,
    /// Last opcode.
    pub opcode: u16,
    /// Last instruction's address.
    pub instruction: u64,
    /// Last operand's address.
    pub operand: u64,
    /// st0 to st7 (relative to the top), 80 bits each.
    pub st: [[u8; 10]; 8],
    /// SSE control and status.
    pub mxcsr: u32,
    /// xmm0 to xmm15.
    pub xmm: [[u8; 16]; 16],
    /// Upper halves of ymm0 to ymm15.
    pub ymm: [[u8; 16]; 16],
}

impl Default for FpuState {
    /// As after `fninit` and with the default `mxcsr`.
    fn default() -> FpuState {
        FpuState {
            control: 0x037f,
            status: 0,
            tags: 0,
            opcode: 0,
            instruction: 0,
            operand: 0,
            st: [[0; 10]; 8],
            mxcsr: 0x1f80,
            xmm: [[0; 16]; 16],
            ymm: [[0; 16]; 16],
        }
    }
}

/// What a processor does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activity {
    /// It carries out instructions.
    #[default]
    Running,
    /// `hlt`: it waits for an interrupt.
    Halted,
    /// It was reset and waits for INIT.
    WaitForInit,
    /// It had INIT and waits for the start-up message that says where to begin.
    WaitForStartup,
}

/// Events between two instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// An exception that is to be delivered: its vector and error code.
    pub exception: Option<(u8, Option<u32>)>,
    /// An interrupt that the controller has given and the processor not yet taken.
    pub interrupt: Option<u8>,
    /// Whether an NMI waits.
    pub nmi_pending: bool,
    /// Whether NMIs wait for `iret`.
    pub nmi_masked: bool,
    /// Whether the last instruction was `sti` or a load of ss, which hold interrupts off for one.
    pub shadow: bool,
}

/// The chips that all processors share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChipState {
    /// I/O APIC: id, selected register, interrupt request bits, the 24 entries.
    pub ioapic: IoApicState,
    /// The two PICs.
    pub pics: [PicState; 2],
    /// The timer's three channels.
    pub pit: [PitChannelState; 3],
    /// Port 0x61: speaker gate and refresh.
    pub speaker: u8,
}

/// The I/O APIC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoApicState {
    /// Bits 24 to 27 of register 0.
    pub id: u8,
    /// Which register the window shows.
    pub select: u8,
    /// Lines that are raised.
    pub lines: u32,
    /// Redirection entries.
    ///
    /// Source: Intel 82093AA data sheet, 3.2.4.
    pub entries: [u64; 24],
}

/// One 8259A.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PicState {
    /// Lines as they were last.
    pub last_irr: u8,
    /// Requested.
    pub irr: u8,
    /// Masked.
    pub imr: u8,
    /// In service.
    pub isr: u8,
    /// Lowest priority, for rotation.
    pub priority_add: u8,
    /// First vector.
    pub irq_base: u8,
    /// Whether a read gives the in-service register.
    pub read_isr: bool,
    /// Whether it is polled.
    pub poll: bool,
    /// Special mask mode.
    pub special_mask: bool,
    /// Which initialisation word comes next.
    pub init: u8,
    /// Automatic end of interrupt.
    pub auto_eoi: bool,
    /// Rotate on automatic end of interrupt.
    pub rotate_on_auto_eoi: bool,
    /// Special fully nested mode.
    pub special_fully_nested: bool,
    /// Whether a fourth initialisation word comes.
    pub init4: bool,
    /// Which lines are level-triggered.
    pub elcr: u8,
}

/// One channel of the 8254.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PitChannelState {
    /// Reload value; 0x10000 for 0, and 0 before one was written.
    pub count: u32,
    /// Value that a latch command froze, and which half of it is read next: 0 the lower.
    pub latched: Option<(u16, u8)>,
    /// Latched status.
    pub status: Option<u8>,
    /// Which half is read next: 0 the lower.
    pub read_next: u8,
    /// The lower half that was written, when the upper one is to come.
    pub write_low: Option<u8>,
    /// 1 lower byte, 2 upper byte, 3 both.
    pub access: u8,
    /// 0 to 5.
    pub mode: u8,
    /// Whether it counts in decimal.
    pub bcd: bool,
    /// Gate input.
    pub gate: bool,
    /// When counting began, in nanoseconds of the machine's clock; `u64::MAX` while nothing counts.
    pub loaded_at: u64,
    /// When the gate stopped it, if it did.
    pub stopped_at: Option<u64>,
}
