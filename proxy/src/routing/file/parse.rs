//! From the text of a route file to its [`Table`], or to the first mistake with its place.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::path::Path;
use std::sync::Arc;

use postern_api::{CustomerKey, HostName, LinkId, LinkState, ServiceKind};
use serde::Deserialize;
use toml::Spanned;

use super::table::{Link, Table};
use crate::routing::{Account, ClusterName, RequestRate};
use postern_chassis::toml_error;

/// The table that `text` describes, or `FILE:LINE:COLUMN: message`.
pub(super) fn parse(
    path: &Path,
    text: &str,
    clusters: &BTreeSet<ClusterName>,
) -> Result<Table, String> {
    let accounts = accounts(text).map_err(|error| toml_error::describe(path, text, &error))?;
    table(accounts, clusters)
        .map_err(|mistake| toml_error::at(path, text, mistake.at, &mistake.message(text)))
}

/// All accounts of `text`, each with the place that its own places count from.
fn accounts(text: &str) -> Result<Vec<(usize, RawAccount)>, toml::de::Error> {
    if let Some(accounts) = account_by_account(text) {
        return Ok(accounts);
    }
    let file: RawFile = toml::from_str(text)?;
    Ok(file
        .accounts
        .into_iter()
        .map(|account| (0, account))
        .collect())
}

/// The same, each account read as a document of its own, since a document takes forty times its text while it
/// is read. `None` if the text cannot be cut like this, or has a mistake, whose place the whole then tells.
///
/// A cut within a string leaves a piece whose string has no end: only good text has nothing but good pieces.
fn account_by_account(text: &str) -> Option<Vec<(usize, RawAccount)>> {
    let mut starts = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if line.starts_with("[[accounts]]") {
            starts.push(at);
        } else if starts.is_empty() && !matches!(line.trim().as_bytes(), [] | [b'#', ..]) {
            return None;
        }
        at += line.len();
    }
    let ends = starts.iter().copied().skip(1).chain([text.len()]);
    let mut accounts = Vec::with_capacity(starts.len());
    for (start, end) in starts.iter().copied().zip(ends) {
        let file: RawFile = toml::from_str(&text[start..end]).ok()?;
        accounts.extend(file.accounts.into_iter().map(|account| (start, account)));
    }
    (!accounts.is_empty()).then_some(accounts)
}

/// The file. `accounts` is required, so that an empty file, as of a writer that was interrupted, is a mistake.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    accounts: Vec<RawAccount>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAccount {
    name: Spanned<String>,
    kind: ServiceKind,
    hosts: Spanned<Vec<Spanned<HostName>>>,
    cluster: Spanned<String>,
    #[serde(default)]
    customer_key: CustomerKey,
    requests_per_second: Option<RequestRate>,
    #[serde(default)]
    links: Vec<RawLink>,
}

/// A link. `state` is required: what nobody has called approved is not.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLink {
    link_id: Spanned<LinkId>,
    state: LinkState,
    requests_per_second: Option<RequestRate>,
}

/// A mistake in what the file means.
struct Mistake {
    at: usize,
    message: String,
    /// Where the other one is, if there are two of something.
    first: Option<usize>,
}

impl Mistake {
    const fn new(at: usize, message: String) -> Self {
        Self {
            at,
            message,
            first: None,
        }
    }

    fn message(&self, text: &str) -> String {
        match self.first {
            None => self.message.clone(),
            Some(first) => {
                let (line, _) = toml_error::position(text, first);
                format!("{} (the first is on line {line})", self.message)
            }
        }
    }
}

fn table(
    accounts: Vec<(usize, RawAccount)>,
    clusters: &BTreeSet<ClusterName>,
) -> Result<Table, Mistake> {
    let mut table = Table::default();
    let mut names: HashMap<Arc<str>, usize> = HashMap::new();
    let mut hosts: HashMap<HostName, usize> = HashMap::new();
    for (start, raw) in accounts {
        let at = start + raw.name.span().start;
        let name = account_name(at, raw.name.into_inner())?;
        once(&mut names, Arc::clone(&name), at, || {
            format!("two accounts are named `{name}`")
        })?;
        let cluster = cluster(start, &raw.cluster, clusters)?;
        if raw.hosts.get_ref().is_empty() {
            let message = format!("account `{name}` has no host, so that nothing can reach it");
            return Err(Mistake::new(start + raw.hosts.span().start, message));
        }
        for host in raw.hosts.get_ref() {
            let at = start + host.span().start;
            let host = host.get_ref();
            once(&mut hosts, host.clone(), at, || {
                format!("host `{host}` is there twice: a link and a host lead to one account")
            })?;
        }
        let account = Account {
            name,
            kind: raw.kind,
            cluster,
            hosts: raw
                .hosts
                .into_inner()
                .into_iter()
                .map(Spanned::into_inner)
                .collect(),
            customer_key: raw.customer_key,
            limit: raw.requests_per_second,
        };
        let links = links(start, &account, raw.links)?;
        table.insert(account, links);
    }
    Ok(table)
}

fn account_name(at: usize, name: String) -> Result<Arc<str>, Mistake> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        let message =
            format!("the name of an account has 1 to {NAME_BYTES_MAX} bytes, none of control");
        return Err(Mistake::new(at, message));
    }
    Ok(name.into())
}

// Limit: the name is in every log line of a request; Azure's own resource names have at most 260 characters.
const NAME_BYTES_MAX: usize = 260;

fn cluster(
    start: usize,
    name: &Spanned<String>,
    clusters: &BTreeSet<ClusterName>,
) -> Result<ClusterName, Mistake> {
    if let Some(known) = clusters.get(name.get_ref().as_str()) {
        return Ok(known.clone());
    }
    let mut message = format!(
        "there is no cluster `{}` in the configuration",
        name.get_ref()
    );
    let known = clusters.iter().map(ClusterName::as_str);
    if let Some(near) = toml_error::nearest(name.get_ref(), known) {
        message = format!("{message}; did you mean `{near}`?");
    }
    Err(Mistake::new(start + name.span().start, message))
}

fn links(
    start: usize,
    account: &Account,
    raw: Vec<RawLink>,
) -> Result<HashMap<LinkId, Link>, Mistake> {
    let mut links = HashMap::with_capacity(raw.len());
    let mut places = Vec::with_capacity(raw.len());
    for link in raw {
        let at = start + link.link_id.span().start;
        let id = link.link_id.into_inner();
        let value = Link {
            state: link.state,
            limit: link.requests_per_second,
        };
        if links.insert(id, value).is_some() {
            let message = format!("account `{}` has link {id} twice", account.name);
            let first = places
                .iter()
                .find(|(other, _)| *other == id)
                .map(|(_, first)| *first);
            return Err(Mistake { at, message, first });
        }
        places.push((id, at));
    }
    Ok(links)
}

/// Remembers that `key` is at `at`, unless it was somewhere else before.
fn once<K: Hash + Eq>(
    places: &mut HashMap<K, usize>,
    key: K,
    at: usize,
    message: impl FnOnce() -> String,
) -> Result<(), Mistake> {
    match places.entry(key) {
        Entry::Vacant(vacant) => {
            vacant.insert(at);
            Ok(())
        }
        Entry::Occupied(first) => Err(Mistake {
            at,
            message: message(),
            first: Some(*first.get()),
        }),
    }
}
