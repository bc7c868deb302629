//! Numbers of system calls by name.

mod aarch64;
mod x86;
mod x86_64;

use crate::Arch;

/// The number of a call, if the architecture has it.
pub(crate) fn number(arch: Arch, name: &str) -> Option<u32> {
    let table = table(arch);
    let at = table.binary_search_by(|(known, _)| (*known).cmp(name)).ok()?;
    table.get(at).map(|(_, number)| *number)
}

/// All calls of an architecture, sorted by name.
pub(crate) fn table(arch: Arch) -> &'static [(&'static str, u32)] {
    match arch {
        Arch::X86_64 => x86_64::TABLE,
        Arch::X86 => x86::TABLE,
        Arch::Aarch64 => aarch64::TABLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_and_known_numbers_are_right() {
        for arch in [Arch::X86_64, Arch::X86, Arch::Aarch64] {
            assert!(table(arch).is_sorted_by(|(a, _), (b, _)| a < b), "{arch:?}");
        }
        let read = [Arch::X86_64, Arch::X86, Arch::Aarch64].map(|arch| number(arch, "read"));
        assert_eq!(read, [Some(0), Some(3), Some(63)]);
        assert_eq!(number(Arch::X86_64, "clone3"), Some(435));
        assert_eq!(number(Arch::Aarch64, "open"), None);
    }
}
