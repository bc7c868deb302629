//! An engine's error as the client is told it: with its causes, and with what would be right.

use std::error::Error;

use engine::{Engine, EngineError};

use crate::{Failure, closest};

/// Most images looked through for a name like the one that was mistyped.
const IMAGES_MAX: usize = 1000;

/// The failure that tells of `error`.
pub(super) async fn failure(engine: &Engine, error: &EngineError) -> Failure {
    Failure { kind: error.kind(), message: chain(error), hints: hints(engine, error).await }
}

/// The error and its causes, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

async fn hints(engine: &Engine, error: &EngineError) -> Vec<String> {
    let meant = if let EngineError::NoSuchContainer(who) = error {
        let containers = engine.list();
        let names = containers.iter().map(|container| container.name.as_str());
        closest(who, names).map(|name| format!("Did you mean container \"{name}\"?"))
    } else if let EngineError::NoSuchImage(image) = error {
        Some(like_image(engine, image).await.unwrap_or_else(|| {
            "Images come from `wythe load`, `wythe import`, and `demo`; registries are not built yet."
                .to_owned()
        }))
    } else {
        None
    };
    meant.into_iter().collect()
}

async fn like_image(engine: &Engine, image: &str) -> Option<String> {
    let images = engine.images().await.ok()?;
    let references = images.iter().take(IMAGES_MAX).flat_map(|image| &image.references);
    let names = references.map(|reference| familiar(reference));
    closest(image.strip_suffix(":latest").unwrap_or(image), names)
        .map(|name| format!("Did you mean image \"{name}\"?"))
}

/// A reference as people type it.
fn familiar(reference: &str) -> &str {
    let name = reference.strip_prefix("docker.io/").unwrap_or(reference);
    let name = name.strip_prefix("library/").unwrap_or(name);
    name.strip_suffix(":latest").unwrap_or(name)
}
