//! Credentials where Docker keeps them: `~/.docker/config.json`, and the helper programs that it
//! names. Helpers run here, in the user's own process, never in the daemon.
//!
//! Source: docker/cli, `cli/config/configfile` and `cli/config/credentials`;
//! github.com/docker/docker-credential-helpers.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use engine::Credentials;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::error::CliError;

/// Directory of the file, if it is not at home.
const VARIABLE: &str = "DOCKER_CONFIG";
/// Longest file.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// By which name Docker Hub is kept.
const HUB_KEY: &str = "https://index.docker.io/v1/";
/// Docker Hub's name in references.
const HUB: &str = "docker.io";
/// The user's name that says that the secret is a token.
const TOKEN_USER: &str = "<token>";

/// What a helper answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// The host in a server's name as people write it.
pub(crate) fn host(server: &str) -> String {
    base::reference::registry_of(server).to_owned()
}

/// By which name the credentials of a host are kept.
pub(crate) fn key(host: &str) -> String {
    if host == HUB { HUB_KEY.to_owned() } else { host.to_owned() }
}

/// What is known for a registry.
///
/// # Errors
/// If the file cannot be read, or a helper fails.
pub(crate) fn credentials(domain: &str) -> Result<Option<Credentials>, CliError> {
    let config = read()?;
    match helper(&config, domain) {
        Some(helper) => asked(&helper, &key(domain)),
        None => Ok(kept(&config, domain)),
    }
}

/// Keeps them.
///
/// # Errors
/// If the file cannot be written, or a helper fails.
pub(crate) fn store(domain: &str, username: &str, password: &str) -> Result<(), CliError> {
    let mut config = read()?;
    let key = key(domain);
    if let Some(helper) = helper(&config, domain) {
        let body = json!({ "ServerURL": key, "Username": username, "Secret": password });
        told(&helper, "store", &body.to_string())?;
        auths(&mut config).insert(key, json!({}));
        return write(&config);
    }
    let auth = BASE64_STANDARD.encode(format!("{username}:{password}"));
    auths(&mut config).insert(key, json!({ "auth": auth }));
    write(&config)
}

/// Forgets them. Whether there were any.
///
/// # Errors
/// If the file cannot be written, or a helper fails.
pub(crate) fn erase(domain: &str) -> Result<bool, CliError> {
    let mut config = read()?;
    let key = key(domain);
    if let Some(helper) = helper(&config, domain) {
        told(&helper, "erase", &key)?;
    }
    let known: Vec<_> =
        auths(&mut config).keys().filter(|kept| host(kept) == domain).cloned().collect();
    for kept in &known {
        auths(&mut config).remove(kept);
    }
    if !known.is_empty() {
        write(&config)?;
    }
    Ok(!known.is_empty())
}

fn path() -> Option<PathBuf> {
    let given = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".docker"));
    given.or_else(home).map(|directory| directory.join("config.json"))
}

fn read() -> Result<Map<String, Value>, CliError> {
    let Some(path) = path() else { return Ok(Map::new()) };
    let doing = || format!("read {}", path.display());
    match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
        // An ordinary user's `sudo` may leave a HOME that cannot be read.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(Map::new()),
        Err(error) => return Err(CliError::io(doing(), error)),
        Ok(found) if found.len() > FILE_BYTES_MAX => {
            let why = format!("{} is longer than {FILE_BYTES_MAX} bytes", path.display());
            return Err(CliError::Usage(why));
        }
        Ok(_) => {}
    }
    let bytes = fs::read(&path).map_err(|error| CliError::io(doing(), error))?;
    if bytes.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| CliError::Usage(format!("{} is damaged: {error}", path.display())))
}

/// Replaces the file as a whole; what we know nothing of stays in it.
fn write(config: &Map<String, Value>) -> Result<(), CliError> {
    let Some(path) = path() else {
        return Err(CliError::Usage("HOME is not set: credentials cannot be kept".to_owned()));
    };
    let failed = |error| CliError::io(format!("write {}", path.display()), error);
    // A link stays a link.
    let path = fs::canonicalize(&path).unwrap_or(path.clone());
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory).map_err(failed)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let partial = directory.join(name);
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&partial);
    let mut text = serde_json::to_vec_pretty(config).unwrap_or_default();
    text.push(b'\n');
    let written = file.and_then(|mut file| {
        file.write_all(&text)?;
        file.sync_all()
    });
    let placed = written.and_then(|()| fs::rename(&partial, &path));
    placed.map_err(|error| {
        fs::remove_file(&partial).ok();
        failed(error)
    })
}

fn auths(config: &mut Map<String, Value>) -> &mut Map<String, Value> {
    let auths = config.entry("auths").or_insert_with(|| json!({}));
    if !auths.is_object() {
        *auths = json!({});
    }
    auths.as_object_mut().expect("it was made an object where it was none")
}

