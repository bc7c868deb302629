//! Bodies of requests.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::{
    HeaderMap,
    body::{self, Body, Frame, SizeHint},
    header::EXPECT,
};

/// Bytes of a body nobody wanted that are read all the same. Go's server reads as many.
const UNWANTED_MAX: usize = 256 << 10;

/// How long reading them may take.
const UNWANTED_WITHIN: Duration = Duration::from_secs(1);

/// The body of a request.
///
/// Clients send it after the head, and many take a connection that closes meanwhile for a broken
/// one, whatever was answered. So what is not read by the time this is dropped is read and thrown
/// away while the answer goes out: up to 256 KiB, for a second. After more than that the connection
/// closes.
pub struct Incoming {
    /// Gone when this is dropped.
    body: Option<body::Incoming>,
    /// Whether the client holds the body back until it is asked for it.
    held_back: bool,
}

impl Incoming {
    pub(crate) fn new(body: body::Incoming, headers: &HeaderMap) -> Incoming {
        Incoming { body: Some(body), held_back: headers.contains_key(EXPECT) }
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        // Who asks has been told to send.
        self.held_back = false;
        self.body.as_mut().map_or(Poll::Ready(None), |body| Pin::new(body).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else { return };
        if self.held_back || body.is_end_stream() {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(UNWANTED_WITHIN, throw_away(body)));
        }
    }
}

async fn throw_away(body: body::Incoming) {
    let mut body = Limited::new(body, UNWANTED_MAX);
    while let Some(Ok(_)) = body.frame().await {}
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("body", &self.body).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future;

    use hyper::Response;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{UnixListener, UnixStream},
    };

    use super::*;
    use crate::{Limits, Listener, full, serve};

    /// A client of a server that answers without a look at any body.
    async fn client() -> (UnixStream, tempfile::TempDir) {
        let dir = tempfile::tempdir().expect("there is room");
        let path = dir.path().join("socket");
        let listener = Listener::from(UnixListener::bind(&path).unwrap());
        let answer = |_| async { Response::new(full("no")) };
        let stop = future::pending::<()>();
        tokio::spawn(serve(listener, Limits::default(), answer, stop));
        (UnixStream::connect(path).await.unwrap(), dir)
    }

    async fn ask(client: &mut UnixStream, head: &str) -> String {
        let head = format!("POST / HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let read = client.read(&mut answer).await.unwrap();
        String::from_utf8(answer[..read].to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_body_nobody_wants_may_come_after_the_answer() {
        let (mut client, _dir) = client().await;
        for _ in 0..3 {
            let answer = ask(&mut client, "Content-Length: 8").await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            client.write_all(b"whatever").await.unwrap();
        }
        // What is held back is not asked for.
        let answer = ask(&mut client, "Expect: 100-continue\r\nContent-Length: 8").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn what_is_too_much_ends_the_connection() {
        let (mut client, _dir) = client().await;
        let answer = ask(&mut client, "Transfer-Encoding: chunked").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let chunk = [b"10000\r\n".to_vec(), vec![0; 1 << 16], b"\r\n".to_vec()].concat();
        let mut took = 0;
        while client.write_all(&chunk).await.is_ok() {
            took += 1;
            assert!(took < 100, "it reads on");
        }
        assert!(took >= UNWANTED_MAX >> 16, "{took} chunks");
    }
}
