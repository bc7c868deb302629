//! `cp`: files between a container and this machine.

mod plan;
mod transfer;

use std::{
    ffi::OsString,
    io::{self, IsTerminal as _},
    os::fd::AsFd as _,
    path::Path,
};

use workload::{FileStat, Owner, Unpack};

use self::plan::{Side, Source, Target};
use crate::{
    connect::Endpoint,
    error::CliError,
    output::{self, human},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Archive mode (copy all uid/gid information)
    #[arg(short, long)]
    archive: bool,
    /// Always follow symbol link in SRC_PATH
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Suppress progress output during copy. Progress output is automatically suppressed if no
    /// terminal is attached
    #[arg(short, long)]
    quiet: bool,
    /// CONTAINER:PATH, PATH, or - for an archive on standard input
    #[arg(value_name = "SRC")]
    source: OsString,
    /// CONTAINER:PATH, PATH, or - for an archive on standard output
    #[arg(value_name = "DEST")]
    destination: OsString,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let text = |what: &str, text: &OsString| match text.to_str() {
            Some("") => Err(CliError::Usage(format!("{what} can not be empty"))),
            Some(text) => Ok(Side::parse(text)),
            None => Err(CliError::Usage(format!("{what} is not UTF-8"))),
        };
        let source = text("source", &self.source)?;
        let destination = text("destination", &self.destination)?;
        match (source, destination) {
            (Side::Container { who, path }, Side::Stream) => {
                self.stream_out(to, &who, &path).await?;
            }
            (Side::Container { who, path }, Side::Local(local)) => {
                self.copy_out(to, &who, &path, &absolute(&local)?).await?;
            }
            (Side::Stream, Side::Container { who, path }) => {
                self.stream_in(to, &who, &path).await?;
            }
            (Side::Local(local), Side::Container { who, path }) => {
                self.copy_in(to, &absolute(&local)?, &who, &path).await?;
            }
            (Side::Container { .. }, Side::Container { .. }) => {
                let why = "copying between containers is not supported";
                return Err(CliError::Usage(why.to_owned()));
            }
            (Side::Local(_) | Side::Stream, Side::Local(_) | Side::Stream) => {
                let why = "must specify at least one container source";
                return Err(CliError::Usage(why.to_owned()));
            }
        }
        Ok(0)
    }

    /// Whether nothing is said of what is done.
    fn is_quiet(&self) -> bool {
        self.quiet || !io::stdout().is_terminal()
    }

    /// Where the source is in the end, what it is called, and what it is.
    async fn source_in(
        &self,
        to: &Endpoint,
        who: &str,
        path: &str,
    ) -> Result<(String, Option<String>, FileStat), CliError> {
        let mut client = to.connect().await?;
        let stat = client.path_stat(who, path).await?;
        match &stat.link_target {
            Some(target) if self.follow_link => {
                let (path, rename) = plan::followed(path, target);
                let stat = client.path_stat(who, &path).await?;
                Ok((path, rename, stat))
            }
            Some(_) | None => Ok((path.to_owned(), None, stat)),
        }
    }

    async fn stream_out(&self, to: &Endpoint, who: &str, path: &str) -> Result<(), CliError> {
        let (path, rename) = match self.follow_link {
            true => {
                let (path, rename, _) = self.source_in(to, who, path).await?;
                (path, rename)
            }
            false => (path.to_owned(), None),
        };
        let mut client = to.connect().await?;
        Ok(client.archive_read(who, &path, rename.as_deref(), io::stdout().as_fd()).await?)
    }

    async fn copy_out(
        &self,
        to: &Endpoint,
        who: &str,
        path: &str,
        local: &str,
    ) -> Result<(), CliError> {
        let (above, _) = plan::split(local);
        if !Path::new(&above).is_dir() {
            let why = format!("invalid output path: directory \"{above}\" does not exist");
            return Err(CliError::Usage(why));
        }
        let (path, rename, stat) = self.source_in(to, who, path).await?;
        let source =
            Source { path: &path, directory: stat.is_directory(), rename: rename.as_deref() };
        let (local, there) = transfer::followed_local(local);
        let directory = there.as_ref().map(FileStat::is_directory);
        let plan = plan::plan(&source, &Target { path: &local, directory }).map_err(refused)?;
        let bytes = transfer::unpack(to, (who, &path), &plan, self.owner_here(), self.is_quiet());
        self.say(bytes.await?, &local);
        Ok(())
    }

    async fn copy_in(
        &self,
        to: &Endpoint,
        local: &str,
        who: &str,
        path: &str,
    ) -> Result<(), CliError> {
        let stat = transfer::stat_local(local)
            .map_err(|error| CliError::Usage(transfer::lstat_failed(local, &error)))?;
        let (local, rename, stat) = match &stat.link_target {
            Some(target) if self.follow_link => {
                let (local, rename) = plan::followed(local, target);
                let stat = transfer::stat_local(&local)
                    .map_err(|error| CliError::Usage(transfer::lstat_failed(&local, &error)))?;
                (local, rename, stat)
            }
            Some(_) | None => (local.to_owned(), None, stat),
        };
        let (path, there) = target_in(to, who, path).await?;
        let source =
            Source { path: &local, directory: stat.is_directory(), rename: rename.as_deref() };
        let directory = there.as_ref().map(FileStat::is_directory);
        let plan = plan::plan(&source, &Target { path: &path, directory }).map_err(refused)?;
        let bytes = transfer::pack(to, &local, who, &plan, self.unpack_inside(), self.is_quiet());
        self.say(bytes.await?, &format!("{who}:{path}"));
        Ok(())
    }

    async fn stream_in(&self, to: &Endpoint, who: &str, path: &str) -> Result<(), CliError> {
        let (inside, there) = target_in(to, who, path).await?;
        if !there.is_some_and(|there| there.is_directory()) {
            let why = format!("destination \"{who}:{path}\" must be a directory");
            return Err(CliError::Usage(why));
        }
        let mut client = to.connect().await?;
        // The archive says to whom its files belong.
        let unpack = Unpack { keep_kinds: true, owner: Owner::Archive };
        Ok(client.archive_write(who, &inside, io::stdin().as_fd(), unpack).await?)
    }

    fn unpack_inside(&self) -> Unpack {
        let root = Owner::Given { uid: 0, gid: 0 };
        Unpack { keep_kinds: true, owner: if self.archive { Owner::Archive } else { root } }
    }

    /// Only root can give files away.
    fn owner_here(&self) -> Unpack {
        let uid = rustix::process::geteuid();
        let own = Owner::Given { uid: uid.as_raw(), gid: rustix::process::getegid().as_raw() };
        let owner = if self.archive && uid.is_root() { Owner::Archive } else { own };
        Unpack { keep_kinds: true, owner }
    }

    fn say(&self, bytes: u64, place: &str) {
        if !self.is_quiet() {
            output::complain(&format!("Successfully copied {} to {place}", human::size(bytes)));
        }
    }
}

