//! Execs of one container: started, watched and recorded by its task.

use std::{os::fd::OwnedFd, sync::Arc};

use base::{Deadline, ProcessId, clock::Timestamp};
use tracing::{error, warn};
use workload::{Attachment, Exit, ExitStatus, Process, Sandbox, Streams};

use super::{Actor, Outcome, Reply, effects};
use crate::{
    EngineError,
    error::chain,
    execs::{Exec, ExecState},
    spec,
};

impl Actor {
    pub(super) fn start_exec(&mut self, exec: Arc<Exec>, attach: Option<OwnedFd>, reply: Reply) {
        let sandbox = match self.begin_exec(&exec) {
            Ok(sandbox) => sandbox,
            Err(failure) => {
                reply.send(Err(failure)).ok();
                return;
            }
        };
        let facts = self.shared.host.facts();
        let config = self.record.config.clone();
        let id = self.entry.id.clone();
        self.tasks.spawn(async move {
            let spawned = async {
                let spec = spec::exec(&id, &exec.id, &config, &exec.config, &facts)?;
                let by = Deadline::after(effects::SPAWN_WAIT);
                let streams = Streams { attached: attach.map(Attachment::from) };
                effects::within(by, "starting the exec", sandbox.spawn(spec, streams, by)).await
            };
            let result = spawned.await;
            Outcome::ExecStarted(exec, result, reply)
        });
    }

    /// Records that it is being started.
    fn begin_exec(&mut self, exec: &Arc<Exec>) -> Result<Arc<dyn Sandbox>, EngineError> {
        let name = &self.record.name;
        self.state.may_exec().map_err(|refusal| refusal.about(name))?;
        let running = || EngineError::NotRunning(name.to_string());
        let sandbox = self.entry.live().sandbox.ok_or_else(running)?;
        exec.begin()?;
        self.execs.insert(exec.id.clone(), Arc::clone(exec));
        let record = self.describe(&self.state).expect("a container that runs is not gone");
        if let Err(failure) = self.shared.records.put(&record) {
            self.execs.remove(&exec.id);
            fail(exec, &failure.clone().into());
            return Err(failure.into());
        }
        self.record = record;
        self.publish();
        Ok(sandbox)
    }

    pub(super) fn exec_started(
        &mut self,
        exec: &Arc<Exec>,
        result: Result<Arc<dyn Process>, EngineError>,
        reply: Reply,
    ) {
        let result = match result {
            Ok(process) => {
                self.tell_exec(exec, "exec_start");
                exec.state.send_replace(ExecState::Running(Arc::clone(&process)));
                self.watch_exec(exec, process);
                Ok(())
            }
            Err(failure) => {
                fail(exec, &failure);
                self.forget_exec(exec);
                Err(failure)
            }
        };
        reply.send(result).ok();
    }

    fn tell_exec(&self, exec: &Exec, action: &str) {
        let action = exec.action(action);
        self.tell(&action, &[("execID", &exec.id)]);
    }

    fn watch_exec(&mut self, exec: &Arc<Exec>, process: Arc<dyn Process>) {
        let exec = Arc::clone(exec);
        self.tasks.spawn(async move {
            let exit = process.wait().await;
            Outcome::ExecEnded(exec, exit)
        });
    }

    pub(super) fn exec_ended(&mut self, exec: &Arc<Exec>, exit: Exit) {
        exec.state.send_replace(ExecState::Ended(exit));
        let code = exit.status.shell_code().to_string();
        self.tell("exec_die", &[("execID", &exec.id), ("exitCode", &code)]);
        if let (Some(sandbox), Ok(process)) = (self.entry.live().sandbox, exec.id.parse()) {
            self.tasks.spawn(async move {
                sandbox.forget(&process).await;
                Outcome::Quiet
            });
        }
        self.forget_exec(exec);
    }

    fn forget_exec(&mut self, exec: &Arc<Exec>) {
        self.execs.remove(&exec.id);
        if let Some(record) = self.describe(&self.state) {
            self.note(&record);
            self.record = record;
            self.publish();
        }
    }

    /// The sandbox is gone, and with it whatever ran there.
    pub(super) fn end_execs(&mut self, status: ExitStatus) {
        for exec in std::mem::take(&mut self.execs).into_values() {
            let exit = Exit { status, out_of_memory: false, at: Timestamp::now() };
            exec.state.send_if_modified(|state| {
                let runs = matches!(state, ExecState::Running(_) | ExecState::Starting);
                if runs {
                    *state = ExecState::Ended(exit);
                }
                runs
            });
        }
    }

    /// Takes over the execs that an earlier daemon started.
    pub(super) async fn find_execs(&mut self) {
        let Some(sandbox) = self.entry.live().sandbox else { return };
        for (id, config) in std::mem::take(&mut self.record.execs) {
            let Ok(process_id) = id.parse::<ProcessId>() else { continue };
            let Some(process) = sandbox.process(&process_id).await else {
                warn!(exec = id, "an exec is lost");
                continue;
            };
            let container = self.entry.id.clone();
            match self.shared.execs.note(id.clone(), container, config, Timestamp::now()) {
                Ok(exec) => {
                    exec.state.send_replace(ExecState::Running(Arc::clone(&process)));
                    self.execs.insert(id, Arc::clone(&exec));
                    self.watch_exec(&exec, process);
                }
                Err(failure) => error!(exec = id, error = chain(&failure), "an exec is lost"),
            }
        }
    }
}

fn fail(exec: &Exec, failure: &EngineError) {
    exec.state.send_replace(ExecState::Failed(Timestamp::now(), failure.clone()));
}
