//! The registers of x87, MMX and SSE.

use hv::state::FpuState;

/// Bits of mxcsr that exist: flags, denormals-are-zeros, masks, rounding, flush-to-zero.
///
/// Source: Intel SDM volume 1, 10.2.3.
pub(super) const MXCSR_MASK: u32 = 0xffff;

/// Exceptions of the x87 status word, and their masks in the control word: IE DE ZE OE UE PE.
pub(super) const EXCEPTIONS: u16 = 0x3f;

/// ES and B: whether an unmasked exception is flagged.
const SUMMARY: u16 = 1 << 7;
const BUSY: u16 = 1 << 15;
const TOP_SHIFT: u16 = 11;

/// Bit 6 of the control word is reserved and reads as 1, as `fninit` leaves it; 7 and 13 to 15
/// read as 0; 12 (infinity control) is kept and means nothing.
const CONTROL_ONES: u16 = 0x40;
const CONTROL_KEPT: u16 = 0x1f3f;

/// The registers of x87 (with MMX in them) and of SSE.
#[derive(Clone, Debug)]
pub struct Fpu {
    /// Control word.
    pub(super) control: u16,
    /// Status word; its summary bits always say what its flags and the control word say.
    pub(super) status: u16,
    /// Which physical registers are used, one bit each.
    pub(super) tags: u8,
    /// The lower 11 bits of the last instruction's opcode.
    pub(super) opcode: u16,
    /// Offset of the last instruction.
    pub(super) instruction: u64,
    /// Offset of the last memory operand.
    pub(super) operand: u64,
    /// st0 to st7, relative to the top.
    pub(super) st: [[u8; 10]; 8],
    pub(super) mxcsr: u32,
    /// xmm0 to xmm15, the lowest lane in the lowest bits.
    pub xmm: [u128; 16],
    /// Upper halves of ymm0 to ymm15, which no instruction here touches.
    pub ymm: [u128; 16],
}

impl Default for Fpu {
    fn default() -> Fpu {
        Fpu::new(&FpuState::default())
    }
}

impl Fpu {
    /// Takes a state over. Reserved bits of control words read as the processor has them.
    pub fn new(state: &FpuState) -> Fpu {
        let mut fpu = Fpu {
            control: 0,
            status: state.status,
            tags: state.tags,
            opcode: state.opcode & 0x7ff,
            instruction: state.instruction,
            operand: state.operand,
            st: state.st,
            mxcsr: state.mxcsr & MXCSR_MASK,
            xmm: state.xmm.map(u128::from_le_bytes),
            ymm: state.ymm.map(u128::from_le_bytes),
        };
        fpu.set_control(state.control);
        fpu
    }

    /// The state as a snapshot keeps it.
    pub fn state(&self) -> FpuState {
        FpuState {
            control: self.control,
            status: self.status,
            tags: self.tags,
            opcode: self.opcode,
            instruction: self.instruction,
            operand: self.operand,
            st: self.st,
            mxcsr: self.mxcsr,
            xmm: self.xmm.map(u128::to_le_bytes),
            ymm: self.ymm.map(u128::to_le_bytes),
        }
    }

    /// SSE control and status.
    pub fn mxcsr(&self) -> u32 {
        self.mxcsr
    }

    /// Sets SSE control and status, or refuses reserved bits.
    pub fn set_mxcsr(&mut self, mxcsr: u32) -> Option<()> {
        (mxcsr & !MXCSR_MASK == 0).then(|| self.mxcsr = mxcsr)
    }

    /// Sets the control word, which may unmask what is already flagged.
    pub(super) fn set_control(&mut self, control: u16) {
        self.control = control & CONTROL_KEPT | CONTROL_ONES;
        self.set_status(self.status);
    }

    /// Sets the status word; its summary bits follow from its flags.
    pub(super) fn set_status(&mut self, status: u16) {
        let pending = status & !self.control & EXCEPTIONS != 0;
        self.status = status & !(SUMMARY | BUSY) | if pending { SUMMARY | BUSY } else { 0 };
    }

    /// Whether an unmasked x87 exception waits for the next waiting instruction.
    pub(super) fn pending(&self) -> bool {
        self.status & SUMMARY != 0
    }

    /// Which physical register is st0.
    pub(super) fn top(&self) -> usize {
        usize::from(self.status >> TOP_SHIFT & 7)
    }

    /// As `fninit` leaves it.
    pub(super) fn initialize(&mut self) {
        let FpuState { control, status, tags, opcode, instruction, operand, .. } =
            FpuState::default();
        let (st, mxcsr, xmm, ymm) = (self.rotated(0), self.mxcsr, self.xmm, self.ymm);
        *self = Fpu { control, status, tags, opcode, instruction, operand, st, mxcsr, xmm, ymm };
    }

    /// What an MMX instruction does to x87 before anything else: the top is register 0, and every
    /// register is used.
    pub(super) fn enter_mmx(&mut self) {
        if self.top() != 0 {
            self.st = self.rotated(0);
            self.status &= !(7 << TOP_SHIFT);
        }
        self.tags = 0xff;
    }

    /// mm0 to mm7: the significand of a physical register.
    pub(super) fn mm(&self, number: usize) -> u64 {
        let register = &self.st[(number + 8 - self.top()) % 8];
        u64::from_le_bytes(*register.first_chunk().expect("eight of ten bytes"))
    }

    /// Sets an MMX register, after [`Fpu::enter_mmx`].
    pub(super) fn set_mm(&mut self, number: usize, value: u64) {
        let register = &mut self.st[(number + 8 - self.top()) % 8];
        register[..8].copy_from_slice(&value.to_le_bytes());
        // Sign and exponent become ones: to x87 it is not a number.
        register[8..].fill(0xff);
    }

    /// The registers in the order of another top.
    pub(super) fn rotated(&self, top: usize) -> [[u8; 10]; 8] {
        let mut st = self.st;
        st.rotate_right((self.top() + 8 - top) % 8);
        st
    }

    /// The tag word in full: two bits for each physical register.
    ///
    /// Source: Intel SDM volume 1, 8.1.7.
    pub(super) fn full_tags(&self) -> u16 {
        (0..8).fold(0, |tags, physical| {
            let tag = if self.tags >> physical & 1 == 0 {
                3
            } else {
                content_tag(&self.st[(physical + 8 - self.top()) % 8])
            };
            tags | tag << (2 * physical)
        })
    }
}

/// One bit for each physical register that is not empty.
pub(super) fn abridged(tags: u16) -> u8 {
    (0..8).fold(0, |used, n| used | u8::from(tags >> (2 * n) & 3 != 3) << n)
}

/// 0 for a number, 1 for zero, 2 for what is special: NaN, infinity, denormal, unsupported.
fn content_tag(register: &[u8; 10]) -> u16 {
    let significand = u64::from_le_bytes(*register.first_chunk().expect("eight of ten bytes"));
    let exponent = u16::from_le_bytes([register[8], register[9]]) & 0x7fff;
    match exponent {
        0 if significand == 0 => 1,
        0 | 0x7fff => 2,
        _ if significand >> 63 == 1 => 0,
        _ => 2,
    }
}
