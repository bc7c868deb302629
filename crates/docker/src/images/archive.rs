//! Images as archives: load, save, import.

use std::fs::File;

use bytes::Bytes;
use engine::{Change, Import, OnProgress, Progress};
use hyper::StatusCode;
use serde_json::json;
use tokio::sync::mpsc;

use crate::{
    body::{self, Body, Broken},
    call::Call,
    error::ApiError,
    pipe, platform,
    reply::{self, Answer},
    shape::image::familiar,
};

/// News that wait for a client. What does not find room is left out: the next tells more.
const NEWS_MAX: usize = 64;

/// `GET /images/get` and `GET /images/{}/get`.
pub(crate) async fn save(call: &Call) -> Answer {
    let names: Vec<String> = match call.name.is_empty() {
        true => call.query.all("names").map(str::to_owned).collect(),
        false => vec![call.name.clone()],
    };
    if names.is_empty() {
        return Err(ApiError::bad("no image is named: write ?names=IMAGE"));
    }
    let platforms = platform::several(&call.query, "platform")?;
    for name in &names {
        // What is not there has a status of its own only before the first byte.
        call.engine().image_inspect(name, None).await?;
        for platform in &platforms {
            call.engine().image_inspect(name, Some(platform.clone())).await?;
        }
    }
    let engine = call.engine().clone();
    let body =
        pipe::written_by(|to| async move { engine.save(names, platforms, File::from(to)).await })?;
    Ok(reply::streamed("application/x-tar", body))
}

/// `POST /images/load`.
pub(crate) async fn load(mut call: Call) -> Answer {
    let Some(body) = call.body.take() else { return Err(ApiError::bad("the archive is missing")) };
    let quiet = call.query.flag("quiet");
    let platforms = platform::several(&call.query, "platform")?;
    let engine = call.engine().clone();
    let lines = |changes: Vec<Change>| {
        let loaded = changes.into_iter().filter_map(|change| match change {
            Change::Loaded(name) if name.starts_with("sha256:") => {
                Some(json!({ "stream": format!("Loaded image ID: {name}\n") }))
            }
            Change::Loaded(name) => {
                Some(json!({ "stream": format!("Loaded image: {}\n", familiar(&name)) }))
            }
            Change::Untagged(_) | Change::Deleted(_) => None,
        });
        loaded.collect()
    };
    let work = async move |on_progress: OnProgress| {
        let load = |from| engine.load(File::from(from), platforms, on_progress);
        pipe::read_by(body, load).await.map(lines)
    };
    told(quiet, work).await
}

/// `POST /images/create` with `fromSrc`.
pub(crate) async fn import(mut call: Call) -> Answer {
    let source = call.query.some("fromSrc").unwrap_or_default();
    if source != "-" {
        return Err(ApiError::new(
            StatusCode::NOT_IMPLEMENTED,
            format!(
                "importing from {source} is not supported: fetch it and send it as the body \
                 (docker import - NAME)"
            ),
        ));
    }
    let Some(body) = call.body.take() else { return Err(ApiError::bad("the archive is missing")) };
    let import = Import {
        reference: reference(&call),
        changes: call.query.all("changes").map(str::to_owned).collect(),
        message: call.query.some("message").map(str::to_owned),
        platform: platform::one(&call.query, "platform")?,
    };
    let engine = call.engine().clone();
    let work = async move |on_progress: OnProgress| {
        let import = |from| engine.import(File::from(from), import, on_progress);
        pipe::read_by(body, import).await.map(|id| vec![json!({ "status": id })])
    };
    told(true, work).await
}

/// What `repo` and `tag` name together.
fn reference(call: &Call) -> Option<String> {
    let repository = call.query.some("repo")?;
    Some(match call.query.some("tag") {
        Some(tag) => format!("{repository}:{tag}"),
        None => repository.to_owned(),
    })
}

