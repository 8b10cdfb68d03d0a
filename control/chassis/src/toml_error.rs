//! Says where in a TOML file the mistake is, and what was probably meant.
//!
//! One line of text for each mistake, in the form that editors can jump to: `FILE:LINE:COLUMN: message`.
//! Never quotes lines of the file. A message may quote the one value that is wrong: files have secrets by
//! reference only.

use std::fmt::Write as _;
use std::path::Path;

/// `FILE:LINE:COLUMN: message; did you mean …?` for an error of the `toml` crate in `text`.
///
/// The suggestion is there if the error is about an unknown key or word, and a known one is spelled like it.
pub fn describe(path: &Path, text: &str, error: &toml::de::Error) -> String {
    // An error of a visitor may carry its rendering over several lines: the first says it.
    let message = error.message().trim();
    let message = message.lines().next().unwrap_or(message);
    let message = match unknown_word(message) {
        Some((kind, given, known)) => explain_unknown(kind, given, &known),
        None => message.to_owned(),
    };
    match error.span() {
        Some(span) => at(path, text, span.start, &message),
        None => format!("{}: {message}", path.display()),
    }
}

/// `FILE:LINE:COLUMN: message` for what was found at byte `offset` of `text`.
pub fn at(path: &Path, text: &str, offset: usize, message: &str) -> String {
    let (line, column) = position(text, offset);
    format!("{}:{line}:{column}: {message}", path.display())
}

/// Line and column of byte `offset` of `text`. Both count from 1, the column in characters.
pub fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    let before = String::from_utf8_lossy(before);
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .map_or(0, |start| start.chars().count())
        + 1;
    (line, column)
}

/// The one of `known` that is spelled most like `given`, if one is near enough to be meant.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| {
            (
                strsim::jaro_winkler(&given.to_lowercase(), &name.to_lowercase()),
                name,
            )
        })
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}

/// 0 is nothing alike, 1 is equal. Finds swapped, missing and doubled letters, and refuses other words.
const LIKENESS_MIN: f64 = 0.8;

/// Reads serde's texts: "unknown field `a`, expected one of `b`, `c`" and the same with "variant".
fn unknown_word(message: &str) -> Option<(&'static str, &str, Vec<&str>)> {
    let (kind, rest) = if let Some(rest) = message.strip_prefix("unknown field ") {
        ("key", rest)
    } else {
        ("word", message.strip_prefix("unknown variant ")?)
    };
    let mut quoted = rest.split('`').skip(1).step_by(2);
    let given = quoted.next()?;
    Some((kind, given, quoted.collect()))
}

fn explain_unknown(kind: &str, given: &str, known: &[&str]) -> String {
    let mut message = format!("unknown {kind} `{given}`");
    if let Some(near) = nearest(given, known.iter().copied()) {
        let _ = write!(message, "; did you mean `{near}`?");
    } else if !known.is_empty() {
        let _ = write!(message, "; expected one of `{}`", known.join("`, `"));
    }
    message
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Outer {
        inner: Inner,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "snake_case")]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Inner {
        connect_timeout: u8,
        word: Option<Word>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Word {
        Accessible,
        Other,
    }

    fn described(text: &str) -> String {
        let error = toml::from_str::<Outer>(text).unwrap_err();
        describe(Path::new("a.toml"), text, &error)
    }

    #[test]
    fn an_unknown_key_gets_its_place_and_the_nearest_name() {
        assert_eq!(
            described("# é\n[inner]\n  connect_timeuot = 3\n"),
            "a.toml:3:3: unknown key `connect_timeuot`; did you mean `connect_timeout`?"
        );
        assert_eq!(
            described("[inner]\nzzz = 3\n"),
            "a.toml:2:1: unknown key `zzz`; expected one of `connect_timeout`, `word`"
        );
    }

    #[test]
    fn an_unknown_word_gets_its_place_and_the_nearest_word() {
        assert_eq!(
            described("inner = { connect_timeout = 1, word = \"acessible\" }"),
            "a.toml:1:39: unknown word `acessible`; did you mean `accessible`?"
        );
    }

    #[test]
    fn other_mistakes_get_their_place() {
        assert!(described("[inner]\nconnect_timeout = 300\n").starts_with("a.toml:2:19: "));
        assert!(described("[inner]\nconnect_timeout = = 3\n").starts_with("a.toml:2:19: "));
        assert_eq!(
            described("[inner]\n"),
            "a.toml:1:1: missing field `connect_timeout`"
        );
        assert_eq!(described(""), "a.toml:1:1: missing field `inner`");
    }

    #[test]
    fn the_column_counts_characters() {
        assert_eq!(at(Path::new("a"), "x\néé=1", 6, "m"), "a:2:3: m");
        assert_eq!(at(Path::new("a"), "x", 99, "m"), "a:1:2: m");
    }
}
