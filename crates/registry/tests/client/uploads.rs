//! Uploads to registries that break off, forget, and have limits.

use std::{
    io::Write as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use registry::{Pushed, RegistryError, Source};

use crate::fake::{Asked, Fake, answer, content};

/// Long enough to go in parts.
const BYTES: usize = 6 << 20;

/// What a registry has of an upload.
#[derive(Default)]
struct Here {
    bytes: Vec<u8>,
    whole: bool,
}

impl Here {
    /// Answers as a registry does.
    fn answer(&mut self, asked: &Asked) -> Vec<u8> {
        let place = format!(
            "Location: /v2/a/b/blobs/uploads/1?state={}\r\nRange: 0-{}\r\n",
            self.bytes.len(),
            self.bytes.len().saturating_sub(1)
        );
        match asked.method.as_str() {
            "HEAD" if self.whole => answer("200 OK", "", b""),
            "HEAD" => answer("404 Not Found", "", b""),
            "POST" => {
                self.bytes.clear();
                answer("202 Accepted", &place, b"")
            }
            "PATCH" => {
                let range = &asked.headers["content-range"];
                let from = range.split_once('-').and_then(|(from, _)| from.parse().ok());
                let from: usize = from.expect("it is a range");
                if from != self.bytes.len() {
                    return answer("416 Range Not Satisfiable", &place, b"");
                }
                self.bytes.extend_from_slice(&asked.body);
                let length = self.bytes.len();
                let place = format!(
                    "Location: /v2/a/b/blobs/uploads/1?state={length}\r\nRange: 0-{}\r\n",
                    length - 1
                );
                answer("202 Accepted", &place, b"")
            }
            "PUT" => {
                self.bytes.extend_from_slice(&asked.body);
                self.whole = true;
                answer("201 Created", "", b"")
            }
            "GET" => answer("204 No Content", &place, b""),
            other => panic!("{other}"),
        }
    }
}

fn source() -> (Vec<u8>, Source) {
    let (bytes, digest) = content(BYTES);
    let mut file = tempfile::tempfile().expect("there is room");
    file.write_all(&bytes).expect("there is room");
    (bytes, Source { digest, bytes: BYTES as u64, file: Arc::new(file) })
}

async fn push(fake: &Fake, source: &Source) -> Result<Pushed, RegistryError> {
    fake.writer("c/d").push_blob(source, None, Arc::new(|_| {})).await
}

fn of<'a>(asked: &'a [Asked], method: &str) -> Vec<&'a Asked> {
    asked.iter().filter(|asked| asked.method == method).collect()
}

#[tokio::test]
async fn a_part_that_is_cut_goes_on_where_the_registry_stands() {
    let (bytes, source) = source();
    let here = Arc::new(Mutex::new(Here::default()));
    let (answers, cuts) = (Arc::clone(&here), AtomicUsize::new(0));
    let fake = Fake::cutting(
        move |asked| answers.lock().unwrap().answer(asked),
        move |asked| {
            let cut = asked.method == "PATCH" && cuts.fetch_add(1, Ordering::Relaxed) < 2;
            cut.then_some(2 << 20)
        },
    );
    let fake = fake.await;
    assert_eq!(push(&fake, &source).await.unwrap(), Pushed::Sent);
    assert!(here.lock().unwrap().bytes == bytes);
    let asked = fake.asked();
    let ranges: Vec<_> =
        of(&asked, "PATCH").iter().map(|asked| asked.headers["content-range"].clone()).collect();
    let last = BYTES - 1;
    let want = [format!("0-{last}"), format!("{}-{last}", 2 << 20), format!("{}-{last}", 4 << 20)];
    assert_eq!(ranges, want);
    assert_eq!((of(&asked, "GET").len(), of(&asked, "POST").len()), (2, 1));
}

