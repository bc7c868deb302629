//! The client's side of what is asked of networks.

use engine::{EndpointRequest, NetworkCreate, NetworkInfo, Prune};

use super::{Client, ClientError};
use crate::{NetworkReply, NetworkRequest, Reply, Request};

impl Client {
    async fn network_call(
        &mut self,
        request: NetworkRequest,
    ) -> Result<Vec<NetworkReply>, ClientError> {
        self.ask(&Request::Network(Box::new(request)), &[]).await?;
        let mut replies = Vec::new();
        let mut reply = self.hear().await?;
        while let Reply::Network(one) = reply {
            replies.push(one);
            reply = self.hear().await?;
        }
        if reply == Reply::Done { Ok(replies) } else { Err(ClientError::Unexpected) }
    }

    async fn network_done(&mut self, request: NetworkRequest) -> Result<(), ClientError> {
        let replies = self.network_call(request).await?;
        if replies.is_empty() { Ok(()) } else { Err(ClientError::Unexpected) }
    }

    async fn network_one(&mut self, request: NetworkRequest) -> Result<NetworkInfo, ClientError> {
        match self.network_call(request).await?.pop() {
            Some(NetworkReply::Network(info)) => Ok(*info),
            Some(NetworkReply::Pruned(_)) | None => Err(ClientError::Unexpected),
        }
    }

    /// Makes a network.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn network_create(
        &mut self,
        create: NetworkCreate,
    ) -> Result<NetworkInfo, ClientError> {
        self.network_one(NetworkRequest::Create(create)).await
    }

    /// Every network, by name.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn networks(&mut self) -> Result<Vec<NetworkInfo>, ClientError> {
        let replies = self.network_call(NetworkRequest::List).await?.into_iter();
        let info = |reply| match reply {
            NetworkReply::Network(info) => Ok(*info),
            NetworkReply::Pruned(_) => Err(ClientError::Unexpected),
        };
        replies.map(info).collect()
    }

    /// One network.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn network_inspect(&mut self, network: &str) -> Result<NetworkInfo, ClientError> {
        self.network_one(NetworkRequest::Inspect { network: network.to_owned() }).await
    }

    /// Removes a network.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn network_remove(&mut self, network: &str) -> Result<(), ClientError> {
        self.network_done(NetworkRequest::Remove { network: network.to_owned() }).await
    }

    /// Removes networks that no container has; their names.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn network_prune(&mut self, prune: Prune) -> Result<Vec<String>, ClientError> {
        match self.network_call(NetworkRequest::Prune(prune)).await?.pop() {
            Some(NetworkReply::Pruned(names)) => Ok(names),
            Some(NetworkReply::Network(_)) | None => Err(ClientError::Unexpected),
        }
    }

    /// Plugs a container into a network.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn network_connect(
        &mut self,
        network: &str,
        who: &str,
        endpoint: EndpointRequest,
    ) -> Result<(), ClientError> {
        let (network, who) = (network.to_owned(), who.to_owned());
        self.network_done(NetworkRequest::Connect { network, who, endpoint }).await
    }

    /// Takes a container out of a network.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn network_disconnect(
        &mut self,
        network: &str,
        who: &str,
    ) -> Result<(), ClientError> {
        let (network, who) = (network.to_owned(), who.to_owned());
        self.network_done(NetworkRequest::Disconnect { network, who }).await
    }
}
