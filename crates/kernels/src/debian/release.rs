//! The index of a suite: which files it has, and until when it holds.

use std::collections::BTreeMap;

use base::Digest;
use jiff::{civil::DateTime, fmt::strtime, tz::TimeZone};

use super::stanza::{StanzaError, Stanzas};

/// Most files of an index. Debian's largest has 3,000 of each digest.
const FILES_MAX: usize = 100_000;

/// How far the archive's clock may be ahead of ours, in seconds.
const AHEAD_SECONDS_MAX: u64 = 24 * 60 * 60;

/// Why an index is not believed although its signature is right.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// It cannot be read.
    #[error("the index cannot be read")]
    Text(#[source] StanzaError),
    /// A line makes no sense.
    #[error("the index has no {0}, or one that makes no sense")]
    Field(&'static str),
    /// It is another suite's.
    #[error("this is the index of {found}, and {wanted} was asked for")]
    Suite {
        /// What it says of itself.
        found: String,
        /// What was wanted.
        wanted: String,
    },
    /// Its time is over.
    #[error("the index has expired on {until}: the mirror is out of date, or holds back updates")]
    Expired {
        /// When.
        until: String,
    },
    /// Its time has not come.
    #[error("the index is of {date}, which is yet to come: is the clock right?")]
    Future {
        /// When.
        date: String,
    },
    /// It lacks something.
    #[error("the index has no {0}")]
    NoFile(String),
}

/// A file of a suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Of its content.
    pub(crate) digest: Digest,
    /// Its length.
    pub(crate) bytes: u64,
}

/// The index of a suite.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Release {
    suite: String,
    codename: String,
    date: String,
    valid_until: Option<String>,
    /// Whether files can be had by their digests too, which never change under a reader.
    pub(crate) by_hash: bool,
    files: BTreeMap<String, Listed>,
}

impl Release {
    /// Reads the text of an index.
    ///
    /// # Errors
    /// [`ReleaseError`].
    pub(crate) fn parse(text: &str) -> Result<Release, ReleaseError> {
        let stanza = Stanzas::new(text.as_bytes()).next().map_err(ReleaseError::Text)?;
        let stanza = stanza.ok_or(ReleaseError::Field("field"))?;
        let field = |name: &str| stanza.get(name).cloned();
        let list = field("sha256").ok_or(ReleaseError::Field("SHA256"))?;
        let mut files = BTreeMap::new();
        for line in list.lines().filter(|line| !line.is_empty()) {
            let (path, listed) = listed(line).ok_or(ReleaseError::Field("SHA256"))?;
            files.insert(path.to_owned(), listed);
            if files.len() > FILES_MAX {
                return Err(ReleaseError::Field("SHA256 of bearable length"));
            }
        }
        Ok(Release {
            suite: field("suite").unwrap_or_default(),
            codename: field("codename").unwrap_or_default(),
            date: field("date").ok_or(ReleaseError::Field("Date"))?,
            valid_until: field("valid-until"),
            by_hash: field("acquire-by-hash").is_some_and(|value| value == "yes"),
            files,
        })
    }

    /// Whether it is the index of this suite and holds at `now`, in seconds since 1970.
    ///
    /// # Errors
    /// [`ReleaseError`].
    pub(crate) fn check(&self, suite: &str, now: u64) -> Result<(), ReleaseError> {
        if ![&self.suite, &self.codename].iter().any(|name| *name == suite) {
            let found = format!("{} ({})", self.codename, self.suite);
            return Err(ReleaseError::Suite { found, wanted: suite.to_owned() });
        }
        let made = seconds(&self.date).ok_or(ReleaseError::Field("Date"))?;
        if made > now.saturating_add(AHEAD_SECONDS_MAX) {
            return Err(ReleaseError::Future { date: self.date.clone() });
        }
        if let Some(until) = &self.valid_until {
            let end = seconds(until).ok_or(ReleaseError::Field("Valid-Until"))?;
            if end <= now {
                return Err(ReleaseError::Expired { until: until.clone() });
            }
        }
        Ok(())
    }

