//! Files of containers: in, out, and what became of them.

use std::{
    io::{self, Read},
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
};

use base::{ContainerId, ProcessId};
use files::{Layers, Stream};
use rustix::fs::{CWD, Mode, OFlags, openat};
use workload::{DriverError, FileFault, FileStat, Sandbox, Unpack};

use super::{
    Engine, Shared,
    containers::{layers, random},
    still::to_its_end,
};
use crate::{
    Commit, ContainerState, EngineError, PathChange, PathChangeKind,
    actor::blocking,
    files::failed,
    registry::Entry,
    stopped::{self, Root},
};

/// How a container's files are reached.
enum Way {
    /// It runs, so only its driver sees what it sees.
    Driver(Arc<dyn Sandbox>),
    /// It does not: its layers are here.
    Layers(Root, HeldLayers),
}

/// Layers that are mounted for one copy.
struct HeldLayers {
    shared: Arc<Shared>,
    owner: ContainerId,
}

impl Drop for HeldLayers {
    fn drop(&mut self) {
        self.shared.images.unmount(&self.owner);
    }
}

impl Engine {
    /// What is at a path of a container. The last name is not followed unless a slash comes
    /// after it.
    ///
    /// # Errors
    /// [`EngineError::File`].
    pub async fn path_stat(&self, who: &str, path: &str) -> Result<FileStat, EngineError> {
        let (entry, path) = (self.find(who)?, absolute(path));
        let about = about(who);
        match self.way(&entry).await? {
            Way::Driver(sandbox) => {
                let stat = driver_files(&*sandbox)?.stat(&ProcessId::main(), &path).await;
                stat.map_err(of_driver(who))
            }
            Way::Layers(root, _held) => {
                let look = move || root.with(false, |root| files::stat(root, &path).map_err(about));
                blocking("looking at files", look).await
            }
        }
    }

    /// Writes what is at a path of a container to `to`, as a tar archive with one top name: the
    /// path's last one, unless another is given.
    ///
    /// # Errors
    /// [`EngineError::File`]; the archive is cut off then.
    pub async fn archive_read(
        &self,
        who: &str,
        path: &str,
        name: Option<String>,
        to: OwnedFd,
    ) -> Result<(), EngineError> {
        let (entry, path) = (self.find(who)?, absolute(path));
        let name = name.unwrap_or_else(|| last_name(&path).to_owned());
        let told = path.clone();
        match self.way(&entry).await? {
            Way::Driver(sandbox) => {
                let read = driver_files(&*sandbox)?.read(&ProcessId::main(), &path, &name, to);
                read.await.map_err(of_driver(who))?;
            }
            Way::Layers(root, _held) => {
                let about = about(who);
                let pack = move || {
                    root.with(false, |root| {
                        files::pack(root, &path, name.as_bytes(), Stream::from(to)).map_err(about)
                    })
                };
                blocking("copying files", pack).await?;
            }
        }
        self.tell(who, "archive-path", &[("path", &told)]);
        Ok(())
    }

    /// Unpacks a tar archive into a directory of a container.
    ///
    /// # Errors
    /// [`EngineError::File`]; entries before the failing one are there then.
    pub async fn archive_write(
        &self,
        who: &str,
        path: &str,
        from: OwnedFd,
        unpack: Unpack,
    ) -> Result<(), EngineError> {
        let (entry, path) = (self.find(who)?, absolute(path));
        let told = path.clone();
        match self.way(&entry).await? {
            Way::Driver(sandbox) => {
                let write = driver_files(&*sandbox)?.write(&ProcessId::main(), &path, from, unpack);
                write.await.map_err(of_driver(who))?;
            }
            Way::Layers(root, _held) => {
                // A start waits until this is done: two mounts of one writable layer would
                // disturb each other.
                let rooted = entry.rooted.lock().await;
                if *rooted {
                    let (name, state) = (who.to_owned(), "being started");
                    return Err(EngineError::Busy { name, state });
                }
                let about = about(who);
                let work = move || {
                    root.with(true, |root| {
                        let place = files::Place::InRoot { root, path: &path };
                        files::unpack(place, Stream::from(from), &unpack, None).map_err(about)
                    })
                };
                blocking("copying files", work).await?;
            }
        }
        self.tell(who, "extract-to-dir", &[("path", &told)]);
        Ok(())
    }

