//! A registry of ours as tests use it: served on an instance's network, and asked by hand.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
};

use crate::{Instance, Ran};

/// A registry on the instance's network; gone when this is dropped.
#[derive(Debug)]
pub struct Served {
    /// The process.
    pub child: Child,
    /// `127.0.0.1:PORT`
    pub at: String,
}

impl Served {
    /// Starts one with these flags.
    pub fn start(instance: &Instance, flags: &[&str]) -> Served {
        let mut command = instance.command(&["registry", "serve", "--addr", "127.0.0.1:0"]);
        command.args(flags);
        Served::spawn(instance, command)
    }

    /// Starts one by this command.
    ///
    /// # Panics
    /// If it does not serve.
    pub fn spawn(instance: &Instance, mut command: Command) -> Served {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let log = fs::File::create(instance.path("registry.err")).expect("the directory is ours");
        command.stderr(log);
        let mut child = instance.on_network(|| command.spawn().expect("it runs"));
        let mut line = String::new();
        let out = child.stdout.take().expect("it is a pipe");
        BufReader::new(out).read_line(&mut line).expect("it says where it is");
        let at = line.trim().rsplit('/').next().expect("it is a URL").to_owned();
        let log = fs::read_to_string(instance.path("registry.err")).unwrap_or_default();
        assert!(line.starts_with("Registry at http"), "{line:?}: {log}");
        Served { child, at }
    }

    /// kill -9.
    ///
    /// # Panics
    /// If it has ended.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs a program on the instance's network.
///
/// # Panics
/// If it cannot be run.
pub fn on(instance: &Instance, program: &str, args: &[&str]) -> Ran {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).env("HOME", instance.path("home"));
    // Nothing of whoever runs the tests.
    let known = instance.path("auth.json");
    if !known.exists() {
        fs::write(&known, "{}").expect("the directory is ours");
    }
    command.env("REGISTRY_AUTH_FILE", known);
    let output = instance.on_network(|| command.output().expect("it runs"));
    Ran {
        code: output.status.code().unwrap_or(255),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The same, of a program that must succeed; its output.
///
/// # Panics
/// If it does not.
pub fn ok(instance: &Instance, program: &str, args: &[&str]) -> String {
    let ran = on(instance, program, args);
    assert_eq!(ran.code, 0, "{program} {args:?}: {ran:?}");
    ran.out
}

/// An answer, as curl has it.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Answer {
    /// A header, or nothing.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The code of a refusal.
    ///
    /// # Panics
    /// If it is none.
    pub fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().expect("a refusal has one").to_owned()
    }
}

/// Asks by hand.
///
/// # Panics
/// If there is no answer.
pub fn curl(instance: &Instance, args: &[&str]) -> Answer {
    assert!(testkit::need::tool("curl").is_some(), "these tests need curl");
    let out = ok(instance, "curl", &[&["-sS", "-i", "--max-time", "60"], args].concat());
    // What comes before may be `100 Continue`.
    let mut rest = out.as_str();
    loop {
        let (head, body) = rest.split_once("\r\n\r\n").expect("an answer has a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status: u16 = status.expect("an answer has a status");
        if status >= 200 {
            return Answer { status, head: head.to_owned(), body: body.to_owned() };
        }
        rest = body;
    }
}

/// The digest of some bytes.
///
/// # Panics
/// If `sha256sum` fails.
pub fn digest(bytes: &[u8]) -> String {
    let mut command = Command::new("sha256sum");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
    child.stdin.take().expect("it is a pipe").write_all(bytes).expect("it reads");
    let out = child.wait_with_output().expect("it ends").stdout;
    format!("sha256:{}", String::from_utf8_lossy(&out).split(' ').next().expect("it is one"))
}

/// Pushes some bytes; what they are called.
///
/// # Panics
/// If they are not taken.
pub fn put(instance: &Instance, base: &str, name: &str, bytes: &[u8]) -> String {
    let (digest, file) = (digest(bytes), instance.path("blob"));
    fs::write(&file, bytes).expect("the directory is ours");
    let begun = curl(instance, &["-X", "POST", &format!("{base}/{name}/blobs/uploads/")]);
    let location = begun.header("location").expect("it says where it goes on");
    let host = if location.starts_with('/') { base.trim_end_matches("/v2") } else { "" };
    let mark = if location.contains('?') { '&' } else { '?' };
    let url = format!("{host}{location}{mark}digest={digest}");
    let octets = "Content-Type: application/octet-stream";
    let data = format!("@{}", file.display());
    let put = curl(instance, &["-X", "PUT", "-H", octets, "--data-binary", &data, &url]);
    assert_eq!(put.status, 201, "{put:?}");
    digest
}

/// `s3cret`, as `htpasswd -B` hashes it.
pub const HASH: &str = "$2y$05$abcdefghijklmnopqrstuuLK7U1u6pVRmL7L1BBM2aS35PSZnDXlK";
