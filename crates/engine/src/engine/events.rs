//! What happens, for those who want to hear of it.

use std::collections::BTreeMap;

use super::{Engine, Shared};
use crate::{Change, EngineError, EventKind, EventQuery, EventStream, ImageView};

impl Engine {
    /// Events: those that are kept and asked for, then those to come.
    pub fn events(&self, query: EventQuery) -> EventStream {
        let shared = &self.inner.shared;
        shared.events.listen(query, shared.closing.subscribe())
    }

    /// How many listen to events.
    pub fn listeners(&self) -> usize {
        self.inner.shared.events.listeners()
    }

    /// Takes note that one who was attached to a container has left it to itself.
    ///
    /// # Errors
    /// [`EngineError::NoSuchContainer`].
    pub fn detached(&self, who: &str) -> Result<(), EngineError> {
        self.inner.shared.events.container(&*self.inspect(who)?, "detach", &[]);
        Ok(())
    }

    /// Takes note that one who was attached to an exec has left it to itself.
    ///
    /// # Errors
    /// [`EngineError::NoSuchExec`].
    pub fn exec_detached(&self, exec: &str) -> Result<(), EngineError> {
        let exec = self.inner.shared.execs.find(exec)?;
        self.tell(exec.container.as_str(), "exec_detach", &[("execID", &exec.id)]);
        Ok(())
    }

    /// Tells of a container, if there still is one.
    pub(super) fn tell(&self, who: &str, action: &str, more: &[(&str, &str)]) {
        if let Ok(entry) = self.find(who) {
            self.inner.shared.events.container(&entry.container(), action, more);
        }
    }
}

impl Shared {
    /// Tells of an image that there is, by a name of it.
    pub(crate) fn tell_image(&self, action: &str, name: &str) {
        // Somebody may have removed it already; then they tell of that.
        if let Ok(image) = self.images.find(name) {
            self.tell_of(&image, action, name);
        }
    }

    /// Tells of images that were loaded.
    pub(crate) fn tell_loaded(&self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Loaded(name) => self.tell_image("load", name),
                Change::Untagged(_) | Change::Deleted(_) => {}
            }
        }
    }

    /// Tells what removing a name of this image came to.
    pub(crate) fn tell_removed(&self, image: &ImageView, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Untagged(name) => self.tell_of(image, "untag", name),
                Change::Deleted(id) if *id == image.id => self.tell_of(image, "delete", id),
                // Layers that went with it are no images.
                Change::Deleted(_) | Change::Loaded(_) => {}
            }
        }
    }

    fn tell_of(&self, image: &ImageView, action: &str, name: &str) {
        let mut attributes: BTreeMap<_, _> = image.config.labels.clone();
        attributes.insert("name".to_owned(), name.to_owned());
        self.events.publish(EventKind::Image, action, image.id.as_str(), attributes);
    }

    /// Tells of the daemon itself.
    pub(crate) fn tell_daemon(&self, action: &str) {
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let attributes = BTreeMap::from([
            ("name".to_owned(), name.clone()),
            ("version".to_owned(), self.config.version.clone()),
        ]);
        self.events.publish(EventKind::Daemon, action, name, attributes);
    }
}