    /// Writes everything in a container's root, without what is mounted in it, to `to`.
    ///
    /// # Errors
    /// [`EngineError::File`]; the archive is cut off then.
    pub async fn export(&self, who: &str, to: OwnedFd) -> Result<(), EngineError> {
        let entry = self.find(who)?;
        let about = about(who);
        let (root, held) = self.layers_of(&entry).await?;
        let export = move || {
            let _held = held;
            let (upper, lower) = both(&root)?;
            files::export(upper.as_fd(), lower.as_fd(), Stream::from(to)).map_err(about)
        };
        blocking("exporting", export).await?;
        self.tell(who, "export", &[]);
        Ok(())
    }

    /// Writes all files of an image, its layers one over the other, to `to`.
    ///
    /// # Errors
    /// [`EngineError::NoSuchImage`], or that they cannot be mounted or read; the archive is cut
    /// off then.
    pub async fn export_image(
        &self,
        image: &str,
        platform: Option<String>,
        to: OwnedFd,
    ) -> Result<(), EngineError> {
        let (shared, name) = (Arc::clone(&self.inner.shared), image.to_owned());
        let owner = ContainerId::from_random(random()?);
        let export = move || {
            let image = shared.images.find_for(&name, platform.as_deref())?;
            let held = HeldLayers { shared, owner };
            let lower = held.shared.images.mount(&held.owner, &layers(&image)?)?;
            let tree = below(&lower, Path::new(&name))?;
            files::pack(tree.as_fd(), "/", b".", Stream::from(to)).map_err(|fault| {
                EngineError::Image { kind: fault.kind(), text: format!("{fault} in image {name}") }
            })
        };
        blocking("exporting the image", export).await
    }

    /// What a container has changed of its image, by path.
    ///
    /// # Errors
    /// [`EngineError::File`].
    pub async fn changes(&self, who: &str) -> Result<Vec<PathChange>, EngineError> {
        let entry = self.find(who)?;
        let about = about(who);
        let (root, held) = self.layers_of(&entry).await?;
        let changes = move || {
            let _held = held;
            let (upper, lower) = both(&root)?;
            files::changes(upper.as_fd(), lower.as_fd()).map_err(about)
        };
        let changes = blocking("comparing files", changes).await?;
        Ok(changes.iter().map(path_change).collect())
    }

    /// Makes an image of a container and answers with its id. A container that runs is paused
    /// meanwhile.
    ///
    /// # Errors
    /// [`EngineError`]; then there is no image.
    pub async fn commit(&self, who: &str, commit: Commit) -> Result<String, EngineError> {
        let (engine, who) = (self.clone(), who.to_owned());
        to_its_end("committing", async move { engine.commit_still(&who, commit).await }).await
    }

    async fn commit_still(&self, who: &str, commit: Commit) -> Result<String, EngineError> {
        let entry = self.find(who)?;
        let (root, held) = self.layers_of(&entry).await?;
        let running = entry.container().state.state == ContainerState::Running;
        let pauses = running && !commit.no_pause;
        let container = entry.container();
        let (shared, about) = (Arc::clone(&self.inner.shared), about(who));
        let told = commit.reference.clone().unwrap_or_default();
        let work = move || {
            let _held = held;
            let (upper, lower) = both(&root)?;
            let changes = files::changes(upper.as_fd(), lower.as_fd()).map_err(&about)?;
            let (mut reader, writer) =
                io::pipe().map_err(failed("make a pipe for", Path::new("/")))?;
            let (tell, packed) = mpsc::channel();
            thread::scope(|scope| {
                let (upper, changes) = (&upper, &changes);
                scope.spawn(move || {
                    let done = files::layer(upper.as_fd(), changes, writer);
                    // Nobody listens where the store has failed.
                    let _ = tell.send(done);
                });
                let mut layer = Whole { reader: &mut reader, packed };
                let made = shared.images.commit(
                    &container.image_id,
                    &mut layer,
                    &commit,
                    &container.config,
                );
                // A packer that still writes is told that nobody reads.
                drop(reader);
                made
            })
        };
        let work = blocking("committing", work);
        let id = match pauses {
            true => self.while_still(&entry, work).await?,
            false => work.await?,
        };
        self.tell(who, "commit", &[("comment", &told), ("imageID", &id)]);
        Ok(id)
    }

