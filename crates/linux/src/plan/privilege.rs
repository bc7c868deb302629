//! What a process may do, and the way from the maker's privileges to its own.
//!
//! A filter of system calls is loaded as late as possible. Loading one takes no-new-privileges
//! or `CAP_SYS_ADMIN`; without the former the latter is kept until the filter is in force, and
//! all that the filter must let pass is capset(2), prctl(2), execve(2), and in an exec clone(2),
//! setsid(2) and ioctl(2).

use std::ffi::CString;

use files::Identity;
use sys::{capability::Sets, exec::StringArray};
use workload::{CapabilitySets, ProcessSpec};

use super::{Input, Planned, c_path, c_string, invalid, unsupported};
use crate::{
    init::GROUPS_MAX,
    op::{Command, Op, Slot},
};

/// `CAP_SYS_ADMIN`.
const SYS_ADMIN: u64 = 1 << 21;
/// Longest argument or environment list, in bytes: the kernel refuses a quarter of the stack's
/// limit, 2 MiB by default (execve(2)), long before memory matters.
const ARGUMENTS_BYTES_MAX: usize = 4 << 20;
/// Where commands are looked for if the environment does not say: runc's own default.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why an id cannot be had in the user namespace of an ordinary user's daemon.
const UNKNOWN_ID: &str = "this user was granted no such id: add a line for him to /etc/subuid and \
    to /etc/subgid (`usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER`, with \
    the package uidmap installed) and start the daemon again";

/// Limits, identity, capabilities, filter, and the command.
pub(super) fn become_command(input: Input<'_>, hold: Vec<Op>, sibling: bool) -> Planned<Vec<Op>> {
    let process = input.process;
    let mut ops = limits(process)?;
    ops.extend(input.extras.personality.map(Op::Personality));
    ops.push(Op::OwnStreams(input.identity.uid));
    if process.no_new_privileges {
        ops.push(Op::NoNewPrivileges);
    }
    let last = input.facts.last_capability;
    let keep = mask(&process.capabilities.bounding, last)?;
    ops.push(Op::Bound { keep, last });
    ops.push(identity(input)?);
    let (sets, ambient) = sets(&process.capabilities, last)?;
    let early = input.filter.is_some() && !process.no_new_privileges;
    let capabilities = Op::Capabilities { sets, ambient };
    if early {
        let sets = Sets {
            effective: sets.effective | SYS_ADMIN,
            permitted: sets.permitted | SYS_ADMIN,
            ..sets
        };
        ops.push(Op::Capabilities { sets, ambient: 0 });
    } else {
        ops.push(capabilities.clone());
    }
    ops.push(Op::Umask(umask(process)?));
    ops.push(Op::Directory(c_path("cwd", &process.cwd)?));
    ops.extend([Op::Find, Op::DefaultSignals]);
    // Nobody outlives its maker with the maker's descriptors, locks among them.
    ops.push(Op::CloseOthers);
    if !sibling {
        // Once more: who changed its ids does not die with its parent any more, nor does who was
        // cloned by one that ended before it could ask. A sibling dies with the container.
        ops.push(if input.extras.outlive { Op::DieWithParent(false) } else { Op::StayWithParent });
    }
    ops.extend(hold);
    let filter = input
        .filter
        .map(|filter| Op::Seccomp { filter: filter.program.clone(), flags: filter.flags });
    let mut last_steps = Vec::new();
    if sibling {
        last_steps.extend([Op::Sibling, Op::Session]);
        last_steps.extend(process.terminal.map(|_| Op::ControlTerminal));
    }
    if early {
        ops.extend(filter.into_iter().chain([capabilities]).chain(last_steps));
    } else {
        ops.extend(last_steps.into_iter().chain(filter));
    }
    ops.push(Op::Execute);
    Ok(ops)
}

/// The out-of-memory score, set while the host's `/proc` is at hand.
pub(super) fn oom_score(process: &ProcessSpec) -> Planned<Option<Op>> {
    let Some(score) = process.oom_score_adj else { return Ok(None) };
    if !(-1000..=1000).contains(&score) {
        return Err(invalid("oom_score_adj", format!("{score} is not between -1000 and 1000")));
    }
    Ok(Some(Op::OomScore(c_string("oom_score_adj", score.to_string())?)))
}

/// Security labels, where the host has them.
pub(super) fn labels(input: Input<'_>) -> Planned<Vec<Op>> {
    let mut ops = Vec::new();
    if let Some(profile) = &input.process.apparmor {
        if !input.facts.apparmor {
            return Err(unsupported("apparmor", "AppArmor is not in force on this host"));
        }
        ops.push(Op::Label {
            file: c"self/attr/apparmor/exec".to_owned(),
            value: c_string("apparmor", format!("exec {profile}"))?,
        });
    }
    if let Some(label) = &input.process.selinux {
        if !input.facts.selinux {
            return Err(unsupported("selinux", "SELinux is not in force on this host"));
        }
        ops.push(Op::Label {
            file: c"self/attr/exec".to_owned(),
            value: c_string("selinux", label.as_str())?,
        });
    }
    Ok(ops)
}

