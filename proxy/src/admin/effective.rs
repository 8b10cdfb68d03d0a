//! `/config`: the configuration in force, file and environment together, as TOML.
//!
//! There is no option that holds a secret. Should one ever, or should somebody write one where it does not belong,
//! it is not shown: values under names that say secret, and values that look like one, are replaced.

use std::fmt::Write as _;

use toml::{Table, Value};

use crate::config::Config;
use crate::server::InForce;

/// The configuration as TOML, redacted, and what became of the last attempt to change it.
pub(super) fn print(in_force: &InForce) -> String {
    let history = in_force.history();
    let mut page = format!("{INTRODUCTION}# In force since {:.0}.\n", history.since);
    if let Some(refused) = history.refusal {
        // Writing to a `String` cannot fail.
        let _ = writeln!(page, "# A reload at {:.0} was refused:", refused.at);
        for line in refused.why.lines() {
            let _ = writeln!(page, "#   {line}");
        }
    }
    page.push('\n');
    page.push_str(&toml(&in_force.config()));
    page
}

fn toml(config: &Config) -> String {
    let mut table = match Table::try_from(config) {
        Ok(table) => table,
        Err(error) => return format!("# The configuration cannot be shown: {error}\n"),
    };
    redact(&mut table);
    table.to_string()
}

fn redact(table: &mut Table) {
    for (key, value) in table {
        if SECRET_NAMES.iter().any(|name| key.contains(name)) {
            *value = Value::from(REDACTED);
        } else {
            redact_value(value);
        }
    }
}

fn redact_value(value: &mut Value) {
    match value {
        Value::Table(table) => redact(table),
        Value::Array(values) => values.iter_mut().for_each(redact_value),
        Value::String(text) if looks_secret(text) => REDACTED.clone_into(text),
        _ => {}
    }
}

fn looks_secret(text: &str) -> bool {
    let credentials_in_url = text.split_once("://").is_some_and(|(_, rest)| {
        rest.split('/')
            .next()
            .is_some_and(|host| host.contains('@'))
    });
    credentials_in_url || SECRET_MARKS.iter().any(|mark| text.contains(mark))
}

const REDACTED: &str = "redacted";
const SECRET_NAMES: [&str; 6] = [
    "password",
    "passphrase",
    "secret",
    "token",
    "private_key",
    "connection_string",
];
const SECRET_MARKS: [&str; 4] = ["-----BEGIN", "AccountKey=", "sig=", "Password="];
const INTRODUCTION: &str = "\
# The configuration in force: the file with the environment on top.
# Secrets are configured by reference only. Whatever looks like one all the same is shown as \"redacted\".
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_configuration_is_shown_and_reads_back_as_itself() {
        let config = Config::default();
        let shown = toml(&config);
        assert!(
            shown.contains("[data]\n") && shown.contains("mode = \"enforce\"\n"),
            "{shown}"
        );
        assert_eq!(toml::from_str::<Config>(&shown).unwrap(), config);
        assert!(!shown.contains(REDACTED), "{shown}");
    }

    #[test]
    fn what_looks_like_a_secret_is_not_shown() {
        let mut table: Table = toml::from_str(
            r#"
            client_secret = "hunter2"
            urls = ["https://user:hunter2@vault.example/", "https://vault.example/a@b"]
            [section]
            pem = "-----BEGIN PRIVATE KEY-----hunter2"
            sas = "https://store.example/x?se=1&sig=hunter2"
            tokens = { one = "hunter2" }
            "#,
        )
        .unwrap();
        redact(&mut table);
        let shown = table.to_string();
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("https://vault.example/a@b"), "{shown}");
    }
}