#[tokio::test]
async fn parts_are_as_short_as_the_registry_wants_them() {
    let (bytes, source) = source();
    let here = Arc::new(Mutex::new(Here::default()));
    let answers = Arc::clone(&here);
    let fake = Fake::start(move |asked| match asked.body.len() {
        0..=0x20_0000 => answers.lock().unwrap().answer(asked),
        _ => answer("413 Request Entity Too Large", "", b""),
    });
    let fake = fake.await;
    assert_eq!(push(&fake, &source).await.unwrap(), Pushed::Sent);
    assert!(here.lock().unwrap().bytes == bytes);
    // One was too long.
    assert_eq!(of(&fake.asked(), "PATCH").len(), 1 + 4);
}

#[tokio::test]
async fn a_registry_whose_limits_contradict_each_other_is_given_up() {
    let (_, source) = source();
    let fake = Fake::start(move |asked| match asked.method.as_str() {
        "HEAD" => answer("404 Not Found", "", b""),
        "POST" => {
            let headers = "Location: /v2/a/b/blobs/uploads/1\r\nOCI-Chunk-Min-Length: 5000000\r\n";
            answer("202 Accepted", headers, b"")
        }
        _ => answer("413 Request Entity Too Large", "", b""),
    });
    let fake = fake.await;
    let refused = push(&fake, &source).await.unwrap_err();
    assert!(matches!(refused, RegistryError::Status { status: 413, .. }), "{refused}");
    assert_eq!(of(&fake.asked(), "PATCH").len(), 1);
}

#[tokio::test]
async fn an_upload_that_the_registry_forgot_is_begun_anew() {
    let (bytes, source) = source();
    let here = Arc::new(Mutex::new(Here::default()));
    let (answers, forgets) = (Arc::clone(&here), AtomicUsize::new(0));
    let fake = Fake::start(move |asked| {
        if asked.method == "PATCH" && forgets.fetch_add(1, Ordering::Relaxed) == 0 {
            return answer(
                "404 Not Found",
                "",
                b"{\"errors\":[{\"code\":\"BLOB_UPLOAD_UNKNOWN\"}]}",
            );
        }
        answers.lock().unwrap().answer(asked)
    });
    let fake = fake.await;
    assert_eq!(push(&fake, &source).await.unwrap(), Pushed::Sent);
    assert!(here.lock().unwrap().bytes == bytes);
    assert_eq!(of(&fake.asked(), "POST").len(), 2);
}

#[tokio::test]
async fn a_last_answer_that_is_lost_loses_nothing() {
    let (_, source) = source();
    let here = Arc::new(Mutex::new(Here::default()));
    let answers = Arc::clone(&here);
    let fake = Fake::start(move |asked| {
        let answer = answers.lock().unwrap().answer(asked);
        // It is done, and nobody hears of it.
        if asked.method == "PUT" { Vec::new() } else { answer }
    });
    let fake = fake.await;
    assert_eq!(push(&fake, &source).await.unwrap(), Pushed::Sent);
    assert_eq!(of(&fake.asked(), "PUT").len(), 1);
}

#[tokio::test]
async fn a_blob_is_mounted_where_the_registry_lets_us_and_else_sent() {
    let (bytes, source) = source();
    for mounts in [true, false] {
        let here = Arc::new(Mutex::new(Here::default()));
        let answers = Arc::clone(&here);
        let fake = Fake::start(move |asked| {
            let mount = asked.path.contains("mount=sha256:") && asked.path.contains("&from=c/d");
            match asked.method.as_str() {
                "POST" if mount && mounts => answer("201 Created", "", b""),
                _ => answers.lock().unwrap().answer(asked),
            }
        });
        let fake = fake.await;
        let repository = fake.writer("c/d");
        let pushed = repository.push_blob(&source, Some("c/d"), Arc::new(|_| {})).await.unwrap();
        match mounts {
            true => {
                assert_eq!(pushed, Pushed::Mounted { from: "c/d".to_owned() });
                assert!(of(&fake.asked(), "PATCH").is_empty());
            }
            false => {
                assert_eq!(pushed, Pushed::Sent);
                assert!(here.lock().unwrap().bytes == bytes);
            }
        }
    }
}
