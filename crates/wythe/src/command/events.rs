//! `events`: what happens, as it happens.

mod filter;

use base::clock::Timestamp;
use engine::{Event, EventKind, EventQuery};
use serde::Serialize;

use crate::{
    connect::Endpoint,
    error::CliError,
    output::{self, format::Format},
    template::{Template, Value},
    time,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter")]
    filter: Vec<String>,
    /// Format output using a custom template ('json', 'TEMPLATE')
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Show all events created since timestamp
    #[arg(long, value_name = "string")]
    since: Option<String>,
    /// Stream events until this timestamp
    #[arg(long, value_name = "string")]
    until: Option<String>,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let now = Timestamp::now();
        let moment = |text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => time::moment(text, now).map(Some).map_err(CliError::Usage),
        };
        let query = EventQuery {
            since: moment(&self.since)?,
            until: moment(&self.until)?,
            filter: filter::parse(&self.filter)?,
        };
        let form = Form::parse(self.format.as_deref())?;
        let mut client = to.connect().await?;
        client.events(query).await?;
        while let Some(event) = client.event().await? {
            output::line(&form.show(&event)?)?;
        }
        Ok(0)
    }
}

/// How an event is shown.
enum Form {
    Line,
    Json,
    Template(Template),
}

impl Form {
    fn parse(text: Option<&str>) -> Result<Form, CliError> {
        Ok(match Format::parse(text) {
            Format::Table => Form::Line,
            Format::Json => Form::Json,
            Format::TableOf(text) | Format::Template(text) => {
                Form::Template(Template::parse(&text)?)
            }
        })
    }

    fn show(&self, event: &Event) -> Result<String, CliError> {
        Ok(match self {
            Form::Line => line(event),
            Form::Json => Value::of(&Message::of(event)).json(),
            Form::Template(template) => template.render(&Value::of(&Fields::of(event)))?,
        })
    }
}

/// `TIME KIND ACTION ID (name=value, …)`.
fn line(event: &Event) -> String {
    let time = time::rfc3339_fixed(event.at);
    let attributes: Vec<String> =
        event.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let attributes = match attributes.as_slice() {
        [] => String::new(),
        some => format!(" ({})", some.join(", ")),
    };
    format!("{time} {} {} {}{attributes}", event.kind, event.action, event.actor)
}

/// An event in Docker's API, `EventMessage` with the fields of earlier versions.
#[derive(Debug, Serialize)]
struct Message<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(rename = "Type")]
    kind: &'static str,
    #[serde(rename = "Action")]
    action: &'a str,
    #[serde(rename = "Actor")]
    actor: Actor<'a>,
    scope: &'static str,
    time: u64,
    #[serde(rename = "timeNano")]
    time_nano: u64,
}

#[derive(Debug, Serialize)]
struct Actor<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    #[serde(rename = "Attributes")]
    attributes: &'a engine::Attributes,
}

impl<'a> Message<'a> {
    fn of(event: &'a Event) -> Message<'a> {
        // Only containers and images have the fields of old.
        let of_old = matches!(event.kind, EventKind::Container | EventKind::Image);
        let from = event.attributes.get("image").map(String::as_str);
        Message {
            status: of_old.then_some(event.action.as_str()),
            id: of_old.then_some(event.actor.as_str()),
            from: from.filter(|_| event.kind == EventKind::Container),
            kind: event.kind.word(),
            action: &event.action,
            actor: Actor { id: &event.actor, attributes: &event.attributes },
            scope: "local",
            time: event.at.seconds(),
            time_nano: event.at.0,
        }
    }
}

/// The same by the names that templates know.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Fields<'a> {
    status: &'a str,
    #[serde(rename = "ID")]
    id: &'a str,
    from: &'a str,
    r#type: &'static str,
    action: &'a str,
    actor: Actor<'a>,
    scope: &'static str,
    time: u64,
    time_nano: u64,
}

impl<'a> Fields<'a> {
    fn of(event: &'a Event) -> Fields<'a> {
        let Message { status, id, from, kind, action, actor, scope, time, time_nano } =
            Message::of(event);
        Fields {
            status: status.unwrap_or_default(),
            id: id.unwrap_or_default(),
            from: from.unwrap_or_default(),
            r#type: kind,
            action,
            actor,
            scope,
            time,
            time_nano,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        let pairs = [("image", "demo"), ("name", "web")];
        Event {
            at: Timestamp(1_500_000_000),
            kind: EventKind::Container,
            action: "create".to_owned(),
            actor: "c0ffee".to_owned(),
            attributes: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        }
    }

    fn shown(format: Option<&str>) -> String {
        Form::parse(format).unwrap().show(&event()).unwrap()
    }

    #[test]
    fn events_are_shown_as_docker_shows_them() {
        assert_eq!(
            shown(None),
            "1970-01-01T00:00:01.500000000Z container create c0ffee (image=demo, name=web)"
        );
        assert_eq!(
            shown(Some("json")),
            r#"{"status":"create","id":"c0ffee","from":"demo","Type":"container","Action":"create","Actor":{"ID":"c0ffee","Attributes":{"image":"demo","name":"web"}},"scope":"local","time":1,"timeNano":1500000000}"#
        );
        assert_eq!(
            shown(Some("{{.Type}} {{.Actor.Attributes.name}} {{.TimeNano}} {{.Time}} {{.ID}}")),
            "container web 1500000000 1 c0ffee"
        );
        assert_eq!(shown(Some("{{.Action}}{{.Actor.Attributes.exitCode}}")), "create");
        assert!(Form::parse(Some("{{.Akteur}}")).unwrap().show(&event()).is_err());
    }
}
