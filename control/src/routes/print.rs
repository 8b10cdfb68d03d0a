//! What is shown: tables and pages for people, JSON for scripts. No colours, ever.
//!
//! Promises that a text somebody else has written cannot move the cursor, hide or reorder what stands beside it.

use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::{ContentArrangement, Table, presets};
use jiff::Timestamp;
use serde::Serialize;

use super::error::Failure;

/// Writes `text` to standard output. Nobody there any more (`| head`) is no failure.
pub(super) fn out(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Output(error)),
        _ => Ok(()),
    }
}

/// Writes `value` as JSON.
pub(super) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
    out(&(text + "\n"))
}

/// How wide lines may be: the terminal's width; `None` if nobody looks at them.
pub(super) fn width() -> Option<u16> {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    // Limit: a terminal that says nothing of itself.
    let columns = rustix::termios::tcgetwinsize(&stdout).map_or(0, |size| size.ws_col);
    Some(if columns == 0 { 80 } else { columns })
}

/// A table, with cells wrapped to fit `width`.
pub(super) fn table(header: &[&str], rows: Vec<Vec<String>>, width: Option<u16>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(header.to_vec());
    table.add_rows(rows);
    if let Some(width) = width {
        table
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(width);
    }
    // Columns stand two blanks apart, the first at the margin.
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines = table.lines().map(|line| line.trim_end().to_owned() + "\n");
    lines.collect()
}

/// How long ago it was: `45 s`, `12 min`, `3 h`, `2 d`.
pub(super) fn age(then: Option<Timestamp>, now: Timestamp) -> String {
    let Some(then) = then else {
        return String::new();
    };
    // A clock that is behind the writer's sees no future.
    let seconds = now.duration_since(then).as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Somebody else's text: what is not to be seen is written as `\u{…}`.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || is_invisible(c) {
            plain.extend(c.escape_unicode());
        } else {
            plain.push(c);
        }
    }
    plain
}

/// Characters that order, join or fill and are not seen: the Unicode Standard's "Format Controls", chapter 23, and tags.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_its_width_and_ends_no_line_with_blanks() {
        let rows = vec![
            vec![
                "clinic/images".into(),
                "a.example, b.example, c.example".into(),
                "x".into(),
            ],
            vec!["c/i".into(), String::new(), String::new()],
        ];
        let header = ["ACCOUNT", "HOSTS", "KEY"];
        assert_eq!(
            table(&header, rows.clone(), None),
            "ACCOUNT        HOSTS                            KEY\n\
             clinic/images  a.example, b.example, c.example  x\n\
             c/i\n"
        );
        let narrow = table(&header, rows, Some(40));
        assert!(narrow.lines().all(|line| line.len() <= 40), "{narrow}");
        assert!(narrow.contains("c.example"), "{narrow}");
    }

    #[test]
    fn an_age_has_one_unit() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let ages = [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3599, "59 min"),
            (3600, "1 h"),
            (172_799, "47 h"),
            (172_800, "2 d"),
            (-5, "0 s"),
        ];
        for (seconds, shown) in ages {
            let then = Timestamp::from_second(1_000_000 - seconds).unwrap();
            assert_eq!(age(Some(then), now), shown);
        }
        assert_eq!(age(None, now), "");
    }

    #[test]
    fn a_text_cannot_act_on_the_terminal() {
        assert_eq!(plain("für alle: ok"), "für alle: ok");
        assert_eq!(
            plain("a\u{1b}[2Jb\u{202e}c\u{200b}"),
            "a\\u{1b}[2Jb\\u{202e}c\\u{200b}"
        );
    }
}
