//! What is said of networks, in a part of the protocol of its own.

use engine::{EndpointRequest, NetworkCreate, NetworkInfo, Prune};
use serde::{Deserialize, Serialize};

/// What can be asked of networks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkRequest {
    /// [`NetworkReply::Network`].
    Create(NetworkCreate),
    /// Any number of [`NetworkReply::Network`], then done.
    List,
    /// [`NetworkReply::Network`].
    Inspect {
        /// Which.
        network: String,
    },
    /// Done.
    Remove {
        /// Which.
        network: String,
    },
    /// [`NetworkReply::Pruned`].
    Prune(Prune),
    /// Done.
    Connect {
        /// To which network.
        network: String,
        /// Which container.
        who: String,
        /// How.
        endpoint: EndpointRequest,
    },
    /// Done.
    Disconnect {
        /// From which network.
        network: String,
        /// Which container.
        who: String,
    },
}

/// What is answered about networks, before it is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkReply {
    /// A network.
    Network(Box<NetworkInfo>),
    /// The names of those that were removed.
    Pruned(Vec<String>),
}
