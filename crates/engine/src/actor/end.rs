//! What a container leaves: its resources, one by one, and at last itself.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use workload::ExitStatus;

use super::Actor;
use crate::{
    NetworkView, pool,
    registry::{Live, Snapshot},
    step::{Effect, Resource},
};

/// How long bridge and layers stay when the last container removed itself: another may come at
/// once.
const LINGER: Duration = Duration::from_secs(2);

impl Actor {
    /// The container is gone: so are its record, its name and, with the last one, whatever the
    /// engine has on the host.
    pub(super) async fn finish(mut self, last: Vec<Effect>, closing: &mut watch::Receiver<bool>) {
        self.end_execs(ExitStatus::Lost);
        self.shared.records.delete(&self.entry.id);
        self.shared.execs.forget(&self.entry.id);
        let none_left = self.shared.registry.leave(&self.entry.id, &self.record.name);
        self.tell_end();
        let container = Arc::new(self.view());
        let ends = self.ends;
        let exit = self.last_exit();
        let gone =
            Snapshot { container, made: true, alive: false, logs: false, ends, exit, gone: true };
        self.entry.snapshot.send_replace(gone);
        // Whoever is late is told at once that there is no such container.
        self.mailbox.close();
        while self.mailbox.try_recv().is_ok() {}
        let asked = last.iter().any(|effect| matches!(effect, Effect::Answer(..)));
        if none_left && asked {
            self.shared.leave_host().await;
        }
        for effect in last {
            if let Effect::Answer(id, answer) = effect {
                self.answered(id, answer);
            }
        }
        let (shared, id) = (Arc::clone(&self.shared), self.entry.id.clone());
        pool::run(move || shared.files.delete(&id)).await;
        if none_left && !asked && !*closing.borrow() {
            tokio::time::timeout(LINGER, closing.changed()).await.ok();
            self.shared.leave_host().await;
        }
    }

    /// What goes when this resource does.
    pub(super) fn let_go(&mut self, resource: Resource) {
        match resource {
            Resource::Network => {
                self.namespace = None;
                self.network = NetworkView::default();
            }
            Resource::Root => {
                self.lower.clear();
                self.volumes.clear();
            }
            Resource::Sandbox => {
                self.handle = None;
                self.facts = None;
                self.entry.set_live(Live::default());
                self.end_execs(ExitStatus::Signal(workload::Signal::KILL));
            }
            Resource::Directory => {}
        }
    }
}
