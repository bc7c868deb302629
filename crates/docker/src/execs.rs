//! Further processes in running containers.

use std::{io::Write as _, os::unix::net::UnixStream};

use engine::{ContainerState, Engine, EngineError, ExecCreate};
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::json;
use workload::TerminalSize;

use crate::{
    call::Call,
    error::ApiError,
    hijack,
    reply::{self, Answer},
};

/// Docker's `ExecOptions`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Options {
    attach_stdin: bool,
    tty: bool,
    privileged: bool,
    user: String,
    working_dir: String,
    env: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    console_size: Option<[u16; 2]>,
}

/// Docker's `ExecStartOptions`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Start {
    detach: bool,
    console_size: Option<[u16; 2]>,
}

fn size([rows, columns]: [u16; 2]) -> TerminalSize {
    TerminalSize { rows, columns }
}

/// `POST /containers/{}/exec`.
pub(crate) async fn create(mut call: Call) -> Answer {
    let options: Options = call.json().await?;
    let some = |text: String| (!text.is_empty()).then_some(text);
    let exec = ExecCreate {
        command: options.cmd.unwrap_or_default(),
        env: options.env.unwrap_or_default(),
        working_dir: some(options.working_dir),
        user: some(options.user),
        terminal: options.tty.then(|| size(options.console_size.unwrap_or_default())),
        stdin: options.attach_stdin,
        privileged: options.privileged,
    };
    let id = call.engine().exec_create(&call.name, exec).await?;
    reply::json_with(StatusCode::CREATED, &json!({ "Id": id }))
}

/// `POST /exec/{}/start`.
pub(crate) async fn start(mut call: Call) -> Answer {
    let start: Start = call.json().await?;
    let engine = call.engine().clone();
    let exec = engine.exec_inspect(&call.name)?;
    if start.detach {
        engine.exec_start(&exec.id, None).await?;
        return Ok(reply::empty(StatusCode::OK));
    }
    startable(&engine, &exec)?;
    let terminal = exec.config.terminal.is_some();
    let content_type = hijack::content_type(terminal, call.version);
    let resized = start.console_size.filter(|size| terminal && *size != [0, 0]).map(size);
    Ok(hijack::hand_over(call, content_type, move |socket| {
        tokio::spawn(async move {
            let socket = UnixStream::from(socket);
            let kept = socket.try_clone();
            let started = engine.exec_start(&exec.id, Some(socket.into())).await;
            match (started, kept) {
                (Ok(()), _) => {
                    if let Some(size) = resized {
                        // One that has ended needs no size any more.
                        engine.exec_resize(&exec.id, size).await.ok();
                    }
                }
                (Err(failure), Ok(mut kept)) => {
                    // The answer has gone out already: as with Docker, it stands in the output.
                    let text = format!("{}\r\n", base::chain(&failure));
                    let text = if terminal { text.into_bytes() } else { framed(text.as_bytes()) };
                    kept.write_all(&text).ok();
                }
                (Err(_), Err(_)) => {}
            }
        });
    }))
}

/// What would be refused is refused while that can still be said.
fn startable(engine: &Engine, exec: &engine::ExecView) -> Result<(), ApiError> {
    if exec.running || exec.exit.is_some() {
        return Err(EngineError::ExecRan(exec.id.clone()).into());
    }
    let container = engine.inspect(exec.container.as_str())?;
    match container.state.state {
        ContainerState::Running => Ok(()),
        ContainerState::Paused => Err(EngineError::Paused(container.name.to_string()).into()),
        ContainerState::Created
        | ContainerState::Restarting
        | ContainerState::Exited
        | ContainerState::Removing
        | ContainerState::Dead => Err(EngineError::NotRunning(container.name.to_string()).into()),
    }
}

/// A frame of standard output.
fn framed(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[1, 0, 0, 0][..], &length, payload].concat()
}

/// `POST /exec/{}/resize`.
pub(crate) async fn resize(call: &Call) -> Answer {
    let size = crate::containers::size(&call.query)?;
    call.engine().exec_resize(&call.name, size).await?;
    Ok(reply::empty(StatusCode::OK))
}

/// `GET /exec/{}/json`.
pub(crate) async fn inspect(call: &Call) -> Answer {
    let exec = call.engine().exec_settled(&call.name).await?;
    let (entrypoint, arguments) = match exec.config.command.split_first() {
        Some((first, rest)) => (first.clone(), rest.to_vec()),
        None => Default::default(),
    };
    reply::json(&json!({
        "ID": exec.id,
        "Running": exec.running,
        "ExitCode": exec.exit.map(|exit| exit.status.shell_code()),
        "ProcessConfig": {
            "tty": exec.config.terminal.is_some(),
            "entrypoint": entrypoint,
            "arguments": arguments,
            "privileged": exec.config.privileged,
            "user": exec.config.user,
        },
        "OpenStdin": exec.config.stdin,
        "OpenStderr": true,
        "OpenStdout": true,
        "CanRemove": false,
        "ContainerID": exec.container.as_str(),
        "DetachKeys": "",
        "Pid": exec.pid.unwrap_or(0),
    }))
}
