//! An engine's error as the client is told it: with its causes, and with what would be right.

use base::chain;
use engine::{Engine, EngineError};

use crate::{Failure, closest};

/// Where images come from.
const NO_REGISTRIES: &str =
    "Images come from `wythe load`, `wythe import`, and `demo`; registries are not built yet.";

/// The failure that tells of `error`.
pub(super) fn failure(engine: &Engine, error: &EngineError) -> Failure {
    Failure { kind: error.kind(), message: chain(error), hints: hints(engine, error) }
}

fn hints(engine: &Engine, error: &EngineError) -> Vec<String> {
    let mut hints = Vec::new();
    if let EngineError::NoSuchContainer(who) = error {
        let containers = engine.list();
        let names = containers.iter().map(|container| container.name.as_str());
        hints.extend(closest(who, names).map(|name| format!("Did you mean container \"{name}\"?")));
    }
    // The image store looks for similar names itself.
    if let EngineError::NoSuchImage(image) = error
        && !image.contains("did you mean")
    {
        hints.push(NO_REGISTRIES.to_owned());
    }
    hints
}
