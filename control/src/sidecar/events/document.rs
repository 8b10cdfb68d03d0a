//! What the metadata service says is planned: the document, read with suspicion.
//!
//! A document is taken whole or not at all: one that was not understood must not look like one without events.

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use serde::{Deserialize, Serialize};

/// What happens to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// It is deleted, as when the scale set shrinks: 5 to 15 minutes' notice, as the scale set's model says.
    Terminate,
    /// It is a spot machine and is taken away: 30 seconds' notice.
    Preempt,
    /// It is restarted: 15 minutes' notice.
    Reboot,
    /// It is moved to another host: 10 minutes' notice.
    Redeploy,
    /// It stands still for some seconds: 15 minutes' notice.
    Freeze,
    /// What this program does not know. Never drains.
    #[serde(skip_deserializing)]
    Other,
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Terminate,
        Self::Preempt,
        Self::Reboot,
        Self::Redeploy,
        Self::Freeze,
        Self::Other,
    ];

    /// Those that end connections.
    pub const DRAINING: [Self; 4] = [Self::Terminate, Self::Preempt, Self::Reboot, Self::Redeploy];

    /// The word in log and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Terminate => "terminate",
            Self::Preempt => "preempt",
            Self::Reboot => "reboot",
            Self::Redeploy => "redeploy",
            Self::Freeze => "freeze",
            Self::Other => "other",
        }
    }

    fn of(word: &str) -> Self {
        let known = Self::ALL.into_iter();
        let mut known = known.filter(|kind| kind.label().eq_ignore_ascii_case(word));
        known.next().unwrap_or(Self::Other)
    }
}

/// An event that is planned or has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// Unique, and what it is acknowledged by.
    pub(super) id: String,
    pub(super) kind: EventKind,
    /// The names of the machines that it is about.
    pub(super) machines: Vec<String>,
    /// When it may begin at the earliest. `None`: it has begun.
    pub(super) not_before: Option<Timestamp>,
    /// Why, in Azure's words, cut short.
    pub(super) description: String,
}

impl Event {
    /// Whether it is about the machine of this name. Names in Azure ignore case.
    pub(super) fn names(&self, machine: &str) -> bool {
        let mut machines = self.machines.iter();
        machines.any(|name| name.eq_ignore_ascii_case(machine))
    }

    /// Whether it is about other machines, too.
    pub(super) fn names_others(&self) -> bool {
        self.machines.len() > 1
    }
}

/// Why a document is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum DocumentError {
    #[error("it is not the JSON that it should be")]
    Json(#[from] serde_json::Error),
    #[error("it has {0} events, more than {EVENTS_MAX}")]
    TooMany(usize),
    #[error("an event's id has {0} bytes, not 1 to {ID_BYTES_MAX}")]
    Id(usize),
    #[error("an event's status is `{0}`, neither Scheduled nor Started")]
    Status(String),
    #[error("an event is not before `{text}`")]
    NotBefore { text: String, source: jiff::Error },
}

/// As it is sent (api-version 2020-07-01).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    /// Grows with each change. What has none is no such document.
    #[serde(rename = "DocumentIncarnation")]
    _incarnation: i64,
    events: Vec<Listed>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    event_id: String,
    event_type: String,
    resources: Vec<String>,
    event_status: String,
    #[serde(default)]
    not_before: String,
    #[serde(default)]
    description: String,
}

/// Reads the events of a document.
pub(super) fn parse(text: &[u8]) -> Result<Vec<Event>, DocumentError> {
    let document: Document = serde_json::from_slice(text)?;
    let count = document.events.len();
    if count > EVENTS_MAX {
        return Err(DocumentError::TooMany(count));
    }
    document.events.into_iter().map(event).collect()
}

