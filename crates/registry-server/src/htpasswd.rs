//! Who may use the registry: a file as `htpasswd -B` writes it, read again when it changes.
//!
//! Source: Apache's `htpasswd` and "Password Formats"; of these bcrypt alone, as with Docker's
//! registry.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use base::clock::monotonic;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tracing::{error, info};

/// Longest file.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Dearest hash: each step doubles what a password costs, and 31 takes days.
const COST_MAX: u32 = 16;
/// How long a look at the file holds.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Passwords that are hashed at once.
const HASHES_MAX: usize = 2;
/// What an unknown user's password is hashed against, at the cost that known ones have, so that
/// he waits as long as they do.
const NOBODY: &str = "$2y$05$abcdefghijklmnopqrstuuLK7U1u6pVRmL7L1BBM2aS35PSZnDXlK";

/// Why such a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum HtpasswdError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A line makes no sense.
    #[error("{}: line {line}: {why}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        why: &'static str,
    },
}

/// The file, and what is known of it.
#[derive(Debug)]
pub struct Htpasswd {
    path: PathBuf,
    state: Mutex<State>,
    room: Semaphore,
    /// What is remembered of passwords is useless without it.
    salt: [u8; 32],
}

/// By what a change of the file shows.
type Stamp = (u64, u64, i64, i64, u64);

#[derive(Debug)]
struct State {
    users: Arc<Users>,
    stamp: Stamp,
    looked: Instant,
    /// Passwords that were right, hashed; of each user one.
    right: HashMap<String, [u8; 32]>,
}

/// Users and the hashes of their passwords.
#[derive(Debug)]
struct Users {
    hashes: BTreeMap<String, String>,
    /// The hash of those who are none.
    nobody: String,
}

impl Htpasswd {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read, or has a line that makes no sense.
    pub fn open(path: &Path) -> Result<Htpasswd, HtpasswdError> {
        let failed = |source| HtpasswdError::Read { path: path.to_owned(), source };
        let (users, stamp) = load(path)?;
        let mut salt = [0; 32];
        rustix::rand::getrandom(&mut salt, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| failed(error.into()))?;
        let (users, right) = (Arc::new(users), HashMap::new());
        let state = Mutex::new(State { users, stamp, looked: monotonic(), right });
        Ok(Htpasswd { path: path.to_owned(), state, room: Semaphore::new(HASHES_MAX), salt })
    }

    /// Whether an `Authorization` is right; the user's name if it is.
    pub(crate) async fn check(&self, authorization: Option<&str>) -> Option<String> {
        let (user, password) = basic(authorization?)?;
        let users = self.users();
        let seen = self.remembered(&user, &password);
        if self.state().right.get(&user) == Some(&seen) {
            return Some(user);
        }
        let known = users.hashes.get(&user).cloned();
        let hash = known.clone().unwrap_or_else(|| users.nobody.clone());
        let _room = self.room.acquire().await.ok()?;
        let checked = tokio::task::spawn_blocking(move || {
            // Only what `parse` let through gets here.
            bcrypt::verify(password, &hash).unwrap_or(false)
        });
        let right = checked.await.unwrap_or(false) && known.is_some();
        if !right {
            return None;
        }
        let mut state = self.state();
        // Not if the file has changed meanwhile.
        if state.users.hashes.get(&user) == known.as_ref() {
            state.right.insert(user.clone(), seen);
        }
        Some(user)
    }

    /// The users, of the file as it is.
    fn users(&self) -> Arc<Users> {
        let mut state = self.state();
        let now = monotonic();
        if now.saturating_duration_since(state.looked) >= LOOK_EVERY {
            state.looked = now;
            let changed = stamp(&self.path).ok().filter(|stamp| *stamp != state.stamp);
            if let Some(stamp) = changed {
                // Once, whatever comes of it.
                state.stamp = stamp;
                match load(&self.path) {
                    Ok((users, stamp)) => {
                        info!(users = users.hashes.len(), "the file of passwords is read again");
                        *state = State {
                            users: Arc::new(users),
                            stamp,
                            looked: now,
                            right: HashMap::new(),
                        };
                    }
                    Err(error) => {
                        let error = base::chain(&error);
                        error!(error, "the file of passwords has changed and is not used");
                    }
                }
            }
        }
        Arc::clone(&state.users)
    }

    fn remembered(&self, user: &str, password: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.salt);
        hash.update((user.len() as u64).to_le_bytes());
        hash.update(user);
        hash.update(password);
        hash.finalize().into()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Name and password of `Authorization: Basic`. Source: RFC 7617.
fn basic(header: &str) -> Option<(String, Vec<u8>)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = BASE64_STANDARD.decode(encoded.trim()).ok()?;
    let colon = bytes.iter().position(|b| *b == b':')?;
    let (user, password) = bytes.split_at_checked(colon)?;
    Some((String::from_utf8(user.to_vec()).ok()?, password.get(1..)?.to_vec()))
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let found = fs::metadata(path)?;
    Ok((found.dev(), found.ino(), found.mtime(), found.mtime_nsec(), found.len()))
}

