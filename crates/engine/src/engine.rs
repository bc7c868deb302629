//! The handle through which everything is asked.

use std::{fs::File, os::fd::OwnedFd, sync::Arc};

use base::ContainerName;
use workload::{Driver, Exit, Signal, TerminalSize, Usage};

use crate::{
    Change, Config, Container, Create, Created, EngineError, ExecCreate, ExecView, ImageView,
    Import, Info, LogEntry, LogQuery, OpenError, Progress, Remove, RemoveImage, Stop, WaitFor,
};

/// Called with news of long work, from any thread; it must not block.
pub type OnProgress = Box<dyn Fn(Progress) + Send + Sync>;

/// The engine. Cloning it gives another handle to the same one.
///
/// Wherever a container is named (`who`), its name, its id or a unique beginning of its id does.
/// Dropping a future that one of these returned leaves nothing half-made: what began is finished
/// or undone by the container's own task.
#[derive(Clone, Debug)]
pub struct Engine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    drivers: Vec<Arc<dyn Driver>>,
}

/// A container's log, record by record.
#[derive(Debug)]
pub struct LogStream(());

impl LogStream {
    /// The next record; `None` when there are no more and none will come.
    ///
    /// # Errors
    /// [`EngineError::Files`] if the log cannot be read.
    pub async fn next(&mut self) -> Result<Option<LogEntry>, EngineError> {
        Ok(None)
    }
}

fn later<T>(what: &str) -> Result<T, EngineError> {
    Err(EngineError::Unsupported { what: what.to_owned(), why: "this build lacks it".to_owned() })
}