    async fn way(&self, entry: &Entry) -> Result<Way, EngineError> {
        let alive = entry.snapshot.borrow().alive;
        match entry.live().sandbox {
            Some(sandbox) if alive => Ok(Way::Driver(sandbox)),
            Some(_) | None => {
                let (root, held) = self.layers_of(entry).await?;
                Ok(Way::Layers(root, held))
            }
        }
    }

    /// A container's layers, mounted for as long as the second value is kept.
    async fn layers_of(&self, entry: &Entry) -> Result<(Root, HeldLayers), EngineError> {
        let shared = Arc::clone(&self.inner.shared);
        let owner = ContainerId::from_random(random()?);
        let (layers, container) = (entry.layers.clone(), entry.container());
        let mount = move || {
            let held = HeldLayers { shared: Arc::clone(&shared), owner };
            let lower = shared.images.mount(&held.owner, &layers)?;
            let directory = shared.files.directory(&container.id);
            let binds = stopped::binds(&container.config);
            let read_only = container.config.read_only;
            Ok((Root { directory, lower, binds, read_only }, held))
        };
        blocking("mounting the image", mount).await
    }
}

/// The reader's end of a pipe that does not take a writer's failure for the end.
struct Whole<'a> {
    reader: &'a mut io::PipeReader,
    packed: mpsc::Receiver<Result<(), FileFault>>,
}

impl Read for Whole<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.reader.read(into)? {
            0 if !into.is_empty() => match self.packed.recv() {
                Ok(Err(fault)) => Err(io::Error::other(fault)),
                // It has said so already, or has just now: it is whole.
                Ok(Ok(())) | Err(_) => Ok(0),
            },
            read => Ok(read),
        }
    }
}

/// The writable layer, and everything below it as one tree.
fn both(root: &Root) -> Result<(OwnedFd, OwnedFd), EngineError> {
    let lower = below(&root.lower, &root.directory)?;
    Ok((open(&root.directory.join("upper"))?, lower))
}

/// Layers, top first, as one tree; `of` is whose they are.
fn below(layers: &[PathBuf], of: &Path) -> Result<OwnedFd, EngineError> {
    match layers {
        [one] => open(one),
        many => files::overlay(Layers { lower: many, upper: None })
            .map_err(|errno| failed("mount the layers of", of)(errno.into())),
    }
}

fn open(path: &Path) -> Result<OwnedFd, EngineError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = openat(CWD, path, flags, Mode::empty());
    opened.map_err(|errno| failed("open", path)(errno.into()))
}

fn driver_files(sandbox: &dyn Sandbox) -> Result<&dyn workload::Files, EngineError> {
    let unsupported = || {
        let isolation = sandbox.handle().isolation;
        EngineError::Driver(DriverError::Unsupported {
            what: "files of a running container".to_owned(),
            why: format!("isolation {isolation} cannot reach them; stop the container first"),
        })
    };
    sandbox.files().ok_or_else(unsupported)
}

fn about(who: &str) -> impl Fn(FileFault) -> EngineError + Send + use<> {
    let container = who.to_owned();
    move |fault| EngineError::File { container: container.clone(), fault }
}

fn of_driver(who: &str) -> impl Fn(DriverError) -> EngineError + use<> {
    let about = about(who);
    move |error| {
        if let DriverError::File(fault) = error { about(fault) } else { EngineError::Driver(error) }
    }
}

fn absolute(path: &str) -> String {
    match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("/{path}"),
    }
}

/// What the top of an archive is called, as Docker calls it.
fn last_name(path: &str) -> &str {
    match path.trim_end_matches('/').rsplit('/').next() {
        None | Some("") => ".",
        Some(name) => name,
    }
}

fn path_change(change: &files::Change) -> PathChange {
    PathChange {
        path: format!("/{}", String::from_utf8_lossy(&change.path)),
        kind: match change.kind {
            files::ChangeKind::Modified => PathChangeKind::Modified,
            files::ChangeKind::Added => PathChangeKind::Added,
            files::ChangeKind::Deleted => PathChangeKind::Deleted,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_named_after_their_path() {
        for (path, name) in
            [("/", "."), ("/a/.", "."), ("/a/b", "b"), ("/a/b/", "b"), ("/a/b/.", ".")]
        {
            assert_eq!(last_name(path), name, "{path}");
        }
        assert_eq!(absolute("a/b"), "/a/b");
    }
}
