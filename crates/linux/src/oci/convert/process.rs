//! `process`, and the system call filter that goes with it.

use std::collections::BTreeSet;

use base::{ProcessId, chain};
use oci_spec::runtime::{
    Capabilities, LinuxCapabilities, LinuxSeccomp, LinuxSeccompAction, LinuxSyscall, PosixRlimit,
    PosixRlimitType, Process, Spec,
};
use workload::{
    CapabilitySets, ProcessRoot, ProcessSpec, Rlimit, Seccomp, TerminalSize, UserSpec, profile,
};

use super::ConvertError;

/// A process in the contract's words.
pub(crate) fn process(
    process: &Process,
    id: ProcessId,
    root: ProcessRoot,
    seccomp: Option<Seccomp>,
) -> Result<ProcessSpec, ConvertError> {
    refuse_rare(process)?;
    let args = process.args().clone().unwrap_or_default();
    if args.is_empty() {
        return Err(ConvertError::invalid("process.args", "it is empty: name a command"));
    }
    if !process.cwd().is_absolute() {
        return Err(ConvertError::invalid("process.cwd", "it must be an absolute path"));
    }
    let text = |value: &Option<String>| value.clone().filter(|v| !v.is_empty());
    let user = process.user();
    Ok(ProcessSpec {
        id,
        root,
        args,
        env: process.env().clone().unwrap_or_default(),
        cwd: process.cwd().clone(),
        user: UserSpec::Ids {
            uid: user.uid(),
            gid: user.gid(),
            groups: user.additional_gids().clone().unwrap_or_default(),
        },
        umask: user.umask(),
        capabilities: process
            .capabilities()
            .as_ref()
            .map(capabilities)
            .transpose()?
            .unwrap_or_default(),
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        seccomp,
        apparmor: text(process.apparmor_profile()),
        selinux: text(process.selinux_label()),
        rlimits: process.rlimits().iter().flatten().map(rlimit).collect(),
        oom_score_adj: process.oom_score_adj().map(oom_score_adj).transpose()?,
        terminal: process.terminal().unwrap_or(false).then(|| size(process)),
        stdin: true,
        stdin_once: false,
        log: None,
        whole: false,
    })
}

/// The filter of a configuration, resolved for its process.
pub(super) fn seccomp(spec: &Spec, process: &Process) -> Result<Option<Seccomp>, ConvertError> {
    let Some(profile) = spec.linux().as_ref().and_then(|l| l.seccomp().as_ref()) else {
        return Ok(None);
    };
    refuse_supervisors(profile)?;
    let invalid =
        |error: &dyn std::error::Error| ConvertError::invalid("linux.seccomp", chain(error));
    let json = serde_json::to_vec(profile).map_err(|error| invalid(&error))?;
    let profile = seccomp::Profile::parse(&json).map_err(|error| invalid(&error))?;
    let held = process.capabilities().as_ref().map(capabilities).transpose()?.unwrap_or_default();
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let host = seccomp::Host {
        capabilities: &held.bounding,
        arch: seccomp::Arch::native()
            .ok_or_else(|| ConvertError::unsupported("linux.seccomp on this architecture"))?,
        kernel: seccomp::KernelVersion::parse(&release).ok_or_else(|| {
            ConvertError::invalid("linux.seccomp", format!("kernel \"{release}\" has no version"))
        })?,
    };
    Ok(Some(profile.resolve(host).into()))
}

/// Nobody is there who could be asked about a system call.
fn refuse_supervisors(profile: &LinuxSeccomp) -> Result<(), ConvertError> {
    let mut actions = profile.syscalls().iter().flatten().map(LinuxSyscall::action);
    let asks = |action| action == LinuxSeccompAction::ScmpActNotify;
    let rare = [
        ("listenerPath", profile.listener_path().is_some()),
        ("listenerMetadata", profile.listener_metadata().is_some()),
        ("defaultAction: SCMP_ACT_NOTIFY", asks(profile.default_action())),
        ("syscalls.action: SCMP_ACT_NOTIFY", actions.any(asks)),
    ];
    match rare.iter().find(|(_, there)| *there) {
        Some((name, _)) => Err(ConvertError::unsupported(format!("linux.seccomp.{name}"))),
        None => Ok(()),
    }
}

fn refuse_rare(process: &Process) -> Result<(), ConvertError> {
    let rare = [
        ("process.ioPriority", process.io_priority().is_some()),
        ("process.scheduler", process.scheduler().is_some()),
        ("process.execCPUAffinity", process.exec_cpu_affinity().is_some()),
        ("process.commandLine", process.command_line().as_ref().is_some_and(|c| !c.is_empty())),
    ];
    match rare.iter().find(|(_, there)| *there) {
        Some((name, _)) => Err(ConvertError::unsupported(*name)),
        None => Ok(()),
    }
}

fn capabilities(given: &LinuxCapabilities) -> Result<CapabilitySets, ConvertError> {
    let set = |set: &Option<Capabilities>| -> Result<BTreeSet<u8>, ConvertError> {
        let numbers = set.iter().flatten().map(|capability| {
            let name = capability.to_string();
            let why = || format!("there is no capability {name}");
            profile::capability(&name)
                .ok_or_else(|| ConvertError::invalid("process.capabilities", why()))
        });
        numbers.collect()
    };
    let (permitted, inheritable) = (set(given.permitted())?, set(given.inheritable())?);
    // The kernel refuses ambient ones that are not both of these, and configurations list them
    // all the same (runc's own did): runc goes on without.
    let mut ambient = set(given.ambient())?;
    ambient.retain(|number| permitted.contains(number) && inheritable.contains(number));
    Ok(CapabilitySets {
        bounding: set(given.bounding())?,
        effective: set(given.effective())?,
        permitted,
        inheritable,
        ambient,
    })
}

fn rlimit(given: &PosixRlimit) -> Rlimit {
    // Kernel numbers of getrlimit(2) for x86 and Arm.
    let resource = match given.typ() {
        PosixRlimitType::RlimitCpu => 0,
        PosixRlimitType::RlimitFsize => 1,
        PosixRlimitType::RlimitData => 2,
        PosixRlimitType::RlimitStack => 3,
        PosixRlimitType::RlimitCore => 4,
        PosixRlimitType::RlimitRss => 5,
        PosixRlimitType::RlimitNproc => 6,
        PosixRlimitType::RlimitNofile => 7,
        PosixRlimitType::RlimitMemlock => 8,
        PosixRlimitType::RlimitAs => 9,
        PosixRlimitType::RlimitLocks => 10,
        PosixRlimitType::RlimitSigpending => 11,
        PosixRlimitType::RlimitMsgqueue => 12,
        PosixRlimitType::RlimitNice => 13,
        PosixRlimitType::RlimitRtprio => 14,
        PosixRlimitType::RlimitRttime => 15,
    };
    Rlimit { resource, soft: given.soft(), hard: given.hard(), required: true }
}

fn oom_score_adj(given: i32) -> Result<i16, ConvertError> {
    let fits = i16::try_from(given).ok().filter(|score| (-1000..=1000).contains(score));
    fits.ok_or_else(|| {
        ConvertError::invalid(
            "process.oomScoreAdj",
            format!("{given} is not between -1000 and 1000"),
        )
    })
}

fn size(process: &Process) -> TerminalSize {
    let small = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
    process.console_size().as_ref().map_or(TerminalSize::default(), |size| TerminalSize {
        rows: small(size.height()),
        columns: small(size.width()),
    })
}
