//! Images on their way from registries and to them: what is asked, and what is told meanwhile.

use registry::Credentials;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// What to pull, or to push.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferRequest {
    /// Which image, and at which registry.
    pub reference: String,
    /// For which platform. If none is given, the host's is pulled, and all are pushed.
    #[serde(default)]
    pub platform: Option<String>,
    /// Who asks.
    #[serde(default)]
    pub credentials: Option<Credentials>,
    /// Every tag of the repository, there or here.
    #[serde(default)]
    pub all_tags: bool,
    /// Whether the registry need not prove who it is.
    #[serde(default)]
    pub insecure: bool,
}

/// Whose credentials to try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginRequest {
    /// The registry.
    pub server: String,
    /// Who asks.
    pub credentials: Credentials,
    /// Whether the registry need not prove who it is.
    #[serde(default)]
    pub insecure: bool,
}

/// What was pulled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulled {
    /// The image's name in full.
    pub reference: String,
    /// What the registry has under that name.
    pub digest: String,
    /// Whether that is something else than was here.
    pub new: bool,
}

/// What a registry has under a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DistributionView {
    /// Media type of the manifest or index.
    pub media_type: String,
    /// Its digest.
    pub digest: String,
    /// Its length.
    pub size: u64,
    /// For which platforms: system, architecture, variant.
    pub platforms: Vec<(String, String, Option<String>)>,
}

/// What happens on the way. `id` is the beginning of a layer's digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferEvent {
    /// A tag or digest is asked for.
    Resolving {
        /// The repository, within its registry.
        repository: String,
        /// The tag or digest.
        tag: String,
    },
    /// Who serves it.
    Served {
        /// The host.
        host: String,
        /// Whether it stands in for another.
        mirror: bool,
    },
    /// Something to know, in a sentence.
    Note {
        /// The sentence.
        text: String,
    },
    /// A layer has its turn yet to come.
    Waiting {
        /// Which.
        id: String,
    },
    /// A layer is there already.
    Exists {
        /// Which.
        id: String,
    },
    /// A layer is coming.
    Downloading {
        /// Which.
        id: String,
        /// Bytes so far.
        done: u64,
        /// Bytes altogether.
        total: u64,
    },
    /// All of a layer has come.
    Downloaded {
        /// Which.
        id: String,
    },
    /// A layer has come and is still being unpacked.
    Extracting {
        /// Which.
        id: String,
        /// Bytes so far.
        done: u64,
        /// Bytes altogether.
        total: u64,
    },
    /// A layer is in place.
    Complete {
        /// Which.
        id: String,
    },
    /// An image goes to this repository.
    Refers {
        /// The repository with its registry.
        repository: String,
    },
    /// A layer is going out.
    Pushing {
        /// Which.
        id: String,
        /// Bytes so far.
        done: u64,
        /// Bytes altogether.
        total: u64,
    },
    /// A layer has gone out.
    Pushed {
        /// Which.
        id: String,
    },
    /// A layer is at the registry already.
    PushExists {
        /// Which.
        id: String,
    },
    /// A layer was in another repository.
    Mounted {
        /// Which.
        id: String,
        /// The repository.
        from: String,
    },
    /// What the registry has under the name.
    Digest {
        /// The digest.
        digest: String,
    },
    /// A tag is in place at the registry.
    Tagged {
        /// The tag.
        tag: String,
        /// What of.
        digest: String,
        /// Length of the manifest.
        size: u64,
    },
    /// What it comes to, in a sentence.
    Status {
        /// The sentence.
        text: String,
    },
}

/// Where all that is told. Who reads slowly misses numbers, nothing else.
#[derive(Clone, Debug)]
pub struct TransferNews(mpsc::Sender<TransferEvent>);

impl TransferNews {
    /// Most events that wait to be read.
    const WAITING_MAX: usize = 64;

    /// News, and where they are heard.
    pub fn channel() -> (TransferNews, mpsc::Receiver<TransferEvent>) {
        let (news, heard) = mpsc::channel(TransferNews::WAITING_MAX);
        (TransferNews(news), heard)
    }

    /// Tells what must be heard. Whoever has stopped listening is none of ours.
    pub(crate) async fn tell(&self, event: TransferEvent) {
        self.0.send(event).await.ok();
    }

    /// Tells how far it has come, if there is room.
    pub(crate) fn hint(&self, event: TransferEvent) {
        self.0.try_send(event).ok();
    }
}
