//! What is asked of containers.

mod archive;
mod attach;
mod create;
mod list;
mod logs;
mod stats;

use std::time::Duration;

use base::ErrorKind;
use engine::{ContainerState, EngineError, PathChangeKind, Prune, Remove, Stop, WaitFor};
use hyper::StatusCode;
use serde_json::json;
use workload::{Signal, TerminalSize};

pub(crate) use archive::{export, get as archive_get, put as archive_put, stat as archive_stat};
pub(crate) use attach::{attach, fuzz as fuzz_websocket, websocket as attach_websocket};
pub(crate) use list::list;
pub(crate) use logs::logs;
pub(crate) use stats::stats;

use crate::{
    body,
    call::Call,
    error::ApiError,
    query::{Filters, Query},
    reply::{self, Answer},
    shape::container::ContainerJson,
};

/// See [`crate::fuzzing::create`].
pub(crate) fn fuzz_create(bytes: &[u8]) {
    // Refusing is right.
    drop(create::request(Some("web"), None, bytes));
    drop(create::update(bytes));
    drop(create::changes(bytes));
}

/// What a request to create asks for, and which fields it is read for.
#[cfg(test)]
pub(crate) fn read_create(
    bytes: &[u8],
    asked: Option<&crate::fields::Asked>,
) -> Result<engine::Create, ApiError> {
    create::read(bytes, asked).map(|request| request.create)
}

/// `POST /containers/create`.
pub(crate) async fn create(mut call: Call) -> Answer {
    let bytes = call.bytes().await?;
    let name = call.query.some("name").map(|name| name.trim_start_matches('/'));
    let create::Request { create, mut warnings } =
        create::request(name.filter(|name| !name.is_empty()), call.query.some("platform"), &bytes)?;
    let image = create.image.clone();
    match call.engine().create(create).await {
        Ok(created) => {
            warnings.extend(created.warnings);
            let shape = json!({ "Id": created.id.as_str(), "Warnings": warnings });
            reply::json_with(StatusCode::CREATED, &shape)
        }
        // Docker's client pulls an image whose lack it is told of in these words.
        Err(EngineError::NoSuchImage(_)) => {
            Err(ApiError::missing(format!("No such image: {image}")))
        }
        // Told of 404, it takes a network that is not there for the image too.
        Err(failure @ EngineError::Networking { kind: ErrorKind::NotFound, .. }) => {
            Err(ApiError::bad(failure.to_string()))
        }
        Err(failure) => Err(failure.into()),
    }
}

/// `GET /containers/{}/json`.
pub(crate) async fn inspect(call: &Call) -> Answer {
    let container = call.engine().inspect(&call.name)?;
    let shape = ContainerJson::of(&container);
    if !call.query.flag("size") {
        return reply::json(&shape);
    }
    let sizes = call.engine().container_sizes(&[container.id.as_str().to_owned()]).await?;
    reply::json(&shape.with_size(sizes.first()))
}

/// `POST /containers/{}/start`.
pub(crate) async fn start(call: &Call) -> Answer {
    if let Some(checkpoint) = call.query.some("checkpoint") {
        return Err(ApiError::unbuilt(format!("starting from checkpoint {checkpoint:?}")));
    }
    match call.engine().inspect(&call.name)?.state.state {
        ContainerState::Running => return Ok(reply::empty(StatusCode::NOT_MODIFIED)),
        ContainerState::Paused => {
            let text = "cannot start a paused container, try unpause instead";
            return Err(ApiError::new(StatusCode::CONFLICT, text));
        }
        ContainerState::Created
        | ContainerState::Restarting
        | ContainerState::Exited
        | ContainerState::Removing
        | ContainerState::Dead => {}
    }
    call.engine().start(&call.name, None, None).await?;
    reply::done()
}

/// `POST /containers/{}/stop`.
pub(crate) async fn stop(call: &Call) -> Answer {
    let how = how_to_stop(&call.query)?;
    let state = call.engine().inspect(&call.name)?.state.state;
    if matches!(state, ContainerState::Created | ContainerState::Exited | ContainerState::Dead) {
        return Ok(reply::empty(StatusCode::NOT_MODIFIED));
    }
    call.engine().stop(&call.name, how).await?;
    reply::done()
}