/// The helper program for a host, if there is one.
fn helper(config: &Map<String, Value>, domain: &str) -> Option<String> {
    let of_host = config.get("credHelpers").and_then(Value::as_object).and_then(|helpers| {
        let found = helpers.iter().find(|(server, _)| host(server) == domain);
        found.and_then(|(_, helper)| helper.as_str())
    });
    let helper = of_host.or_else(|| config.get("credsStore").and_then(Value::as_str))?;
    // It is part of a program's name.
    let right = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (!helper.is_empty() && helper.chars().all(right)).then(|| format!("docker-credential-{helper}"))
}

/// What the file itself says.
fn kept(config: &Map<String, Value>, domain: &str) -> Option<Credentials> {
    let auths = config.get("auths")?.as_object()?;
    let exact = auths.get(&key(domain));
    let entry = exact.or_else(|| {
        auths.iter().find(|(server, _)| host(server) == domain).map(|(_, entry)| entry)
    })?;
    let text = |name: &str| entry.get(name)?.as_str().filter(|text| !text.is_empty());
    if let Some(token) = text("identitytoken") {
        return Some(Credentials::Identity(token.to_owned()));
    }
    if let Some(token) = text("registrytoken") {
        return Some(Credentials::Bearer(token.to_owned()));
    }
    if let Some(auth) = text("auth") {
        let decoded = BASE64_STANDARD.decode(auth).ok()?;
        let decoded = String::from_utf8(decoded).ok()?;
        let (username, password) = decoded.split_once(':')?;
        let password = password.trim_matches('\0');
        return Some(basic(username, password));
    }
    Some(basic(text("username")?, text("password")?))
}

fn basic(username: &str, password: &str) -> Credentials {
    if username == TOKEN_USER {
        return Credentials::Identity(password.to_owned());
    }
    Credentials::Basic { username: username.to_owned(), password: password.to_owned() }
}

/// Asks a helper.
fn asked(helper: &str, server: &str) -> Result<Option<Credentials>, CliError> {
    let (works, said) = ran(helper, "get", server)?;
    if !works {
        // That it has none is no failure. Source: credentials.errCredentialsNotFound.
        if said.contains("credentials not found") {
            return Ok(None);
        }
        return Err(CliError::Usage(format!("{helper} failed: {}", said.trim())));
    }
    let answer: Answer = serde_json::from_str(&said)
        .map_err(|error| CliError::Usage(format!("{helper} answers nonsense: {error}")))?;
    Ok(Some(basic(&answer.username, &answer.secret)))
}

/// Tells a helper.
fn told(helper: &str, what: &str, body: &str) -> Result<(), CliError> {
    match ran(helper, what, body)? {
        (true, _) => Ok(()),
        (false, said) => Err(CliError::Usage(format!("{helper} failed: {}", said.trim()))),
    }
}

fn ran(helper: &str, what: &str, input: &str) -> Result<(bool, String), CliError> {
    let failed = |error| CliError::io(format!("run {helper}"), error);
    let mut command = Command::new(helper);
    command.arg(what).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read is asked all the same.
        stdin.write_all(input.as_bytes()).ok();
    }
    let output = child.wait_with_output().map_err(failed)?;
    Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn every_way_of_keeping_them_is_read() {
        let auth = BASE64_STANDARD.encode("me:pass:word");
        let config = config(json!({ "auths": {
            "https://index.docker.io/v1/": { "auth": auth },
            "https://old.example/v1/": { "username": "a", "password": "b" },
            "id.example": { "auth": auth, "identitytoken": "t" },
            "empty.example": {},
        }}));
        assert_eq!(kept(&config, "docker.io"), Some(basic("me", "pass:word")));
        assert_eq!(kept(&config, "old.example"), Some(basic("a", "b")));
        assert_eq!(kept(&config, "id.example"), Some(Credentials::Identity("t".to_owned())));
        assert_eq!(kept(&config, "empty.example"), None);
        assert_eq!(kept(&config, "other.example"), None);
    }

    #[test]
    fn the_helper_of_a_host_comes_before_the_one_of_all() {
        let named = config(json!({ "credsStore": "all", "credHelpers": { "a.example": "one" } }));
        assert_eq!(helper(&named, "a.example").as_deref(), Some("docker-credential-one"));
        assert_eq!(helper(&named, "b.example").as_deref(), Some("docker-credential-all"));
        assert_eq!(helper(&config(json!({ "credsStore": "../x" })), "a.example"), None);
        assert_eq!(helper(&config(json!({})), "a.example"), None);
    }

    #[test]
    fn docker_hub_has_many_names() {
        for name in ["docker.io", "https://index.docker.io/v1/", "registry-1.docker.io"] {
            assert_eq!(host(name), "docker.io", "{name}");
        }
        assert_eq!(host("https://a.example:5000/v2/"), "a.example:5000");
        assert_eq!(key("docker.io"), HUB_KEY);
    }
}
