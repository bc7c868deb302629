//! Files in and out of containers, as tar archives.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::{StatusCode, header::HeaderName};
use serde_json::json;
use workload::{FileStat, Owner, Unpack};

use crate::{
    call::Call,
    error::ApiError,
    pipe,
    reply::{self, Answer},
};

const STAT: HeaderName = HeaderName::from_static("x-docker-container-path-stat");
const TAR: &str = "application/x-tar";

fn path(call: &Call) -> Result<String, ApiError> {
    let missing = || ApiError::bad("bad parameter: path: it is missing");
    call.query.some("path").map(str::to_owned).ok_or_else(missing)
}

/// `HEAD /containers/{}/archive`.
pub(crate) async fn stat(call: &Call) -> Answer {
    let stat = call.engine().path_stat(&call.name, &path(call)?).await?;
    with_stat(reply::empty(StatusCode::OK), &stat)
}

/// `GET /containers/{}/archive`.
pub(crate) async fn get(call: &Call) -> Answer {
    let (engine, who, path) = (call.engine().clone(), call.name.clone(), path(call)?);
    let stat = engine.path_stat(&who, &path).await?;
    let body =
        pipe::written_by(|to| async move { engine.archive_read(&who, &path, None, to).await })?;
    with_stat(reply::streamed(TAR, body), &stat)
}

/// `PUT /containers/{}/archive`.
pub(crate) async fn put(mut call: Call) -> Answer {
    let path = path(&call)?;
    let keep_kinds = call.query.flag("noOverwriteDirNonDir");
    let owner = match call.query.flag("copyUIDGID") {
        true => owner(call.engine().inspect(&call.name)?.config.user.clone()),
        false => Owner::Archive,
    };
    let Some(body) = call.body.take() else { return Err(ApiError::bad("the archive is missing")) };
    let (engine, who) = (call.engine(), &call.name);
    let unpack = Unpack { keep_kinds, owner };
    pipe::read_by(body, |from| engine.archive_write(who, &path, from, unpack)).await?;
    Ok(reply::empty(StatusCode::OK))
}

/// `copyUIDGID`: files belong to the container's own user, if it has one.
///
/// Source: moby, `daemon/archive_tarcopyoptions_unix.go`.
fn owner(user: Option<String>) -> Owner {
    match user.filter(|user| !user.is_empty()) {
        Some(name) => Owner::User { name },
        None => Owner::Archive,
    }
}

/// `GET /containers/{}/export`.
pub(crate) fn export(call: &Call) -> Answer {
    let (engine, who) = (call.engine().clone(), call.name.clone());
    engine.inspect(&who)?;
    let body = pipe::written_by(|to| async move { engine.export(&who, to).await })?;
    Ok(reply::streamed("application/octet-stream", body))
}

fn with_stat(mut reply: reply::Reply, stat: &FileStat) -> Answer {
    let (seconds, nanos) = stat.modified;
    let at = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let modified = jiff::Timestamp::from_nanosecond(at).unwrap_or_default().to_string();
    let shape = json!({
        "name": stat.name,
        "size": stat.size,
        "mode": go_mode(stat.mode),
        "mtime": modified,
        "linkTarget": stat.link_target.as_deref().unwrap_or_default(),
    });
    let value = STANDARD.encode(shape.to_string());
    let value = value.parse().map_err(|error| {
        let text = format!("cannot tell of the path: {error}");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    })?;
    reply.headers_mut().insert(STAT, value);
    Ok(reply)
}

/// Kind and permissions as Go's `os.FileMode` has them.
///
/// Source: Go, `io/fs`, `FileMode`.
fn go_mode(mode: u32) -> u32 {
    let kind = match mode & 0o170_000 {
        0o040_000 => 1 << 31,
        0o120_000 => 1 << 27,
        0o060_000 => 1 << 26,
        0o020_000 => 1 << 26 | 1 << 21,
        0o010_000 => 1 << 25,
        0o140_000 => 1 << 24,
        _ => 0,
    };
    let bit = |of: u32, go: u32| if mode & of == 0 { 0 } else { 1 << go };
    kind | bit(0o4000, 23) | bit(0o2000, 22) | bit(0o1000, 20) | (mode & 0o777)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_gos() {
        assert_eq!(go_mode(0o040_755), 0x8000_01ed);
        assert_eq!(go_mode(0o120_777), 0x0800_01ff);
        assert_eq!(go_mode(0o104_755), 0x0080_01ed);
        assert_eq!(go_mode(0o041_777), 0x8010_01ff);
        assert_eq!(go_mode(0o020_666), 0x0420_01b6);
    }
}