/// The command and where it is looked for.
pub(super) fn command(input: Input<'_>, init: Option<Slot>) -> Planned<Command> {
    let process = input.process;
    let name = process.args.first().ok_or_else(|| invalid("args", "there must be a command"))?;
    if name.is_empty() {
        return Err(invalid("args", "the command must not be empty"));
    }
    let size: usize = process.args.iter().chain(&process.env).map(|text| text.len() + 1).sum();
    if size > ARGUMENTS_BYTES_MAX {
        let why = format!("they are {size} bytes; at most {ARGUMENTS_BYTES_MAX} can be passed on");
        return Err(invalid("args and env", why));
    }
    let env = environment(process, &input.identity.home)?;
    let strings = |what: &str, list: &[String]| {
        list.iter().map(|text| c_string(what, text.as_str())).collect::<Planned<Vec<CString>>>()
    };
    let mut args = strings("args", &process.args)?;
    if init.is_some() {
        args.splice(0..0, [c"init".to_owned(), c"--".to_owned()]);
    }
    Ok(Command {
        name: name.clone(),
        candidates: candidates(name, &env)?,
        args: StringArray::new(args),
        env: StringArray::new(strings("env", &env)?),
        init,
        preserve: input.extras.preserve,
    })
}

/// The environment with `HOME`, each variable once, the last value winning, as runc passes it.
fn environment(process: &ProcessSpec, home: &str) -> Planned<Vec<String>> {
    let mut env: Vec<String> = Vec::with_capacity(process.env.len() + 1);
    let mut places = std::collections::HashMap::new();
    for variable in &process.env {
        let Some((key, value)) = variable.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(invalid("env", format!("\"{variable}\" must be NAME=value")));
        };
        let empty_home = key == "HOME" && value.is_empty();
        match places.get(key) {
            _ if empty_home => {}
            Some(at) => {
                if let Some(place) = env.get_mut::<usize>(*at) {
                    place.clone_from(variable);
                }
            }
            None => {
                places.insert(key, env.len());
                env.push(variable.clone());
            }
        }
    }
    if !places.contains_key("HOME") {
        env.push(format!("HOME={home}"));
    }
    Ok(env)
}

/// Paths to try for a command. Source: execvp(3).
fn candidates(name: &str, env: &[String]) -> Planned<Vec<CString>> {
    if name.contains('/') {
        return Ok(vec![c_string("args", name)?]);
    }
    let path = env.iter().find_map(|variable| variable.strip_prefix("PATH="));
    let directories = path.unwrap_or(PATH_DEFAULT).split(':');
    directories
        .map(|directory| if directory.is_empty() { "." } else { directory })
        .map(|directory| c_string("env", format!("{directory}/{name}")))
        .collect()
}

fn limits(process: &ProcessSpec) -> Planned<Vec<Op>> {
    let mut ops = Vec::new();
    for limit in &process.rlimits {
        if limit.soft > limit.hard {
            let why = format!("soft limit {} is above hard limit {}", limit.soft, limit.hard);
            return Err(invalid(format!("rlimit {}", limit.resource), why));
        }
        ops.push(Op::Limit {
            resource: limit.resource,
            soft: limit.soft,
            hard: limit.hard,
            required: limit.required,
        });
    }
    Ok(ops)
}

fn umask(process: &ProcessSpec) -> Planned<u32> {
    match process.umask.unwrap_or(0o022) {
        mask if mask <= 0o777 => Ok(mask),
        mask => Err(invalid("umask", format!("{mask:o} is above 777"))),
    }
}

/// Who the process becomes. Where groups may not be changed (a user namespace with one group) it
/// stays in those it is in.
fn identity(input: Input<'_>) -> Planned<Op> {
    let Identity { uid, gid, groups, .. } = input.identity;
    if groups.len() > GROUPS_MAX {
        return Err(invalid("groups", format!("there must be at most {GROUPS_MAX}")));
    }
    let mut groups = groups.clone();
    let mut may_change = true;
    if let (Some(ids), None) = (&input.facts.confined, &input.sandbox.user) {
        let known = [("user", *uid, ids.has_uid(*uid)), ("group", *gid, ids.has_gid(*gid))];
        if let Some((what, id, _)) = known.iter().find(|(.., known)| !known) {
            return Err(unsupported(format!("{what} {id}"), UNKNOWN_ID));
        }
        groups.retain(|group| ids.has_gid(*group));
        may_change = ids.setgroups;
    }
    Ok(Op::Identity { uid: *uid, gid: *gid, groups: may_change.then_some(groups) })
}

fn mask(capabilities: &std::collections::BTreeSet<u8>, last: u8) -> Planned<u64> {
    capabilities.iter().try_fold(0, |mask, number| match number {
        number if *number <= last.min(63) => Ok(mask | 1 << number),
        number => {
            Err(unsupported("capabilities", format!("the kernel knows none of number {number}")))
        }
    })
}

fn sets(capabilities: &CapabilitySets, last: u8) -> Planned<(Sets, u64)> {
    let sets = Sets {
        effective: mask(&capabilities.effective, last)?,
        permitted: mask(&capabilities.permitted, last)?,
        inheritable: mask(&capabilities.inheritable, last)?,
    };
    let ambient = mask(&capabilities.ambient, last)?;
    if sets.effective & !sets.permitted != 0 {
        return Err(invalid("capabilities", "what is effective must be permitted"));
    }
    if ambient & !(sets.permitted & sets.inheritable) != 0 {
        return Err(invalid("capabilities", "what is ambient must be permitted and inheritable"));
    }
    Ok((sets, ambient))
}
