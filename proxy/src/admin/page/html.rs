//! HTML: what is the same on every page, and what keeps a value from being more than a value.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

/// A text that means nothing to HTML, as content and within a quoted attribute.
pub(super) struct Escaped<T>(pub(super) T);

impl<T: AsRef<str>> Display for Escaped<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_ref();
        while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
            f.write_str(&rest[..at])?;
            f.write_str(match rest.as_bytes()[at] {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'"' => "&quot;",
                _ => "&#39;",
            })?;
            rest = &rest[at + 1..];
        }
        f.write_str(rest)
    }
}

/// How good something is: the class of what shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Warn,
    Bad,
    Plain,
}

impl Tone {
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warn => "warn",
            Self::Bad => "bad",
            Self::Plain => "plain",
        }
    }
}

/// The head of a table. One that is `short` stays a table where the screen is narrow; others become lists.
pub(super) fn table(f: &mut Formatter<'_>, class: &str, columns: &[&str]) -> fmt::Result {
    write!(f, "<table class=\"{class}\">\n<tr>")?;
    for column in columns {
        write!(f, "<th>{column}")?;
    }
    f.write_str("\n")
}

/// One row: the column's name, which stands beside the value where the screen is narrow; the value; how good it is.
pub(super) fn row(f: &mut Formatter<'_>, cells: &[(&str, String, Tone)]) -> fmt::Result {
    f.write_str("<tr>")?;
    for (column, value, tone) in cells {
        let class = tone.class();
        write!(
            f,
            "<td data-of=\"{column}\"><span class={class}>{}</span>",
            Escaped(value)
        )?;
    }
    f.write_str("\n")
}

/// One fact: its name, what it is, and what more there is to it, which is HTML already.
pub(super) fn fact(
    f: &mut Formatter<'_>,
    name: &str,
    value: &str,
    tone: Tone,
    more: &str,
) -> fmt::Result {
    let class = tone.class();
    writeln!(
        f,
        "<div><dt>{name}<dd><span class={class}>{}</span>{more}</div>",
        Escaped(value)
    )
}

/// A line below a fact.
pub(super) fn more(text: &str) -> String {
    format!("<small class=line>{}</small>", Escaped(text))
}

/// How much of a bound is used.
pub(super) fn meter(value: u64, max: u64) -> String {
    let (low, high) = (max / 10 * 6, max / 10 * 8);
    format!(
        " <small>of {}</small><meter min=0 low={low} high={high} max={max} optimum=0 value={value}>{value} of {max}</meter>",
        grouped(max)
    )
}

/// A length of time in its two greatest units.
pub(super) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 if seconds.is_multiple_of(60) || minutes >= 10 => format!("{minutes} min"),
        60..3600 => format!("{minutes} min {} s", seconds % 60),
        3600..86_400 if minutes.is_multiple_of(60) => format!("{hours} h"),
        3600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// A number with commas between its thousands.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Up to the title.
pub(super) const HEAD: &str = "<!doctype html>
<html lang=en>
<meta charset=utf-8>
<meta name=viewport content=\"width=device-width, initial-scale=1\">
";

/// Light and dark as the reader has it; a column on a telephone.
pub(super) const STYLE: &str = "<style>
:root { color-scheme: light dark; --ink: #1c2024; --dim: #60666d; --line: #d9dde1; --card: #f6f7f8; --page: #fff;
  --good: #0a6b2d; --good-page: #e4f5e9; --warn: #7a4b00; --warn-page: #fff1cf; --bad: #a01212; --bad-page: #fde4e4 }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7ea; --dim: #9aa2aa; --line: #343a40; --card: #1d2125;
  --page: #14171a; --good: #6fd08c; --good-page: #12301d; --warn: #f2c265; --warn-page: #3a2c0c; --bad: #ff9a9a;
  --bad-page: #431717 } }
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 70rem; color: var(--ink);
  background: var(--page) }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 } h2 { font-size: 1.05rem; margin: 1.8rem 0 .5rem }
a { color: inherit } small, dt, th { color: var(--dim) } small { font-size: .85rem } small.line { display: block }
.state, .note { padding: .8rem 1rem; border-radius: .5rem; margin: 0 0 .8rem } .state p, .note p { margin: .3rem 0 0 }
.state ul { margin: .4rem 0 0; padding-left: 1.2rem } .state progress { width: 100%; margin-top: .5rem }
pre { margin: .4rem 0 0; white-space: pre-wrap; overflow-wrap: anywhere }
.state.good, .note.good { background: var(--good-page) } .state.warn, .note.warn { background: var(--warn-page) }
.state.bad, .note.bad { background: var(--bad-page) }
.good { color: var(--good) } .warn { color: var(--warn) } .bad { color: var(--bad) }
span.warn, span.bad { font-weight: 600 }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(12rem, 1fr)); gap: .6rem; margin: 0 }
dl div { background: var(--card); border-radius: .5rem; padding: .6rem .8rem } dt { font-size: .85rem }
dd { margin: 0; font-size: 1.1rem; overflow-wrap: anywhere } meter { display: block; width: 100%; height: .7rem }
table { border-collapse: collapse; width: 100% } tr { border-bottom: 1px solid var(--line) }
th, td { text-align: left; padding: .35rem 1rem .35rem 0; vertical-align: top; overflow-wrap: anywhere }
th { font-weight: 400; font-size: .85rem } ul.more { columns: 2; padding-left: 1.2rem; margin: 0 }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr 1fr } ul.more { columns: 1 }
  .short :is(th, td) { padding-right: .5rem; overflow-wrap: normal }
  table:not(.short) { & th { display: none } & tr { display: block; padding: .4rem 0 } & tr:first-child { padding: 0 }
    & td { display: flex; padding: .1rem 0 } & td:has(span:empty) { display: none } & td span { min-width: 0 }
    & td::before { content: attr(data-of); color: var(--dim); flex: 0 0 6.5rem } } }
</style>
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_and_numbers_are_for_people() {
        for (seconds, expected) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (125, "2 min 5 s"),
            (1500, "25 min"),
            (3600, "1 h"),
            (3660, "1 h 1 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), expected);
        }
        assert_eq!(
            ["7", "999", "1,000", "100,000", "1,234,567"],
            [7, 999, 1000, 100_000, 1_234_567]
                .map(grouped)
                .each_ref()
                .map(String::as_str)
        );
    }

    #[test]
    fn what_means_something_to_html_does_not_any_more() {
        let text = Escaped("<a href=\"x\" id='y'>&").to_string();
        assert_eq!(text, "&lt;a href=&quot;x&quot; id=&#39;y&#39;&gt;&amp;");
    }
}
