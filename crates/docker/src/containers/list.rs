//! The list of containers.

use std::{collections::BTreeMap, sync::Arc};

use base::{ContainerId, clock::Timestamp};
use engine::{Container, Summary};

use crate::{
    call::Call,
    error::ApiError,
    reply::{self, Answer},
    shape::listed::Listed,
    spec::selection::{KINDS, Selection, SelectionError},
};

/// `GET /containers/json`.
pub(crate) async fn list(call: &Call) -> Answer {
    let selection = selection(call)?;
    let containers = call.engine().list();
    let summaries = containers.iter().map(|container| Summary::from(&**container)).collect();
    let picked = selection.pick(summaries)?;
    let sizes = match call.query.flag("size") {
        true => {
            let ids: Vec<_> = picked.iter().map(|one| one.id.to_string()).collect();
            call.engine().container_sizes(&ids).await?
        }
        false => Vec::new(),
    };
    let by_id: BTreeMap<&ContainerId, &Arc<Container>> =
        containers.iter().map(|container| (&container.id, container)).collect();
    let now = Timestamp::now();
    let shapes = picked.into_iter().filter_map(|summary| {
        let size = sizes.iter().find(|size| size.id == summary.id);
        let container = by_id.get(&summary.id)?;
        Some(Listed::of(container, summary, size, now))
    });
    reply::json(&shapes.collect::<Vec<_>>())
}

/// `all`, `limit` and `filters`.
fn selection(call: &Call) -> Result<Selection, ApiError> {
    let limit = call.query.number::<i64>("limit")?;
    let last = limit.and_then(|limit| usize::try_from(limit).ok()).filter(|last| *last > 0);
    let filters = call.query.filters()?;
    filters.only(&KINDS)?;
    let mut selection = Selection::new(call.query.flag("all"), last);
    for kind in KINDS {
        for value in filters.of(kind) {
            selection.add(kind, value)?;
        }
    }
    Ok(selection)
}

impl From<SelectionError> for ApiError {
    fn from(error: SelectionError) -> ApiError {
        match error {
            SelectionError::Invalid { .. } => ApiError::bad(error.to_string()),
            SelectionError::NoSuchContainer(_) => ApiError::missing(error.to_string()),
        }
    }
}
