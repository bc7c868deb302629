//! A driver without a host: sandboxes in memory, scripted processes, programmable faults.
//!
//! It keeps the contract of `workload` as a real driver does, so the conformance suite passes on
//! it, and breaks it on demand. What a process does is in its command:
//!
//! | command | what it does |
//! |---|---|
//! | `exit CODE` | ends at once with this code |
//! | `sleep [MILLISECONDS]` | ends with 0 after this time, or never by itself |
//! | `stubborn` | as `sleep`, but only `SIGKILL` ends it |
//! | `echo TEXT…` | writes the words and a line end to standard output, and ends with 0 |
//! | `warn TEXT…` | the same to standard error |
//! | `cat` | copies the standard input of those attached at its start to standard output |
//! | `hog` | is killed for want of memory at once |
//! | `missing` | is not found |
//! | `forbidden` | cannot be run |
//!
//! Any other command runs as `sleep` does. Output is recorded as `stdio` records it.
//!
//! A [`Fake`] stands for the driver *and* for the shims that outlive a daemon: an engine that is
//! dropped leaves its sandboxes here, and the next one, given the same fake, finds them again.

mod fault;
mod process;
mod sandbox;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use base::{Deadline, SandboxId};
use workload::{
    Capabilities, Driver, DriverError, Exit, ExitStatus, Finding, Isolation, Materials, Pending,
    ProcessSpec, Sandbox, SandboxHandle, SandboxSpec, Trace,
};

use fault::Faults;
pub use fault::{Fault, Point};
pub use process::Source;
use sandbox::FakeSandbox;

/// Host process ids begin here, above what Linux can give (`PID_MAX_LIMIT`, 2^22), so that none
/// is ever that of a real process.
const FIRST_PID: u32 = 1 << 23;

/// A driver without a host. Cloning it gives another handle to the same one.
#[derive(Clone, Debug)]
pub struct Fake {
    host: Arc<Host>,
}

/// What a real host would hold.
#[derive(Debug)]
pub(crate) struct Host {
    isolation: Isolation,
    sandboxes: Mutex<BTreeMap<SandboxId, Arc<FakeSandbox>>>,
    faults: Faults,
    calls: Mutex<Vec<String>>,
    spawned: Mutex<Vec<(SandboxId, ProcessSpec)>>,
    next_pid: AtomicU32,
}

impl Default for Fake {
    fn default() -> Fake {
        Fake::new()
    }
}

impl Fake {
    /// A driver for isolation `container` with no sandboxes and no faults.
    pub fn new() -> Fake {
        Fake::of(Isolation::Container)
    }

    /// The same for another isolation.
    pub fn of(isolation: Isolation) -> Fake {
        Fake {
            host: Arc::new(Host {
                isolation,
                sandboxes: Mutex::default(),
                faults: Faults::default(),
                calls: Mutex::default(),
                spawned: Mutex::default(),
                next_pid: AtomicU32::new(FIRST_PID),
            }),
        }
    }

    /// From now on this happens at this point, as often as the fault says.
    pub fn inject(&self, point: Point, fault: Fault) {
        self.host.faults.inject(point, fault);
    }

    /// No faults from now on; what hangs goes on.
    pub fn heal(&self) {
        self.host.faults.heal();
    }

    /// The sandboxes that stand.
    pub fn sandboxes(&self) -> Vec<SandboxId> {
        locked(&self.host.sandboxes).keys().cloned().collect()
    }

    /// Every call of the traits so far, in order: `create`, `spawn main`, `destroy`, ….
    pub fn calls(&self) -> Vec<String> {
        locked(&self.host.calls).clone()
    }

    /// What this sandbox was made of.
    pub fn spec(&self, id: &SandboxId) -> Option<SandboxSpec> {
        locked(&self.host.sandboxes).get(id).map(|sandbox| sandbox.spec().clone())
    }

    /// Every process that was ever started, with its sandbox.
    pub fn spawned(&self) -> Vec<(SandboxId, ProcessSpec)> {
        locked(&self.host.spawned).clone()
    }

    /// The process that holds this sandbox is killed: its processes go with it and nobody knows
    /// how they ended.
    pub fn lose(&self, id: &SandboxId) {
        let lost = locked(&self.host.sandboxes).remove(id);
        if let Some(sandbox) = lost {
            sandbox.end_all(ExitStatus::Lost);
        }
    }

