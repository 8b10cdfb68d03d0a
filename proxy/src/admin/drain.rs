//! The query of `POST /drain`.

use std::time::Duration;

use postern_chassis::period;
use serde::de::IntoDeserializer as _;
use serde::de::value::Error;

/// Reads `within=TIME`, or nothing; the error is for whoever typed it.
pub(super) fn within(query: &str) -> Result<Option<Duration>, String> {
    if query.is_empty() {
        return Ok(None);
    }
    let Some(text) = query.strip_prefix("within=") else {
        return Err(format!("there is no parameter `{query}`; {USAGE}"));
    };
    match period::deserialize(text.into_deserializer()) {
        Ok(time) => Ok(Some(time)),
        Err::<_, Error>(error) => Err(format!("within: {error}")),
    }
}

const USAGE: &str = "POST /drain?within=25s lets the whole drain take so long at most";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_and_nothing_else_is_asked_for() {
        assert_eq!(within(""), Ok(None));
        assert_eq!(within("within=25s"), Ok(Some(Duration::from_secs(25))));
        assert_eq!(within("within=0s"), Ok(Some(Duration::ZERO)));
        for wrong in [
            "within=25",
            "within=-1s",
            "within=9999h",
            "within=",
            "x=1",
            "within=1s&x=1",
        ] {
            assert!(within(wrong).is_err(), "{wrong}");
        }
    }
}
