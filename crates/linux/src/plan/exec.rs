//! The plan of a process that joins a container.
//!
//! It enters all namespaces at once by the pidfd of a process inside. Entering a process id
//! namespace counts for children only, so a sibling goes on in the end: what the container sees
//! appear is a process that has lost its maker's privileges and descriptors already.

use sys::clone::Namespaces;
use workload::{ContainerSpec, Isolation, Namespace, Network, RootFs, SandboxSpec};

use super::{Input, Plan, Planned, Source, Table, c_path, c_string, container, privilege};
use crate::op::Op;

/// The namespaces in which a container is not at home on the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Joined(pub(crate) Namespaces);

impl Joined {
    /// Those of a container that was made by these specs.
    pub(crate) fn of(
        isolation: Isolation,
        sandbox: &SandboxSpec,
        container: &ContainerSpec,
    ) -> Joined {
        let host_root =
            matches!(&container.root, RootFs::Directory(path) if path.as_os_str() == "/");
        if isolation == Isolation::Host {
            return Joined(Namespaces(if host_root { 0 } else { Namespaces::MOUNT }));
        }
        let other = |namespace: &Namespace| *namespace != Namespace::Host;
        let kinds = [
            (true, Namespaces::MOUNT),
            (sandbox.user.is_some(), Namespaces::USER),
            (sandbox.time.is_some(), Namespaces::TIME),
            (sandbox.network != Network::Host, Namespaces::NET),
            (other(&sandbox.ipc), Namespaces::IPC),
            (other(&sandbox.uts), Namespaces::UTS),
            (other(&container.pid), Namespaces::PID),
            (other(&container.cgroup), Namespaces::CGROUP),
        ];
        Joined(Namespaces(kinds.iter().filter(|(on, _)| *on).fold(0, |all, (_, bit)| all | bit)))
    }
}

/// Plans a process that joins.
pub(crate) fn join(input: Input<'_>, joined: Joined) -> Planned<Plan> {
    let kinds = joined.0;
    let mut table = Table::default();
    let mut ops = vec![Op::DieWithParent(true)];
    ops.extend(container::join_cgroup(&mut table, input.cgroup_files));
    ops.extend(privilege::oom_score(input.process)?);
    let sibling = kinds.0 & Namespaces::PID != 0;
    // The end of a session's leader takes its terminal away, so a sibling leads its own.
    ops.extend((!sibling).then_some(Op::Session));
    if !input.extras.no_new_keyring && input.isolation == Isolation::Container {
        let name = format!("_ses.{}", input.sandbox.id);
        ops.push(Op::Keyring(c_string("id", name)?));
    }
    ops.extend(container::streams(input, &mut table));
    ops.extend(privilege::labels(input)?);
    if kinds.0 != 0 {
        ops.push(Op::Enter { namespace: table.add(Source::Target), kinds });
    }
    if kinds.0 & Namespaces::USER != 0 {
        ops.push(Op::BecomeRoot);
    }
    ops.push(Op::OpenRoot);
    if let Some(size) = input.process.terminal {
        ops.push(Op::Terminal { console: false, uid: input.identity.uid, size });
        ops.extend((!sibling).then_some(Op::ControlTerminal));
    }
    if !input.extras.no_make_cwd {
        ops.push(Op::MakeDirectory(c_path("cwd", &input.process.cwd)?));
    }
    let command = privilege::command(input, None)?;
    ops.extend(privilege::become_command(input, Vec::new(), sibling)?);
    let namespaces = Namespaces::default();
    let (visits, sysctls) = (Vec::new(), Vec::new());
    Ok(Plan { table: table.0, namespaces, visits, user: None, sysctls, ops, command })
}