fn event(listed: Listed) -> Result<Event, DocumentError> {
    if !(1..=ID_BYTES_MAX).contains(&listed.event_id.len()) {
        return Err(DocumentError::Id(listed.event_id.len()));
    }
    let not_before = match listed.event_status.as_str() {
        "Started" => None,
        // "Will be blank after the event starts", whatever the status still says.
        "Scheduled" if listed.not_before.is_empty() => None,
        "Scheduled" => Some(time(&listed.not_before)?),
        other => return Err(DocumentError::Status(short(other))),
    };
    Ok(Event {
        id: listed.event_id,
        kind: EventKind::of(&listed.event_type),
        machines: listed.resources,
        not_before,
        description: short(&listed.description),
    })
}

/// "Mon, 19 Sep 2016 18:29:47 GMT".
fn time(text: &str) -> Result<Timestamp, DocumentError> {
    // The weekday of an example in the documentation is wrong; the date is what counts.
    let parser = DateTimeParser::new().relaxed_weekday(true);
    let parsed = parser.parse_timestamp(text);
    parsed.map_err(|source| DocumentError::NotBefore {
        text: short(text),
        source,
    })
}

fn short(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

// Limit: events are of one placement group, whose machines are some hundreds.
const EVENTS_MAX: usize = 1000;
// Limit: they are UUIDs.
const ID_BYTES_MAX: usize = 128;
// Limit: what is logged of a text that is not ours.
const TEXT_CHARS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn document(event: &str) -> String {
        format!(r#"{{"DocumentIncarnation":2,"Events":[{event}]}}"#)
    }

    fn refused(text: &str) -> String {
        postern_chassis::whole(&parse(text.as_bytes()).unwrap_err())
    }

    /// As in the documentation, with more than we read, and a weekday that is not that of the date.
    const FREEZE: &str = r#"{"EventId":"C7061BAC","EventStatus":"Scheduled","EventType":"Freeze",
        "ResourceType":"VirtualMachine","Resources":["WestNO_0","WestNO_1"],"NotBefore":"Mon, 11 Apr 2026 22:26:58 GMT",
        "Description":"Virtual machine is being paused.","EventSource":"Platform","DurationInSeconds":5}"#;

    #[test]
    fn a_document_is_read_as_the_service_writes_it() {
        assert_eq!(parse(document("").as_bytes()).unwrap(), []);
        let events = parse(document(FREEZE).as_bytes()).unwrap();
        let [event] = events.as_slice() else {
            panic!("{events:?}")
        };
        assert_eq!(
            (event.id.as_str(), event.kind),
            ("C7061BAC", EventKind::Freeze)
        );
        assert_eq!(
            event.not_before,
            Some("2026-04-11T22:26:58Z".parse().unwrap())
        );
        assert!(event.names("westno_1") && !event.names("WestNO_2") && event.names_others());
    }

    #[test]
    fn what_has_begun_has_no_time_any_more() {
        let begun = FREEZE.replace("Mon, 11 Apr 2026 22:26:58 GMT", "");
        for text in [begun.replace("Scheduled", "Started"), begun] {
            let events = parse(document(&text).as_bytes()).unwrap();
            assert_eq!(events[0].not_before, None);
        }
        let unknown = FREEZE.replace("Freeze", "Levitate");
        let events = parse(document(&unknown).as_bytes()).unwrap();
        assert_eq!(events[0].kind, EventKind::Other);
    }

    #[test]
    fn whatever_is_something_else_is_refused_whole() {
        for text in [
            "",
            "<html>",
            "{}",
            "[]",
            r#"{"DocumentIncarnation":1}"#,
            r#"{"Events":[]}"#,
        ] {
            assert!(refused(text).starts_with("it is not the JSON"), "{text}");
        }
        let with = |old: &str, new: &str| refused(&document(&FREEZE.replace(old, new)));
        assert!(with("\"Scheduled\"", "\"Maybe\"").contains("`Maybe`"));
        assert!(with("Mon, 11 Apr 2026 22:26:58 GMT", "tomorrow").contains("`tomorrow`"));
        assert!(with("C7061BAC", "").contains("0 bytes"));
        assert!(with("C7061BAC", &"7".repeat(129)).contains("129 bytes"));
        let many = vec![FREEZE; EVENTS_MAX + 1].join(",");
        assert!(refused(&document(&many)).contains("1001 events"));
    }
}
