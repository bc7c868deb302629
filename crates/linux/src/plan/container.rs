//! The plan of a container's first process.

use sys::{
    clone::Namespaces,
    mount::{Change, attribute, propagation},
};
use workload::{
    ContainerSpec, Isolation, Namespace, Network, PropagationKind, RootFs, SandboxSpec, UserMap,
};

use super::{
    Extras, Input, Plan, Planned, Source, Table, c_path, c_string, container_of, invalid, mounts,
    privilege,
};
use crate::{
    op::{Op, Stage},
    sysctl,
};

/// The namespaces of a container, decided.
#[derive(Debug, Default)]
struct Scene {
    /// Ones of its own.
    own: u64,
    /// Ones to visit.
    visits: Vec<(Source, Namespaces)>,
    /// Whether ids inside differ from ids outside.
    user: Option<UserMap>,
}

impl Scene {
    fn add(&mut self, kind: u64, namespace: &Namespace) {
        match namespace {
            Namespace::Private => self.own |= kind,
            Namespace::Host => {}
            Namespace::Join(path) => {
                self.visits.push((Source::Namespace(path.clone()), Namespaces(kind)));
            }
        }
    }
}

fn scene(input: Input<'_>, container: &ContainerSpec) -> Planned<Scene> {
    let sandbox = input.sandbox;
    let mut scene = Scene::default();
    if !uses_host_root(input.isolation, container) && !from_ground(input) {
        scene.own |= Namespaces::MOUNT;
    }
    if input.isolation == Isolation::Host {
        return Ok(scene);
    }
    scene.add(Namespaces::UTS, &sandbox.uts);
    scene.add(Namespaces::IPC, &sandbox.ipc);
    scene.add(Namespaces::PID, &container.pid);
    match &sandbox.network {
        Network::None => scene.own |= Namespaces::NET,
        Network::Host => {}
        Network::Given => scene.visits.push((Source::Network, Namespaces(Namespaces::NET))),
        Network::Join(path) => scene.add(Namespaces::NET, &Namespace::Join(path.clone())),
    }
    if let Some(map) = &sandbox.user {
        if map.join.is_none() {
            check_map(map)?;
            scene.own |= Namespaces::USER;
        }
        scene.user = Some(map.clone());
    }
    Ok(scene)
}

/// A process on the host that needs no other root than the host's.
fn uses_host_root(isolation: Isolation, container: &ContainerSpec) -> bool {
    isolation == Isolation::Host
        && matches!(&container.root, RootFs::Directory(path) if path.as_os_str() == "/")
}

/// Whether the container's mounts begin from nothing, not from a copy of the host's. What runs on
/// the way and needs the host's tree, and users who may not enter, keep it from that.
fn from_ground(input: Input<'_>) -> bool {
    let Extras { tell_created, create_hooks, no_pivot, .. } = input.extras;
    input.facts.ground
        && input.isolation == Isolation::Container
        && !input.is_confined()
        && create_hooks.is_empty()
        && !tell_created
        && !no_pivot
}

/// Source: user_namespaces(7): at most 340 lines, none empty; id 0 must be somebody.
fn check_map(map: &UserMap) -> Planned<()> {
    for (what, ranges) in [("user.uids", &map.uids), ("user.gids", &map.gids)] {
        let count = ranges.len();
        if !(1..=340).contains(&count) || ranges.iter().any(|range| range.count == 0) {
            return Err(invalid(what, "it must have 1 to 340 ranges, none of them empty"));
        }
        if !ranges.iter().any(|range| range.inside == 0) {
            return Err(invalid(what, "id 0 inside must be mapped"));
        }
    }
    Ok(())
}

