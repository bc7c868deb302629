//! A sandbox in memory.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use base::{ByteSize, Deadline, ProcessId, clock::Timestamp};
use workload::{
    DriverError, Exit, ExitStatus, Limits, Pausable, Pending, Process, ProcessRoot, ProcessSpec,
    Sandbox, SandboxHandle, SandboxSpec, Signal, Streams, Usage,
};

use super::{
    Host, Point, finished, locked,
    process::{FakeProcess, Script},
};

/// Deadline of calls that have none of their own.
const SHORT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct FakeSandbox {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    host: Arc<Host>,
    spec: SandboxSpec,
    inside: Mutex<Inside>,
}

#[derive(Debug)]
struct Inside {
    processes: BTreeMap<ProcessId, Arc<FakeProcess>>,
    limits: Limits,
    paused: bool,
    destroyed: bool,
}

impl FakeSandbox {
    pub(super) fn new(host: Arc<Host>, spec: SandboxSpec) -> FakeSandbox {
        let limits = spec.limits.clone();
        let inside = Inside { processes: BTreeMap::new(), limits, paused: false, destroyed: false };
        FakeSandbox { shared: Arc::new(Shared { host, spec, inside: Mutex::new(inside) }) }
    }

    pub(super) fn spec(&self) -> &SandboxSpec {
        &self.shared.spec
    }

    pub(super) fn end_all(&self, status: ExitStatus) {
        self.shared.end_all(status);
    }

    pub(super) fn end(&self, process: &str, exit: Exit) -> bool {
        self.find(process).is_some_and(|process| process.end(exit))
    }

    pub(super) fn find(&self, process: &str) -> Option<Arc<FakeProcess>> {
        let inside = locked(&self.shared.inside);
        inside.processes.values().find(|other| other.id().as_str() == process).cloned()
    }
}

impl Shared {
    fn gone(&self) -> DriverError {
        DriverError::Gone { what: format!("sandbox {}", self.spec.id) }
    }

    fn end_all(&self, status: ExitStatus) {
        let mut inside = locked(&self.inside);
        inside.destroyed = true;
        inside.paused = false;
        for process in inside.processes.values() {
            process.end(Exit { status, out_of_memory: false, at: Timestamp::now() });
        }
    }

    fn start(&self, spec: ProcessSpec, streams: Streams) -> Result<Arc<dyn Process>, DriverError> {
        let script = Script::read(&spec.args)?;
        let mut inside = locked(&self.inside);
        if inside.destroyed {
            return Err(self.gone());
        }
        if inside.paused {
            return Err(DriverError::State {
                what: format!("sandbox {}", self.spec.id),
                state: "paused".to_owned(),
            });
        }
        let joined = match &spec.root {
            ProcessRoot::Own(_) => None,
            ProcessRoot::Join(other) => {
                let running = inside.processes.get(other).filter(|it| it.exit().is_none());
                let running = running.ok_or_else(|| DriverError::State {
                    what: format!("process {other}"),
                    state: "not running".to_owned(),
                })?;
                Some(Arc::clone(running))
            }
        };
        if inside.processes.contains_key(&spec.id) {
            return Err(DriverError::Exists { what: format!("process {}", spec.id) });
        }
        locked(&self.host.spawned).push((self.spec.id.clone(), spec.clone()));
        let process = FakeProcess::start(Arc::clone(&self.host), spec, script, streams);
        if let Some(first) = joined.filter(|joined| joined.is_first()) {
            process.end_with(&first);
        }
        inside.processes.insert(process.id().clone(), Arc::clone(&process));
        Ok(process)
    }

    async fn freeze(&self, paused: bool, by: Deadline) -> Result<(), DriverError> {
        self.host.faults.at(Point::Pause, by, "freezing").await?;
        let mut inside = locked(&self.inside);
        if inside.destroyed {
            return Err(self.gone());
        }
        inside.paused = paused;
        for process in inside.processes.values() {
            process.freeze(paused);
        }
        Ok(())
    }
}

impl Sandbox for FakeSandbox {
    fn handle(&self) -> SandboxHandle {
        SandboxHandle {
            isolation: self.shared.host.isolation,
            sandbox: self.shared.spec.id.clone(),
            token: "fake".to_owned(),
        }
    }

