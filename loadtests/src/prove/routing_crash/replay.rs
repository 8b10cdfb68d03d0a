//! The change log, applied entry by entry as a proxy would, beside what a snapshot shows.

use std::collections::BTreeMap;

use postern_api::routing::{
    AccountLinks, AccountRoute, Change, ChangePage, Link, SNAPSHOT_FORMAT, SnapshotHead,
};
use postern_api::{HostName, LinkId, LinkState};
use serde::de::DeserializeOwned;

use crate::check::{Broken, expect, with_causes};
use crate::stack::operator::Operator;

/// What the log comes to so far.
#[derive(Default)]
pub(super) struct Replay {
    sequence: u64,
    accounts: Accounts,
}

type Accounts = BTreeMap<String, (AccountRoute, BTreeMap<LinkId, Link>)>;

impl Replay {
    /// The newest change that has been applied.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Applies all that a snapshot knows of, and compares.
    pub(super) async fn catch_up(&mut self, operator: &Operator) -> Result<(), Broken> {
        let (sequence, expected) = snapshot(&operator.read("/v1/snapshot").await?)?;
        while self.sequence < sequence {
            let path = format!("/v1/changes?after={}", self.sequence);
            let page: ChangePage = parse(&operator.read(&path).await?)?;
            expect(!page.changes.is_empty(), || {
                format!("nothing after {} of {sequence}", self.sequence)
            })?;
            let known = page.changes.into_iter();
            for change in known.take_while(|change| change.sequence <= sequence) {
                self.apply(change)?;
            }
        }
        expect(self.accounts == expected, || {
            let differs = |name: &&String| self.accounts.get(*name) != expected.get(*name);
            let name = self.accounts.keys().chain(expected.keys()).find(differs);
            format!("up to {sequence}, the log comes to another {name:?} than the snapshot shows")
        })
    }

    fn apply(&mut self, change: Change) -> Result<(), Broken> {
        let expected = self.sequence + 1;
        expect(change.sequence == expected, || {
            format!("change {} follows {}", change.sequence, self.sequence)
        })?;
        self.sequence = expected;
        let Some(route) = change.route else {
            self.accounts.remove(&change.account);
            return Ok(());
        };
        let account = self.accounts.entry(change.account);
        let (known, links) = account.or_insert_with(|| (route.clone(), BTreeMap::new()));
        let kept =
            |host: &HostName| route.hosts.contains(host) || change.removed_hosts.contains(host);
        expect(known.hosts.iter().all(kept), || {
            format!("change {expected} loses a host without a word")
        })?;
        *known = route;
        for link in change.links {
            if link.state == LinkState::Disconnected {
                links.remove(&link.link_id);
            } else {
                links.insert(link.link_id, link);
            }
        }
        Ok(())
    }
}

/// A snapshot's sequence, and its accounts; as many as it says.
fn snapshot(bytes: &[u8]) -> Result<(u64, Accounts), Broken> {
    let mut lines = bytes
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty());
    let head: SnapshotHead = parse(lines.next().unwrap_or_default())?;
    let mut accounts = Accounts::new();
    for line in lines {
        let AccountLinks { account, links } = parse(line)?;
        let links = links.into_iter();
        let links = links.filter(|link| link.state != LinkState::Disconnected);
        let links = links.map(|link| (link.link_id, link)).collect();
        accounts.insert(account.account.clone(), (account, links));
    }
    let whole = head.format == SNAPSHOT_FORMAT && head.accounts == accounts.len() as u64;
    expect(whole, || {
        format!("{} accounts under {head:?}", accounts.len())
    })?;
    Ok((head.sequence, accounts))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Broken> {
    serde_json::from_slice(bytes).map_err(|error| {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
        Broken::Unexpected(format!("{}: {text}", with_causes(&error)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(sequence: u64, state: &str) -> Change {
        let text = format!(
            r#"{{"sequence":{sequence},"at":0,"what":"x","account":"w/a",
                "route":{{"account":"w/a","kind":"dicom","hosts":["a.example"],"cluster":"dicom"}},
                "links":[{{"linkId":"7","state":"{state}"}}]}}"#
        );
        parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_log_comes_to_what_is_there_and_has_no_holes() {
        let mut replay = Replay::default();
        replay.apply(change(1, "Pending")).unwrap();
        assert_eq!(replay.accounts["w/a"].1.len(), 1);
        replay.apply(change(2, "Disconnected")).unwrap();
        assert!(replay.accounts["w/a"].1.is_empty());
        assert!(replay.apply(change(4, "Pending")).is_err());
    }

    #[test]
    fn a_snapshot_with_a_line_missing_is_told() {
        let text = br#"{"format":1,"sequence":3,"at":0,"accounts":1}"#;
        assert!(snapshot(text).is_err());
    }
}
