//! Registries that lie, break off, send us round, and want tokens that are not theirs.

use std::sync::Mutex;

use base::ErrorKind;
use registry::{Credentials, RegistryError, digest_of};

use crate::fake::{Fake, answer, content, whole};

#[tokio::test]
async fn a_manifest_that_is_not_what_was_asked_for_is_refused() {
    let fake = Fake::start(|_| answer("200 OK", "Content-Type: application/json\r\n", b"{}")).await;
    let wanted = digest_of(b"other");
    let refused = fake.repository(None).manifest(&wanted.to_string()).await.unwrap_err();
    assert!(matches!(refused, RegistryError::Digest { .. }), "{refused}");
    assert_eq!(refused.kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_manifest_without_end_is_read_no_further_than_the_limit() {
    let fake = Fake::start(|_| {
        let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
        [head, vec![b' '; 6 << 20]].concat()
    });
    let refused = fake.await.repository(None).manifest("latest").await.unwrap_err();
    assert!(matches!(refused, RegistryError::Long { .. }), "{refused}");
}

#[tokio::test]
async fn schema_1_is_refused_by_name() {
    let fake = Fake::start(|_| {
        let media_type =
            "Content-Type: application/vnd.docker.distribution.manifest.v1+prettyjws\r\n";
        answer("200 OK", media_type, b"{\"schemaVersion\":1}")
    });
    let refused = fake.await.repository(None).manifest("latest").await.unwrap_err();
    assert!(refused.to_string().contains("schema 1"), "{refused}");
}

#[tokio::test]
async fn a_blob_that_is_cut_everywhere_comes_whole() {
    const BYTES: usize = 60;
    let (bytes, digest) = content(BYTES);
    for ranges in [true, false] {
        let (bytes, served) = (bytes.clone(), bytes.clone());
        let cuts = Mutex::new(0);
        let fake = Fake::start(move |asked| {
            let from = asked.headers.get("range").and_then(|range| {
                range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok()
            });
            let from = from.filter(|_| ranges).unwrap_or(0);
            let rest = &served[from..];
            let head = match from {
                0 => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", rest.len()),
                from => format!(
                    "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\n\
                     Content-Range: bytes {from}-{}/{BYTES}\r\n\r\n",
                    rest.len(),
                    BYTES - 1
                ),
            };
            let mut cuts = cuts.lock().unwrap();
            *cuts += 1;
            // With ranges one byte more each time; without, one byte further.
            let length = if ranges { 1 } else { (*cuts).min(rest.len()) };
            [head.as_bytes(), &rest[..length]].concat()
        })
        .await;
        let came = whole(&fake.repository(None), digest, BYTES as u64).await.unwrap();
        assert_eq!(came, bytes, "ranges {ranges}");
    }
}

#[tokio::test]
async fn lengths_that_lie_are_found_out() {
    let (bytes, digest) = content(100);
    let long = {
        let bytes = bytes.clone();
        Fake::start(move |_| {
            [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec(), bytes.clone(), vec![0; 50]]
                .concat()
        })
        .await
    };
    let refused = whole(&long.repository(None), digest, 100).await.unwrap_err();
    assert!(matches!(refused, RegistryError::Length { wanted: 100, .. }), "{refused}");
    let told = Fake::start(move |_| answer("200 OK", "", &bytes[..40])).await;
    let refused = whole(&told.repository(None), digest, 100).await.unwrap_err();
    assert!(matches!(refused, RegistryError::Length { wanted: 100, found: 40, .. }), "{refused}");
}

#[tokio::test]
async fn redirects_are_followed_and_end() {
    let (bytes, digest) = content(100);
    let served = bytes.clone();
    let other = Fake::start(move |_| answer("200 OK", "", &served)).await;
    let port = other.port;
    let fake = Fake::start(move |asked| match asked.headers.get("authorization") {
        Some(_) => {
            // Another port is another host.
            let location = format!("Location: http://127.0.0.1:{port}/elsewhere?signature=x\r\n");
            answer("307 Temporary Redirect", &location, b"")
        }
        None => answer("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", b""),
    })
    .await;
    let credentials = Credentials::Basic { username: "me".into(), password: "s3cret".into() };
    let came = whole(&fake.repository(Some(credentials)), digest, 100).await.unwrap();
    assert_eq!(came, bytes);
    assert!(other.asked().iter().all(|asked| !asked.headers.contains_key("authorization")));
    assert_eq!(other.asked().len(), 1);
    let round =
        Fake::start(|asked| answer("302 Found", &format!("Location: {}x\r\n", asked.path), b""));
    let refused = round.await.repository(None).manifest("latest").await.unwrap_err();
    assert!(matches!(refused, RegistryError::Redirects { .. }), "{refused}");
}

#[tokio::test]
async fn a_token_is_fetched_with_the_password_and_sent_instead_of_it() {
    let fake = Fake::start(|asked| {
        let token = asked.headers.get("authorization").is_some_and(|it| it == "Bearer t0ken");
        match (asked.path.starts_with("/token?"), token) {
            (true, _) => answer("200 OK", "", b"{\"token\":\"t0ken\"}"),
            (false, true) => answer("200 OK", "", b"{}"),
            (false, false) => {
                let host = &asked.headers["host"];
                let challenge = format!(
                    "WWW-Authenticate: Bearer realm=\"http://{host}/token\",service=\"s\"\r\n"
                );
                answer("401 Unauthorized", &challenge, b"")
            }
        }
    })
    .await;
    let credentials = Credentials::Basic { username: "me".into(), password: "s3cret".into() };
    fake.repository(Some(credentials)).manifest("latest").await.unwrap();
    let asked = fake.asked();
    let token = asked.iter().find(|asked| asked.path.starts_with("/token?")).unwrap();
    assert!(token.path.contains("scope=repository%3Aa%2Fb%3Apull"), "{}", token.path);
    assert!(token.headers["authorization"].starts_with("Basic "));
    let others = asked.iter().filter(|asked| !asked.path.starts_with("/token?"));
    let with_password = others.filter(|asked| {
        asked.headers.get("authorization").is_some_and(|it| it.starts_with("Basic"))
    });
    assert_eq!(with_password.count(), 0);
    assert!(asked.iter().all(|asked| asked.method == "GET"));
}

#[tokio::test]
async fn challenges_that_make_no_sense_are_refused() {
    for challenge in ["", "Bearer", "Bearer realm=\"ftp://x\"", "Negotiate", "Bearer realm=\"x"] {
        let header = format!("WWW-Authenticate: {challenge}\r\n");
        let fake = Fake::start(move |_| answer("401 Unauthorized", &header, b"")).await;
        let refused = fake.repository(None).manifest("latest").await.unwrap_err();
        let known =
            matches!(refused, RegistryError::Challenge { .. } | RegistryError::Realm { .. });
        assert!(known, "{challenge}: {refused}");
    }
}

#[tokio::test]
async fn who_asks_too_often_waits_and_asks_again() {
    let tries = Mutex::new(0);
    let fake = Fake::start(move |_| {
        let mut tries = tries.lock().unwrap();
        *tries += 1;
        match *tries {
            1 => answer("429 Too Many Requests", "Retry-After: 0\r\n", b""),
            2 => answer("503 Service Unavailable", "", b""),
            _ => answer("200 OK", "", b"{}"),
        }
    })
    .await;
    fake.repository(None).manifest("latest").await.unwrap();
    assert_eq!(fake.asked().len(), 3);
    let never =
        Fake::start(|_| answer("429 Too Many Requests", "Retry-After: 86400\r\n", b"")).await;
    let refused = never.repository(None).manifest("latest").await.unwrap_err();
    assert!(matches!(refused, RegistryError::TooMany { .. }), "{refused}");
    assert_eq!(never.asked().len(), 1);
}