/// Plans a container's first process.
pub(crate) fn container(input: Input<'_>) -> Planned<Plan> {
    let container = container_of(input.process)?;
    let scene = scene(input, container)?;
    let mut table = Table::default();
    let mut ops = vec![Op::DieWithParent(true)];
    ops.extend(join_cgroup(&mut table, input.cgroup_files));
    ops.extend(privilege::oom_score(input.process)?);
    let namespaces = user(&scene, &mut table, &mut ops);
    ops.push(Op::Session);
    if !input.extras.no_new_keyring && input.isolation == Isolation::Container {
        let name = format!("_ses.{}", input.sandbox.id);
        ops.push(Op::Keyring(c_string("id", name)?));
    }
    ops.extend(streams(input, &mut table));
    if input.isolation == Isolation::Container {
        ops.extend(surroundings(input, container)?);
    }
    ops.extend(files(input, container, &mut table)?);
    ops.extend(privilege::labels(input)?);
    let hold = hold(input, &mut table);
    let init = container.init.then(|| table.add(Source::Init));
    let command = privilege::command(input, init)?;
    ops.extend(privilege::become_command(input, hold, false)?);
    let visits = scene.visits.into_iter().map(|(source, kind)| (table.add(source), kind)).collect();
    let user = scene.user.filter(|map| map.join.is_none());
    let sysctls = sysctl::by_parent(input.sandbox, input.isolation)?;
    Ok(Plan { table: table.0, namespaces, visits, user, sysctls, ops, command })
}

pub(super) fn join_cgroup(table: &mut Table, files: usize) -> Vec<Op> {
    (0..files).map(|at| Op::JoinCgroup(table.add(Source::CgroupFile(at)))).collect()
}

pub(super) fn streams(input: Input<'_>, table: &mut Table) -> Option<Op> {
    if input.process.terminal.is_some() || input.extras.inherit_streams {
        return None;
    }
    Some(Op::Streams([0, 1, 2].map(|at| table.add(Source::Stream(at)))))
}

/// Getting into the user namespace, and so into the others: a new one is cloned with them; for
/// an existing one they are made after it was entered, so that they belong to it.
fn user(scene: &Scene, table: &mut Table, ops: &mut Vec<Op>) -> Namespaces {
    let Some(map) = &scene.user else { return Namespaces(scene.own) };
    let Some(path) = &map.join else {
        ops.extend([Op::Await, Op::BecomeRoot]);
        return Namespaces(scene.own);
    };
    let namespace = table.add(Source::Namespace(path.clone()));
    ops.push(Op::Enter { namespace, kinds: Namespaces(Namespaces::USER) });
    ops.push(Op::BecomeRoot);
    ops.push(Op::Leave(Namespaces(scene.own)));
    if scene.own & Namespaces::PID != 0 {
        ops.extend([Op::Sibling, Op::DieWithParent(true)]);
    }
    Namespaces(0)
}

/// What is seen beside files: clocks, names, loopback, control group tree.
fn surroundings(input: Input<'_>, container: &ContainerSpec) -> Planned<Vec<Op>> {
    let sandbox = input.sandbox;
    let mut ops = Vec::new();
    if let Some(time) = &sandbox.time {
        let lines = format!(
            "monotonic {} {}\nboottime {} {}\n",
            time.monotonic.0, time.monotonic.1, time.boottime.0, time.boottime.1
        );
        ops.push(Op::Leave(Namespaces(Namespaces::TIME)));
        ops.push(Op::Clocks(c_string("time", lines)?));
    }
    ops.extend(names(sandbox)?);
    if sandbox.network == Network::None {
        ops.push(Op::Loopback);
    }
    match &container.cgroup {
        Namespace::Private => ops.push(Op::Leave(Namespaces(Namespaces::CGROUP))),
        Namespace::Host => {}
        Namespace::Join(_) => {
            return Err(super::unsupported("cgroup namespace", "one to join cannot be given"));
        }
    }
    Ok(ops)
}

fn names(sandbox: &SandboxSpec) -> Planned<Vec<Op>> {
    let mut ops = Vec::new();
    let mut name = |what, name: &Option<String>, op: fn(std::ffi::CString) -> Op| {
        let Some(name) = name else { return Ok(()) };
        // The name of a namespace that is joined may be said again, as container engines do.
        if sandbox.uts == Namespace::Host {
            return Err(invalid(what, "it needs a UTS namespace other than the host's"));
        }
        // Source: uname(2): 65 bytes with the zero.
        if name.len() > 64 {
            return Err(invalid(what, "it must be at most 64 bytes long"));
        }
        ops.push(op(c_string(what, name.as_str())?));
        Ok(())
    };
    name("hostname", &sandbox.hostname, Op::Hostname)?;
    name("domainname", &sandbox.domainname, Op::Domainname)?;
    Ok(ops)
}

