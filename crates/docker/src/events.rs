//! `/events`: what happens, as it happens.

use base::clock::Timestamp;
use engine::{Event, EventFilter, EventKind, EventQuery, EventScope, LabelFilter};
use serde_json::{Value, json};

use crate::{
    body::{self, Broken},
    call::Call,
    error::ApiError,
    query::{Filters, Query},
    reply::{self, Answer},
    time,
};

/// Names of filters, as Docker has them; and `isolation`.
const FILTERS: [&str; 15] = [
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "isolation",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

/// Things of which there are no events here.
const OF_NOTHING: [&str; 5] = ["config", "node", "plugin", "secret", "service"];

/// Events: those that are kept and asked for, then those to come.
pub(crate) fn events(call: &Call) -> Answer {
    let query = query(&call.query, Timestamp::now())?;
    let stream = call.engine().events(query);
    let body = body::parts(stream, |mut stream| async move {
        let part = match stream.next().await {
            Ok(Some(event)) => reply::line(&shape(&event)).map_err(Broken::from),
            Ok(None) => return None,
            Err(failure) => Err(failure.into()),
        };
        Some((part, stream))
    });
    Ok(reply::json_stream(body))
}

fn query(query: &Query, now: Timestamp) -> Result<EventQuery, ApiError> {
    let moment = |name| {
        let text = query.some(name).filter(|text| *text != "0");
        text.map(|text| time::moment(text, now).map_err(ApiError::bad)).transpose()
    };
    let (since, until) = (moment("since")?, moment("until")?);
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        return Err(ApiError::bad("`since` time cannot be after `until` time"));
    }
    Ok(EventQuery { since, until, filter: filter(&query.filters()?)? })
}

fn filter(filters: &Filters) -> Result<EventFilter, ApiError> {
    filters.only(&FILTERS)?;
    let texts = |name| filters.of(name).to_vec();
    let scope = |text: &String| match text.as_str() {
        "local" => Ok(EventScope::Local),
        "swarm" => Ok(EventScope::Swarm),
        _ => Err(ApiError::bad(format!("invalid filter 'scope={text}'"))),
    };
    let label = |text: &String| match text.split_once('=') {
        Some((name, value)) => LabelFilter { name: name.to_owned(), value: Some(value.to_owned()) },
        None => LabelFilter { name: text.clone(), value: None },
    };
    Ok(EventFilter {
        containers: texts("container"),
        images: texts("image"),
        volumes: texts("volume"),
        networks: texts("network"),
        daemons: texts("daemon"),
        actions: texts("event"),
        kinds: texts("type"),
        labels: filters.of("label").iter().map(label).collect(),
        isolations: texts("isolation"),
        scopes: filters.of("scope").iter().map(scope).collect::<Result<_, _>>()?,
        of_nothing: OF_NOTHING.iter().any(|name| !filters.of(name).is_empty()),
    })
}

/// Docker's `Message`, with the fields of before 1.22 that clients still read.
fn shape(event: &Event) -> Value {
    let mut shape = json!({
        "Type": event.kind.word(),
        "Action": event.action,
        "Actor": { "ID": event.actor, "Attributes": event.attributes },
        "scope": "local",
        "time": event.at.seconds(),
        "timeNano": event.at.0,
    });
    if matches!(event.kind, EventKind::Container | EventKind::Image) {
        shape["status"] = json!(event.action);
        shape["id"] = json!(event.actor);
        if let Some(image) = event.attributes.get("image") {
            shape["from"] = json!(image);
        }
    }
    shape
}
