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
    let body = body::parts(stream, move |mut stream| async move {
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

/// Docker's `Message`, with the fields of before 1.22 for clients that still read them. Docker
/// leaves them out from 1.52 on, and breaks what asks for the newest version and reads them, as
/// docker-compose 1.29 does.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<EventQuery, ApiError> {
        query(&Query::parse(text), Timestamp(100_000_000_000))
    }

    fn filtered(filters: &str) -> Result<EventFilter, ApiError> {
        let mut text = form_urlencoded::Serializer::new(String::new());
        read(&text.append_pair("filters", filters).finish()).map(|query| query.filter)
    }

    #[test]
    fn bounds_are_read_in_every_form() {
        let bounds = |text| read(text).map(|query| (query.since, query.until));
        assert_eq!(bounds(""), Ok((None, None)));
        assert_eq!(bounds("since=0&until=0"), Ok((None, None)));
        assert_eq!(bounds("since=10&until=20.5"), Ok((Some(10_000_000_000), Some(20_500_000_000))));
        assert_eq!(bounds("since=1m"), Ok((Some(40_000_000_000), None)));
        let date = "since=1970-01-01T00:00:05Z";
        assert_eq!(bounds(date), Ok((Some(5_000_000_000), None)));
        assert_eq!(
            read("since=20&until=10").unwrap_err().message,
            "`since` time cannot be after `until` time"
        );
        assert_eq!(read("since=soon").unwrap_err().status.as_u16(), 400);
    }

    #[test]
    fn every_filter_of_dockers_is_known() {
        for name in FILTERS {
            let value = if name == "scope" { "local" } else { "x" };
            let filter = filtered(&format!(r#"{{"{name}":{{"{value}":true}}}}"#));
            assert_ne!(filter.unwrap(), EventFilter::default(), "{name} makes a difference");
        }
        assert!(filtered(r#"{"service":["x"]}"#).unwrap().of_nothing);
        assert_eq!(filtered(r#"{"size":["x"]}"#).unwrap_err().message, "invalid filter 'size'");
        assert_eq!(filtered(r#"{"scope":["x"]}"#).unwrap_err().status.as_u16(), 400);
        let label = filtered(r#"{"label":["a=b=c"]}"#).unwrap().labels.remove(0);
        assert_eq!((label.name.as_str(), label.value.as_deref()), ("a", Some("b=c")));
    }

    #[test]
    fn an_event_is_told_with_the_fields_that_older_clients_read() {
        let event = Event {
            at: Timestamp(1_500_000_001),
            kind: EventKind::Container,
            action: "die".to_owned(),
            actor: "c0".to_owned(),
            attributes: [("image".to_owned(), "demo".to_owned())].into(),
        };
        let told = shape(&event);
        assert_eq!((&told["time"], &told["timeNano"]), (&json!(1), &json!(1_500_000_001)));
        assert_eq!((&told["status"], &told["id"]), (&json!("die"), &json!("c0")));
        assert_eq!(told["from"], json!("demo"));
        let volume = Event { kind: EventKind::Volume, ..event };
        assert_eq!(shape(&volume).get("status"), None);
    }
}
