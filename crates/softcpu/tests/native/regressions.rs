//! Cases that once came out differently, found at random.

use crate::fpu_case::Case;

/// One of them: what matters of the state before it.
pub(crate) struct Found {
    /// What it was.
    pub(crate) why: &'static str,
    /// The instruction; memory is at [rsi].
    pub(crate) code: &'static [u8],
    /// Where rsi points in the data pages.
    pub(crate) offset: u64,
    /// x87's control word.
    pub(crate) control: u16,
    /// x87's status word.
    pub(crate) status: u16,
    /// x87's tags.
    pub(crate) tags: u8,
    /// mxcsr.
    pub(crate) mxcsr: u32,
    /// st0, xmm0 and xmm1, in that order.
    pub(crate) values: [u128; 3],
}

const QUIET: Found = Found {
    why: "",
    code: &[],
    offset: 0,
    control: 0x037f,
    status: 0,
    tags: 0xff,
    mxcsr: 0x1f80,
    values: [0; 3],
};

/// mxcsr with underflow, overflow, denormals not masked.
const UNDERFLOW: u32 = 0x1f80 & !(1 << 11);
const OVERFLOW: u32 = 0x1f80 & !(1 << 10);
const DENORMAL: u32 = 0x1f80 & !(1 << 8);

/// All of them.
pub(crate) const FOUND: &[Found] = &[
    Found {
        why: "a tiny product is inexact only if it is without a smallest exponent",
        code: &[0x66, 0x0f, 0x59, 0xc1], // mulpd xmm0, xmm1
        mxcsr: UNDERFLOW,
        values: [0, 0x0010_0000_0000_0001, 0x3fe0_0000_0000_0000],
        ..QUIET
    },
    Found {
        why: "an exact tiny sum is underflow where that is not masked",
        code: &[0x0f, 0x5c, 0xc1], // subps xmm0, xmm1
        mxcsr: UNDERFLOW,
        values: [0, 0x0080_0001, 0x0080_0000],
        ..QUIET
    },
    Found {
        why: "flush-to-zero counts only where underflow is masked",
        code: &[0xf3, 0x0f, 0x59, 0xc1], // mulss xmm0, xmm1
        mxcsr: UNDERFLOW | 1 << 15,
        values: [0, 0x0080_0000, 0x3f00_0000],
        ..QUIET
    },
    Found {
        why: "a sum that is too large is inexact only if it is without a largest exponent",
        code: &[0xf2, 0x0f, 0x58, 0xc1], // addsd xmm0, xmm1
        mxcsr: OVERFLOW,
        values: [0, 0x7fef_ffff_ffff_ffff, 0x7fef_ffff_ffff_ffff],
        ..QUIET
    },
    Found {
        why: "a narrowed double that is too small",
        code: &[0x66, 0x0f, 0x5a, 0xc1], // cvtpd2ps xmm0, xmm1
        mxcsr: UNDERFLOW,
        values: [0, 0, 0x3800_0000_0000_0000_3700_0000_2000_0000],
        ..QUIET
    },
    Found {
        why: "products of dpps keep their flags when a sum meets a denormal",
        code: &[0x66, 0x0f, 0x3a, 0x40, 0xc1, 0xff], // dpps xmm0, xmm1, 0xff
        mxcsr: DENORMAL,
        values: [0, 0x0080_0001_0080_0001, 0x3f00_0000_3f00_0000],
        ..QUIET
    },
    Found {
        why: "what dppd finds in its products keeps it from summing",
        code: &[0x66, 0x0f, 0x3a, 0x41, 0xc1, 0xff], // dppd xmm0, xmm1, 0xff
        mxcsr: UNDERFLOW,
        values: [
            0,
            0x3ff0_0000_0000_0001_0010_0000_0000_0001,
            0x3ff0_0000_0000_0001_3fe0_0000_0000_0000,
        ],
        ..QUIET
    },
    Found {
        why: "an unmasked exception keeps fstp from storing, not from needing its memory",
        code: &[0xd9, 0x1e], // fstp dword [rsi]
        offset: 0x40,
        control: 0x0340,
        values: [0x4001_ffff_ffff_ffff_ffff, 0, 0],
        ..QUIET
    },
    Found {
        why: "fisttp rounds to zero and keeps the control word",
        code: &[0xdd, 0x0e], // fisttp qword [rsi]
        control: 0x0b7f,
        values: [0xc001_ffff_ffff_ffff_ffff, 0, 0],
        ..QUIET
    },
    Found {
        why: "an MMX instruction moves the top and keeps the physical registers",
        code: &[0x0f, 0xfe, 0xc1], // paddd mm0, mm1
        status: 5 << 11,
        tags: 0x21,
        values: [0x4000_8000_0000_0000_0000, 0, 0],
        ..QUIET
    },
    Found {
        why: "fxsave across the end of memory",
        code: &[0x0f, 0xae, 0x06],
        offset: 0x1f00,
        ..QUIET
    },
    Found { why: "emms puts the top at register 0", code: &[0x0f, 0x77], status: 3 << 11, ..QUIET },
];

impl Found {
    /// The whole case; memory holds what the random ones begin with.
    pub(crate) fn case(&self) -> Case {
        let mut case = Case::blank(self.code, self.offset);
        let [st, xmm0, xmm1] = self.values.map(u128::to_le_bytes);
        case.fpu.control = self.control;
        case.fpu.status = self.status;
        case.fpu.tags = self.tags;
        case.fpu.mxcsr = self.mxcsr;
        case.fpu.st[0].copy_from_slice(&st[..10]);
        case.fpu.xmm[0] = xmm0;
        case.fpu.xmm[1] = xmm1;
        case
    }
}
