//! Documents read as written, within limits.

use super::*;

fn digest(byte: u8) -> String {
    Digest::from_sha256([byte; 32]).to_string()
}

#[test]
fn a_manifest_of_docker_and_one_without_media_type_are_read() {
    for media in [r#""mediaType":"application/vnd.docker.distribution.manifest.v2+json","#, ""] {
        let text = format!(
            r#"{{"schemaVersion":2,{media}"config":{{"mediaType":"c","digest":"{}","size":3}},"layers":null}}"#,
            digest(1)
        );
        let Document::Manifest(manifest) = document(text.as_bytes()).unwrap() else {
            panic!("a manifest")
        };
        assert_eq!((manifest.config.size, manifest.layers.len()), (3, 0));
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let text = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{}","size":3}},"manifests":[]}}"#,
        digest(1)
    );
    assert!(matches!(document(text.as_bytes()), Err(DocumentError::Ambiguous)));
    let typed = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","manifests":[]}"#;
    assert!(matches!(document(typed.as_bytes()), Err(DocumentError::MediaType(_))));
}

#[test]
fn schema_1_other_digests_and_nonsense_are_refused() {
    assert!(matches!(document(br#"{"schemaVersion":1}"#), Err(DocumentError::Version(1))));
    assert!(matches!(document(b"[]"), Err(DocumentError::Json { .. })));
    let sha512 =
        r#"{"schemaVersion":2,"manifests":[{"mediaType":"m","digest":"sha512:00","size":1}]}"#;
    assert!(matches!(document(sha512.as_bytes()), Err(DocumentError::Json { .. })));
    let deep = format!(r#"{{"schemaVersion":2,"manifests":{}"#, "[".repeat(100_000));
    assert!(document(deep.as_bytes()).is_err());
}

#[test]
fn documents_have_limits() {
    let long = vec![b' '; usize::try_from(DOCUMENT_BYTES_MAX).unwrap() + 1];
    assert!(matches!(document(&long), Err(DocumentError::Long)));
    let entry = format!(r#"{{"mediaType":"m","digest":"{}","size":1}}"#, digest(1));
    let many = vec![entry; INDEX_ENTRIES_MAX + 1].join(",");
    let text = format!(r#"{{"schemaVersion":2,"manifests":[{many}]}}"#);
    assert!(matches!(document(text.as_bytes()), Err(DocumentError::Many { .. })));
}

#[test]
fn a_docker_configuration_keeps_what_oci_has_no_word_for() {
    let text = format!(
        r#"{{"architecture":"arm64","variant":"v8","os":"linux","container_config":{{"Hostname":"x"}},
            "config":{{"Hostname":"","User":"","Env":["A=b"],"Cmd":null,"Entrypoint":["/x"],"Volumes":{{"/d":{{}}}},
            "Labels":null,"Healthcheck":{{"Test":["CMD","true"],"Interval":1000000000}},"OnBuild":["RUN x"]}},
            "rootfs":{{"type":"layers","diff_ids":["{}"]}},"history":null}}"#,
        digest(2)
    );
    let config = image_config(text.as_bytes()).unwrap();
    assert_eq!(config.platform().to_string(), "linux/arm64");
    let inner = config.config.unwrap();
    assert_eq!(inner.cmd, None);
    assert_eq!(inner.on_build.as_deref(), Some(&["RUN x".to_owned()][..]));
    assert_eq!(inner.healthcheck.unwrap().interval, 1_000_000_000);
    assert!(inner.volumes.unwrap().contains_key("/d"));
}
