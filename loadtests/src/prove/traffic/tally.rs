//! What was counted of the traffic.

use std::collections::BTreeMap;
use std::fmt;

use crate::prove::Proof;
use crate::stack::client::Protocol;

// Limit: this many failures are described; the rest is counted.
const FINDINGS_MAX: usize = 20;

/// What a flow does again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sort {
    /// Small requests on a kept connection.
    Requests,
    /// Bodies that are sent slowly.
    Uploads,
    /// Messages over a WebSocket.
    Messages,
    /// Connections with a full handshake.
    Handshakes,
    /// Connections that resume a session.
    Resumptions,
}

impl Sort {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Requests,
        Self::Uploads,
        Self::Messages,
        Self::Handshakes,
        Self::Resumptions,
    ];

    const fn label(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Uploads => "uploads",
            Self::Messages => "messages",
            Self::Handshakes => "handshakes",
            Self::Resumptions => "resumptions",
        }
    }
}

/// A kind of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// What is done.
    pub sort: Sort,
    /// Over which protocol.
    pub protocol: Protocol,
}

impl Kind {
    /// Every kind.
    pub fn all() -> impl Iterator<Item = Self> {
        let of = |sort| Protocol::ALL.map(|protocol| Self { sort, protocol });
        Sort::ALL.into_iter().flat_map(of)
    }

    fn key(self) -> (Sort, &'static str) {
        (self.sort, self.protocol.label())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.sort.label(), self.protocol.label())
    }
}

/// How one kind of traffic fared.
#[derive(Debug, Clone, Default)]
pub struct Count {
    /// What went well.
    pub done: u64,
    /// What did not, by reason: `connect`, `handshake`, `reset`, `timeout`, `wrong answer`, `status 502`, …
    pub failed: BTreeMap<String, u64>,
    /// Connections that ended before their time, without a word.
    pub cut: u64,
    /// Connections that the server ended after it had said so: `Connection: close`, GOAWAY.
    pub farewells: u64,
    /// HTTP/2 requests that crossed GOAWAY, which the server has done nothing about.
    pub crossed: u64,
    /// Of the handshakes, those that resumed a session.
    pub resumed: u64,
}

/// How the traffic fared.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    counts: BTreeMap<(Sort, &'static str), Count>,
    findings: Vec<String>,
}

impl Tally {
    /// How one kind fared.
    pub fn of(&self, kind: Kind) -> Count {
        self.counts.get(&kind.key()).cloned().unwrap_or_default()
    }

    /// The sum over all kinds.
    pub fn sum(&self, figure: impl Fn(&Count) -> u64) -> u64 {
        self.counts.values().map(figure).sum()
    }

    /// What went well, over all kinds.
    pub fn done(&self) -> u64 {
        self.sum(|count| count.done)
    }

    /// What failed, over all kinds and reasons.
    pub fn failed(&self) -> u64 {
        self.sum(|count| count.failed.values().sum())
    }

    /// Connections that ended before their time, over all kinds.
    pub fn cut(&self) -> u64 {
        self.sum(|count| count.cut)
    }

    /// Connections that the server ended after it had said so, over all kinds.
    pub fn farewells(&self) -> u64 {
        self.sum(|count| count.farewells)
    }

    pub(super) fn count(&mut self, kind: Kind) -> &mut Count {
        self.counts.entry(kind.key()).or_default()
    }

    pub(super) fn note(&mut self, finding: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }

    /// What speaks against the traffic having been left alone: what is [`lost`](Self::lost), and each connection that
    /// was sent away.
    pub fn broken(&self) -> Vec<String> {
        let mut broken = self.lost();
        if self.farewells() > 0 {
            broken.push(format!("{} clients were sent away", self.farewells()));
        }
        broken
    }

    /// What speaks against the traffic having gone well: each failure, each connection that was cut, and each kind of
    /// traffic that there was none of.
    pub fn lost(&self) -> Vec<String> {
        let missing = Kind::all().filter(|kind| self.of(*kind).done == 0);
        let mut broken: Vec<_> = missing
            .map(|kind| format!("there were no {kind}"))
            .collect();
        let told = self.findings.len() as u64;
        let all = self.failed() + self.cut();
        broken.extend_from_slice(&self.findings);
        if all > told {
            broken.push(format!("{} more failures or cuts", all - told));
        }
        broken
    }

    /// Tells the proof the figures, and breaks it by what is [`broken`](Self::broken).
    pub fn tell(&self, proof: &mut Proof) {
        self.figures(proof);
        for finding in self.broken() {
            proof.broken(&finding);
        }
    }

    /// The same where clients may be sent away: breaks it by what is [`lost`](Self::lost).
    pub fn tell_lost(&self, proof: &mut Proof) {
        self.figures(proof);
        proof.figure("moved", self.farewells());
        proof.figure("crossed", self.sum(|count| count.crossed));
        for finding in self.lost() {
            proof.broken(&finding);
        }
    }

    fn figures(&self, proof: &mut Proof) {
        for kind in Kind::all() {
            proof.figure(&kind.to_string(), self.of(kind).done);
        }
        proof.figure("failed", self.failed());
        proof.figure("cut", self.cut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_even_if_it_is_only_counted() {
        let mut tally = Tally::default();
        for kind in Kind::all() {
            tally.count(kind).done = 1;
        }
        assert_eq!(tally.broken(), [""; 0]);

        let kind = Kind::all().next().unwrap();
        *tally.count(kind).failed.entry("reset".into()).or_default() += 1;
        assert_eq!(tally.broken(), ["1 more failures or cuts"]);
    }

    #[test]
    fn a_kind_of_which_nothing_came_is_told() {
        let none = Tally::default().broken();
        assert_eq!(none.len(), Kind::all().count());
        assert_eq!(none[0], "there were no requests h1");
    }
}
