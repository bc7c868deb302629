//! Several hosts for one registry, and who gets to see what proves who we are.

use registry::{Credentials, RegistryError, digest_of};

use crate::fake::{Fake, answer, content, part, whole};

fn me() -> Credentials {
    Credentials::Basic { username: "me".into(), password: "s3cret".into() }
}

#[tokio::test]
async fn a_document_that_a_mirror_has_not_right_comes_from_the_registry() {
    let (right, digest) = content(1000);
    let wrong = vec![7; 1000];
    for lie in [wrong, vec![7; 10], Vec::new()] {
        let (served, told) = (right.clone(), lie.len());
        let mirror = Fake::start(move |_| answer("200 OK", "", &lie)).await;
        let registry = Fake::start(move |_| answer("200 OK", "", &served)).await;
        let repository = registry.mirrored(&mirror, None);
        let came = repository.document(digest, 1000, 4096).await.unwrap();
        assert!(came == right, "{told}");
        assert_eq!(mirror.asked().len(), 1, "{told}");
        // It is not asked a second time, if its bytes were wrong.
        repository.document(digest, 1000, 4096).await.unwrap();
        assert_eq!(mirror.asked().len(), if told == 1000 { 1 } else { 2 }, "{told}");
    }
}

#[tokio::test]
async fn when_all_lie_the_last_ones_lie_is_told() {
    let (_, digest) = content(1000);
    let lie = |byte| move |_: &_| answer("200 OK", "", &[byte; 1000]);
    let (mirror, registry) = (Fake::start(lie(1)).await, Fake::start(lie(2)).await);
    let refused = registry.mirrored(&mirror, None).document(digest, 1000, 4096).await.unwrap_err();
    let RegistryError::Digest { host, wanted, found } = refused else { panic!("{refused}") };
    assert_eq!((host, wanted, found), (registry.host(), digest, digest_of(&[2; 1000])));
}

#[tokio::test]
async fn a_blob_whose_mirror_breaks_off_for_good_comes_from_the_registry() {
    let (bytes, digest) = content(1000);
    let (half, served) = (bytes.clone(), bytes.clone());
    // Nothing comes after the first half, however often it is asked.
    let mirror = Fake::start(move |asked| match asked.range() {
        None => [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", &half[..500]].concat(),
        Some(_) => b"HTTP/1.1 206 Partial Content\r\nContent-Length: 500\r\n\
                     Content-Range: bytes 500-999/1000\r\n\r\n"
            .to_vec(),
    });
    let mirror = mirror.await;
    let registry = Fake::start(move |asked| part(asked, &served)).await;
    let repository = registry.mirrored(&mirror, None);
    let mut download = repository.blob(digest, 1000);
    let mut came = Vec::new();
    while let Some(part) = download.next().await.unwrap() {
        came.extend_from_slice(&part);
    }
    assert!(came == bytes);
    let by: Vec<_> = download.served_by().iter().map(|at| (at.name.clone(), at.mirror)).collect();
    assert_eq!(by, [(mirror.host(), true), (registry.host(), false)]);
    assert_eq!(registry.asked()[0].range(), Some((500, None)));
    // If it was wrong, that counts as the mirror's fault.
    assert!(download.distrust());
    whole(&repository, digest, 1000).await.unwrap();
    assert_eq!(registry.asked().len(), 2);
}

#[tokio::test]
async fn credentials_are_the_registrys_and_no_mirrors() {
    let guarded = |asked: &crate::fake::Asked| match asked.headers.get("authorization") {
        Some(_) => answer("200 OK", "", b"{}"),
        None => answer("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", b""),
    };
    let (mirror, registry) = (Fake::start(guarded).await, Fake::start(guarded).await);
    let manifest = registry.mirrored(&mirror, Some(me())).manifest("latest").await.unwrap();
    assert_eq!((manifest.host, manifest.mirror), (registry.host(), false));
    let with = |fake: &Fake| {
        fake.asked().iter().filter(|asked| asked.headers.contains_key("authorization")).count()
    };
    assert_eq!((with(&mirror), with(&registry)), (0, 1));
}

#[tokio::test]
async fn an_identity_token_is_exchanged_for_another_and_goes_nowhere_else() {
    let tokens = Fake::start(|_| answer("200 OK", "", b"{\"access_token\":\"t0ken\"}")).await;
    let realm = tokens.host();
    let fake = Fake::start(move |asked| {
        let token = asked.headers.get("authorization").is_some_and(|it| it == "Bearer t0ken");
        let challenge =
            format!("WWW-Authenticate: Bearer realm=\"http://{realm}/token\",service=\"s\"\r\n");
        match token {
            true => answer("200 OK", "", b"{}"),
            false => answer("401 Unauthorized", &challenge, b""),
        }
    });
    let fake = fake.await;
    let identity = Credentials::Identity("ref?resh".into());
    fake.repository(Some(identity)).manifest("latest").await.unwrap();
    let [asked] = tokens.asked().try_into().unwrap();
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/token"));
    assert_eq!(asked.headers["content-type"], "application/x-www-form-urlencoded");
    assert!(!asked.headers.contains_key("authorization"));
    let form = String::from_utf8(asked.body).unwrap();
    let mut fields: Vec<_> = form.split('&').collect();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            "client_id=wythe",
            "grant_type=refresh%5Ftoken",
            "refresh_token=ref%3Fresh",
            "scope=repository%3Aa%2Fb%3Apull",
            "service=s",
        ]
    );
    for asked in fake.asked() {
        assert!(!format!("{asked:?}").contains("ref"), "{asked:?}");
    }
}

#[tokio::test]
async fn a_token_does_not_follow_a_redirect_of_a_piece() {
    const BYTES: usize = 17 << 20;
    let (bytes, digest) = content(BYTES);
    let store = Fake::start(move |asked| part(asked, &bytes)).await;
    let to = store.host();
    let fake = Fake::start(move |asked| match asked.headers.get("authorization") {
        Some(_) => {
            let location = format!("Location: http://{to}/store?signature=x\r\n");
            answer("307 Temporary Redirect", &location, b"")
        }
        None => answer("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", b""),
    });
    let fake = fake.await;
    let came = whole(&fake.repository(Some(me())), digest, BYTES as u64).await.unwrap();
    assert_eq!(digest_of(&came), digest);
    assert!(store.asked().len() > 1);
    for asked in store.asked() {
        assert!(!asked.headers.contains_key("authorization"), "{asked:?}");
        assert!(asked.range().is_some(), "{asked:?}");
    }
}
