//! The driver's synchronous core, as this command line uses it: what is asked of a container,
//! put together; then the child followed until it is its command or waits for start.

use std::{
    ffi::CString,
    os::fd::{AsFd, OwnedFd},
};

use cgroups::{Cgroup, Join};
use oci_spec::runtime::{Hook as OciHook, Hooks};
use rustix::fs::{Mode, OFlags};
use sys::exec::StringArray;
use workload::{
    ContainerSpec, DriverError, Filesystem, Isolation, MountSource, ProcessRoot, ProcessSpec,
};

use super::{
    Context,
    convert::Converted,
    error::OciError,
    hooks,
    record::{Held, Record},
    status::Status,
};
use crate::{
    launch::{self, Launching, Progress},
    op::{Hook, Stage},
    plan::{self, Extras, Facts, Input, Joined},
    prepare::{self, Given},
    sandbox, users,
};

/// A process that runs, or waits for start.
#[derive(Debug)]
pub(super) struct Launched {
    pub(super) pid: u32,
    pub(super) pidfd: OwnedFd,
    /// The master of its terminal.
    pub(super) terminal: Option<OwnedFd>,
}

/// What the command line asks for beside the configuration.
#[derive(Debug)]
pub(super) struct Wishes<'a> {
    /// What the command waits at, open for reading and writing.
    pub(super) gate: Option<OwnedFd>,
    pub(super) hooks: Option<&'a Hooks>,
    /// A control group in every hierarchy, limited there or not.
    pub(super) all_hierarchies: bool,
    pub(super) preserve: u32,
    pub(super) no_pivot: bool,
    pub(super) no_new_keyring: bool,
}

/// Called when the environment is created, with the process id.
pub(super) type OnCreated<'a> = &'a mut dyn FnMut(u32) -> Result<(), OciError>;

/// Makes a container and its process. On failure the process is gone; the control group is
/// left to whoever destroys the container.
pub(super) fn container(
    context: &Context,
    converted: &Converted,
    wishes: Wishes<'_>,
    held: &mut Held,
    created: &mut dyn FnMut(&mut Held, u32) -> Result<(), OciError>,
) -> Result<Launched, OciError> {
    let Converted { sandbox, process, personality } = converted;
    let container = own_container(process)?;
    let record = &held.container.record;
    let group = if wishes.all_hierarchies {
        Cgroup::create_in_all(context.hierarchy()?, &record.cgroup, &sandbox.limits)?
    } else {
        Cgroup::create(context.hierarchy()?, &record.cgroup, &sandbox.limits)?
    };
    let extras = Extras { personality: *personality, ..extras(&wishes, record)? };
    let Join { into, files } = group.join()?;
    // Its owners are what the configuration's maker made them (config.md, "Root").
    let root = prepare::root(&container.root, None).map_err(OciError::Start)?;
    let identity = users::resolve(root.as_fd(), &process.user).map_err(OciError::Start)?;
    let view = container.mounts.iter().any(shows_cgroups).then(|| group.mount_view());
    let given = Given {
        cgroup_files: files,
        cgroup: into,
        start: wishes.gate,
        root: Some(root),
        ..Given::default()
    };
    let filter = process.seccomp.as_ref().map(sandbox::compile).transpose();
    let filter = filter.map_err(OciError::Start)?;
    let input = Input {
        isolation: Isolation::Container,
        sandbox,
        process,
        identity: &identity,
        filter: filter.as_ref(),
        facts: &Facts::read(),
        cgroup_files: given.cgroup_files.len(),
        view: view.as_ref(),
        extras: &extras,
    };
    let plan = plan::container(input).map_err(OciError::Start)?;
    let launching = launch::start(plan, &given).map_err(OciError::Start)?;
    follow(context, launching, &mut |pid| created(held, pid))
}

fn extras(wishes: &Wishes<'_>, record: &Record) -> Result<Extras, OciError> {
    let (create_hooks, start_hooks) = child_hooks(wishes.hooks, record)?;
    Ok(Extras {
        tell_created: wishes.hooks.is_some_and(has_runtime_hooks),
        hold: wishes.gate.is_some(),
        create_hooks,
        start_hooks,
        preserve: wishes.preserve,
        inherit_streams: true,
        outlive: true,
        no_pivot: wishes.no_pivot,
        no_new_keyring: wishes.no_new_keyring,
        ..Extras::default()
    })
}

/// Where a process joins a container.
#[derive(Debug)]
pub(super) struct Place<'a> {
    /// A process inside.
    pub(super) pid: u32,
    pub(super) pidfd: OwnedFd,
    pub(super) record: &'a Record,
    /// A control group below the container's.
    pub(super) below: Option<&'a str>,
    pub(super) preserve: u32,
}