fn refused(refusal: plan::Refusal) -> CliError {
    CliError::Usage(refusal.to_string())
}

/// What is where something goes in a container; a link there is followed. If nothing is there, or
/// it cannot be told, the copy will find out.
async fn target_in(
    to: &Endpoint,
    who: &str,
    path: &str,
) -> Result<(String, Option<FileStat>), CliError> {
    let mut client = to.connect().await?;
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let Ok(stat) = client.path_stat(who, &path).await else { return Ok((path, None)) };
    let (path, stat) = match &stat.link_target {
        Some(target) => (target.clone(), client.path_stat(who, target).await.ok()),
        None => (path, Some(stat)),
    };
    if stat.as_ref().is_some_and(|stat| !stat.is_directory() && !stat.is_file()) {
        let why = format!("destination \"{who}:{path}\" must be a directory or a regular file");
        return Err(CliError::Usage(why));
    }
    Ok((path, stat))
}

/// A path from the root on; what its end says of being a directory stays.
fn absolute(path: &str) -> Result<String, CliError> {
    if path.starts_with('/') {
        return Ok(path.to_owned());
    }
    let here =
        std::env::current_dir().map_err(|error| CliError::io("find the directory", error))?;
    let here = here.to_str().map(str::to_owned);
    let here = here.ok_or_else(|| CliError::Usage("the directory is not UTF-8".to_owned()))?;
    Ok(format!("{here}/{path}"))
}
