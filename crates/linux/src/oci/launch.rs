//! The driver's core, as this command line uses it: plans, the descriptors they name, the clone,
//! and the talk with the child until it is its command.

mod prepare;

use std::os::fd::{AsFd, OwnedFd};

use cgroups::Cgroup;
use oci_spec::runtime::{Hook as OciHook, Hooks};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    process::{WaitId, WaitIdOptions, waitid},
    termios::{Winsize, tcsetwinsize},
};
use sys::{clone, exec::StringArray, process};
use workload::{
    ContainerSpec, DriverError, Filesystem, Isolation, MountSource, ProcessRoot, ProcessSpec,
    UserMap,
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
    init::Child,
    op::{Hook, Op, Stage},
    plan::{self, Extras, Filter, Input, Joined, Plan},
    report::{self, Message},
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
pub(super) type OnCreated<'a> = &'a mut dyn FnMut(&mut Held, u32) -> Result<(), OciError>;

/// Makes a container and its process. On failure the process is gone; the control group is
/// left to whoever destroys the container.
pub(super) fn container(
    context: &Context,
    converted: &Converted,
    wishes: Wishes<'_>,
    held: &mut Held,
    created: OnCreated<'_>,
) -> Result<Launched, OciError> {
    let Converted { sandbox, process } = converted;
    let hierarchy = context.hierarchy()?;
    let name = &held.container.record.cgroup;
    let group = if wishes.all_hierarchies {
        Cgroup::create_in_all(hierarchy, name, &sandbox.limits)?
    } else {
        Cgroup::create(hierarchy, name, &sandbox.limits)?
    };
    let join = group.join()?;
    let container = own_container(process)?;
    let view = container.mounts.iter().any(shows_cgroups).then(|| group.mount_view());
    let (create_hooks, start_hooks) = child_hooks(wishes.hooks, &held.container.record)?;
    let extras = Extras {
        tell_created: wishes.hooks.is_some_and(has_runtime_hooks),
        hold: wishes.gate.is_some(),
        create_hooks,
        start_hooks,
        preserve: wishes.preserve,
        inherit_streams: true,
        no_pivot: wishes.no_pivot,
        no_new_keyring: wishes.no_new_keyring,
        personality: None,
        root_is_shifted: false,
        no_make_cwd: false,
    };
    let root = prepare::Root::of(container);
    let filter = filter(process)?;
    let input = Input {
        isolation: Isolation::Container,
        sandbox,
        process,
        identity: &prepare::identity(process, root),
        filter: filter.as_ref(),
        facts: &prepare::facts(process),
        cgroup_files: join.files.len(),
        view: view.as_ref(),
        extras: &extras,
    };
    let plan = plan::container(input).map_err(OciError::Start)?;
    let given = prepare::Given { cgroup_files: join.files, gate: wishes.gate, target: None };
    let table = prepare::table(&plan.table, given).map_err(OciError::Start)?;
    let into = join.into.as_ref().map(AsFd::as_fd);
    let launch = Launch { context, plan: &plan, table: &table, size: process.terminal };
    launch.run(into, &mut |pid| created(held, pid))
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
    let hierarchy = context.hierarchy()?;
    let group = place.record.cgroup.as_str();
    let missing = || OciError::NotRunning { id: place.record.id.to_string() };
    let join = match place.below {
        Some(below) => {
            let name = format!("{group}/{}", below.trim_matches('/'));
            let open = Cgroup::open(hierarchy, &name)?;
            open.ok_or(OciError::NoCgroup { name })?.join()?
        }
        None => Cgroup::open(hierarchy, group)?.ok_or_else(missing)?.join_beside(place.pid)?,
    };
    let container = own_container(&converted.process)?;
    let filter = filter(asked)?;
    let extras = Extras { preserve: place.preserve, inherit_streams: true, ..Extras::default() };
    let input = Input {
        isolation: Isolation::Container,
        sandbox: &converted.sandbox,
        process: asked,
        identity: &prepare::identity(asked, prepare::Root::Process(place.pid)),
        filter: filter.as_ref(),
        facts: &prepare::facts(asked),
        cgroup_files: join.files.len(),
        view: None,
        extras: &extras,
    };
    let joined = Joined::of(Isolation::Container, &converted.sandbox, container);
    let plan = plan::join(input, joined).map_err(OciError::Start)?;
    let target = Some(place.pidfd);
    let given = prepare::Given { cgroup_files: join.files, gate: None, target };
    let table = prepare::table(&plan.table, given).map_err(OciError::Start)?;
    let into = join.into.as_ref().map(AsFd::as_fd);
    let launch = Launch { context, plan: &plan, table: &table, size: asked.terminal };
    launch.run(into, &mut |_| Ok(()))
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

/// The compiled system call filter.
fn filter(process: &ProcessSpec) -> Result<Option<Filter>, OciError> {
    let Some(policy) = &process.seccomp else { return Ok(None) };
    let invalid = |error: &dyn std::error::Error| {
        OciError::Start(DriverError::Invalid { what: "seccomp".into(), why: error.to_string() })
    };
    let Some(arch) = seccomp::Arch::native() else {
        let why = "the calls of this architecture are not known".into();
        return Err(OciError::Start(DriverError::Unsupported { what: "seccomp".into(), why }));
    };
    let program = seccomp::compile(policy, arch).map_err(|error| invalid(&error))?;
    let flags = seccomp::FilterFlags::of(policy).map_err(|error| invalid(&error))?;
    let native = |i: seccomp::Instruction| sys::seccomp::SockFilter {
        code: i.code,
        jt: i.jt,
        jf: i.jf,
        k: i.k,
    };
    Ok(Some(Filter { program: program.into_iter().map(native).collect(), flags: flags.0 }))
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
        let path = prepare::c_string(hook.path().as_os_str().as_encoded_bytes())?;
        let strings = |list: Vec<String>| -> Result<StringArray, OciError> {
            let strings: Result<_, OciError> =
                list.iter().map(|text| prepare::c_string(text.as_bytes())).collect();
            Ok(StringArray::new(strings?))
        };
        let own = || hook.path().display().to_string();
        let args = hook.args().clone().filter(|args| !args.is_empty());
        let env = hook.env().clone().unwrap_or_else(prepare::own_environment);
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

/// A launch with everything at hand.
struct Launch<'a> {
    context: &'a Context,
    plan: &'a Plan,
    table: &'a [OwnedFd],
    size: Option<workload::TerminalSize>,
}

impl Launch<'_> {
    fn run(
        &self,
        into: Option<std::os::fd::BorrowedFd<'_>>,
        created: &mut dyn FnMut(u32) -> Result<(), OciError>,
    ) -> Result<Launched, OciError> {
        let step = |what: &str| {
            let what = what.to_owned();
            move |error: std::io::Error| OciError::Start(DriverError::step(what, &error))
        };
        let (channel, theirs) =
            report::channel().map_err(std::io::Error::from).map_err(step("make a channel"))?;
        let ours =
            prepare::visit(&self.plan.visits, self.table).map_err(step("enter a namespace"))?;
        let child = Child {
            ops: &self.plan.ops,
            fds: self.table,
            command: &self.plan.command,
            channel: theirs.as_fd(),
        };
        let spawned = clone::spawn(self.plan.namespaces, into, || child.run());
        prepare::return_to(&ours).map_err(step("return to our namespaces"))?;
        let child = spawned.map_err(step("clone"))?;
        drop(theirs);
        let mut launched = Launched { pid: child.pid, pidfd: child.pidfd, terminal: None };
        let talked = self
            .map_ids(&launched, &channel)
            .and_then(|()| self.talk(&mut launched, &channel, created));
        match talked {
            Ok(()) => Ok(launched),
            Err(error) => {
                end(&launched.pidfd);
                Err(error)
            }
        }
    }

    /// Writes the id maps of a new user namespace, and lets the child go on.
    fn map_ids(&self, launched: &Launched, channel: &OwnedFd) -> Result<(), OciError> {
        let Some(map) = &self.plan.user else { return Ok(()) };
        let write = |name: &str, text: String| {
            let path = format!("/proc/{}/{name}", launched.pid);
            std::fs::write(&path, text).map_err(OciError::io(format!("write {path}")))
        };
        let UserMap { uids, gids, .. } = map;
        write("uid_map", prepare::map_lines(uids))?;
        write("gid_map", prepare::map_lines(gids))?;
        report::go(channel.as_fd()).map_err(OciError::io("let the child go on"))
    }

    /// Listens to the child until it is its command, or waits for start.
    fn talk(
        &self,
        launched: &mut Launched,
        channel: &OwnedFd,
        created: &mut dyn FnMut(u32) -> Result<(), OciError>,
    ) -> Result<(), OciError> {
        let listen = |error: Errno| OciError::io("listen to the child")(error);
        loop {
            let message = match report::receive(channel) {
                Err(Errno::AGAIN) => match poll(&mut [PollFd::new(channel, PollFlags::IN)], None) {
                    Ok(_) | Err(Errno::INTR) => continue,
                    Err(error) => return Err(listen(error)),
                },
                other => other.map_err(listen)?,
            };
            match message {
                None | Some((Message::Told(Stage::Ready), _)) => return Ok(()),
                Some((Message::Failed { op, errno }, _)) => return Err(self.failed(op, errno)),
                Some((Message::Warned { op, errno }, _)) => self.warn(op, errno),
                Some((Message::Executing, _)) => {}
                Some((Message::Terminal, master)) => {
                    launched.terminal = master;
                    self.resize(launched);
                }
                Some((Message::Sibling { pid }, pidfd)) => {
                    let pidfd = pidfd.ok_or_else(|| listen(Errno::BADMSG))?;
                    // Its maker has ended.
                    end(&launched.pidfd);
                    (launched.pid, launched.pidfd) = (pid, pidfd);
                }
                Some((Message::Told(Stage::Created), _)) => {
                    created(launched.pid)?;
                    report::go(channel.as_fd()).map_err(listen)?;
                }
            }
        }
    }

    fn resize(&self, launched: &Launched) {
        let size = self.size.filter(|size| size.rows != 0 || size.columns != 0);
        if let (Some(size), Some(master)) = (size, &launched.terminal) {
            let size =
                Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
            // A terminal that was just made takes every size.
            let _ = tcsetwinsize(master, size);
        }
    }

    fn warn(&self, op: u16, errno: i32) {
        if let Some(op) = self.plan.ops.get(usize::from(op)) {
            let error = std::io::Error::from_raw_os_error(errno);
            self.context.log.warning(&format!("{op}: {error}"));
        }
    }

    /// What a failed operation means to the caller.
    fn failed(&self, op: u16, errno: i32) -> OciError {
        let op = self.plan.ops.get(usize::from(op));
        let command = self.plan.command.name.clone();
        let why = std::io::Error::from_raw_os_error(errno);
        OciError::Start(match (op, Errno::from_raw_os_error(errno)) {
            (Some(Op::Find), Errno::NOENT | Errno::NOTDIR) => {
                let why = if command.contains('/') {
                    "no such file or directory"
                } else {
                    "executable file not found in $PATH"
                };
                DriverError::CommandNotFound { command, why: why.into() }
            }
            (Some(Op::Find), Errno::ACCESS) => {
                DriverError::CommandNotRunnable { command, why: "permission denied".into() }
            }
            (Some(Op::Find), Errno::ISDIR) => {
                DriverError::CommandNotRunnable { command, why: "is a directory".into() }
            }
            (Some(Op::Find | Op::Execute), _) => {
                DriverError::CommandNotRunnable { command, why: lower_case(&why) }
            }
            (Some(op), _) => DriverError::Step { step: op.to_string(), errno },
            (None, _) => DriverError::Step { step: "start the process".into(), errno },
        })
    }
}

/// A kernel's message without its number, as runc's callers look for it.
fn lower_case(error: &std::io::Error) -> String {
    let text = error.to_string().to_lowercase();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Kills a process that is not to be, and reaps it.
fn end(pidfd: &OwnedFd) {
    // It may have ended by itself.
    let _ = process::signal(pidfd.as_fd(), 9);
    let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
}
