//! What an image was built for, and which of several fits best. Pure but for [`Platform::host`].
//!
//! Source: OCI image-spec, image-index.md, "platform"; github.com/containerd/platforms.

use std::{fmt, ptr, str::FromStr};

use base::ErrorKind;
use serde::{Deserialize, Serialize};

/// Operating system, architecture and, for some, its variant, in Go's names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`, `wasi`.
    pub os: String,
    /// `amd64`, `arm64`, `wasm`.
    pub architecture: String,
    /// `v7` of `arm`; absent where it is the architecture's first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Why a string is not a platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{given}\" is not a platform: write os/architecture[/variant], such as linux/amd64")]
pub struct PlatformError {
    /// What was given.
    pub given: String,
}

impl PlatformError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }
}

impl Platform {
    /// The platform whose containers this host runs.
    pub fn host() -> Platform {
        Platform::new("linux", std::env::consts::ARCH, None)
    }

    /// The platform of WASI modules.
    pub fn wasi() -> Platform {
        Platform::new("wasi", "wasm", None)
    }

    /// A platform in Go's names, from whatever names it is known by.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Platform {
        let variant = variant.filter(|v| !v.is_empty());
        let (architecture, variant) = match (architecture, variant) {
            ("x86_64" | "x86-64" | "amd64", None | Some("v1")) => ("amd64", None),
            ("x86_64" | "x86-64", variant) => ("amd64", variant),
            ("aarch64" | "arm64", None | Some("8" | "v8")) => ("arm64", None),
            ("aarch64", variant) => ("arm64", variant),
            ("i386" | "i486" | "i586" | "i686" | "x86", _) => ("386", None),
            ("armhf", _) | ("arm", None | Some("7")) => ("arm", Some("v7")),
            ("armel", _) | ("arm", Some("6")) => ("arm", Some("v6")),
            ("powerpc64le", _) => ("ppc64le", None),
            other => other,
        };
        let (os, architecture) = (os.to_owned(), architecture.to_owned());
        Platform { os, architecture, variant: variant.map(str::to_owned) }
    }

    /// How well an image for `self` serves one who wants `wanted`: lower is better, `None` is not
    /// at all.
    pub fn rank(&self, wanted: &Platform) -> Option<u32> {
        if self.os != wanted.os || self.architecture != wanted.architecture {
            return None;
        }
        let level = |p: &Platform| match &p.variant {
            None => Some(if p.architecture == "arm64" { 8 } else { 1 }),
            Some(v) => v.strip_prefix('v').and_then(|n| n.parse::<u32>().ok()),
        };
        match (level(self), level(wanted)) {
            // A processor runs what was built for earlier variants of its architecture.
            (Some(have), Some(want)) => want.checked_sub(have),
            _ => (self.variant == wanted.variant).then_some(0),
        }
    }
}

/// The one of `items` that serves `wanted` best; the first of equals.
pub fn best<'a, T>(
    items: &'a [T],
    wanted: &Platform,
    platform: impl Fn(&T) -> &Platform,
) -> Option<&'a T> {
    let ranked = items.iter().filter_map(|item| Some((platform(item).rank(wanted)?, item)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, item)| item)
}

/// The best one of `items` for each of `wanted`, in the order of the items and each once; of no
/// platforms all of them.
///
/// # Errors
/// The first platform that none serves.
pub fn best_of_each<'a, 'w, T>(
    items: &'a [T],
    wanted: &'w [Platform],
    platform: impl Fn(&T) -> &Platform,
) -> Result<Vec<&'a T>, &'w Platform> {
    let mut chosen = Vec::new();
    for wanted in wanted {
        chosen.push(best(items, wanted, &platform).ok_or(wanted)?);
    }
    let takes = |item: &&T| wanted.is_empty() || chosen.iter().any(|one| ptr::eq(*one, *item));
    Ok(items.iter().filter(takes).collect())
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Platform, PlatformError> {
        let lower = text.to_ascii_lowercase();
        let parts: Vec<&str> = lower.split('/').collect();
        let word = |part: &&str| {
            (1..=32).contains(&part.len())
                && part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        match (parts.iter().all(word), parts.as_slice()) {
            (true, [word]) => {
                alone(word).ok_or_else(|| PlatformError { given: text.chars().take(100).collect() })
            }
            (true, [os, architecture]) => Ok(Platform::new(os, architecture, None)),
            (true, [os, architecture, variant]) => {
                Ok(Platform::new(os, architecture, Some(variant)))
            }
            _ => Err(PlatformError { given: text.chars().take(100).collect() }),
        }
    }
}

/// A system or an architecture without the other: the rest is the host's.
///
/// Source: github.com/containerd/platforms, `Parse`.
fn alone(word: &str) -> Option<Platform> {
    const SYSTEMS: [&str; 4] = ["linux", "windows", "darwin", "freebsd"];
    const ARCHITECTURES: [&str; 14] = [
        "amd64", "x86_64", "x86-64", "386", "i386", "arm64", "aarch64", "arm", "armhf", "armel",
        "ppc64le", "s390x", "riscv64", "loong64",
    ];
    if SYSTEMS.contains(&word) {
        return Some(Platform::new(word, std::env::consts::ARCH, None));
    }
    ARCHITECTURES.contains(&word).then(|| Platform::new("linux", word, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn platforms_have_one_name_each() {
        for (given, want) in [
            ("linux/x86_64", "linux/amd64"),
            ("Linux/AMD64", "linux/amd64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("wasi/wasm", "wasi/wasm"),
            ("amd64", "linux/amd64"),
            ("armhf", "linux/arm/v7"),
        ] {
            assert_eq!(p(given).to_string(), want);
        }
        assert_eq!(p("linux"), Platform::host());
        for bad in ["", "amd65", "linux/", "a/b/c/d", "linux/../x", "li nux/amd64"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn of_several_platforms_each_gets_its_own_and_a_missing_one_is_named() {
        let have = [p("linux/amd64"), p("linux/arm/v7"), p("linux/arm64")];
        let choose = |wanted: &[Platform]| match best_of_each(&have, wanted, |p| p) {
            Ok(chosen) => chosen.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Err(missing) => format!("no {missing}"),
        };
        assert_eq!(choose(&[]), "linux/amd64 linux/arm/v7 linux/arm64");
        assert_eq!(choose(&[p("arm64"), p("amd64")]), "linux/amd64 linux/arm64");
        assert_eq!(choose(&[p("amd64"), p("linux/amd64/v2")]), "linux/amd64");
        assert_eq!(choose(&[p("amd64"), p("s390x"), p("ppc64le")]), "no linux/s390x");
    }

    #[test]
    fn the_nearest_variant_that_runs_is_chosen() {
        let have = [p("linux/arm/v6"), p("linux/arm/v7"), p("linux/arm64"), p("wasi/wasm")];
        let choose = |wanted: &str| best(&have, &p(wanted), |p| p).map(ToString::to_string);
        assert_eq!(choose("linux/arm/v7").as_deref(), Some("linux/arm/v7"));
        assert_eq!(choose("linux/arm/v6").as_deref(), Some("linux/arm/v6"));
        assert_eq!(choose("linux/arm/v5"), None);
        assert_eq!(choose("linux/amd64"), None);
        assert_eq!(choose("linux/arm64").as_deref(), Some("linux/arm64"));
        assert_eq!(p("linux/amd64").rank(&p("linux/amd64/v3")), Some(2));
        assert_eq!(p("linux/amd64/v3").rank(&p("linux/amd64")), None);
    }
}