/// `POST /containers/{}/restart`.
pub(crate) async fn restart(call: &Call) -> Answer {
    call.engine().restart(&call.name, how_to_stop(&call.query)?).await?;
    reply::done()
}

/// `t` and `signal`. A time below nothing is without end.
fn how_to_stop(query: &Query) -> Result<Stop, ApiError> {
    let grace = query.number::<i64>("t")?;
    let grace = grace.map(|seconds| u64::try_from(seconds).ok().map(Duration::from_secs));
    Ok(Stop { signal: query.some("signal").map(signal).transpose()?, grace })
}

fn signal(text: &str) -> Result<Signal, ApiError> {
    Signal::parse(text).ok_or_else(|| ApiError::bad(format!("Invalid signal: {text}")))
}

/// `POST /containers/{}/kill`.
pub(crate) async fn kill(call: &Call) -> Answer {
    let signal = call.query.some("signal").map_or(Ok(Signal::KILL), signal)?;
    match call.engine().kill(&call.name, signal).await {
        Ok(()) => reply::done(),
        Err(failure @ EngineError::NotRunning(_)) => Err(ApiError::new(
            StatusCode::CONFLICT,
            format!("cannot kill container: {}: {failure}", call.name),
        )),
        Err(failure) => Err(failure.into()),
    }
}

/// `POST /containers/{}/pause`.
pub(crate) async fn pause(call: &Call) -> Answer {
    call.engine().pause(&call.name).await?;
    reply::done()
}

/// `POST /containers/{}/unpause`.
pub(crate) async fn unpause(call: &Call) -> Answer {
    call.engine().resume(&call.name).await?;
    reply::done()
}

/// `DELETE /containers/{}`.
pub(crate) async fn remove(call: &Call) -> Answer {
    if call.query.flag("link") {
        return Err(ApiError::bad("links between containers are not supported: use networks"));
    }
    let remove = Remove { force: call.query.flag("force"), volumes: call.query.flag("v") };
    call.engine().remove(&call.name, remove).await?;
    reply::done()
}

/// `POST /containers/{}/rename`.
pub(crate) async fn rename(call: &Call) -> Answer {
    let name = call.query.get("name").unwrap_or_default().trim_start_matches('/');
    if name.is_empty() {
        return Err(ApiError::bad("Neither old nor new names may be empty"));
    }
    let name = create::container_name(name)?;
    call.engine().rename(&call.name, name).await?;
    reply::done()
}

/// `POST /containers/{}/update`.
pub(crate) async fn update(mut call: Call) -> Answer {
    let bytes = call.bytes().await?;
    let update = create::update(&bytes)?;
    call.engine().update(&call.name, update).await?;
    reply::json(&json!({ "Warnings": null }))
}

/// `POST /containers/{}/resize`.
pub(crate) async fn resize(call: &Call) -> Answer {
    call.engine().resize(&call.name, size(&call.query)?).await?;
    Ok(reply::empty(StatusCode::OK))
}

/// `h` and `w`.
pub(crate) fn size(query: &Query) -> Result<TerminalSize, ApiError> {
    let side = |name| {
        let missing = || ApiError::bad(format!("\"{name}\" is missing: rows are h, columns w"));
        query.number(name)?.ok_or_else(missing)
    };
    Ok(TerminalSize { rows: side("h")?, columns: side("w")? })
}

/// `POST /containers/{}/wait`. The head of the answer goes out before the end is waited for:
/// clients wait for it before they start the container.
pub(crate) fn wait(call: &Call) -> Answer {
    let until = match call.query.some("condition") {
        None | Some("not-running") => WaitFor::NotRunning,
        Some("next-exit") => WaitFor::NextExit,
        Some("removed") => WaitFor::Removed,
        Some(other) => return Err(ApiError::bad(format!("invalid condition: {other:?}"))),
    };
    let ending = call.engine().ending(&call.name, until)?;
    Ok(reply::json_stream(body::later(async move {
        let ended = match ending.exit().await {
            Ok(exit) => json!({ "StatusCode": exit.status.shell_code() }),
            Err(failure) => json!({
                "StatusCode": -1,
                "Error": { "Message": base::chain(&failure) },
            }),
        };
        reply::line(&ended).unwrap_or_default()
    })))
}