/// From the host's tree to the container's.
fn files(input: Input<'_>, container: &ContainerSpec, table: &mut Table) -> Planned<Vec<Op>> {
    if uses_host_root(input.isolation, container) {
        let mut ops = vec![Op::OpenRoot];
        ops.extend(terminal(input, false));
        return Ok(ops);
    }
    let mount = table.add(Source::Root(container.root.clone()));
    if from_ground(input) {
        let kinds = Namespaces(Namespaces::MOUNT);
        let namespace = table.add(Source::Ground);
        let mut ops = vec![
            Op::Enter { namespace, kinds },
            Op::Leave(kinds),
            Op::AttachRoot { mount, at: c"/".to_owned() },
        ];
        ops.extend(mounts::mounts(input, container, table)?);
        ops.extend(terminal(input, true));
        ops.push(Op::Chroot);
        ops.extend(inside(input, container)?);
        return Ok(ops);
    }
    let at = match &container.root {
        RootFs::Directory(path) => c_path("root", path)?,
        RootFs::Overlay { .. } | RootFs::Layers { .. } => c"/".to_owned(),
    };
    let mut ops = vec![Op::Detach, Op::AttachRoot { mount, at }];
    ops.extend(mounts::mounts(input, container, table)?);
    ops.extend(terminal(input, true));
    if input.extras.tell_created {
        ops.push(Op::Tell(Stage::Created));
    }
    ops.extend(input.extras.create_hooks.iter().cloned().map(|hook| Op::Hook(Box::new(hook))));
    ops.push(if input.extras.no_pivot { Op::Chroot } else { Op::PivotRoot });
    ops.extend(inside(input, container)?);
    Ok(ops)
}

/// What is done once the root is the container's.
fn inside(input: Input<'_>, container: &ContainerSpec) -> Planned<Vec<Op>> {
    let mut ops = sysctl::ops(input.sandbox, input.isolation)?;
    if !input.extras.no_make_cwd {
        ops.push(Op::MakeDirectory(c_path("cwd", &input.process.cwd)?));
    }
    ops.extend(finish(container)?);
    Ok(ops)
}

fn terminal(input: Input<'_>, console: bool) -> Vec<Op> {
    let uid = input.identity.uid;
    match input.process.terminal {
        Some(size) => vec![Op::Terminal { console, uid, size }, Op::ControlTerminal],
        None => Vec::new(),
    }
}

/// What is closed once everything is in place.
fn finish(container: &ContainerSpec) -> Planned<Vec<Op>> {
    let mut ops = Vec::new();
    for path in &container.read_only_paths {
        ops.push(Op::ReadOnly(c_path("read-only path", path)?));
    }
    for path in &container.masked_paths {
        ops.push(Op::Mask(c_path("masked path", path)?));
    }
    if container.read_only_root {
        let change = Change { set: attribute::READ_ONLY, ..Change::default() };
        ops.push(Op::Attributes { target: c"/".to_owned(), change });
    }
    if let Some(travel) = container.root_propagation {
        let kind = match travel.kind {
            PropagationKind::Shared => propagation::SHARED,
            PropagationKind::Slave => propagation::SLAVE,
            PropagationKind::Private => propagation::PRIVATE,
            PropagationKind::Unbindable => propagation::UNBINDABLE,
        };
        let change = Change { propagation: kind, recursive: travel.recursive, ..Change::default() };
        ops.push(Op::Attributes { target: c"/".to_owned(), change });
    }
    Ok(ops)
}

/// Waiting to be started, and what runs then.
fn hold(input: Input<'_>, table: &mut Table) -> Vec<Op> {
    let mut ops = Vec::new();
    if input.extras.hold {
        ops.extend([Op::Tell(Stage::Ready), Op::AwaitStart(table.add(Source::Start))]);
    }
    ops.extend(input.extras.start_hooks.iter().cloned().map(|hook| Op::Hook(Box::new(hook))));
    ops
}
