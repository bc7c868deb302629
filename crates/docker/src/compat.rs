//! More of what `docs/compat/docker-api.toml` says, proved: every endpoint is in it, parameters are
//! read, tests exist; and rendered into the book, between two marks of `docker-api.md`.
//!
//! `UPDATE_COMPAT=1 cargo nextest run -p docker compat` writes the chapter.

use std::{collections::BTreeSet, fs, path::PathBuf};

use crate::{
    fields::Asked,
    table::{Entry, entries},
    volumes,
};

const BEGIN: &str = "<!-- rendered from docs/compat/docker-api.toml -->\n";
const END: &str = "<!-- end of what is rendered -->\n";

/// A file of this repository.
fn file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn words<'a>(entry: &'a Entry, key: &str) -> Vec<&'a str> {
    entry.keys.get(key).map(|text| text.split(' ').collect()).unwrap_or_default()
}

/// All of this crate's code.
fn sources() -> String {
    let mut waiting = vec![file("crates/docker/src")];
    let mut text = String::new();
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") && !path.ends_with("compat.rs")
            {
                text += &fs::read_to_string(path).unwrap();
            }
        }
    }
    text
}

#[test]
fn parameters_are_read_and_tests_exist() {
    let sources = sources();
    for entry in entries("endpoint") {
        for name in words(&entry, "query") {
            assert!(sources.contains(&format!("\"{name}\"")), "{} reads {name}", entry.name);
        }
        let Some((binary, test)) = entry.keys.get("test").and_then(|text| text.split_once(' '))
        else {
            continue;
        };
        let code = match binary.strip_prefix("it::") {
            Some(name) => fs::read_to_string(file(&format!("tests/it/tests/{name}.rs"))).unwrap(),
            None => sources.clone(),
        };
        let name = test.rsplit("::").next().unwrap();
        assert!(code.contains(&format!("fn {name}()")), "{}: {test} is a test", entry.name);
    }
}

#[test]
fn every_field_of_a_volume_is_in_the_table() {
    let asked = Asked::default();
    volumes::request(b"{}", Some(&asked)).unwrap();
    let asked: BTreeSet<String> = asked.into_inner().into_iter().collect();
    let listed = entries("volume-field");
    assert_eq!(listed.iter().map(|e| e.name.clone()).collect::<BTreeSet<_>>(), asked);
    for entry in listed.iter().filter(|entry| entry.state() == "refused") {
        let body = format!("{{\"{}\":{{\"a\":1}}}}", entry.name);
        let error = volumes::request(body.as_bytes(), None).unwrap_err();
        assert!(error.message.contains(&entry.name), "{error}");
    }
}

fn rendered() -> String {
    let mut text = "| endpoint | | parameters | ignored |\n| --- | --- | --- | --- |\n".to_owned();
    for entry in entries("endpoint") {
        let code = |key: &str| {
            let names = words(&entry, key).into_iter().map(|name| format!("`{name}`"));
            names.collect::<Vec<_>>().join(" ")
        };
        let state = match entry.keys.get("why") {
            None => entry.state().to_owned(),
            Some(why) => format!("{}: {why}", entry.state()),
        };
        let name = entry.name.replace("{}", "NAME");
        text += &format!("| `{name}` | {state} | {} | {} |\n", code("query"), code("ignored"));
    }
    text
}

#[test]
fn the_book_has_the_table() {
    let path = file("docs/book/src/docker-api.md");
    let chapter = fs::read_to_string(&path).unwrap();
    let (before, rest) = chapter.split_once(BEGIN).unwrap();
    let (table, after) = rest.split_once(END).unwrap();
    if std::env::var_os("UPDATE_COMPAT").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", rendered())).unwrap();
        return;
    }
    assert_eq!(table, rendered(), "write it with UPDATE_COMPAT=1");
}
