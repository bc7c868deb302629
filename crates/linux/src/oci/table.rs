//! The table of what of the specification is carried out, `docs/compat/oci-runtime.toml`, proved:
//! its tests exist, every property of the specification is in it, and what it says of each is what
//! [`convert`](super::convert) and [`features`](super::features) do.
//!
//! ```text
//! oci-runtime.toml ──▶ read ─┬─▶ config: every property, against oci-runtime.json (all of them)
//!                            ├─▶ options and features
//!                            └─▶ every test named is a test of the sources
//! ```

mod config;
mod fields;
mod options;

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde_json::Value;

/// What becomes of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Supported,
    Refused,
    Ignored,
}

/// One entry.
#[derive(Debug)]
struct Entry {
    /// `config`, `option` or `runtime`.
    kind: String,
    /// The property, the option, or what a section of runtime.md says.
    name: String,
    state: State,
    /// nextest's name of the test: binary and function.
    test: String,
    /// Everything else: `why`, `elsewhere`, `values`, …
    more: BTreeMap<String, Value>,
}

impl Entry {
    fn has(&self, key: &str) -> bool {
        self.more.contains_key(key)
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.more.get(key).and_then(Value::as_str)
    }

    fn list(&self, key: &str) -> Vec<&str> {
        let list = self.more.get(key).and_then(Value::as_array);
        list.into_iter().flatten().map(|item| item.as_str().unwrap()).collect()
    }
}

/// A file of this repository.
fn file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The entries of one kind, in order.
fn entries(kind: &str) -> Vec<Entry> {
    let mut all = read(&fs::read_to_string(file("docs/compat/oci-runtime.toml")).unwrap());
    all.retain(|entry| entry.kind == kind);
    assert!(!all.is_empty(), "there is no [{kind}.…]");
    all
}

/// The part of TOML that the table is written in: `[kind."name"]`, and one value a line, of a
/// kind that JSON has too.
fn read(text: &str) -> Vec<Entry> {
    let mut sections: Vec<(String, String, BTreeMap<String, Value>)> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(header) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            let (kind, name) = header.split_once('.').expect(line);
            sections.push((kind.into(), serde_json::from_str(name).expect(line), BTreeMap::new()));
            continue;
        }
        let (key, value) = line.split_once(" = ").expect(line);
        let (_, _, keys) = sections.last_mut().expect(line);
        assert!(keys.insert(key.into(), serde_json::from_str(value).expect(line)).is_none());
    }
    sections.into_iter().map(|(kind, name, keys)| entry(kind, name, keys)).collect()
}

fn entry(kind: String, name: String, mut keys: BTreeMap<String, Value>) -> Entry {
    let mut take = |key: &str| match keys.remove(key) {
        Some(Value::String(text)) => text,
        other => panic!("{kind} {name}: {key} is {other:?}"),
    };
    let (state, test) = (take("state"), take("test"));
    let state = match state.as_str() {
        "supported" => State::Supported,
        "refused" => State::Refused,
        "ignored" => State::Ignored,
        other => panic!("{kind} {name}: there is no state {other}"),
    };
    let entry = Entry { kind, name, state, test, more: keys };
    let known = ["why", "elsewhere", "values", "refused", "ignored", "on", "after", "default"];
    assert!(entry.more.keys().all(|key| known.contains(&key.as_str())), "{entry:?}");
    assert!(state == State::Supported || entry.has("why"), "{entry:?}: why?");
    entry
}

/// The files in which a test of this name may be. Its binary is nextest's: a crate for its unit
/// tests, `crate::file` for those below `tests`.
fn places(binary: &str, modules: &[&str]) -> Vec<PathBuf> {
    let (name, root) = match binary.split_once("::") {
        None => (binary, "src".to_owned()),
        Some((name, target)) => (name, format!("tests/{target}")),
    };
    let root = format!("crates/{name}/{root}");
    let inline = modules.strip_suffix(&["tests"]).unwrap_or(modules);
    let join = |modules: &[&str]| format!("{root}/{}", modules.join("/"));
    let paths = match (inline.is_empty(), binary.contains("::")) {
        (true, true) => vec![format!("{root}.rs"), format!("{root}/main.rs")],
        (true, false) => vec![format!("{root}/lib.rs"), format!("{root}/tests.rs")],
        (false, _) => vec![format!("{}.rs", join(modules)), format!("{}.rs", join(inline))],
    };
    paths.iter().map(|path| file(path)).collect()
}

fn is_a_test(name: &str) -> bool {
    let (binary, path) = name.split_once(' ').unwrap_or_default();
    let mut modules: Vec<&str> = path.split("::").collect();
    let function = format!("fn {}() {{", modules.pop().unwrap_or_default());
    let texts =
        places(binary, &modules).into_iter().filter_map(|path| fs::read_to_string(path).ok());
    let mut lines = texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
    let mut attributed = false;
    lines.any(|line| {
        let line = line.trim();
        let found = attributed && line == function;
        attributed = line == "#[test]" || attributed && line.starts_with("#[");
        found
    })
}

#[test]
fn every_test_that_is_named_exists() {
    assert!(!is_a_test("linux oci::table::there_is_no_such_test"));
    assert!(!is_a_test("linux oci::table::is_a_test"), "a function is no test");
    for kind in ["config", "option", "runtime"] {
        let entries = entries(kind);
        let tests = entries.iter().map(|entry| entry.test.as_str());
        let missing: std::collections::BTreeSet<_> =
            tests.filter(|test| !is_a_test(test)).collect();
        assert!(missing.is_empty(), "{missing:#?}");
    }
}

#[test]
fn nothing_is_said_twice() {
    for kind in ["config", "option", "runtime"] {
        let mut names: Vec<String> = entries(kind).into_iter().map(|entry| entry.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{kind}: {names:?}");
    }
}
