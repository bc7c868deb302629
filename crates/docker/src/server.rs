//! The way of a request to its endpoint.

#[cfg(test)]
mod tests;

use std::{io, sync::Arc};

use engine::Engine;
use hyper::{
    Method, Request,
    header::{HeaderName, HeaderValue, SERVER},
};
use listen::{Incoming, Limits, Listener};
use tracing::debug;

use crate::{
    call::{Api, Call},
    containers, events, execs, images, networks,
    query::Query,
    reply::{self, Answer, Reply},
    route::{Endpoint, NEWEST, Route, route},
    system, volumes,
};

/// Serves the API.
#[derive(Clone, Debug)]
pub struct Server {
    api: Arc<Api>,
}

impl Server {
    /// A server of this engine; `build` is the version that it tells.
    pub fn new(engine: Engine, build: &'static str) -> Server {
        Server::with_limits(engine, build, Limits::default())
    }

    /// The same with other limits.
    pub fn with_limits(engine: Engine, build: &'static str, limits: Limits) -> Server {
        Server { api: Arc::new(Api { engine, build, limits }) }
    }

    /// Serves the socket until `stop` is done. Streams of those attached go on.
    ///
    /// # Errors
    /// If the socket cannot be used any more.
    pub async fn serve(
        &self,
        listener: Listener,
        stop: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let (api, limits) = (Arc::clone(&self.api), self.api.limits);
        listen::serve(listener, limits, move |request| answer(Arc::clone(&api), request), stop)
            .await
    }
}

/// Answers one request.
async fn answer(api: Arc<Api>, mut request: Request<Incoming>) -> Reply {
    let head = request.method() == Method::HEAD;
    let upgrade = hyper::upgrade::on(&mut request);
    let (parts, body) = request.into_parts();
    let done = match route(&parts.method, parts.uri.path()) {
        Ok(Route { version, endpoint, name }) => {
            let query = Query::parse(parts.uri.query().unwrap_or_default());
            let (headers, body) = (parts.headers, Some(body));
            let call = Call { api: Arc::clone(&api), version, name, query, headers, body, upgrade };
            // Boxed: the futures of all endpoints together are large.
            Box::pin(carry_out(endpoint, call)).await
        }
        Err(error) => Err(error),
    };
    let mut reply = done.unwrap_or_else(|error| {
        debug!(
            status = error.status.as_u16(),
            message = error.message,
            path = parts.uri.path(),
            "refused"
        );
        reply::refusal(&error)
    });
    if head {
        *reply.body_mut() = crate::body::full("");
    }
    introduce(&api, &mut reply);
    reply
}

/// Headers of every answer.
fn introduce(api: &Api, reply: &mut Reply) {
    let headers = reply.headers_mut();
    let version = NEWEST.to_string();
    for (name, value) in [
        (HeaderName::from_static("api-version"), version.as_str()),
        (HeaderName::from_static("docker-experimental"), "false"),
        (HeaderName::from_static("ostype"), "linux"),
        (SERVER, &format!("Wythe/{} (linux)", api.build)),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
}

async fn carry_out(endpoint: Endpoint, call: Call) -> Answer {
    match endpoint {
        Endpoint::Ping => system::ping(),
        Endpoint::Version => system::version(&call),
        Endpoint::Info => system::info(&call),
        Endpoint::Events => events::events(&call),
        Endpoint::DiskUsage => system::disk_usage(&call).await,
        Endpoint::Auth => images::auth(call).await,
        Endpoint::Build => system::build(),
        Endpoint::BuildPrune => system::build_prune(),
        Endpoint::PluginList => system::plugins(),
        Endpoint::PluginInspect => system::plugin(&call),
        Endpoint::PluginInstall => system::plugin_install(),
        Endpoint::SwarmJoin => system::swarm_join(),
        Endpoint::SwarmLeave => system::swarm_leave(),

        Endpoint::ContainerList => containers::list(&call).await,
        Endpoint::ContainerCreate => containers::create(call).await,
        Endpoint::ContainerPrune => containers::prune(&call).await,
        Endpoint::ContainerInspect => containers::inspect(&call).await,
        Endpoint::ContainerTop => containers::top(&call).await,
        Endpoint::ContainerLogs => containers::logs(&call).await,
        Endpoint::ContainerChanges => containers::changes(&call).await,
        Endpoint::ContainerExport => containers::export(&call),
        Endpoint::ContainerStats => containers::stats(call).await,
        Endpoint::ContainerResize => containers::resize(&call).await,
        Endpoint::ContainerStart => containers::start(&call).await,
        Endpoint::ContainerStop => containers::stop(&call).await,
        Endpoint::ContainerRestart => containers::restart(&call).await,
        Endpoint::ContainerKill => containers::kill(&call).await,
        Endpoint::ContainerUpdate => containers::update(call).await,
        Endpoint::ContainerRename => containers::rename(&call).await,
        Endpoint::ContainerPause => containers::pause(&call).await,
        Endpoint::ContainerUnpause => containers::unpause(&call).await,
        Endpoint::ContainerAttach => containers::attach(call).await,
        Endpoint::ContainerAttachWebSocket => containers::attach_websocket(call).await,
        Endpoint::ContainerWait => containers::wait(&call),
        Endpoint::ContainerRemove => containers::remove(&call).await,
        Endpoint::ArchiveStat => containers::archive_stat(&call).await,
        Endpoint::ArchiveGet => containers::archive_get(&call).await,
        Endpoint::ArchivePut => containers::archive_put(call).await,
        Endpoint::CheckpointList | Endpoint::CheckpointCreate => containers::checkpoint(&call),
        Endpoint::Commit => containers::commit(call).await,

        Endpoint::ExecCreate => execs::create(call).await,
        Endpoint::ExecStart => execs::start(call).await,
        Endpoint::ExecResize => execs::resize(&call).await,
        Endpoint::ExecInspect => execs::inspect(&call).await,

        Endpoint::ImageList => images::list(&call).await,
        Endpoint::ImageSearch => images::search(),
        Endpoint::ImageSaveAll | Endpoint::ImageSave => images::save(&call).await,
        Endpoint::ImageLoad => images::load(call).await,
        Endpoint::ImageCreate => images::create(call).await,
        Endpoint::ImagePrune => images::prune(&call).await,
        Endpoint::ImageInspect => images::inspect(&call).await,
        Endpoint::ImageHistory => images::history(&call).await,
        Endpoint::ImagePush => images::push(&call).await,
        Endpoint::ImageTag => images::tag(&call).await,
        Endpoint::ImageRemove => images::remove(&call).await,
        Endpoint::Distribution => images::distribution(&call).await,

        Endpoint::NetworkList => networks::list(&call).await,
        Endpoint::NetworkCreate => networks::create(call).await,
        Endpoint::NetworkPrune => networks::prune(&call).await,
        Endpoint::NetworkConnect => networks::connect(call).await,
        Endpoint::NetworkDisconnect => networks::disconnect(call).await,
        Endpoint::NetworkInspect => networks::inspect(&call).await,
        Endpoint::NetworkRemove => networks::remove(&call).await,

        Endpoint::VolumeList => volumes::list(&call).await,
        Endpoint::VolumeCreate => volumes::create(call).await,
        Endpoint::VolumePrune => volumes::prune(&call).await,
        Endpoint::VolumeInspect => volumes::inspect(&call).await,
        Endpoint::VolumeUpdate => volumes::update(&call),
        Endpoint::VolumeRemove => volumes::remove(&call).await,
    }
}
