//! Where kernels are fetched, and whose signature is believed.
//!
//! `kernels.toml`:
//!
//! ```toml
//! # One line for each suite, as in sources.list: a URL and a suite.
//! mirrors = [
//!     "https://mirror.example/debian bookworm",
//!     "https://mirror.example/debian-security bookworm-security",
//! ]
//! keyring = "/etc/wythe/debian.gpg"    # instead of the keys that come with Wythe
//! ```

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use reqwest::Url;
use serde::Deserialize;

use crate::openpgp::{Keyring, PgpError};

/// The file's name.
const FILE: &str = "kernels.toml";

/// Longest file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Most mirrors.
const MIRRORS_MAX: usize = 16;

/// Where Debian's kernels are unless somebody says otherwise: the release, and its updates.
pub const MIRRORS: [&str; 2] = [
    "http://deb.debian.org/debian bookworm",
    "http://deb.debian.org/debian-security bookworm-security",
];

/// The keys of Debian's archive. See `keys/README.md` for where they are from.
const KEYS: &[u8] = include_bytes!("../keys/debian-archive.asc");

/// One suite of one archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// The archive, without a slash at its end.
    pub url: String,
    /// The suite.
    pub suite: String,
}

/// Where kernels are fetched, and whose signature is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where they are looked for; the latest of all is taken.
    pub mirrors: Vec<Mirror>,
    /// Keys to believe instead of Debian's.
    pub keyring: Option<PathBuf>,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It makes no sense.
    #[error("{}: {why}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A file of keys has none.
    #[error("{} is no key ring", path.display())]
    Keyring {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: PgpError,
    },
}

/// Why a text names no mirror.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" names no mirror: write its URL and a suite, such as \
     \"http://deb.debian.org/debian bookworm\""
)]
pub struct MirrorError(String);

impl FromStr for Mirror {
    type Err = MirrorError;
    fn from_str(text: &str) -> Result<Mirror, MirrorError> {
        let bad = || MirrorError(text.to_owned());
        let mut words = text.split_ascii_whitespace();
        let (url, suite) = (words.next().ok_or_else(bad)?, words.next().ok_or_else(bad)?);
        let parsed = Url::parse(url).map_err(|_| bad())?;
        let plain = parsed.query().is_none() && parsed.fragment().is_none();
        let right = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let suite_right =
            suite.starts_with(|c: char| c.is_ascii_alphanumeric()) && suite.chars().all(right);
        if words.next().is_some()
            || !["http", "https"].contains(&parsed.scheme())
            || !plain
            || !suite_right
        {
            return Err(bad());
        }
        let url = url.trim_end_matches('/').to_owned();
        Ok(Mirror { url, suite: suite.to_owned() })
    }
}

impl fmt::Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.url, self.suite)
    }
}

/// The file's form.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    mirrors: Option<Vec<String>>,
    keyring: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Settings {
        let mirrors = MIRRORS.iter().filter_map(|mirror| mirror.parse().ok()).collect();
        Settings { mirrors, keyring: None }
    }
}

impl Settings {
    /// Reads `kernels.toml` of the first of these directories that has one.
    ///
    /// # Errors
    /// If there is one that cannot be read.
    pub fn read(directories: &[&Path]) -> Result<Settings, SettingsError> {
        for directory in directories {
            let path = directory.join(FILE);
            let text = match fs::metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Ok(found) if found.len() > FILE_BYTES_MAX => {
                    let why = format!("it is longer than {FILE_BYTES_MAX} bytes");
                    return Err(SettingsError::Parse { path, why });
                }
                found => found.and_then(|_| fs::read_to_string(&path)),
            };
            let text = text.map_err(|source| SettingsError::Read { path: path.clone(), source })?;
            return Settings::parse(&text).map_err(|why| SettingsError::Parse { path, why });
        }
        Ok(Settings::default())
    }

    /// Reads the text of such a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Settings, String> {
        let form: Form = toml::from_str(text).map_err(|error| error.to_string())?;
        let mut settings = Settings { keyring: form.keyring, ..Settings::default() };
        if let Some(mirrors) = form.mirrors {
            settings.mirrors = Settings::mirrors(mirrors.iter().map(String::as_str))?;
        }
        Ok(settings)
    }

    /// Reads mirrors that are named one by one.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn mirrors<'t>(texts: impl Iterator<Item = &'t str>) -> Result<Vec<Mirror>, String> {
        let mirrors: Result<Vec<Mirror>, MirrorError> = texts.map(str::parse).collect();
        let mirrors = mirrors.map_err(|error| error.to_string())?;
        match mirrors.len() {
            0 => Err("there is no mirror".to_owned()),
            1..=MIRRORS_MAX => Ok(mirrors),
            _ => Err(format!("there are more than {MIRRORS_MAX} mirrors")),
        }
    }

    /// The keys that are believed.
    ///
    /// # Errors
    /// [`SettingsError::Read`], [`SettingsError::Keyring`].
    pub fn keys(&self) -> Result<Keyring, SettingsError> {
        let (path, bytes) = match &self.keyring {
            None => (PathBuf::from("debian-archive.asc"), KEYS.to_vec()),
            Some(path) => {
                let path = path.clone();
                match fs::read(&path) {
                    Ok(bytes) => (path, bytes),
                    Err(source) => return Err(SettingsError::Read { path, source }),
                }
            }
        };
        Keyring::parse(&bytes).map_err(|source| SettingsError::Keyring { path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_is_a_url_and_a_suite() {
        let mirror: Mirror = "https://m.example:8080/debian/ bookworm".parse().unwrap();
        assert_eq!(mirror.to_string(), "https://m.example:8080/debian bookworm");
        for bad in [
            "",
            "bookworm",
            "http://m.example",
            "ftp://m.example/d bookworm",
            "http:// bookworm",
            "http://m.example/d ../x",
            "http://m.example/d?a=b bookworm",
            "http://m.example/d a b",
        ] {
            assert!(bad.parse::<Mirror>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn settings_stand_in_the_first_file_that_there_is() {
        let [first, second] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let read = || Settings::read(&[first.path(), second.path()]);
        assert_eq!(read().unwrap(), Settings::default());
        assert_eq!(Settings::default().mirrors.len(), 2);
        let text = "mirrors = [\"http://m.example/debian trixie\"]\nkeyring = \"/k\"\n";
        fs::write(second.path().join(FILE), text).unwrap();
        let settings = read().unwrap();
        assert_eq!(settings.mirrors[0].suite, "trixie");
        assert_eq!(settings.keyring.as_deref(), Some(Path::new("/k")));
        fs::write(first.path().join(FILE), "mirror = 1").unwrap();
        assert!(matches!(read(), Err(SettingsError::Parse { .. })));
    }

    #[test]
    fn the_keys_that_come_along_are_debians() {
        let keys = Settings::default().keys().unwrap();
        let all: Vec<String> = keys.fingerprints().map(|key| key.to_string()).collect();
        for (release, key) in [
            ("bookworm", "4CB50190207B4758A3F73A796ED0E7B82643E131"),
            ("bookworm, stable", "4D64FEC119C2029067D6E791F8D2585B8783D481"),
            ("bookworm, security", "B0CAB9266E8C3929798B3EEEBDE6D2B9216EC7A8"),
            ("trixie", "B8E5F13176D2A7A75220028078DBA3BC47EF2265"),
            ("trixie, stable", "41587F7DB8C774BCCF131416762F67A0B2C39DE4"),
        ] {
            assert!(all.iter().any(|known| known == key), "{release}: {key} of {all:#?}");
        }
    }
}
