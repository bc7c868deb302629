//! What is asked of images.

use std::fs::File;

use engine::{Change, RemoveImage};
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::{
    call::Call,
    error::ApiError,
    pipe,
    reply::{self, Answer},
    shape::image::{ImageJson, familiar},
    time,
};

/// `GET /images/json`.
pub(crate) async fn list(call: &Call) -> Answer {
    let filters = call.query.filters()?;
    filters.only(&["dangling"])?;
    let dangling = filters.flag("dangling")?;
    let images = call.engine().images().await?;
    let wanted = images
        .iter()
        .filter(|image| dangling.is_none_or(|dangling| dangling == image.references.is_empty()));
    let shapes = wanted.map(|image| {
        let created = image.created.as_deref().and_then(time::from_rfc3339);
        json!({
            "Id": image.id,
            "ParentId": "",
            "RepoTags": image.references.iter().map(|r| familiar(r)).collect::<Vec<_>>(),
            "RepoDigests": [],
            "Created": created.map_or(0, base::clock::Timestamp::seconds),
            "Size": image.size,
            "SharedSize": -1,
            "Labels": image.config.labels,
            "Containers": -1,
        })
    });
    reply::json(&shapes.collect::<Vec<_>>())
}

/// `GET /images/{}/json`.
pub(crate) async fn inspect(call: &Call) -> Answer {
    let image = call.engine().image_inspect(&call.name, None).await?;
    reply::json(&ImageJson::of(&image))
}

/// `GET /images/{}/history`.
pub(crate) async fn history(call: &Call) -> Answer {
    Err(ApiError::unbuilt(format!("GET /images/{}/history", call.name)))
}

/// `GET /images/search`: only Docker Hub has it.
pub(crate) fn search() -> Answer {
    Err(ApiError::new(
        StatusCode::NOT_IMPLEMENTED,
        "searching is not supported: it is a service of Docker Hub alone, and no part of the \
         distribution specification",
    ))
}

/// `GET /images/get` and `GET /images/{}/get`.
pub(crate) async fn save(call: &Call) -> Answer {
    let names: Vec<String> = match call.name.is_empty() {
        true => call.query.all("names").map(str::to_owned).collect(),
        false => vec![call.name.clone()],
    };
    for name in &names {
        call.engine().image_inspect(name, None).await?;
    }
    let engine = call.engine().clone();
    let body =
        pipe::written_by(|to| async move { engine.save(names, None, File::from(to)).await })?;
    Ok(reply::streamed("application/x-tar", body))
}

/// `POST /images/load`.
pub(crate) async fn load(mut call: Call) -> Answer {
    let Some(body) = call.body.take() else { return Err(ApiError::bad("the archive is missing")) };
    let engine = call.engine();
    let changes =
        pipe::read_by(body, |from| engine.load(File::from(from), None, Box::new(|_| ()))).await?;
    let lines = changes.iter().filter_map(|change| match change {
        Change::Loaded(name) => {
            Some(json!({ "stream": format!("Loaded image: {}\n", familiar(name)) }).to_string())
        }
        Change::Untagged(_) | Change::Deleted(_) => None,
    });
    let text = lines.map(|line| line + "\r\n").collect::<String>();
    Ok(reply::json_stream(crate::body::full(text)))
}

/// `POST /images/create`.
pub(crate) async fn create(call: Call) -> Answer {
    let _ = call;
    Err(ApiError::unbuilt("pulling images"))
}

/// `POST /images/{}/push`.
pub(crate) fn push(call: &Call) -> Answer {
    let _ = call;
    Err(ApiError::unbuilt("pushing images"))
}

/// `GET /distribution/{}/json`.
pub(crate) fn distribution(call: &Call) -> Answer {
    let _ = call;
    Err(ApiError::unbuilt("asking a registry for an image"))
}

/// `POST /images/prune`.
pub(crate) async fn prune(call: &Call) -> Answer {
    let _ = call;
    Err(ApiError::unbuilt("POST /images/prune"))
}

/// `POST /images/{}/tag`.
pub(crate) async fn tag(call: &Call) -> Answer {
    let Some(repository) = call.query.some("repo") else {
        return Err(ApiError::bad("\"repo\" is missing"));
    };
    let tag = call.query.some("tag").unwrap_or("latest");
    call.engine().tag(&call.name, &format!("{repository}:{tag}")).await?;
    Ok(reply::empty(StatusCode::CREATED))
}

/// `DELETE /images/{}`.
pub(crate) async fn remove(call: &Call) -> Answer {
    let remove = RemoveImage { force: call.query.flag("force") };
    let changes = call.engine().remove_image(&call.name, remove).await?;
    let shape = |change: &Change| -> Value {
        match change {
            Change::Untagged(name) => json!({ "Untagged": familiar(name) }),
            Change::Deleted(id) => json!({ "Deleted": id }),
            Change::Loaded(name) => json!({ "Loaded": name }),
        }
    };
    reply::json(&changes.iter().map(shape).collect::<Vec<_>>())
}