/// Answers with lines of JSON: news while the work goes on, unless nobody wants them, then what it
/// came to. A failure before the first line has a status of its own; a later one is a line.
async fn told<W>(quiet: bool, work: impl FnOnce(OnProgress) -> W) -> Answer
where
    W: Future<Output = Result<Vec<serde_json::Value>, ApiError>> + Send + 'static,
{
    let (news, mut heard) = mpsc::channel(NEWS_MAX);
    let on_progress: OnProgress = match quiet {
        true => Box::new(|_| ()),
        false => Box::new(move |progress| drop(news.try_send(progress))),
    };
    let mut work: Working = Box::pin(work(on_progress));
    tokio::select! {
        biased;
        done = &mut work => Ok(reply::json_stream(body::full(lines(&done?)))),
        Some(first) = heard.recv() => {
            let first = line(&first);
            let state = State::Working { first: Some(first), work, heard };
            Ok(reply::json_stream(stream(state)))
        }
    }
}

type Working =
    std::pin::Pin<Box<dyn Future<Output = Result<Vec<serde_json::Value>, ApiError>> + Send>>;

enum State {
    Working { first: Option<Bytes>, work: Working, heard: mpsc::Receiver<Progress> },
    Done,
}

fn stream(state: State) -> Body {
    body::parts(state, |state| async move {
        let State::Working { first, mut work, mut heard } = state else { return None };
        if let Some(first) = first {
            return Some((Ok::<_, Broken>(first), State::Working { first: None, work, heard }));
        }
        tokio::select! {
            biased;
            done = &mut work => {
                let text = done.map_or_else(|failure| failed(&failure), |done| lines(&done));
                Some((Ok(text), State::Done))
            }
            Some(progress) = heard.recv() => {
                Some((Ok(line(&progress)), State::Working { first: None, work, heard }))
            }
        }
    })
}

/// A failure in a stream that has begun.
fn failed(failure: &ApiError) -> Bytes {
    let message = &failure.message;
    lines(&[json!({ "errorDetail": { "message": message }, "error": message })])
}

fn lines(values: &[serde_json::Value]) -> Bytes {
    values.iter().map(|value| format!("{value}\r\n")).collect::<String>().into()
}

/// Docker's `JSONMessage` of news: what is done to which layer, and how far it is.
fn line(progress: &Progress) -> Bytes {
    let (doing, done) = (&progress.doing, progress.done);
    let (status, id) = match doing.split_once(' ') {
        Some(("layer", id)) => ("Loading layer", Some(id)),
        Some(_) | None => (doing.as_str(), None),
    };
    let mut detail = json!({ "current": done });
    if let Some(total) = progress.total {
        detail["total"] = json!(total);
    }
    let mut value = json!({ "status": status, "progressDetail": detail });
    if let Some(id) = id {
        value["id"] = json!(id);
    }
    lines(&[value])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_are_told_as_docker_tells_them() {
        let progress = Progress { doing: "layer 0123456789ab".to_owned(), done: 3, total: Some(9) };
        let told = line(&progress);
        assert_eq!(
            std::str::from_utf8(&told).unwrap(),
            "{\"id\":\"0123456789ab\",\"progressDetail\":{\"current\":3,\"total\":9},\
             \"status\":\"Loading layer\"}\r\n"
        );
        let told = line(&Progress { doing: "reading".to_owned(), done: 1, total: None });
        assert!(!std::str::from_utf8(&told).unwrap().contains("\"id\""));
    }

    #[tokio::test]
    async fn a_failure_before_the_first_line_has_a_status_and_a_later_one_is_a_line() {
        use http_body_util::BodyExt as _;
        let early = told(false, async |_: OnProgress| Err(ApiError::missing("no"))).await;
        assert_eq!(early.unwrap_err().status.as_u16(), 404);
        let late = told(false, async |tell: OnProgress| {
            tell(Progress { doing: "reading".to_owned(), done: 1, total: None });
            tokio::task::yield_now().await;
            Err(ApiError::bad("cut"))
        });
        let reply = late.await.unwrap();
        assert_eq!(reply.status(), StatusCode::OK);
        let bytes = reply.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(
            text.starts_with("{\"progressDetail\"") && text.contains("\"error\":\"cut\""),
            "{text}"
        );
    }
}