    /// The first of these files that it has.
    ///
    /// # Errors
    /// [`ReleaseError::NoFile`].
    pub(crate) fn one_of<'p>(&self, paths: &[&'p str]) -> Result<(&'p str, Listed), ReleaseError> {
        let found = paths.iter().find_map(|path| Some((*path, *self.files.get(*path)?)));
        found.ok_or_else(|| ReleaseError::NoFile(paths.first().copied().unwrap_or("").to_owned()))
    }
}

/// `DIGEST LENGTH PATH`.
fn listed(line: &str) -> Option<(&str, Listed)> {
    let mut words = line.split_ascii_whitespace();
    let (digest, bytes, path) = (words.next()?, words.next()?, words.next()?);
    let listed = Listed { digest: Digest::from_hex(digest).ok()?, bytes: bytes.parse().ok()? };
    words.next().is_none().then_some((path, listed))
}

/// `Sat, 11 Jul 2026 10:16:37 UTC`, in seconds since 1970.
fn seconds(date: &str) -> Option<u64> {
    let parsed = strtime::parse("%a, %d %b %Y %H:%M:%S UTC", date).ok()?;
    let date: DateTime = parsed.to_datetime().ok()?;
    let zoned = date.to_zoned(TimeZone::UTC).ok()?;
    u64::try_from(zoned.timestamp().as_second()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "Origin: Debian\nSuite: oldstable-security\nCodename: bookworm-security\n\
        Date: Fri, 20 Nov 2026 00:12:41 UTC\nValid-Until: Fri, 27 Nov 2026 00:12:41 UTC\n\
        Acquire-By-Hash: yes\nMD5Sum:\n 0 0 a\nSHA256:\n \
        e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855        0 main/Packages\n";

    /// 2026-11-20T00:12:41Z.
    const MADE: u64 = 1_795_133_561;
    const WEEK: u64 = 7 * 24 * 60 * 60;

    #[test]
    fn an_index_holds_for_its_suite_and_its_time() {
        let release = Release::parse(TEXT).unwrap();
        assert!(release.by_hash);
        for suite in ["bookworm-security", "oldstable-security"] {
            release.check(suite, MADE + 1).unwrap();
        }
        let said = |suite: &str, now: u64| release.check(suite, now).unwrap_err().to_string();
        assert!(said("bookworm", MADE).contains("bookworm-security (oldstable-security)"));
        assert!(said("bookworm-security", MADE + WEEK).contains("expired on Fri, 27 Nov 2026"));
        assert!(said("bookworm-security", MADE - WEEK).contains("yet to come"));
        release.check("bookworm-security", MADE + WEEK - 1).unwrap();
        let (path, listed) = release.one_of(&["main/Packages.xz", "main/Packages"]).unwrap();
        assert_eq!((path, listed.bytes), ("main/Packages", 0));
        assert!(release.one_of(&["main/Packages.xz"]).is_err());
    }

    #[test]
    fn an_index_without_what_it_is_for_is_refused() {
        for (from, to) in [
            ("SHA256", "SHA512"),
            ("Date: Fri", "Dote: Fri"),
            (" 0 main/Packages", " -1 main/Packages"),
            ("e3b0", "x3b0"),
            (" 0 main/Packages", " 0 main/Packages more"),
        ] {
            assert!(Release::parse(&TEXT.replace(from, to)).is_err(), "{to}");
        }
        for (from, to) in
            [("20 Nov", "40 Nov"), ("00:12:41 UTC\nV", "00:12:41 CET\nV"), ("27 Nov 2026", "soon")]
        {
            let release = Release::parse(&TEXT.replace(from, to)).unwrap();
            assert!(release.check("bookworm-security", MADE + 1).is_err(), "{to}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(Date: |SHA256:|Suite: |[a-f0-9 \n]|\\PC){0,60}") {
            if let Ok(release) = Release::parse(&text) {
                let _ = release.check("a", MADE);
            }
        }
    }
}
