//! Kernel modules: what each needs, which of them a guest needs, in which order they load.
//!
//! A module says in its section `.modinfo` what it is called, which kernel it is for and which
//! others must be there before it. That is what `depmod` makes `modules.dep` from, which packages
//! do not contain.
//!
//! Sources: System V ABI, "Sections"; Linux `include/linux/module.h`, `kernel/module/main.c`.

use std::collections::{BTreeMap, BTreeSet};

/// Longest module, unpacked.
pub(crate) const MODULE_BYTES_MAX: u64 = 64 << 20;

/// Longest `.modinfo`.
const MODINFO_BYTES_MAX: usize = 1 << 20;

/// What a guest can make use of, in the order of their importance. A kernel that has one of them
/// built in has no such module.
pub const WANTED: &[&str] = &[
    "virtio_mmio",
    "virtio_blk",
    "erofs",
    "overlay",
    "ext4",
    "vmw_vsock_virtio_transport",
    "virtio_net",
    "virtio_console",
    "virtio_rng",
    "virtio_balloon",
    "virtiofs",
    "loop",
    "isofs",
    "button",
    "evdev",
    "pvpanic_mmio",
    // What the container engine needs for networks of its own within the guest.
    "af_packet",
    "tun",
    "veth",
    "bridge",
];

/// What a module says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ModuleInfo {
    /// Its name, with `_` where its file may have `-`.
    pub(crate) name: String,
    /// The release that it is for.
    pub(crate) release: String,
    /// What must be loaded before it.
    pub(crate) needs: Vec<String>,
    /// What should be, if it is there.
    pub(crate) likes: Vec<String>,
}

impl ModuleInfo {
    /// Reads it from an unpacked module; nothing if it is none.
    pub(crate) fn parse(module: &[u8]) -> Option<ModuleInfo> {
        let section = section(module, b".modinfo")?;
        let section = section.get(..section.len().min(MODINFO_BYTES_MAX))?;
        let mut info = ModuleInfo::default();
        for line in section.split(|byte| *byte == 0) {
            let Some((key, value)) =
                str::from_utf8(line).ok().and_then(|line| line.split_once('='))
            else {
                continue;
            };
            match key {
                "name" => info.name = plain(value),
                "vermagic" => {
                    value.split(' ').next().unwrap_or_default().clone_into(&mut info.release);
                }
                "depends" => {
                    info.needs = value.split(',').filter(|it| !it.is_empty()).map(plain).collect();
                }
                "softdep" => info.likes.extend(before(value)),
                _ => {}
            }
        }
        is_name(&info.name).then_some(info)
    }
}

/// Names are the same with `-` and `_`.
pub(crate) fn plain(name: &str) -> String {
    name.trim().replace('-', "_")
}

/// Whether it can be a file's name too.
fn is_name(name: &str) -> bool {
    let right = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (1..=64).contains(&name.len()) && name.chars().all(right)
}

/// What a soft dependency wants loaded before: `pre: a b post: c`.
fn before(value: &str) -> Vec<String> {
    let words = value.split(' ').filter(|word| !word.is_empty());
    let words = words.skip_while(|word| *word != "pre:").skip(1);
    words.take_while(|word| !word.ends_with(':')).map(plain).collect()
}

/// A section of a relocatable ELF file, by its name.
fn section<'a>(file: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let number = |at: u64, bytes: usize| -> Option<u64> {
        let at = usize::try_from(at).ok()?;
        let found = file.get(at..at.checked_add(bytes)?)?;
        Some(found.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte)))
    };
    if !file.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, entry) = (number(40, 8)?, number(58, 2)?);
    let (count, names) = (number(60, 2)?, number(62, 2)?);
    let header = |index: u64| table.checked_add(index.checked_mul(entry)?);
    let data = |header: u64| -> Option<&'a [u8]> {
        let start = usize::try_from(number(header.checked_add(24)?, 8)?).ok()?;
        let length = usize::try_from(number(header.checked_add(32)?, 8)?).ok()?;
        file.get(start..start.checked_add(length)?)
    };
    let names = data(header(names)?)?;
    (0..count).find_map(|index| {
        let header = header(index)?;
        let at = usize::try_from(number(header, 4)?).ok()?;
        let found = names.get(at..)?.split(|byte| *byte == 0).next()?;
        if found == name { data(header) } else { None }
    })
}

