//! exec: a further process in a container.

use std::path::Path;

use base::ProcessId;
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, Process, Spec, User};
use sys::signal::Signals;
use workload::ProcessRoot;

use super::{
    Context,
    args::{Parsed, UsageError},
    console, convert,
    error::OciError,
    foreground::Foreground,
    launch::{self, Launched, Place},
    lifecycle, make,
    record::{self, Container},
    status::Status,
};

/// `exec`; answers the exit code.
pub(super) fn exec(context: &Context, arguments: &Parsed) -> Result<u8, OciError> {
    let container = context.open(arguments.container())?;
    match lifecycle::status(context, &container)? {
        Status::Created | Status::Running => {}
        Status::Paused if arguments.has("ignore-paused") => {}
        status @ (Status::Creating | Status::Paused | Status::Stopped) => {
            return Err(OciError::CannotExec { status });
        }
    }
    let spec = container.config()?;
    let process = asked(arguments, spec)?;
    let detaches = arguments.has("detach");
    let socket = arguments.value("console-socket");
    make::check_console(process.terminal().unwrap_or(false), detaches, socket.is_some())?;
    let signals = if detaches {
        None
    } else {
        Some(Signals::block().map_err(OciError::io("block signals"))?)
    };
    let mut launched = join(context, arguments, &container, spec, &process)?;
    if let Some(path) = arguments.value("pid-file") {
        record::replace(Path::new(path), launched.pid.to_string().as_bytes())?;
    }
    if let Some(path) = socket {
        make::hand_over(&mut launched, Path::new(path))?;
    }
    let Launched { pid, pidfd, terminal } = launched;
    match signals {
        Some(signals) => Foreground { pid, pidfd, terminal }.wait(&signals),
        None => Ok(0),
    }
}

/// Starts the process in the container.
fn join(
    context: &Context,
    arguments: &Parsed,
    container: &Container,
    spec: &Spec,
    process: &Process,
) -> Result<Launched, OciError> {
    let record = &container.record;
    let converted = convert::convert(spec, &record.id, &record.bundle)?;
    // The container's filter holds for whoever joins it.
    let seccomp = converted.process.seccomp.clone();
    let root = ProcessRoot::Join(ProcessId::main());
    let name = "exec".parse().expect("it is a word");
    let mut asked = convert::process(process, name, root, seccomp)?;
    if !arguments.has("detach") {
        asked.terminal = asked.terminal.map(console::first_size);
    }
    let preserve = make::preserved(arguments, &mut asked.env)?;
    let target = record.process.ok_or_else(|| container.not_running())?;
    let pidfd = target.open().map_err(OciError::io("open the container's process"))?;
    let place = Place {
        pid: target.pid,
        pidfd: pidfd.ok_or_else(|| container.not_running())?,
        record,
        below: arguments.value("cgroup"),
        preserve,
    };
    launch::join(context, &converted, &asked, place)
}

/// The process that the command line asks for: from a file, or the container's own with other
/// arguments.
fn asked(arguments: &Parsed, spec: &Spec) -> Result<Process, OciError> {
    if let Some(path) = arguments.value("process") {
        return record::read_json(Path::new(path));
    }
    let args = arguments.operands.get(1..).unwrap_or_default().to_vec();
    if args.is_empty() {
        return Err(OciError::NoArgs);
    }
    let mut process = spec.process().clone().unwrap_or_default();
    process.set_args(Some(args));
    process.set_terminal(Some(arguments.has("tty")));
    if let Some(cwd) = arguments.value("cwd") {
        process.set_cwd(cwd.into());
    }
    let mut env = process.env().clone().unwrap_or_default();
    env.extend(arguments.values("env").map(str::to_owned));
    process.set_env(Some(env));
    if let Some(label) = arguments.value("process-label") {
        process.set_selinux_label(Some(label.into()));
    }
    if let Some(profile) = arguments.value("apparmor") {
        process.set_apparmor_profile(Some(profile.into()));
    }
    if arguments.value("no-new-privs").is_some() {
        process.set_no_new_privileges(Some(arguments.has("no-new-privs")));
    }
    let user = user(arguments, process.user())?;
    process.set_user(user);
    add_capabilities(arguments, &mut process)?;
    Ok(process)
}

