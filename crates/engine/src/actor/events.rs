//! What a container's task tells the world: derived from how one state became the next, so that
//! nothing happens untold and nothing is told that did not happen.

use std::time::Duration;

use workload::{Exit, Signal};

use super::Actor;
use crate::{
    NetworkView,
    events::EventKind,
    step::{Ask, Phase, State},
};

/// What was told of the container so far, as far as later words depend on it.
#[derive(Debug)]
pub(super) struct Told {
    /// That there is one: then its end is told too.
    created: bool,
    /// It was asked to stop, which is told when it has.
    stopping: bool,
}

impl Told {
    pub(super) fn new(created: bool) -> Told {
        Told { created, stopping: false }
    }
}

/// A network's id and name.
pub(super) type Joined = (String, String);

/// The networks that a container is on.
pub(super) fn joined(view: &NetworkView) -> Vec<Joined> {
    view.places.iter().map(|place| (place.network_id.clone(), place.network.clone())).collect()
}

/// What a change of state means to others.
#[derive(Debug, PartialEq, Eq)]
enum News {
    Created,
    Started,
    Killed,
    Died,
    AllGivenBack,
}

/// What there is to tell of a change. Pure.
fn news(before: &State, after: &State) -> Vec<News> {
    use Phase::{Making, Removing, Running};
    let mut news = Vec::new();
    if matches!((&before.phase, &after.phase), (Making, phase) if !matches!(phase, Making | Removing))
    {
        news.push(News::Created);
    }
    if !matches!(before.phase, Running { .. }) && matches!(after.phase, Running { .. }) {
        news.push(News::Started);
    }
    if matches!((&before.phase, &after.phase), (Running { .. }, Removing)) {
        news.push(News::Killed);
    }
    if !before.has_ended() && after.has_ended() {
        news.push(News::Died);
    }
    if before.runs() && !after.runs() {
        news.push(News::AllGivenBack);
    }
    news
}

impl Actor {
    /// Tells what this change means. `plugged`: the networks that it was on before.
    pub(super) fn tell_change(&mut self, before: &State, plugged: &[Joined]) {
        self.tell_networks(plugged);
        for news in news(before, &self.state) {
            match news {
                News::Created => {
                    self.told.created = true;
                    self.tell("create", &[]);
                }
                News::Started => self.tell("start", &[]),
                News::Killed => self.tell_signal(Signal::KILL),
                News::Died => {
                    if let Some(exit) = self.state.exit {
                        self.tell_death(exit);
                    }
                }
                News::AllGivenBack => {
                    if std::mem::take(&mut self.told.stopping) {
                        self.tell("stop", &[]);
                    }
                }
            }
        }
    }

    fn tell_death(&self, exit: Exit) {
        if exit.out_of_memory {
            self.tell("oom", &[]);
        }
        let code = exit.status.shell_code().to_string();
        let ran = exit.at.0.saturating_sub(self.state.started.unwrap_or(exit.at).0);
        let seconds = Duration::from_nanos(ran).as_secs().to_string();
        self.tell("die", &[("execDuration", &seconds), ("exitCode", &code)]);
    }

    /// Tells of the networks that it has come to or left.
    pub(super) fn tell_networks(&self, before: &[Joined]) {
        let now = joined(&self.record.network);
        let gone = before.iter().filter(|one| !now.contains(one)).map(|one| ("disconnect", one));
        let come = now.iter().filter(|one| !before.contains(one)).map(|one| ("connect", one));
        for (action, (id, name)) in gone.chain(come) {
            let attributes = [
                ("container", self.entry.id.as_str()),
                ("name", name.as_str()),
                ("type", "bridge"),
            ];
            let attributes =
                attributes.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
            let attributes = attributes.collect();
            self.shared.events.publish(EventKind::Network, action, id.clone(), attributes);
        }
    }

    /// A signal is being sent.
    pub(super) fn tell_signal(&self, signal: Signal) {
        self.tell("kill", &[("signal", &signal.number().to_string())]);
    }

    /// The container is gone.
    pub(super) fn tell_end(&self) {
        if self.told.created {
            self.tell("destroy", &[]);
        }
    }

    pub(super) fn tell(&self, action: &str, more: &[(&str, &str)]) {
        self.shared.events.container(&self.entry.container(), action, more);
    }

    /// Takes note that it is to stop.
    pub(super) fn note_ask(&mut self, ask: &Ask) {
        let runs = matches!(self.state.phase, Phase::Running { .. });
        self.told.stopping |= runs && matches!(ask, Ask::Stop(_) | Ask::Restart(_));
    }
}

/// What is told when this has been done.
pub(super) fn done_word(ask: &Ask) -> Option<&'static str> {
    match ask {
        Ask::Pause => Some("pause"),
        Ask::Resume => Some("unpause"),
        Ask::Restart(_) => Some("restart"),
        Ask::Make | Ask::Start | Ask::Stop(_) | Ask::Kill { .. } | Ask::Remove { .. } => None,
    }
}