    fn spawn(
        &self,
        spec: ProcessSpec,
        streams: Streams,
        by: Deadline,
    ) -> Pending<'_, Result<Arc<dyn Process>, DriverError>> {
        let shared = Arc::clone(&self.shared);
        finished(async move {
            shared.host.note(format!("spawn {}", spec.id));
            shared.host.faults.at(Point::Spawn, by, "starting the process").await?;
            shared.start(spec, streams)
        })
    }

    fn process(&self, id: &ProcessId) -> Pending<'_, Option<Arc<dyn Process>>> {
        let found = locked(&self.shared.inside).processes.get(id).cloned();
        Box::pin(async move { found.map(|process| process as Arc<dyn Process>) })
    }

    fn forget(&self, id: &ProcessId) -> Pending<'_, ()> {
        let mut inside = locked(&self.shared.inside);
        if inside.processes.get(id).is_some_and(|process| process.exit().is_some()) {
            inside.processes.remove(id);
        }
        Box::pin(async {})
    }

    fn limit(&self, limits: Limits) -> Pending<'_, Result<(), DriverError>> {
        let shared = Arc::clone(&self.shared);
        finished(async move {
            shared.host.note("limit");
            shared.host.faults.at(Point::Limit, Deadline::after(SHORT), "setting limits").await?;
            let mut inside = locked(&shared.inside);
            if inside.destroyed {
                return Err(shared.gone());
            }
            inside.limits = limits;
            Ok(())
        })
    }

    fn usage(&self) -> Pending<'_, Result<Usage, DriverError>> {
        let shared = Arc::clone(&self.shared);
        finished(async move {
            shared.host.faults.at(Point::Usage, Deadline::after(SHORT), "reading usage").await?;
            let inside = locked(&shared.inside);
            if inside.destroyed {
                return Err(shared.gone());
            }
            let running = inside.processes.values().filter(|p| p.exit().is_none()).count();
            let mut usage = Usage {
                pids: u64::try_from(running).ok(),
                pids_limit: inside.limits.pids,
                ..Usage::default()
            };
            usage.memory.current = ByteSize(1 << 20);
            usage.memory.limit = inside.limits.memory.limit;
            Ok(usage)
        })
    }

    fn host_pids(&self) -> Pending<'_, Result<Vec<u32>, DriverError>> {
        let inside = locked(&self.shared.inside);
        let pids = inside.processes.values().filter_map(|process| process.host_pid()).collect();
        let result = if inside.destroyed { Err(self.shared.gone()) } else { Ok(pids) };
        Box::pin(async move { result })
    }

    fn destroy(&self, by: Deadline) -> Pending<'_, Result<(), DriverError>> {
        let shared = Arc::clone(&self.shared);
        finished(async move {
            shared.host.note("destroy");
            shared.host.faults.at(Point::Destroy, by, "destroying the sandbox").await?;
            shared.end_all(ExitStatus::Signal(Signal::KILL));
            locked(&shared.host.sandboxes).remove(&shared.spec.id);
            Ok(())
        })
    }

    fn pausable(&self) -> Option<&dyn Pausable> {
        Some(self)
    }

    /// A fake has no files.
    fn files(&self) -> Option<&dyn workload::Files> {
        None
    }

    fn forkable(&self) -> Option<&dyn workload::Forkable> {
        Some(self)
    }
}

/// What a saved fake is: a file of this name.
pub(super) const SAVED: &str = "fake";

impl workload::Forkable for FakeSandbox {
    fn save(&self, directory: &Path, by: Deadline) -> Pending<'_, Result<(), DriverError>> {
        let (shared, at) = (Arc::clone(&self.shared), directory.join(SAVED));
        finished(async move {
            shared.host.note("save");
            shared.host.faults.at(Point::Save, by, "saving the sandbox").await?;
            std::fs::write(at, []).map_err(|error| DriverError::step("save the sandbox", &error))
        })
    }
}

impl Pausable for FakeSandbox {
    fn pause(&self, by: Deadline) -> Pending<'_, Result<(), DriverError>> {
        let shared = Arc::clone(&self.shared);
        finished(async move {
            shared.host.note("pause");
            shared.freeze(true, by).await
        })
    }

    fn resume(&self, by: Deadline) -> Pending<'_, Result<(), DriverError>> {
        let shared = Arc::clone(&self.shared);
        finished(async move {
            shared.host.note("resume");
            shared.freeze(false, by).await
        })
    }
}