fn user(arguments: &Parsed, own: &User) -> Result<User, UsageError> {
    let mut user = own.clone();
    if let Some(given) = arguments.value("user") {
        let number = |text: &str| {
            let why = "write UID or UID:GID in numbers";
            text.parse::<u32>().map_err(|_| arguments.wrong("user", given, why))
        };
        let (uid, gid) = match given.split_once(':') {
            Some((uid, gid)) => (uid, Some(number(gid)?)),
            None => (given, None),
        };
        user.set_uid(number(uid)?);
        if let Some(gid) = gid {
            user.set_gid(gid);
        }
    }
    let mut groups = user.additional_gids().clone().unwrap_or_default();
    for given in arguments.values("additional-gids").flat_map(|value| value.split(',')) {
        let wrong = |_| arguments.wrong("additional-gids", given, "write numbers");
        groups.push(given.parse().map_err(wrong)?);
    }
    user.set_additional_gids(Some(groups));
    Ok(user)
}

/// Adds the capabilities of `--cap` to every set, as runc does.
fn add_capabilities(arguments: &Parsed, process: &mut Process) -> Result<(), OciError> {
    let mut given = Vec::new();
    for name in arguments.values("cap") {
        let capability: Result<Capability, _> = serde_json::from_value(name.into());
        let why = "there is no such capability; write it as CAP_NET_ADMIN";
        given.push(capability.map_err(|_| arguments.wrong("cap", name, why))?);
    }
    if given.is_empty() {
        return Ok(());
    }
    let mut sets: LinuxCapabilities = match process.capabilities() {
        Some(sets) => sets.clone(),
        // Without the default sets of the type, which are not empty.
        None => serde_json::from_str("{}").expect("every set may be absent"),
    };
    let with = |set: &Option<Capabilities>| {
        let mut set = set.clone().unwrap_or_default();
        set.extend(given.iter().copied());
        Some(set)
    };
    let all = [
        with(sets.bounding()),
        with(sets.effective()),
        with(sets.permitted()),
        with(sets.inheritable()),
        with(sets.ambient()),
    ];
    let [bounding, effective, permitted, inheritable, ambient] = all;
    sets.set_bounding(bounding);
    sets.set_effective(effective);
    sets.set_permitted(permitted);
    sets.set_inheritable(inheritable);
    sets.set_ambient(ambient);
    process.set_capabilities(Some(sets));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::args;

    fn check(line: &str) -> Result<Process, OciError> {
        let spec: Spec = serde_json::from_str(
            r#"{"ociVersion": "1.0.2", "process": {"user": {"uid": 1, "gid": 2}, "cwd": "/home",
                "args": ["own"], "env": ["A=1"], "terminal": true,
                "capabilities": {"bounding": ["CAP_KILL"]}}}"#,
        )
        .unwrap();
        let words = line.split_whitespace().map(str::to_owned);
        asked(&args::parse(&args::command("exec").unwrap().1, words).unwrap(), &spec)
    }

    #[test]
    fn a_process_is_the_containers_own_with_other_arguments() {
        let process = check("box ls -l").unwrap();
        assert_eq!(process.args().as_deref(), Some(&["ls".to_owned(), "-l".to_owned()][..]));
        assert_eq!((process.user().uid(), process.user().gid()), (1, 2));
        assert_eq!(process.terminal(), Some(false));
    }

    #[test]
    fn flags_change_what_they_name() {
        let process =
            check("-t -e B=2 --cwd / -u 7:8 -g 9 -g 10,11 --no-new-privs --cap CAP_CHOWN box sh")
                .unwrap();
        assert_eq!(process.env().as_deref(), Some(&["A=1".to_owned(), "B=2".to_owned()][..]));
        let user = process.user();
        assert_eq!((user.uid(), user.gid()), (7, 8));
        assert_eq!(user.additional_gids().as_deref(), Some(&[9, 10, 11][..]));
        assert_eq!((process.terminal(), process.no_new_privileges()), (Some(true), Some(true)));
        let sets = process.capabilities().clone().unwrap();
        assert_eq!(sets.bounding().as_ref().unwrap().len(), 2);
        assert_eq!(sets.ambient().as_ref().unwrap().len(), 1);
    }

    #[test]
    fn wrong_values_are_named() {
        assert_eq!(check("box").unwrap_err().to_string(), "process args cannot be empty");
        let error = check("-u root box sh").unwrap_err().to_string();
        assert!(error.contains("\"root\"") && error.contains("UID"), "{error}");
        assert!(check("--cap CAP_FLY box sh").unwrap_err().to_string().contains("CAP_FLY"));
    }
}
