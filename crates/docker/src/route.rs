//! Which endpoint a path leads to.

use std::fmt;

use hyper::Method;

use crate::error::ApiError;

/// A version of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u16, pub(crate) u16);

/// The newest that is spoken, and what a path without a version means.
pub(crate) const NEWEST: Version = Version(1, 52);
/// The oldest that is spoken.
pub(crate) const OLDEST: Version = Version(1, 24);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl Version {
    fn parse(text: &str) -> Option<Version> {
        let (major, minor) = text.strip_prefix('v')?.split_once('.')?;
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(major) || !digits(minor) {
            return None;
        }
        Some(Version(major.parse().ok()?, minor.parse().ok()?))
    }

    /// Source: moby, `daemon/server/middleware/version.go`.
    fn check(self) -> Result<Version, ApiError> {
        if self < OLDEST {
            return Err(ApiError::bad(format!(
                "client version {self} is too old. Minimum supported API version is {OLDEST}, \
                 please upgrade your client to a newer version"
            )));
        }
        if self > NEWEST {
            return Err(ApiError::bad(format!(
                "client version {self} is too new. Maximum supported API version is {NEWEST}"
            )));
        }
        Ok(self)
    }
}

macro_rules! endpoints {
    ($($name:ident: $($method:ident $path:literal),+;)*) => {
        /// Something that can be asked.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Endpoint { $($name,)* }

        /// Methods, paths, and what they lead to. `{}` is one name, with slashes in it or without;
        /// of two lines that fit the first is meant.
        const TABLE: &[(Method, &str, Endpoint)] =
            &[$($((Method::$method, $path, Endpoint::$name),)+)*];
    };
}

endpoints! {
    Ping: GET "/_ping", HEAD "/_ping";
    Version: GET "/version";
    Info: GET "/info";
    Events: GET "/events";
    DiskUsage: GET "/system/df";
    Auth: POST "/auth";

    ContainerList: GET "/containers/json";
    ContainerCreate: POST "/containers/create";
    ContainerPrune: POST "/containers/prune";
    ContainerInspect: GET "/containers/{}/json";
    ContainerTop: GET "/containers/{}/top";
    ContainerLogs: GET "/containers/{}/logs";
    ContainerChanges: GET "/containers/{}/changes";
    ContainerExport: GET "/containers/{}/export";
    ContainerStats: GET "/containers/{}/stats";
    ContainerResize: POST "/containers/{}/resize";
    ContainerStart: POST "/containers/{}/start";
    ContainerStop: POST "/containers/{}/stop";
    ContainerRestart: POST "/containers/{}/restart";
    ContainerKill: POST "/containers/{}/kill";
    ContainerUpdate: POST "/containers/{}/update";
    ContainerRename: POST "/containers/{}/rename";
    ContainerPause: POST "/containers/{}/pause";
    ContainerUnpause: POST "/containers/{}/unpause";
    ContainerAttach: POST "/containers/{}/attach";
    ContainerAttachWebSocket: GET "/containers/{}/attach/ws";
    ContainerWait: POST "/containers/{}/wait";
    ExecCreate: POST "/containers/{}/exec";
    ArchiveStat: HEAD "/containers/{}/archive";
    ArchiveGet: GET "/containers/{}/archive";
    ArchivePut: PUT "/containers/{}/archive";
    CheckpointList: GET "/containers/{}/checkpoints";
    CheckpointCreate: POST "/containers/{}/checkpoints";
    ContainerRemove: DELETE "/containers/{}";
    Commit: POST "/commit";

    ExecStart: POST "/exec/{}/start";
    ExecResize: POST "/exec/{}/resize";
    ExecInspect: GET "/exec/{}/json";

    ImageList: GET "/images/json";
    ImageSearch: GET "/images/search";
    ImageSaveAll: GET "/images/get";
    ImageSave: GET "/images/{}/get";
    ImageLoad: POST "/images/load";
    ImageCreate: POST "/images/create";
    ImagePrune: POST "/images/prune";
    ImageInspect: GET "/images/{}/json";
    ImageHistory: GET "/images/{}/history";
    ImagePush: POST "/images/{}/push";
    ImageTag: POST "/images/{}/tag";
    ImageRemove: DELETE "/images/{}";
    Distribution: GET "/distribution/{}/json";

    NetworkList: GET "/networks";
    NetworkCreate: POST "/networks/create";
    NetworkPrune: POST "/networks/prune";
    NetworkConnect: POST "/networks/{}/connect";
    NetworkDisconnect: POST "/networks/{}/disconnect";
    NetworkInspect: GET "/networks/{}";
    NetworkRemove: DELETE "/networks/{}";

    VolumeList: GET "/volumes";
    VolumeCreate: POST "/volumes/create";
    VolumePrune: POST "/volumes/prune";
    VolumeInspect: GET "/volumes/{}";
    VolumeUpdate: PUT "/volumes/{}";
    VolumeRemove: DELETE "/volumes/{}";

    BuildPrune: POST "/build/prune";
    Build: POST "/build", POST "/build/cancel", POST "/session", POST "/grpc";

    PluginList: GET "/plugins";
    PluginInspect: GET "/plugins/{}/json", DELETE "/plugins/{}", POST "/plugins/{}/enable",
        POST "/plugins/{}/disable", POST "/plugins/{}/upgrade", POST "/plugins/{}/push",
        POST "/plugins/{}/set";
    PluginInstall: GET "/plugins/privileges", POST "/plugins/pull", POST "/plugins/create";

    SwarmJoin: POST "/swarm/init", POST "/swarm/join";
    SwarmLeave: POST "/swarm/leave";
}

