//! The same behind a wall.

use std::{io::Read as _, os::fd::AsFd as _, os::unix::net::UnixStream, time::Instant};

use engine::{Create, LogOptions, MountKind, MountRequest, NetworkMode, Remove, WaitFor};
use workload::{ExitStatus, Isolation};

use super::{Cost, MEMORY, START, bare::Program, host, host::Host, median};
use crate::{
    connect::Endpoint,
    error::CliError,
    session::{Demux, Stream},
};

/// Where the measuring program is put in the image's root.
const INSIDE: &str = "/.wythe-measure";

/// Where is measured.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) to: &'a Endpoint,
    pub(super) image: &'a str,
    pub(super) isolation: Isolation,
    pub(super) program: &'a Program,
}

impl Place<'_> {
    pub(super) async fn cost(&self, host: &Host, rounds: u32) -> Result<Cost, CliError> {
        let mut cost = Cost::of(self.isolation);
        let mut starts = Vec::new();
        for _ in 0..rounds {
            let began = Instant::now();
            self.run(&["true"]).await?;
            starts.push(began.elapsed().as_secs_f64() * 1e3);
        }
        cost.put(START, median(starts));
        let (memory, gateway) = self.idle().await?;
        cost.put(MEMORY, memory);
        let host = host.address(&gateway);
        cost.read(&self.run(&["measure", "--dir", "/", "--host", &host]).await?);
        Ok(cost)
    }

    /// A container of the image that runs the measuring program with these words.
    fn create(&self, words: &[&str]) -> Create {
        let program = MountRequest {
            target: INSIDE.into(),
            kind: MountKind::Bind {
                source: self.program.path(),
                create: false,
                non_recursive: true,
                propagation: None,
            },
            read_only: true,
            idmap: None,
        };
        let bridged = self.isolation != Isolation::Host;
        Create {
            image: self.image.to_owned(),
            isolation: self.isolation,
            entrypoint: Some(vec![INSIDE.to_owned()]),
            command: words.iter().map(|word| (*word).to_owned()).collect(),
            user: Some("0".to_owned()),
            working_dir: Some("/".to_owned()),
            network: if bridged { NetworkMode::Bridge } else { NetworkMode::Host },
            mounts: vec![program],
            log: LogOptions { none: true, ..LogOptions::default() },
            auto_remove: true,
            ..Create::default()
        }
    }

    /// Runs it to its end and removal; what it printed.
    async fn run(&self, words: &[&str]) -> Result<String, CliError> {
        let failed = |error| CliError::io("listen to the measuring program", error);
        let (mut ours, theirs) = UnixStream::pair().map_err(failed)?;
        let mut client = self.to.connect().await?;
        let create = self.create(words);
        client.run(create, Some(theirs.as_fd()), None, true).await?;
        drop(theirs);
        let reader = std::thread::spawn(move || {
            let mut framed = Vec::new();
            ours.read_to_end(&mut framed).map(|_| framed)
        });
        let exit = client.exit().await?;
        let framed = reader.join().unwrap_or_else(|_| Ok(Vec::new())).map_err(failed)?;
        let mut printed = Vec::new();
        let mut demux = Demux::default();
        demux
            .take(&framed, |stream, bytes| {
                if stream == Stream::Output {
                    printed.extend_from_slice(bytes);
                } else {
                    crate::output::complain(String::from_utf8_lossy(bytes).trim_end());
                }
                Ok::<(), String>(())
            })
            .map_err(CliError::Usage)?;
        if exit.status != ExitStatus::Code(0) {
            let isolation = self.isolation;
            let why = format!("the measuring program behind {isolation}: {:?}", exit.status);
            return Err(CliError::Usage(why));
        }
        Ok(String::from_utf8_lossy(&printed).into_owned())
    }

    /// Memory of an idle process and its holder, and the address at which it finds the host.
    async fn idle(&self) -> Result<(Option<f64>, String), CliError> {
        let mut client = self.to.connect().await?;
        let created = client.run(self.create(&["sleep", "infinity"]), None, None, false).await?;
        let id = created.id.as_str();
        host::settle();
        let container = client.inspect(id).await?;
        let memory = container.state.pid.and_then(|pid| {
            let holder = host::holder(pid).and_then(host::pss);
            Some(host::pss(pid)? + holder.unwrap_or(0.0))
        });
        let gateway = container.network.gateway.map(|gateway| gateway.to_string());
        client.remove(id, Remove { force: true, volumes: true }).await?;
        // It removes itself too; either way it is gone when this answers.
        let _ = client.wait(id, WaitFor::Removed).await;
        Ok((memory, gateway.unwrap_or_else(|| "127.0.0.1".to_owned())))
    }
}
