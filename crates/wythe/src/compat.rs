//! The table of what is compatible with Docker's command line, kept in `docs/compat/cli.toml` and
//! checked against the definition.

use std::{fmt::Write as _, path::Path};

use crate::{cli, command::UNBUILT, create};

/// The table's text, made from the definition.
fn table() -> String {
    let mut text = "\
# What of Docker's command line is built. Made by a test of crates/wythe (src/compat.rs) from the
# definition of the command line: UPDATE_COMPAT=1 cargo test -p wythe compat
"
    .to_owned();
    commands(&cli::definition(), "", &mut text);
    text += "\n# Commands that are refused by name, and what they wait for.\n[unbuilt]\n";
    for (name, what) in UNBUILT {
        writeln!(text, "{name} = {what:?}").unwrap();
    }
    text += "\n# Flags of run and create that are refused by name, and what they wait for.\n";
    text += "[unbuilt_run_flags]\n";
    for (name, what) in create::unbuilt_flags() {
        writeln!(text, "{name} = {what:?}").unwrap();
    }
    text
}

fn commands(command: &clap::Command, above: &str, text: &mut String) {
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let name = format!("{above}{}", sub.get_name());
        let flags = sub.get_arguments().filter(|arg| !arg.is_hide_set());
        let flags: Vec<String> = flags
            .filter_map(|arg| arg.get_long().map(|long| format!("{:?}", format!("--{long}"))))
            .collect();
        writeln!(text, "\n[command.{:?}]", name).unwrap();
        writeln!(text, "flags = [{}]", flags.join(", ")).unwrap();
        // The commands of `container` are the ones above, by their long names.
        if name != "container" {
            commands(sub, &format!("{name} "), text);
        }
    }
}

#[test]
fn the_table_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/compat/cli.toml");
    let want = table();
    if std::env::var_os("UPDATE_COMPAT").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &want).unwrap();
    }
    let have = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(have, want, "run UPDATE_COMPAT=1 cargo test -p wythe compat");
}