    /// A process of a sandbox writes this. Answers whether there is one.
    pub fn write(&self, id: &SandboxId, process: &str, source: Source, text: &str) -> bool {
        let sandbox = locked(&self.host.sandboxes).get(id).cloned();
        let process = sandbox.and_then(|sandbox| sandbox.find(process));
        if let Some(process) = &process {
            process.write(source, text.as_bytes());
        }
        process.is_some()
    }

    /// A process of a sandbox ends by itself. Answers whether there was one that ran.
    pub fn end(&self, id: &SandboxId, process: &str, exit: Exit) -> bool {
        let sandbox = locked(&self.host.sandboxes).get(id).cloned();
        sandbox.is_some_and(|sandbox| sandbox.end(process, exit))
    }
}

impl Host {
    fn note(&self, call: impl Into<String>) {
        locked(&self.calls).push(call.into());
    }

    fn pid(&self) -> u32 {
        self.next_pid.fetch_add(1, Ordering::Relaxed)
    }
}

impl Driver for Fake {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            isolation: self.host.isolation,
            pause: true,
            files: false,
            fork: true,
            many_containers: true,
            user_map: true,
            layers: false,
        }
    }

    fn probe(&self) -> Pending<'_, Vec<Finding>> {
        let finding = Finding {
            subject: "fake".to_owned(),
            works: true,
            detail: "it is all in memory".to_owned(),
            mend: None,
        };
        Box::pin(async move { vec![finding] })
    }

    fn traces(&self) -> Pending<'_, Result<Vec<Trace>, DriverError>> {
        let isolation = self.host.isolation;
        let ids: Vec<_> = locked(&self.host.sandboxes).keys().cloned().collect();
        let trace = move |sandbox: SandboxId| Trace {
            what: format!("sandbox {sandbox}"),
            handle: SandboxHandle { isolation, sandbox, token: String::new() },
        };
        Box::pin(async move { Ok(ids.into_iter().map(trace).collect()) })
    }

    fn create(
        &self,
        spec: SandboxSpec,
        materials: Materials,
        by: Deadline,
    ) -> Pending<'_, Result<Arc<dyn Sandbox>, DriverError>> {
        // The work is a task of its own: who stops waiting does not stop it half-way.
        let host = Arc::clone(&self.host);
        finished(async move {
            host.note("create");
            host.faults.at(Point::Create, by, "creating the sandbox").await?;
            let given = matches!(spec.network, workload::Network::Given);
            if given != materials.network.is_some() {
                return Err(DriverError::Invalid {
                    what: "network".to_owned(),
                    why: "a given network comes with its descriptor, and only that".to_owned(),
                });
            }
            if let Some(saved) = &spec.taken_from {
                let found = std::fs::metadata(saved.join(sandbox::SAVED));
                found.map_err(|error| DriverError::step("take up a saved sandbox", &error))?;
                host.note("take up");
            }
            let id = spec.id.clone();
            let mut sandboxes = locked(&host.sandboxes);
            if sandboxes.contains_key(&id) {
                return Err(DriverError::Exists { what: format!("sandbox {id}") });
            }
            let sandbox = Arc::new(FakeSandbox::new(Arc::clone(&host), spec));
            sandboxes.insert(id, Arc::clone(&sandbox));
            Ok(sandbox as Arc<dyn Sandbox>)
        })
    }

    fn recover(
        &self,
        handle: SandboxHandle,
        by: Deadline,
    ) -> Pending<'_, Result<Option<Arc<dyn Sandbox>>, DriverError>> {
        let host = Arc::clone(&self.host);
        finished(async move {
            host.note("recover");
            host.faults.at(Point::Recover, by, "finding the sandbox").await?;
            let found = locked(&host.sandboxes).get(&handle.sandbox).cloned();
            Ok(found.map(|sandbox| sandbox as Arc<dyn Sandbox>))
        })
    }
}

/// Runs work to its end even if nobody waits for it any more.
fn finished<'a, T: Send + 'static>(
    work: impl Future<Output = Result<T, DriverError>> + Send + 'static,
) -> Pending<'a, Result<T, DriverError>> {
    let task = tokio::spawn(work);
    Box::pin(async move {
        task.await.unwrap_or_else(|error| {
            Err(DriverError::Unreachable { why: format!("the fake's task ended: {error}") })
        })
    })
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