/// Starts a process in a container that was made from `converted`.
pub(super) fn join(
    context: &Context,
    converted: &Converted,
    asked: &ProcessSpec,
    place: Place<'_>,
) -> Result<Launched, OciError> {
    let Join { into, files } = join_group(context, &place)?;
    let path = format!("/proc/{}/root", place.pid);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(&path, flags, Mode::empty());
    let root = root.map_err(OciError::io(format!("open {path}")))?;
    let identity = users::resolve(root.as_fd(), &asked.user).map_err(OciError::Start)?;
    let given =
        Given { cgroup_files: files, cgroup: into, target: Some(place.pidfd), ..Given::default() };
    let extras = Extras {
        preserve: place.preserve,
        inherit_streams: true,
        outlive: true,
        personality: converted.personality,
        ..Extras::default()
    };
    let filter = asked.seccomp.as_ref().map(sandbox::compile).transpose();
    let filter = filter.map_err(OciError::Start)?;
    let input = Input {
        isolation: Isolation::Container,
        sandbox: &converted.sandbox,
        process: asked,
        identity: &identity,
        filter: filter.as_ref(),
        facts: &Facts::read(),
        cgroup_files: given.cgroup_files.len(),
        view: None,
        extras: &extras,
    };
    let container = own_container(&converted.process)?;
    let joined = Joined::of(Isolation::Container, &converted.sandbox, container);
    let plan = plan::join(input, joined).map_err(OciError::Start)?;
    let launching = launch::start(plan, &given).map_err(OciError::Start)?;
    follow(context, launching, &mut |_| Ok(()))
}

fn join_group(context: &Context, place: &Place<'_>) -> Result<Join, OciError> {
    let group = place.record.cgroup.as_str();
    let open = |name: &str| -> Result<Option<Cgroup>, OciError> {
        Ok(Cgroup::open(context.hierarchy()?, name)?)
    };
    let Some(below) = place.below else {
        let missing = || OciError::NotRunning { id: place.record.id.to_string() };
        return Ok(open(group)?.ok_or_else(missing)?.join_beside(place.pid)?);
    };
    let name = format!("{group}/{}", below.trim_matches('/'));
    match open(&name)? {
        Some(group) => Ok(group.join()?),
        None => Err(OciError::NoCgroup { name }),
    }
}

/// Follows a child until it is its command, or waits for start.
fn follow(
    context: &Context,
    mut launching: Launching,
    created: OnCreated<'_>,
) -> Result<Launched, OciError> {
    loop {
        match launching.wait().map_err(OciError::Start)? {
            Progress::Running | Progress::Told(Stage::Ready) => break,
            Progress::Told(Stage::Created) => {
                created(launching.pid())?;
                launching.go().map_err(OciError::Start)?;
            }
            Progress::Waiting => {}
        }
    }
    let launched = launching.into_launched().map_err(OciError::Start)?;
    for warning in &launched.warnings {
        context.log.warning(warning);
    }
    Ok(Launched {
        pid: launched.child.pid,
        pidfd: launched.child.pidfd,
        terminal: launched.terminal,
    })
}

fn own_container(process: &ProcessSpec) -> Result<&ContainerSpec, OciError> {
    match &process.root {
        ProcessRoot::Own(container) => Ok(container),
        ProcessRoot::Join(_) => {
            let why = "a container's process has a root of its own".into();
            Err(OciError::Start(DriverError::Invalid { what: "root".into(), why }))
        }
    }
}

fn shows_cgroups(mount: &workload::Mount) -> bool {
    mount.source == MountSource::Kernel(Filesystem::Cgroup)
}

/// Whether there is anything to run beside the child while it waits.
fn has_runtime_hooks(hooks: &Hooks) -> bool {
    let lists = [hooks.prestart(), hooks.create_runtime()];
    lists.into_iter().any(|list| list.as_ref().is_some_and(|list| !list.is_empty()))
}

/// The createContainer and startContainer hooks, which the child runs.
fn child_hooks(hooks: Option<&Hooks>, record: &Record) -> Result<(Vec<Hook>, Vec<Hook>), OciError> {
    let Some(hooks) = hooks else { return Ok((Vec::new(), Vec::new())) };
    let list = |list: &Option<Vec<OciHook>>, kind, status| {
        inside_hooks(list.as_deref().unwrap_or_default(), kind, record, status)
    };
    Ok((
        list(hooks.create_container(), "createContainer", Status::Creating)?,
        list(hooks.start_container(), "startContainer", Status::Created)?,
    ))
}

/// Hooks that the child runs, prepared.
fn inside_hooks(
    given: &[OciHook],
    kind: &'static str,
    record: &Record,
    status: Status,
) -> Result<Vec<Hook>, OciError> {
    let state = record.state_around_pid(status);
    let mut ready = Vec::new();
    for (index, hook) in given.iter().enumerate() {
        let timeout = hooks::timeout_s(hook, kind, index)?;
        let path = c_string(hook.path().as_os_str().as_encoded_bytes())?;
        let strings = |list: Vec<String>| -> Result<StringArray, OciError> {
            let strings: Result<_, OciError> =
                list.iter().map(|text| c_string(text.as_bytes())).collect();
            Ok(StringArray::new(strings?))
        };
        let own = || hook.path().display().to_string();
        let args = hook.args().clone().filter(|args| !args.is_empty());
        let env = hook.env().clone().unwrap_or_else(own_environment);
        ready.push(Hook {
            kind,
            path,
            args: strings(args.unwrap_or_else(|| vec![own()]))?,
            env: strings(env)?,
            state: state.clone(),
            timeout_ms: timeout.map(|s| u32::try_from(s.saturating_mul(1000)).unwrap_or(u32::MAX)),
        });
    }
    Ok(ready)
}

/// Our own environment, for a hook without one.
fn own_environment() -> Vec<String> {
    let text = |(key, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some(format!("{}={}", key.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

/// A string for the kernel.
fn c_string(text: &[u8]) -> Result<CString, OciError> {
    CString::new(text).map_err(|error| OciError::io("prepare a hook")(std::io::Error::from(error)))
}
