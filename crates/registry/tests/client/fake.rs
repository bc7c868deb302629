//! A registry whose every answer is written by the test, one for each connection.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex},
};

use base::{Digest, Reference};
use registry::{Client, Credentials, Hosts, RegistryError, Repository, digest_of};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    /// First and last byte that are asked for.
    pub(crate) fn range(&self) -> Option<(usize, Option<usize>)> {
        let (from, last) = self.headers.get("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((from.parse().ok()?, last.parse().ok()))
    }
}

type Answering = Pin<Box<dyn Future<Output = Vec<u8>> + Send>>;
type Answers = Arc<dyn Fn(Asked) -> Answering + Send + Sync>;
/// How much of a body is taken before the connection is cut.
type Cut = Arc<dyn Fn(&Asked) -> Option<usize> + Send + Sync>;

/// A registry.
pub(crate) struct Fake {
    pub(crate) port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    _task: JoinSet<()>,
}

impl Fake {
    /// One that answers so.
    pub(crate) async fn start(answers: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> Fake {
        Fake::cutting(answers, |_| None).await
    }

    /// One that answers so, and cuts off requests after so much of their bodies.
    pub(crate) async fn cutting(
        answers: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static,
        cut: impl Fn(&Asked) -> Option<usize> + Send + Sync + 'static,
    ) -> Fake {
        let answers = Arc::new(answers);
        let later = move |asked: Asked| {
            let answers = Arc::clone(&answers);
            Box::pin(async move { answers(&asked) }) as Answering
        };
        Fake::run(Arc::new(later), Arc::new(cut)).await
    }

    /// One that takes its time.
    pub(crate) async fn later<F>(answers: impl Fn(Asked) -> F + Send + Sync + 'static) -> Fake
    where
        F: Future<Output = Vec<u8>> + Send + 'static,
    {
        let later = move |asked| Box::pin(answers(asked)) as Answering;
        Fake::run(Arc::new(later), Arc::new(|_: &Asked| None)).await
    }

    async fn run(answers: Answers, cut: Cut) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("it is right");
        let port = listener.local_addr().expect("it is right").port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, mut task) = (Arc::clone(&asked), JoinSet::new());
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (answers, cut) = (Arc::clone(&answers), Arc::clone(&cut));
                connections.spawn(serve(stream, answers, cut, Arc::clone(&seen)));
            }
        });
        Fake { port, asked, _task: task }
    }

    /// Its name.
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its repository `a/b`.
    pub(crate) fn repository(&self, credentials: Option<Credentials>) -> Repository {
        Client::default().reader(&self.name(), credentials, false)
    }

    /// The same with another one before it as a mirror.
    pub(crate) fn mirrored(&self, by: &Fake, credentials: Option<Credentials>) -> Repository {
        let text = format!("[host.\"{}\"]\nmirrors = [\"http://{}\"]\n", self.host(), by.host());
        let hosts = Hosts::parse(&text).expect("it is right");
        Client::new(hosts).reader(&self.name(), credentials, false)
    }

    /// The same to write to, where blobs may be mounted from this one.
    pub(crate) fn writer(&self, source: &str) -> Repository {
        Client::default().writer(&self.name(), &[source.to_owned()], None, false)
    }

    fn name(&self) -> Reference {
        format!("{}/a/b", self.host()).parse().expect("it is right")
    }

    /// What it was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no test panics with it").clone()
    }
}

async fn serve(mut stream: TcpStream, answers: Answers, cut: Cut, seen: Arc<Mutex<Vec<Asked>>>) {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            break end + 4;
        }
        match stream.read_buf(&mut bytes).await {
            // TLS is not spoken here.
            Ok(read) if read > 0 && bytes.len() < 64 << 10 && bytes[0] != 0x16 => {}
            _ => return,
        }
    };
    let body = bytes.split_off(end);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut lines = text.lines();
    let mut first = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
    let (method, path) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    let mut asked = Asked { method, path, headers: headers.collect(), body };
    let length = asked.headers.get("content-length").and_then(|text| text.parse().ok());
    let cut = cut(&asked).filter(|_| length.is_some_and(|length: usize| length > 0));
    let wanted = cut.unwrap_or(length.unwrap_or(0));
    while asked.body.len() < wanted {
        if !stream.read_buf(&mut asked.body).await.is_ok_and(|read| read > 0) {
            return;
        }
    }
    asked.body.truncate(wanted);
    seen.lock().expect("no test panics with it").push(asked.clone());
    let answer = answers(asked).await;
    if cut.is_none() {
        stream.write_all(&answer).await.ok();
        stream.shutdown().await.ok();
    }
}

/// An answer.
pub(crate) fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// The answer to who asks for a blob, or a part of it.
pub(crate) fn part(asked: &Asked, blob: &[u8]) -> Vec<u8> {
    let Some((from, last)) = asked.range() else { return answer("200 OK", "", blob) };
    let last = last.unwrap_or(blob.len() - 1).min(blob.len() - 1);
    let range = format!("Content-Range: bytes {from}-{last}/{}\r\n", blob.len());
    answer("206 Partial Content", &range, &blob[from..=last])
}

/// Some bytes and their digest.
pub(crate) fn content(bytes: usize) -> (Vec<u8>, Digest) {
    let content: Vec<u8> =
        (0..bytes).map(|at| u8::try_from(at % 251).expect("it is right")).collect();
    let digest = digest_of(&content);
    (content, digest)
}

/// All of a blob.
pub(crate) async fn whole(
    repository: &Repository,
    digest: Digest,
    bytes: u64,
) -> Result<Vec<u8>, RegistryError> {
    let (mut all, mut download) = (Vec::new(), repository.blob(digest, bytes));
    while let Some(part) = download.next().await? {
        all.extend_from_slice(&part);
    }
    Ok(all)
}
