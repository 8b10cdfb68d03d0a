//! Overrides from the environment: `POSTERN_DATA__LISTEN=0.0.0.0:9443`, with two underscores between levels.
//!
//! Promises that a variable with the program's prefix either overrides exactly one option or is an error that names
//! it. Ignored are only the variables of a program with a longer prefix, such as `POSTERN_CONTROL_`, and those that
//! Kubernetes injects for services.

use std::collections::BTreeMap;

use toml::{Table, Value};

use crate::load::Root;
use crate::options::{Entry, Shape};
use crate::problems::ConfigError;
use crate::toml_error;

/// Which variable set which key.
#[derive(Debug, Default)]
pub(crate) struct Overrides(BTreeMap<String, String>);

impl Overrides {
    /// The variable that set this key.
    pub(crate) fn variable(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }
}

/// Puts the environment's overrides on top of what the file says.
pub(crate) fn apply<T: Root>(
    mut root: T,
    mut table: Table,
    env: impl Iterator<Item = (String, String)>,
) -> Result<(T, Overrides), ConfigError> {
    let mut overrides = Overrides::default();
    let mut variables: Vec<_> = env.filter(|(name, _)| is_ours::<T>(name)).collect();
    variables.sort();
    for (variable, text) in variables {
        let refuse = |what| ConfigError::Environment {
            variable: variable.clone(),
            what,
        };
        let (path, list) = find::<T>(&variable, &table).map_err(refuse)?;
        let mut refused = None;
        let mut fitting = values(&text, list)
            .map_err(refuse)?
            .into_iter()
            .map(|value| {
                insert(&mut table, &path, value);
                T::deserialize(table.clone())
            });
        let fitting =
            fitting.find_map(|read| read.map_err(|error| refused.get_or_insert(error)).ok());
        root = fitting.ok_or_else(|| {
            refuse(refused.map_or_else(String::new, |error| error.message().to_owned()))
        })?;
        overrides.0.insert(path.join("."), variable);
    }
    Ok((root, overrides))
}

fn is_ours<T: Root>(variable: &str) -> bool {
    variable.starts_with(T::PREFIX)
        && !T::OTHERS.iter().any(|other| variable.starts_with(other))
        && !is_service_link(variable)
}

/// Kubernetes gives each container `NAME_SERVICE_HOST`, `NAME_SERVICE_PORT…`, `NAME_PORT` and
/// `NAME_PORT_443_TCP…` for each service of its namespace, and a service may be called `postern` or `postern-…`.
fn is_service_link(variable: &str) -> bool {
    let port = |(_, after): (&str, &str)| {
        after.is_empty()
            || after
                .strip_prefix('_')
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    !variable.contains("__")
        && (variable.ends_with("_SERVICE_HOST")
            || variable.contains("_SERVICE_PORT")
            || variable.split_once("_PORT").is_some_and(port))
}

/// The path of the option that a variable names, and whether it is a list.
fn find<T: Root>(variable: &str, table: &Table) -> Result<(Vec<String>, bool), String> {
    let name = variable
        .strip_prefix(T::PREFIX)
        .unwrap_or_default()
        .to_ascii_lowercase();
    let Shape::Section(mut entries) = T::shape() else {
        return Err("there are no options".into());
    };
    let mut path: Vec<String> = Vec::new();
    let mut segments = name.split("__");
    while let Some(segment) = segments.next() {
        let Some(entry) = entries.iter().find(|entry| entry.key == segment) else {
            break;
        };
        path.push(segment.to_owned());
        match entry.shape.clone() {
            Shape::Value | Shape::List if segments.next().is_none() => {
                return Ok((path, matches!(entry.shape, Shape::List)));
            }
            Shape::Value | Shape::List => break,
            Shape::Section(inner) | Shape::Optional { entries: inner, .. } => entries = inner,
            Shape::Named { entries: inner, .. } => {
                let Some(chosen) = segments.next().filter(|chosen| !chosen.is_empty()) else {
                    break;
                };
                path.push(spelling(table, &path, chosen));
                entries = inner;
            }
        }
    }
    Err(unknown::<T>(variable))
}

/// A variable cannot spell `my-cluster`, so `my_cluster` stands for it if the file has one.
fn spelling(table: &Table, path: &[String], chosen: &str) -> String {
    let named = path
        .iter()
        .try_fold(table, |table, key| table.get(key)?.as_table());
    named
        .and_then(|named| {
            named
                .keys()
                .find(|key| key.to_ascii_lowercase().replace('-', "_") == chosen)
        })
        .map_or_else(|| chosen.to_owned(), Clone::clone)
}

fn unknown<T: Root>(variable: &str) -> String {
    let mut known = Vec::new();
    if let Shape::Section(entries) = T::shape() {
        names(&entries, T::PREFIX, &mut known);
    }
    match toml_error::nearest(variable, known.iter().map(String::as_str)) {
        Some(name) => format!("names no option; did you mean `{name}`?"),
        None => format!("names no option; `{} defaults` prints them all", T::PROGRAM),
    }
}

fn names(entries: &[Entry], prefix: &str, known: &mut Vec<String>) {
    for entry in entries {
        let name = format!("{prefix}{}", entry.key.to_ascii_uppercase());
        match &entry.shape {
            Shape::Value | Shape::List => known.push(name),
            Shape::Section(inner) | Shape::Optional { entries: inner, .. } => {
                names(inner, &format!("{name}__"), known);
            }
            Shape::Named { entries: inner, .. } => names(inner, &format!("{name}__NAME__"), known),
        }
    }
}

/// A list is written as in TOML, or with commas and nothing else; anything else as in the file, without quotes: what
/// it may mean, the likeliest first.
fn values(text: &str, list: bool) -> Result<Vec<Value>, String> {
    let text = text.trim();
    if list && text.starts_with('[') {
        let parsed: Result<Table, _> = format!("value = {text}").parse();
        let value = parsed.ok().and_then(|mut table| table.remove("value"));
        return value
            .map(|value| vec![value])
            .ok_or_else(|| r#"is not a list, such as ["a", "b"] or a,b"#.to_owned());
    }
    if list {
        let items = text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty());
        return Ok(vec![Value::Array(
            items.map(|item| Value::String(item.to_owned())).collect(),
        )]);
    }
    let integer = text.parse().ok().map(Value::Integer);
    let float = text.parse().ok().map(Value::Float);
    let boolean = text.parse().ok().map(Value::Boolean);
    let typed = [integer, float, boolean].into_iter().flatten();
    Ok(typed.chain([Value::String(text.to_owned())]).collect())
}

fn insert(table: &mut Table, path: &[String], value: Value) {
    let Some((last, sections)) = path.split_last() else {
        return;
    };
    let mut table = table;
    for key in sections {
        let inner = table
            .entry(key.clone())
            .or_insert_with(|| Value::Table(Table::new()));
        // The file was read before, so what stands under a section's key is a section.
        let Value::Table(inner) = inner else { return };
        table = inner;
    }
    table.insert(last.clone(), value);
}