/// Which modules to keep, in an order in which each can be loaded, and which that they need are
/// neither here nor built in.
pub(crate) fn select(
    all: &BTreeMap<String, ModuleInfo>,
    built_in: &BTreeSet<String>,
    wanted: &[&str],
) -> (Vec<String>, BTreeSet<String>) {
    let (mut order, mut missing) = (Vec::new(), BTreeSet::new());
    let mut seen = BTreeSet::new();
    // Names to visit; those whose needs have been visited come again with `true`.
    let mut stack: Vec<(&str, bool)> = wanted.iter().rev().map(|name| (*name, false)).collect();
    while let Some((name, ready)) = stack.pop() {
        let Some((name, info)) = all.get_key_value(name) else { continue };
        if ready {
            order.push(name.clone());
            continue;
        }
        if !seen.insert(name.as_str()) {
            continue;
        }
        stack.push((name, true));
        let here = |need: &&String| all.contains_key(*need);
        stack.extend(info.likes.iter().filter(here).map(|like| (like.as_str(), false)));
        stack.extend(info.needs.iter().rev().map(|need| (need.as_str(), false)));
        let absent = info.needs.iter().filter(|need| !here(need) && !built_in.contains(*need));
        missing.extend(absent.cloned());
    }
    (order, missing)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A file with a section `.modinfo`.
    pub(crate) fn module(name: &str, release: &str, depends: &str, more: &str) -> Vec<u8> {
        let info = format!(
            "license=GPL\0depends={depends}\0name={name}\0vermagic={release} SMP mod_unload \0{more}"
        );
        let names = b"\0.shstrtab\0.modinfo\0";
        let table = 64 + names.len() + info.len();
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(64, 0);
        file[40..48].copy_from_slice(&(table as u64).to_le_bytes());
        file[58..60].copy_from_slice(&64_u16.to_le_bytes());
        file[60..62].copy_from_slice(&3_u16.to_le_bytes());
        file[62..64].copy_from_slice(&1_u16.to_le_bytes());
        file.extend(names);
        file.extend(info.bytes());
        let mut header = |name: u32, start: usize, length: usize| {
            let mut bytes = [0; 64];
            bytes[..4].copy_from_slice(&name.to_le_bytes());
            bytes[24..32].copy_from_slice(&(start as u64).to_le_bytes());
            bytes[32..40].copy_from_slice(&(length as u64).to_le_bytes());
            file.extend(bytes);
        };
        header(0, 0, 0);
        header(1, 64, names.len());
        header(11, 64 + names.len(), info.len());
        file
    }

    #[test]
    fn a_module_says_what_it_needs() {
        let file =
            module("erofs", "6.1.0", "libcrc32c,zstd-x", "softdep=pre: crc32c lz4 post: q\0");
        let info = ModuleInfo::parse(&file).unwrap();
        assert_eq!(info.name, "erofs");
        assert_eq!(info.release, "6.1.0");
        assert_eq!(info.needs, ["libcrc32c", "zstd_x"]);
        assert_eq!(info.likes, ["crc32c", "lz4"]);
        assert_eq!(ModuleInfo::parse(&module("../evil", "6.1.0", "", "")), None);
        assert_eq!(ModuleInfo::parse(b"\x7fELF"), None);
    }

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    fn tree(of: &[(&str, &[&str], &[&str])]) -> BTreeMap<String, ModuleInfo> {
        let info = |(name, needs, likes): &(&str, &[&str], &[&str])| {
            let name = (*name).to_owned();
            let info = ModuleInfo {
                name: name.clone(),
                release: String::new(),
                needs: names(needs),
                likes: names(likes),
            };
            (name, info)
        };
        of.iter().map(info).collect()
    }

    #[test]
    fn what_is_needed_comes_first_and_nothing_comes_that_is_not() {
        let all = tree(&[
            ("mmio", &["ring", "virtio"], &[]),
            ("ring", &[], &[]),
            ("virtio", &["ring"], &[]),
            ("erofs", &["crc", "built"], &["fast_crc", "nowhere"]),
            ("crc", &[], &[]),
            ("fast_crc", &[], &[]),
            ("sound", &[], &[]),
        ]);
        let built_in = BTreeSet::from(["built".to_owned()]);
        let (order, missing) = select(&all, &built_in, &["mmio", "absent", "erofs"]);
        assert_eq!(order, ["ring", "virtio", "mmio", "crc", "fast_crc", "erofs"]);
        assert!(missing.is_empty(), "{missing:?}");
        let (_, missing) = select(&all, &BTreeSet::new(), &["erofs"]);
        assert_eq!(missing, BTreeSet::from(["built".to_owned()]));
    }

    #[test]
    fn modules_that_need_each_other_come_once() {
        let all = tree(&[("a", &["b"], &[]), ("b", &["a"], &[])]);
        assert_eq!(select(&all, &BTreeSet::new(), &["a", "b"]).0, ["b", "a"]);
    }

    proptest! {
        #[test]
        fn no_header_makes_it_look_outside_of_the_file(
            at in 0_usize..300, value in any::<u32>(), length in 0_usize..400,
        ) {
            let mut file = module("erofs", "6.1.0", "a,b", "");
            let at = at.min(file.len() - 4);
            file[at..at + 4].copy_from_slice(&value.to_le_bytes());
            file.truncate(length);
            let _ = ModuleInfo::parse(&file);
        }

        #[test]
        fn whatever_is_chosen_stands_behind_what_it_needs(
            edges in prop::collection::vec((0_u8..12, 0_u8..12), 0..40),
        ) {
            // Only from higher to lower: no circles.
            let mut all: BTreeMap<String, ModuleInfo> = BTreeMap::new();
            for n in 0..12 {
                let name = format!("m{n}");
                all.insert(name.clone(), ModuleInfo { name, ..ModuleInfo::default() });
            }
            for (from, to) in edges.iter().filter(|(from, to)| from > to) {
                all.get_mut(&format!("m{from}")).unwrap().needs.push(format!("m{to}"));
            }
            let (order, missing) = select(&all, &BTreeSet::new(), &["m11", "m5", "m10"]);
            prop_assert!(missing.is_empty());
            for (at, name) in order.iter().enumerate() {
                for need in &all[name].needs {
                    prop_assert!(order[..at].contains(need), "{name} before {need}: {order:?}");
                }
            }
        }
    }
}