/// Methods and paths of every endpoint.
#[cfg(test)]
pub(crate) fn all() -> impl Iterator<Item = (&'static Method, &'static str)> {
    TABLE.iter().map(|(method, path, _)| (method, *path))
}

/// Everything below these is a swarm manager's, and this is none.
const SWARM: [&str; 6] = ["/swarm", "/nodes", "/services", "/tasks", "/secrets", "/configs"];

/// Where a request leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) version: Version,
    pub(crate) endpoint: Endpoint,
    /// What stands in place of `{}`.
    pub(crate) name: String,
}

/// The endpoint of a method and a path.
///
/// # Errors
/// 404 for no endpoint, 400 for a version that is not spoken, 503 for what only a swarm manager
/// answers.
pub(crate) fn route(method: &Method, path: &str) -> Result<Route, ApiError> {
    let (version, path) = versioned(path)?;
    for (of, pattern, endpoint) in TABLE {
        if of == method
            && let Some(name) = matched(pattern, path)
        {
            let name = percent_encoding::percent_decode_str(name).decode_utf8();
            let name = name.map_err(|_| ApiError::bad("the path is not UTF-8"))?.into_owned();
            return Ok(Route { version, endpoint: *endpoint, name });
        }
    }
    if SWARM.iter().any(|prefix| below(path, prefix)) {
        return Err(ApiError::new(
            hyper::StatusCode::SERVICE_UNAVAILABLE,
            "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" \
             to connect this node to swarm and try again.",
        ));
    }
    Err(ApiError::missing("page not found"))
}

/// The version in front of a path, and the path behind it.
fn versioned(path: &str) -> Result<(Version, &str), ApiError> {
    let Some(rest) = path.strip_prefix('/') else { return Ok((NEWEST, path)) };
    let first = rest.split('/').next().unwrap_or(rest);
    match Version::parse(first) {
        Some(version) => Ok((version.check()?, &rest[first.len()..])),
        None => Ok((NEWEST, path)),
    }
}

/// What stands in a path in place of `{}`; nothing, if there is none in the pattern.
fn matched<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    match pattern.split_once("{}") {
        None => (pattern == path).then_some(""),
        Some((before, after)) => {
            let name = path.strip_prefix(before)?.strip_suffix(after)?;
            (!name.is_empty()).then_some(name)
        }
    }
}

fn below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn to(method: &Method, path: &str) -> Option<(Endpoint, String)> {
        route(method, path).ok().map(|route| (route.endpoint, route.name))
    }

    #[test]
    fn paths_lead_where_docker_leads_them() {
        let some = |endpoint, name: &str| Some((endpoint, name.to_owned()));
        for (method, path, want) in [
            (Method::GET, "/_ping", some(Endpoint::Ping, "")),
            (Method::GET, "/v1.44/version", some(Endpoint::Version, "")),
            (Method::GET, "/containers/json", some(Endpoint::ContainerList, "")),
            (Method::GET, "/containers/a%20b/json", some(Endpoint::ContainerInspect, "a b")),
            (Method::GET, "/images/a.b:5/c/d:e/json", some(Endpoint::ImageInspect, "a.b:5/c/d:e")),
            (Method::DELETE, "/images/a/b", some(Endpoint::ImageRemove, "a/b")),
            (Method::DELETE, "/v1.24/containers/x", some(Endpoint::ContainerRemove, "x")),
            (Method::POST, "/networks/create", some(Endpoint::NetworkCreate, "")),
            (Method::GET, "/networks/create", some(Endpoint::NetworkInspect, "create")),
            (Method::PUT, "/containers/x/start", None),
            (Method::GET, "/containers//json", None),
            (Method::GET, "/v2/", None),
            (Method::GET, "", None),
        ] {
            assert_eq!(to(&method, path), want, "{method} {path}");
        }
    }

    #[test]
    fn only_versions_that_are_spoken_are_answered() {
        let message = |path| route(&Method::GET, path).unwrap_err().message;
        assert!(
            message("/v1.23/version").contains("too old. Minimum supported API version is 1.24")
        );
        assert!(
            message("/v1.53/version").contains("too new. Maximum supported API version is 1.52")
        );
        assert_eq!(route(&Method::GET, "/v1.30/version").unwrap().version, Version(1, 30));
        assert_eq!(route(&Method::GET, "/version").unwrap().version, NEWEST);
    }

    #[test]
    fn a_swarm_is_answered_as_by_a_node_without_one() {
        for path in ["/v1.50/swarm", "/nodes/x", "/services", "/configs/create"] {
            assert_eq!(route(&Method::GET, path).unwrap_err().status.as_u16(), 503, "{path}");
        }
        assert_eq!(to(&Method::POST, "/swarm/leave"), Some((Endpoint::SwarmLeave, String::new())));
        assert_eq!(route(&Method::GET, "/nodesx").unwrap_err().status.as_u16(), 404);
    }

    proptest! {
        #[test]
        fn no_path_is_too_odd(path in "\\PC{0,40}") {
            let _ = route(&Method::GET, &path);
            let _ = route(&Method::GET, &format!("/v1.44/images/{path}/json"));
        }
    }
}
