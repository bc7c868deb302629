//! Images from registries and to them.

use engine::{LoginRequest, Pulled, TransferEvent, TransferRequest};

use super::{Client, ClientError};
use crate::{Reply, Request};

impl Client {
    /// Pulls an image; `news` is called as it comes.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn pull(
        &mut self,
        pull: TransferRequest,
        news: impl FnMut(TransferEvent),
    ) -> Result<Vec<Pulled>, ClientError> {
        self.ask(&Request::Pull(Box::new(pull)), &[]).await?;
        expect!(self.transfer(news).await?, Pulled)
    }

    /// Pushes an image; `news` is called as it goes.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn push(
        &mut self,
        push: TransferRequest,
        news: impl FnMut(TransferEvent),
    ) -> Result<(), ClientError> {
        self.ask(&Request::Push(Box::new(push)), &[]).await?;
        let last = self.transfer(news).await?;
        if last == Reply::Done { Ok(()) } else { Err(ClientError::Unexpected) }
    }

    /// Asks whether a registry takes these credentials.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn login(&mut self, login: LoginRequest) -> Result<(), ClientError> {
        self.order(Request::Login(Box::new(login)), &[]).await
    }

    async fn transfer(
        &mut self,
        mut news: impl FnMut(TransferEvent),
    ) -> Result<Reply, ClientError> {
        loop {
            let reply = self.hear().await?;
            let Reply::Transfer(event) = reply else { return Ok(reply) };
            news(event);
        }
    }
}
