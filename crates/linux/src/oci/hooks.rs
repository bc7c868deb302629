//! Hooks that run beside the runtime: prestart, createRuntime, poststart, poststop.
//!
//! A hook gets the container's state as JSON on its standard input. What it prints goes to a
//! memory file, as does its input, so that no pipe can fill up and one wait is all there is.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, Write as _},
    os::{fd::AsFd, unix::process::CommandExt as _},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use base::Deadline;
use oci_spec::runtime::Hook;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::MemfdFlags,
    process::{Pid, PidfdFlags, pidfd_open},
};

/// Most bytes of a failed hook's output that are told.
const OUTPUT_BYTES_MAX: u64 = 4096;

/// Why a hook failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HookError {
    /// It could not be run.
    #[error("error running {kind} hook #{index} {}", .path.display())]
    Run {
        /// Which list.
        kind: &'static str,
        /// Its place there, from 0.
        index: usize,
        /// Its program.
        path: std::path::PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// It ended with something other than 0.
    #[error("error running {kind} hook #{index} {}: {status}, output: {output}", .path.display())]
    Failed {
        /// Which list.
        kind: &'static str,
        /// Its place there, from 0.
        index: usize,
        /// Its program.
        path: std::path::PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// What it printed, shortened.
        output: String,
    },
    /// It ran longer than it may.
    #[error("error running {kind} hook #{index} {}: it ran past {timeout_s} s", .path.display())]
    TimedOut {
        /// Which list.
        kind: &'static str,
        /// Its place there, from 0.
        index: usize,
        /// Its program.
        path: std::path::PathBuf,
        /// How long it may run.
        timeout_s: u64,
    },
    /// Its timeout is no time.
    #[error("{kind} hook #{index}: timeout {given} is not greater than zero")]
    Timeout {
        /// Which list.
        kind: &'static str,
        /// Its place there, from 0.
        index: usize,
        /// What was given.
        given: i64,
    },
}

/// How long a hook may run, `None` for as long as it likes.
///
/// # Errors
/// If it is not greater than zero (runtime-spec, config.md, "POSIX-platform Hooks").
pub(super) fn timeout_s(
    hook: &Hook,
    kind: &'static str,
    index: usize,
) -> Result<Option<u64>, HookError> {
    let Some(given) = hook.timeout() else { return Ok(None) };
    let positive = u64::try_from(given).ok().filter(|seconds| *seconds > 0);
    positive.map(Some).ok_or(HookError::Timeout { kind, index, given })
}

/// Runs hooks one after the other, in the bundle's directory, until one fails.
pub(super) fn run(
    hooks: &[Hook],
    kind: &'static str,
    state: &[u8],
    bundle: &Path,
) -> Result<(), HookError> {
    for (index, hook) in hooks.iter().enumerate() {
        run_one(hook, kind, index, state, bundle)?;
    }
    Ok(())
}

fn run_one(
    hook: &Hook,
    kind: &'static str,
    index: usize,
    state: &[u8],
    bundle: &Path,
) -> Result<(), HookError> {
    let timeout_s = timeout_s(hook, kind, index)?;
    let path = || hook.path().clone();
    let failed = |source| HookError::Run { kind, index, path: path(), source };
    let mut output = memory_file(c"hook output").map_err(failed)?;
    let child = spawn(hook, state, bundle, &output).map_err(failed)?;
    match wait(child, timeout_s).map_err(failed)? {
        None => Err(HookError::TimedOut {
            kind,
            index,
            path: path(),
            timeout_s: timeout_s.unwrap_or_default(),
        }),
        Some(status) if status.success() => Ok(()),
        Some(status) => {
            let output = told(&mut output);
            Err(HookError::Failed { kind, index, path: path(), status, output })
        }
    }
}

fn spawn(hook: &Hook, state: &[u8], bundle: &Path, output: &File) -> io::Result<Child> {
    let mut input = memory_file(c"container state")?;
    input.write_all(state)?;
    input.rewind()?;
    let mut command = Command::new(hook.path());
    if let Some((first, rest)) = hook.args().as_deref().and_then(<[String]>::split_first) {
        command.arg0(first).args(rest);
    }
    // Without an environment of its own a hook gets the caller's, as in runc.
    if let Some(env) = hook.env() {
        command.env_clear();
        command.envs(env.iter().filter_map(|entry| entry.split_once('=')));
    }
    command.current_dir(bundle).stdin(input);
    command.stdout(output.try_clone()?).stderr(Stdio::from(output.try_clone()?));
    command.spawn()
}

/// Waits until it has ended, or kills it when the time is over and answers `None`.
fn wait(mut child: Child, timeout_s: Option<u64>) -> io::Result<Option<ExitStatus>> {
    let Some(seconds) = timeout_s else { return child.wait().map(Some) };
    let number = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pidfd = pidfd_open(number.ok_or(io::ErrorKind::InvalidData)?, PidfdFlags::empty())?;
    let by = Deadline::after(Duration::from_secs(seconds));
    loop {
        let left = Timespec::try_from(by.remaining()).ok();
        let mut ready = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
        match poll(&mut ready, left.as_ref()) {
            Ok(0) if by.passed() => break,
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return child.wait().map(Some),
            Err(error) => return Err(error.into()),
        }
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

fn memory_file(name: &std::ffi::CStr) -> io::Result<File> {
    Ok(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?.into())
}

/// The beginning of what a hook printed, in one line.
fn told(output: &mut File) -> String {
    let mut bytes = Vec::new();
    let read = output.rewind().and_then(|()| output.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes));
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).trim().replace('\n', "; "),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(script: &str, timeout: Option<i64>) -> Result<(), String> {
        let json = serde_json::json!({
            "path": "/bin/sh", "args": ["hook", "-c", script, "zero"],
            "env": ["WORD=given"], "timeout": timeout,
        });
        let hook: Hook = serde_json::from_value(json).unwrap();
        run(&[hook], "createRuntime", b"{\"id\":\"x\"}", Path::new("/"))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_hook_gets_the_state_its_environment_and_the_bundle() {
        let script = "[ \"$(cat)\" = '{\"id\":\"x\"}' ] && [ $WORD = given ] && [ -z \"$HOME\" ] \
                      && [ $PWD = / ]";
        assert_eq!(check(script, None), Ok(()));
    }

    #[test]
    fn a_failed_hook_is_told_with_its_output() {
        assert_eq!(
            check("echo one; echo two >&2; exit 3", None).unwrap_err(),
            "error running createRuntime hook #0 /bin/sh: exit status: 3, output: one; two"
        );
    }

    #[test]
    fn a_hook_that_runs_too_long_is_killed() {
        let error = check("exec sleep 1000", Some(1)).unwrap_err();
        assert!(error.ends_with("it ran past 1 s"), "{error}");
        assert_eq!(check("true", Some(30)), Ok(()));
    }

    #[test]
    fn a_timeout_of_zero_is_refused() {
        let error = check("true", Some(0)).unwrap_err();
        assert_eq!(error, "createRuntime hook #0: timeout 0 is not greater than zero");
    }
}
