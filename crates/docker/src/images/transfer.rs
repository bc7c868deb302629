//! Images from registries and to them, and what proves to a registry who asks.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use engine::{
    Credentials, EngineError, LoginRequest, TransferEvent, TransferNews, TransferRequest,
};
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    body::{self, Body},
    call::Call,
    error::ApiError,
    platform,
    reply::{self, Answer},
};

/// The header with credentials. Source: Docker Engine API 1.52, "Authentication".
const AUTH_HEADER: &str = "x-registry-auth";
/// As clients write it: either alphabet, with or without padding.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// Docker's `AuthConfig`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct AuthConfig {
    username: String,
    password: String,
    auth: String,
    serveraddress: String,
    identitytoken: String,
    registrytoken: String,
}

impl AuthConfig {
    fn credentials(self) -> Option<Credentials> {
        if !self.registrytoken.is_empty() {
            return Some(Credentials::Bearer(self.registrytoken));
        }
        if !self.identitytoken.is_empty() {
            return Some(Credentials::Identity(self.identitytoken));
        }
        if !self.username.is_empty() {
            let (username, password) = (self.username, self.password);
            return Some(Credentials::Basic { username, password });
        }
        let decoded = String::from_utf8(decode(&self.auth)?).ok()?;
        let (username, password) = decoded.split_once(':')?;
        let (username, password) = (username.to_owned(), password.to_owned());
        Some(Credentials::Basic { username, password })
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let url = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
    let standard = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
    url.decode(text).or_else(|_| standard.decode(text)).ok()
}

/// What a client sends to prove who it is.
fn credentials(call: &Call) -> Result<Option<Credentials>, ApiError> {
    let Some(header) = call.headers.get(AUTH_HEADER) else { return Ok(None) };
    let bad = || ApiError::bad("invalid X-Registry-Auth header: it is not JSON in base64url");
    let text = header.to_str().map_err(|_| bad())?;
    if text.is_empty() {
        return Ok(None);
    }
    let decoded = decode(text).ok_or_else(bad)?;
    // Clients without credentials send `{}`, or `null`.
    let config: Option<AuthConfig> = serde_json::from_slice(&decoded).map_err(|_| bad())?;
    Ok(config.and_then(AuthConfig::credentials))
}

/// `POST /images/create?fromImage=`.
pub(crate) async fn pull(call: Call) -> Answer {
    let image =
        call.query.some("fromImage").ok_or_else(|| ApiError::bad("\"fromImage\" is missing"))?;
    let tag = call.query.some("tag");
    let parsed: base::Reference = image
        .parse()
        .map_err(|error: base::reference::ReferenceError| ApiError::bad(error.to_string()))?;
    let named = parsed.tag().is_some() || parsed.digest().is_some();
    let reference = match tag {
        Some(digest) if digest.contains(':') => format!("{image}@{digest}"),
        Some(tag) if !named => format!("{image}:{tag}"),
        Some(_) | None => image.to_owned(),
    };
    let request = TransferRequest {
        reference,
        platform: platform::one(&call.query, "platform")?,
        credentials: credentials(&call)?,
        // A name alone is all of its tags: clients say `latest` where that is meant.
        all_tags: tag.is_none() && !named,
        insecure: false,
    };
    let (news, heard) = TransferNews::channel();
    let engine = call.engine().clone();
    stream(async move { engine.pull(request, news).await.map(drop) }, heard).await
}

/// `POST /images/{}/push`.
pub(crate) async fn push(call: &Call) -> Answer {
    let tag = call.query.some("tag");
    let request = TransferRequest {
        reference: match tag {
            Some(tag) => format!("{}:{tag}", call.name),
            None => call.name.clone(),
        },
        platform: platform::one(&call.query, "platform")?,
        credentials: credentials(call)?,
        all_tags: tag.is_none() && !call.name.rsplit('/').next().unwrap_or_default().contains(':'),
        insecure: false,
    };
    let (news, heard) = TransferNews::channel();
    let engine = call.engine().clone();
    stream(async move { engine.push(request, news).await }, heard).await
}

/// `GET /distribution/{}/json`.
pub(crate) async fn distribution(call: &Call) -> Answer {
    let found = call.engine().distribution(&call.name, credentials(call)?).await;
    let found = found.map_err(unproved)?;
    let platforms = found.platforms.iter().map(|(os, architecture, variant)| {
        let mut shape = json!({ "architecture": architecture, "os": os });
        if let Some(variant) = variant {
            shape["variant"] = json!(variant);
        }
        shape
    });
    reply::json(&json!({
        "Descriptor": {
            "mediaType": found.media_type,
            "digest": found.digest,
            "size": found.size,
        },
        "Platforms": platforms.collect::<Vec<_>>(),
    }))
}

/// `POST /auth`.
pub(crate) async fn auth(mut call: Call) -> Answer {
    let config: AuthConfig = call.json().await?;
    let server = config.serveraddress.clone();
    let Some(credentials) = config.credentials() else {
        return Err(ApiError::bad("username and password, or a token, are missing"));
    };
    let login = LoginRequest { server, credentials, insecure: false };
    call.engine().login(login).await.map_err(unproved)?;
    reply::json(&json!({ "Status": "Login Succeeded", "IdentityToken": "" }))
}

/// 401 where a registry lets nobody in who does not prove who he is.
fn unproved(error: EngineError) -> ApiError {
    match error.kind() == base::ErrorKind::PermissionDenied {
        true => ApiError::new(StatusCode::UNAUTHORIZED, base::chain(&error)),
        false => error.into(),
    }
}

/// The work and its news. When the client goes, the body is dropped and with it the work.
struct Running {
    work: JoinSet<Result<(), EngineError>>,
    heard: mpsc::Receiver<TransferEvent>,
    early: Vec<TransferEvent>,
}

/// News as lines of JSON. What fails before there is anything to tell has a status of its own.
async fn stream(
    work: impl Future<Output = Result<(), EngineError>> + Send + 'static,
    heard: mpsc::Receiver<TransferEvent>,
) -> Answer {
    let mut running = Running { work: JoinSet::new(), heard, early: Vec::new() };
    running.work.spawn(work);
    while let Some(event) = running.heard.recv().await {
        let opening =
            matches!(event, TransferEvent::Resolving { .. } | TransferEvent::Refers { .. });
        running.early.push(event);
        if !opening {
            return Ok(reply::json_stream(lines(running)));
        }
    }
    // It ended without a word beyond the first.
    match ended(&mut running.work).await {
        Some(error) => Err(error.into()),
        None => Ok(reply::json_stream(lines(running))),
    }
}

async fn ended(work: &mut JoinSet<Result<(), EngineError>>) -> Option<EngineError> {
    match work.join_next().await? {
        Ok(done) => done.err(),
        Err(_) => Some(EngineError::Failed { doing: "transferring an image" }),
    }
}

fn lines(mut running: Running) -> Body {
    running.early.reverse();
    body::parts(Some(running), |running| async move {
        let mut running = running?;
        let event = match running.early.pop() {
            Some(event) => Some(event),
            None => running.heard.recv().await,
        };
        if let Some(event) = event {
            return Some((Ok(shapes(&event)), Some(running)));
        }
        let message = base::chain(&ended(&mut running.work).await?);
        let error = json!({ "errorDetail": { "message": message }, "error": message });
        Some((Ok(text(&[error])), None))
    })
}

fn text(shapes: &[Value]) -> Bytes {
    let lines = shapes.iter().map(|shape| format!("{shape}\r\n"));
    lines.collect::<String>().into()
}

/// Docker's messages. Source: moby, `pkg/jsonmessage`, `distribution/pull_v2.go`, `push_v2.go`.
fn shapes(event: &TransferEvent) -> Bytes {
    let plain = |status: &str| json!({ "status": status });
    let layer =
        |id: &str, status: &str| json!({ "status": status, "progressDetail": {}, "id": id });
    let moving = |id: &str, status: &str, done: &u64, total: &u64| {
        let detail = json!({ "current": done, "total": total });
        json!({ "status": status, "progressDetail": detail, "id": id })
    };
    let shape = match event {
        TransferEvent::Resolving { repository, tag } => {
            json!({ "status": format!("Pulling from {repository}"), "id": tag })
        }
        TransferEvent::Served { mirror: false, .. } => return Bytes::new(),
        TransferEvent::Served { host, mirror: true } => plain(&format!("Served by mirror {host}")),
        TransferEvent::Note { text } => plain(text),
        TransferEvent::Waiting { id } => layer(id, "Pulling fs layer"),
        TransferEvent::Exists { id } => layer(id, "Already exists"),
        TransferEvent::Downloading { id, done, total } => moving(id, "Downloading", done, total),
        TransferEvent::Downloaded { id } => layer(id, "Download complete"),
        TransferEvent::Extracting { id, done, total } => moving(id, "Extracting", done, total),
        TransferEvent::Complete { id } => layer(id, "Pull complete"),
        TransferEvent::Refers { repository } => {
            plain(&format!("The push refers to repository [{repository}]"))
        }
        TransferEvent::Pushing { id, done, total } => moving(id, "Pushing", done, total),
        TransferEvent::Pushed { id } => layer(id, "Pushed"),
        TransferEvent::PushExists { id } => layer(id, "Layer already exists"),
        TransferEvent::Mounted { id, from } => layer(id, &format!("Mounted from {from}")),
        TransferEvent::Digest { digest } => plain(&format!("Digest: {digest}")),
        TransferEvent::Status { text } => plain(&format!("Status: {text}")),
        TransferEvent::Tagged { tag, digest, size } => {
            let said = plain(&format!("{tag}: digest: {digest} size: {size}"));
            let aux = json!({ "Tag": tag, "Digest": digest, "Size": size });
            return text(&[said, json!({ "progressDetail": {}, "aux": aux })]);
        }
    };
    text(&[shape])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_as_clients_write_them() {
        let url = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
        let json = br#"{"username":"me?>","password":"p","serveraddress":"x"}"#;
        let config: AuthConfig =
            serde_json::from_slice(&decode(&url.encode(json)).unwrap()).unwrap();
        let want = Credentials::Basic { username: "me?>".into(), password: "p".into() };
        assert_eq!(config.credentials(), Some(want));
        assert_eq!(decode("e30").as_deref(), Some(b"{}".as_slice()));
        assert_eq!(AuthConfig::default().credentials(), None);
        let auth = AuthConfig { auth: url.encode(b"a:b:c"), ..AuthConfig::default() };
        let want = Credentials::Basic { username: "a".into(), password: "b:c".into() };
        assert_eq!(auth.credentials(), Some(want));
    }
}
