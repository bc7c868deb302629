//! Classic BPF: instructions, and a small assembler that knows how far they can jump.

/// One instruction of classic BPF, laid out as the kernel's `struct sock_filter`.
///
/// Source: linux/filter.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What it does.
    pub code: u16,
    /// How many instructions to skip if a test holds.
    pub jt: u8,
    /// How many instructions to skip if it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// `A = word at k` of `struct seccomp_data`
pub(crate) const LOAD: u16 = 0x20;
/// `A &= k`
pub(crate) const AND: u16 = 0x54;
/// `skip k`
pub(crate) const JUMP: u16 = 0x05;
/// `return k`
pub(crate) const RETURN: u16 = 0x06;

/// A test of the accumulator against the operand, unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    /// `A == k`
    Equal,
    /// `A > k`
    Greater,
    /// `A >= k`
    GreaterOrEqual,
}

impl Test {
    pub(crate) fn code(self) -> u16 {
        match self {
            Test::Equal => 0x15,
            Test::Greater => 0x25,
            Test::GreaterOrEqual => 0x35,
        }
    }
}

/// Offsets in `struct seccomp_data` (linux/seccomp.h).
pub(crate) const NUMBER: u32 = 0;
/// See [`NUMBER`].
pub(crate) const ARCH: u32 = 4;

/// The offset of one half of an argument; all architectures known here have the low half first.
pub(crate) fn argument(index: u8, high: bool) -> u32 {
    16 + 8 * u32::from(index) + if high { 4 } else { 0 }
}

/// An instruction that does not branch.
pub(crate) fn plain(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

/// A test followed by what is done if it fails and what is done if it holds, neither of which
/// falls through.
pub(crate) fn branch(
    test: Test,
    k: u32,
    holds: Vec<Instruction>,
    fails: Vec<Instruction>,
) -> Vec<Instruction> {
    let mut code = Vec::with_capacity(holds.len() + fails.len() + 2);
    match u8::try_from(fails.len()) {
        Ok(jt) => code.push(Instruction { code: test.code(), jt, jf: 0, k }),
        // A test jumps 255 instructions at most; an unconditional jump has 32 bits.
        Err(_) => {
            code.push(Instruction { code: test.code(), jt: 0, jf: 1, k });
            let far = u32::try_from(fails.len()).unwrap_or(u32::MAX);
            code.push(plain(JUMP, far));
        }
    }
    code.extend(fails);
    code.extend(holds);
    code
}