/// `GET /containers/{}/top`.
pub(crate) async fn top(call: &Call) -> Answer {
    let options = call.query.some("ps_args").unwrap_or_default();
    let options: Vec<String> = options.split_whitespace().map(str::to_owned).collect();
    let pids = call.engine().host_pids(&call.name).await?;
    let table = tokio::task::spawn_blocking(move || crate::top::table(&options, &pids)).await;
    match table {
        Ok(Ok(table)) => reply::json(&json!({ "Titles": table.titles, "Processes": table.rows })),
        Ok(Err(why)) => Err(ApiError::bad(base::chain(&why))),
        Err(panicked) => {
            Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, panicked.to_string()))
        }
    }
}

/// `GET /containers/{}/changes`.
pub(crate) async fn changes(call: &Call) -> Answer {
    let changes = call.engine().changes(&call.name).await?;
    let shape = changes.iter().map(|change| {
        let kind = match change.kind {
            PathChangeKind::Modified => 0,
            PathChangeKind::Added => 1,
            PathChangeKind::Deleted => 2,
        };
        json!({ "Path": change.path, "Kind": kind })
    });
    reply::json(&shape.collect::<Vec<_>>())
}

/// `POST /containers/prune`.
pub(crate) async fn prune(call: &Call) -> Answer {
    let filters = call.query.filters()?;
    filters.only(&["until", "label", "label!"])?;
    let pruned = call.engine().prune_containers(&what_to_prune(&filters)?).await?;
    let ids: Vec<_> = pruned.containers.iter().map(base::ContainerId::as_str).collect();
    reply::json(&json!({ "ContainersDeleted": ids, "SpaceReclaimed": pruned.bytes }))
}

/// `until`, `label` and `label!`.
pub(crate) fn what_to_prune(filters: &Filters) -> Result<Prune, ApiError> {
    let until = match filters.of("until") {
        [] => None,
        [text] => {
            let now = base::clock::Timestamp::now();
            let at = crate::time::moment(text, now).map_err(ApiError::bad)?;
            Some(base::clock::Timestamp(at))
        }
        _ => return Err(ApiError::bad("more than one until filter specified")),
    };
    let label = |text: &String| match text.split_once('=') {
        Some((key, value)) => {
            engine::LabelCondition { key: key.to_owned(), value: Some(value.to_owned()) }
        }
        None => engine::LabelCondition { key: text.clone(), value: None },
    };
    let labels = |name| filters.of(name).iter().map(label).collect();
    Ok(Prune { all: false, until, with: labels("label"), without: labels("label!") })
}

/// Checkpoints need CRIU's formats, which this engine does not speak.
pub(crate) fn checkpoint(call: &Call) -> Answer {
    call.engine().inspect(&call.name)?;
    Err(ApiError::new(StatusCode::NOT_IMPLEMENTED, "checkpoints are not supported by this engine"))
}

/// `POST /commit`.
pub(crate) async fn commit(mut call: Call) -> Answer {
    let mut changes = create::changes(&call.bytes().await?)?;
    let query = &call.query;
    let text = |name| query.some(name).map(str::to_owned);
    let reference = query.some("repo").map(|repository| match query.some("tag") {
        Some(tag) => format!("{repository}:{tag}"),
        None => repository.to_owned(),
    });
    changes.extend(query.all("changes").flat_map(str::lines).map(str::to_owned));
    let commit = engine::Commit {
        reference,
        author: text("author"),
        message: text("comment"),
        changes,
        no_pause: !query.flag_or("pause", true),
    };
    let who = query.some("container").ok_or_else(|| ApiError::bad("\"container\" is missing"))?;
    let id = call.engine().commit(who, commit).await?;
    reply::json_with(StatusCode::CREATED, &json!({ "Id": id }))
}