impl Engine {
    /// Opens the engine: takes the data root for itself, reads the records, brings host and
    /// records together, and re-adopts what still runs.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(config: Config, drivers: Vec<Arc<dyn Driver>>) -> Result<Engine, OpenError> {
        Ok(Engine { shared: Arc::new(Shared { config, drivers }) })
    }

    /// Makes a container.
    ///
    /// # Errors
    /// [`EngineError`]; then there is no container.
    pub async fn create(&self, _create: Create) -> Result<Created, EngineError> {
        later("create")
    }

    /// Starts a container, with a socket attached from its first byte on. One that runs is left
    /// as it is.
    ///
    /// # Errors
    /// [`EngineError`]; then it does not run.
    pub async fn start(
        &self,
        _who: &str,
        _attach: Option<OwnedFd>,
        _size: Option<TerminalSize>,
    ) -> Result<(), EngineError> {
        later("start")
    }

    /// Makes a container and starts it, in one go. If it cannot be started it stays as one that
    /// was made, unless it removes itself.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn run(
        &self,
        _create: Create,
        _attach: Option<OwnedFd>,
        _size: Option<TerminalSize>,
    ) -> Result<Created, EngineError> {
        later("run")
    }

    /// Connects a socket to the container's standard streams; see [`workload::Process::attach`].
    ///
    /// # Errors
    /// [`EngineError::NotRunning`].
    pub async fn attach(&self, _who: &str, _socket: OwnedFd) -> Result<(), EngineError> {
        later("attach")
    }

    /// Gives the container's terminal another size.
    ///
    /// # Errors
    /// [`EngineError::NotRunning`].
    pub async fn resize(&self, _who: &str, _size: TerminalSize) -> Result<(), EngineError> {
        later("resize")
    }

    /// Asks the container to end, and kills it when the time is up. One that does not run is left
    /// as it is.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn stop(&self, _who: &str, _stop: Stop) -> Result<(), EngineError> {
        later("stop")
    }

    /// Sends the container's process a signal.
    ///
    /// # Errors
    /// [`EngineError::NotRunning`].
    pub async fn kill(&self, _who: &str, _signal: Signal) -> Result<(), EngineError> {
        later("kill")
    }

    /// Stops the container in its tracks.
    ///
    /// # Errors
    /// [`EngineError::NotRunning`], [`EngineError::AlreadyPaused`].
    pub async fn pause(&self, _who: &str) -> Result<(), EngineError> {
        later("pause")
    }

    /// Lets the container go on.
    ///
    /// # Errors
    /// [`EngineError::NotPaused`].
    pub async fn resume(&self, _who: &str) -> Result<(), EngineError> {
        later("resume")
    }

    /// Waits, and tells how the container ended; one that never ran ended with code 0.
    ///
    /// # Errors
    /// [`EngineError::NoSuchContainer`].
    pub async fn wait(&self, _who: &str, _until: WaitFor) -> Result<Exit, EngineError> {
        later("wait")
    }

    /// Removes the container and everything that is only its.
    ///
    /// # Errors
    /// [`EngineError::RemoveRunning`] unless forced.
    pub async fn remove(&self, _who: &str, _remove: Remove) -> Result<(), EngineError> {
        later("remove")
    }

    /// Gives the container another name.
    ///
    /// # Errors
    /// [`EngineError::NameTaken`].
    pub async fn rename(&self, _who: &str, _name: ContainerName) -> Result<(), EngineError> {
        later("rename")
    }

    /// Stops the container if it runs, then starts it.
    ///
    /// # Errors
    /// As [`Engine::stop`] and [`Engine::start`].
    pub async fn restart(&self, _who: &str, _stop: Stop) -> Result<(), EngineError> {
        later("restart")
    }

    /// Every container, oldest first.
    pub fn list(&self) -> Vec<Arc<Container>> {
        Vec::new()
    }

    /// One container.
    ///
    /// # Errors
    /// [`EngineError::NoSuchContainer`], [`EngineError::AmbiguousId`].
    pub fn inspect(&self, who: &str) -> Result<Arc<Container>, EngineError> {
        Err(EngineError::NoSuchContainer(who.to_owned()))
    }

    /// The container's log. Following ends when the container has ended and all is read.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn logs(&self, _who: &str, _query: LogQuery) -> Result<LogStream, EngineError> {
        later("logs")
    }

    /// Notes a process to be started in a running container, and answers with its id.
    ///
    /// # Errors
    /// [`EngineError::NotRunning`], [`EngineError::Paused`].
    pub async fn exec_create(&self, _who: &str, _exec: ExecCreate) -> Result<String, EngineError> {
        later("exec")
    }

    /// Starts it, with a socket attached from its first byte on.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn exec_start(
        &self,
        _exec: &str,
        _attach: Option<OwnedFd>,
    ) -> Result<(), EngineError> {
        later("exec")
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// [`EngineError::NoSuchExec`].
    pub async fn exec_wait(&self, _exec: &str) -> Result<Exit, EngineError> {
        later("exec")
    }

    /// Gives its terminal another size.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn exec_resize(&self, _exec: &str, _size: TerminalSize) -> Result<(), EngineError> {
        later("exec")
    }

    /// An exec as it is now.
    ///
    /// # Errors
    /// [`EngineError::NoSuchExec`].
    pub fn exec_inspect(&self, exec: &str) -> Result<ExecView, EngineError> {
        Err(EngineError::NoSuchExec(exec.to_owned()))
    }

    /// What the container has used so far; nothing, if it does not run.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn usage(&self, _who: &str) -> Result<Usage, EngineError> {
        later("usage")
    }

    /// Host process ids of everything in the container.
    ///
    /// # Errors
    /// [`EngineError::NotRunning`].
    pub async fn host_pids(&self, _who: &str) -> Result<Vec<u32>, EngineError> {
        later("host_pids")
    }

    /// Makes an image of a root file system archive (plain, gzip or zstd), and answers with its
    /// id. `from` is anything that can be read: a file, a pipe, a socket.
    ///
    /// # Errors
    /// [`EngineError`]; then nothing is left of it.
    pub async fn import(
        &self,
        _from: File,
        _import: Import,
        _progress: OnProgress,
    ) -> Result<String, EngineError> {
        later("import")
    }

    /// Loads an image archive (`docker save`'s, or an OCI layout).
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn load(
        &self,
        _from: File,
        _progress: OnProgress,
    ) -> Result<Vec<Change>, EngineError> {
        later("load")
    }

    /// Writes images to an archive that `load` and Docker read.
    ///
    /// # Errors
    /// [`EngineError::NoSuchImage`].
    pub async fn save(&self, _names: Vec<String>, _to: File) -> Result<(), EngineError> {
        later("save")
    }

    /// Gives an image one more reference.
    ///
    /// # Errors
    /// [`EngineError::NoSuchImage`].
    pub async fn tag(&self, _from: &str, _to: &str) -> Result<(), EngineError> {
        later("tag")
    }

    /// Takes a reference away, and the image with its last one.
    ///
    /// # Errors
    /// [`EngineError::NoSuchImage`], [`EngineError::ImageInUse`].
    pub async fn remove_image(
        &self,
        _name: &str,
        _remove: RemoveImage,
    ) -> Result<Vec<Change>, EngineError> {
        later("remove_image")
    }

    /// Every image.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn images(&self) -> Result<Vec<ImageView>, EngineError> {
        Ok(Vec::new())
    }

    /// One image.
    ///
    /// # Errors
    /// [`EngineError::NoSuchImage`].
    pub async fn image_inspect(&self, name: &str) -> Result<ImageView, EngineError> {
        Err(EngineError::NoSuchImage(name.to_owned()))
    }

    /// The daemon in a few numbers.
    pub fn info(&self) -> Info {
        Info {
            version: self.shared.config.version.clone(),
            containers: (0, 0, 0),
            images: 0,
            data_root: self.shared.config.data.display().to_string(),
            isolations: self.shared.drivers.iter().map(|d| d.capabilities().isolation).collect(),
        }
    }

    /// Finishes what has begun and lets go of the data root. Containers go on.
    pub async fn close(&self) {}
}
