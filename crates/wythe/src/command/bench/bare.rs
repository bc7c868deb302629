//! The process without any wall.

use std::{
    fs::{self, DirBuilder},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use super::{Cost, MEMORY, START, host, host::Host, median};
use crate::{daemon::DEMO, error::CliError};

/// The measuring program in a directory of its own, which goes with this value.
#[derive(Debug)]
pub(super) struct Program {
    directory: PathBuf,
}

/// Its name there, which is none of its tools', so that its first argument chooses one.
const NAME: &str = "wythe-measure";

impl Program {
    /// Puts it where programs may be executed and where the containers' own files are, so that
    /// the same disk is measured.
    ///
    /// # Errors
    /// If the data root is not ours.
    pub(super) fn place(data: &Path) -> Result<Program, CliError> {
        let directory = data.join(format!("bench-{}", std::process::id()));
        let failed = |error| CliError::io(format!("make {}", directory.display()), error);
        DirBuilder::new().mode(0o755).create(&directory).map_err(failed)?;
        let program = Program { directory };
        let path = program.path();
        let mut options = fs::File::options();
        let file = options.write(true).create_new(true).mode(0o755).open(&path);
        file.and_then(|mut file| file.write_all(DEMO))
            .map_err(|error| CliError::io(format!("write {}", path.display()), error))?;
        Ok(program)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.directory.join(NAME)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It is of no more use, wherever it is.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// What the bare process costs.
///
/// # Errors
/// If it cannot be run.
pub(super) fn cost(program: &Program, host: &Host, rounds: u32) -> Result<Cost, CliError> {
    let failed = |error| CliError::io("run the measuring program", error);
    let mut cost = Cost::of("bare");
    let mut starts = Vec::new();
    for _ in 0..rounds {
        let began = Instant::now();
        Command::new(program.path()).arg("true").status().map_err(failed)?;
        starts.push(began.elapsed().as_secs_f64() * 1e3);
    }
    cost.put(START, median(starts));
    let mut idle =
        Command::new(program.path()).args(["sleep", "infinity"]).spawn().map_err(failed)?;
    host::settle();
    cost.put(MEMORY, host::pss(idle.id()));
    idle.kill().and_then(|()| idle.wait()).map_err(failed)?;
    let output = Command::new(program.path())
        .arg("measure")
        .arg("--dir")
        .arg(&program.directory)
        .args(["--host", &host.address("127.0.0.1")])
        .stderr(Stdio::inherit())
        .output()
        .map_err(failed)?;
    if !output.status.success() {
        return Err(CliError::Usage(format!("the measuring program: {}", output.status)));
    }
    cost.read(&String::from_utf8_lossy(&output.stdout));
    Ok(cost)
}