fn load(path: &Path) -> Result<(Users, Stamp), HtpasswdError> {
    let failed = |source| HtpasswdError::Read { path: path.to_owned(), source };
    // Before it is read: what changes meanwhile is read again.
    let stamp = stamp(path).map_err(failed)?;
    let mut text = String::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    let users = parse(&text);
    let users =
        users.map_err(|(line, why)| HtpasswdError::Line { path: path.to_owned(), line, why })?;
    Ok((users, stamp))
}

/// Reads the text of such a file.
fn parse(text: &str) -> Result<Users, (usize, &'static str)> {
    let (mut hashes, mut dearest) = (BTreeMap::new(), 0);
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let bad = |why| (number + 1, why);
        let (user, hash) = line.split_once(':').ok_or(bad("it is not USER:HASH"))?;
        if user.is_empty() {
            return Err(bad("the user's name is empty"));
        }
        dearest = dearest.max(cost_of(hash).map_err(bad)?);
        hashes.insert(user.to_owned(), hash.to_owned());
    }
    let nobody = match dearest {
        0 => NOBODY.to_owned(),
        cost => NOBODY.replace("$05$", &format!("${cost:02}$")),
    };
    Ok(Users { hashes, nobody })
}

/// What a hash costs, if it is one of bcrypt's.
fn cost_of(hash: &str) -> Result<u32, &'static str> {
    const OTHER: &str = "the password is not hashed with bcrypt: use htpasswd -B";
    let known = ["$2a$", "$2b$", "$2x$", "$2y$"];
    let rest = known.iter().find_map(|prefix| hash.strip_prefix(prefix)).ok_or(OTHER)?;
    let (cost, salted) = rest.split_once('$').ok_or(OTHER)?;
    let alphabet = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'/';
    if salted.len() != 53 || !salted.bytes().all(alphabet) {
        return Err(OTHER);
    }
    match cost.parse::<u32>() {
        Ok(cost @ 4..=COST_MAX) => Ok(cost),
        _ => Err("the cost of its hash is not between 4 and 16"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `s3cret`.
    const HASH: &str = NOBODY;

    #[test]
    fn users_are_read_and_what_makes_no_sense_is_named() {
        let users = parse(&format!("# comment\n\nme:{HASH}\nyou:{HASH}\r\n")).unwrap();
        assert_eq!(users.hashes.keys().collect::<Vec<_>>(), ["me", "you"]);
        assert_eq!(users.nobody, NOBODY);
        let refused = |text: &str| parse(text).unwrap_err();
        assert_eq!(refused("me"), (1, "it is not USER:HASH"));
        assert_eq!(refused(&format!("a:{HASH}\n:{HASH}")).0, 2);
        for other in ["me:$apr1$x$y", "me:{SHA}x", "me:plain", "me:$2y$05$short"] {
            assert!(refused(other).1.contains("htpasswd -B"), "{other}");
        }
        assert!(refused(&format!("me:{}", HASH.replace("$05$", "$31$"))).1.contains("cost"));
    }

    #[test]
    fn who_is_unknown_waits_as_long_as_those_whose_hashes_cost_most() {
        let dear = HASH.replace("$05$", "$11$");
        let users = parse(&format!("me:{HASH}\nyou:{dear}\n")).unwrap();
        assert_eq!(cost_of(&users.nobody), Ok(11));
        assert!(bcrypt::verify("s3cret", &users.nobody).is_ok(), "it is a hash");
    }

    #[test]
    fn a_header_is_taken_apart_at_the_first_colon() {
        let header = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
        assert_eq!(basic(&header("a:b:c")), Some(("a".to_owned(), b"b:c".to_vec())));
        assert_eq!(basic("Bearer x"), None);
        assert_eq!(basic("Basic %%%"), None);
        assert_eq!(basic(&header("nobody")), None);
    }

    #[tokio::test]
    async fn a_right_password_is_right_until_the_file_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("htpasswd");
        fs::write(&path, format!("me:{HASH}\n")).unwrap();
        let file = Htpasswd::open(&path).unwrap();
        let header = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
        let right = header("me:s3cret");
        for _ in 0..2 {
            assert_eq!(file.check(Some(&right)).await.as_deref(), Some("me"));
        }
        for wrong in [header("me:wrong"), header("you:s3cret"), "x".to_owned()] {
            assert_eq!(file.check(Some(&wrong)).await, None);
        }
        assert_eq!(file.check(None).await, None);
        fs::write(&path, format!("you:{HASH}\n")).unwrap();
        let an_hour = Duration::from_secs(3600);
        let looked = |file: &Htpasswd| {
            let mut state = file.state();
            state.looked = state.looked.checked_sub(an_hour).unwrap();
        };
        looked(&file);
        assert_eq!(file.check(Some(&right)).await, None);
        assert_eq!(file.check(Some(&header("you:s3cret"))).await.as_deref(), Some("you"));
        // A file that makes no sense changes nothing.
        fs::write(&path, "broken").unwrap();
        looked(&file);
        assert_eq!(file.check(Some(&header("you:s3cret"))).await.as_deref(), Some("you"));
    }
}
