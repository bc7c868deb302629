//! SSE2 instructions on integers, on the host's own SSE2, which every x86-64 processor has.
#![allow(unsafe_code, reason = "the host's SSE2 by inline assembly")]

use std::arch::asm;

use super::{
    native_sse::{value, vector},
    vector::Args,
};

/// Instructions of two vectors; those of MMX are the lower half of the same.
macro_rules! vectors {
    ($($name:ident)*) => {$(
        pub(super) fn $name(x: Args) -> u128 {
            let (mut result, source) = (vector(x.a), vector(x.b));
            // SAFETY: SSE2 on registers alone.
            unsafe {
                asm!(
                    concat!(stringify!($name), " {result}, {source}"),
                    result = inout(xmm_reg) result,
                    source = in(xmm_reg) source,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
            value(result)
        }
    )*};
}

vectors! {
    paddb paddw paddd paddq psubb psubw psubd psubq
    paddusb paddusw psubusb psubusw paddsb paddsw psubsb psubsw
    pavgb pavgw psadbw pmaxub pminub pmaxsw pminsw
    pcmpeqb pcmpeqw pcmpeqd pcmpgtb pcmpgtw pcmpgtd
    pmullw pmulhuw pmulhw pmuludq pmaddwd
    psllw pslld psllq psrlw psrld psrlq psraw psrad
    packsswb packuswb packssdw
    punpcklbw punpcklwd punpckldq punpcklqdq
    punpckhbw punpckhwd punpckhdq punpckhqdq
}

/// The highest bit of each byte.
pub(super) fn pmovmskb(x: Args) -> u128 {
    let source = vector(x.b);
    let mask: u32;
    // SAFETY: SSE2 on registers alone.
    unsafe {
        asm!(
            "pmovmskb {mask:e}, {source}",
            mask = out(reg) mask,
            source = in(xmm_reg) source,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    mask.into()
}
