//! Server-sent events as they come, for whoever follows a change stream.

use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::client::{ClientError, Connection, limited};

/// An event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// What it is called.
    pub name: String,
    /// Its id, if it has one.
    pub id: Option<u64>,
    /// What it says.
    pub text: String,
}

/// A stream of events.
pub struct Events {
    status: StatusCode,
    body: Incoming,
    read: Vec<u8>,
    _connection: Connection,
}

impl Events {
    pub(super) fn new(connection: Connection, answer: Response<Incoming>) -> Self {
        Self {
            status: answer.status(),
            body: answer.into_body(),
            read: Vec::new(),
            _connection: connection,
        }
    }

    /// What the request for them was answered with.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The next event; `None` once the stream has ended.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            // An empty line ends an event (WHATWG HTML, section 9.2.6).
            if let Some(end) = self.read.windows(2).position(|pair| pair == b"\n\n") {
                let rest = self.read.split_off(end + 2);
                let event = Event::parse(&self.read);
                self.read = rest;
                return Ok(Some(event));
            }
            match limited("an event", self.body.frame()).await? {
                None => return Ok(None),
                Some(frame) => {
                    let piece = frame?.into_data().unwrap_or_default();
                    self.read.extend_from_slice(&piece);
                }
            }
        }
    }

    /// The next event with this name, whatever comes before it.
    pub async fn next_called(&mut self, name: &str) -> Result<Option<Event>, ClientError> {
        while let Some(event) = self.next().await? {
            if event.name == name {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }
}

impl Event {
    fn parse(bytes: &[u8]) -> Self {
        let mut event = Self::default();
        for line in String::from_utf8_lossy(bytes).lines() {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut event.name),
                "id" => event.id = value.parse().ok(),
                "data" => event.text.push_str(value),
                _ => {}
            }
        }
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_a_name_an_id_and_a_text() {
        let event = Event::parse(b"event: change\nid: 7\ndata: {\"a\":1}\n: comment\n\n");
        assert_eq!((event.name.as_str(), event.id), ("change", Some(7)));
        assert_eq!(event.text, "{\"a\":1}");
    }
}
