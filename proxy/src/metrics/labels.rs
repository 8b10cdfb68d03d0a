//! The closed sets that label values come from.

use std::collections::BTreeSet;

use crate::config::Mode;
use crate::outcome::{Ending, Refusal};
use crate::routing::{Answer, Lookup, LookupError};

/// A closed set of label values, each with its place in an array of metrics.
pub(super) trait Label: Copy + 'static {
    /// Every value, in the order of [`Label::index`].
    const VALUES: &'static [Self];
    /// The word of a value.
    fn word(self) -> &'static str;
    /// Its place in [`Label::VALUES`].
    fn index(self) -> usize;
}

macro_rules! labels {
    ($($(#[doc = $about:literal])+ pub enum $name:ident {
        $($(#[doc = $doc:literal])+ $value:ident => $word:literal),+ $(,)?
    })+) => {$(
        $(#[doc = $about])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[doc = $doc])+ $value),+
        }

        impl $name {
            /// The word in logs and metrics.
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$value => $word),+
                }
            }
        }

        impl Label for $name {
            const VALUES: &'static [Self] = &[$(Self::$value),+];

            fn word(self) -> &'static str {
                self.label()
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    )+};
}

labels! {
    /// Which HTTP is spoken.
    pub enum Protocol {
        /// HTTP/1.1 or 1.0.
        H1 => "h1",
        /// HTTP/2.
        H2 => "h2",
    }

    /// Which TLS is spoken.
    pub enum TlsVersion {
        /// TLS 1.2.
        Tls12 => "TLSv1.2",
        /// TLS 1.3.
        Tls13 => "TLSv1.3",
    }

    /// The class of an HTTP status.
    pub enum StatusClass {
        /// There was no answer.
        None => "none",
        /// 100 to 199: the request became a tunnel.
        Informational => "1xx",
        /// 200 to 299.
        Success => "2xx",
        /// 300 to 399.
        Redirection => "3xx",
        /// 400 to 499.
        ClientError => "4xx",
        /// 500 and more.
        ServerError => "5xx",
    }

    /// Whether a thing was used before.
    pub enum Reused {
        /// It is new.
        No => "false",
        /// It was.
        Yes => "true",
    }

    /// Whether a connection to the ingress was made with the client certificate that is in use now.
    pub enum UpstreamGeneration {
        /// It was.
        Current => "current",
        /// It was made with one before.
        Previous => "previous",
    }

    /// Whether an address of the ingress is up.
    pub enum EndpointState {
        /// It is not known to be down.
        Up => "up",
        /// The last attempt to connect to it failed.
        Down => "down",
    }

    /// How an attempt to connect to the ingress ended.
    pub enum ConnectOutcome {
        /// Connected, with TLS.
        Connected => "connected",
        /// Refused, unreachable, too slow, or TLS failed; the operational log says which.
        Failed => "failed",
    }

    /// How a lookup of a name of ingress endpoints ended.
    pub enum DnsOutcome {
        /// With addresses.
        Answered => "answered",
        /// There is no such name, or no address under it.
        None => "none",
        /// No server answered well.
        Failed => "failed",
    }

    /// What the route cache had for a lookup.
    pub enum LookupOutcome {
        /// A fresh answer.
        Hit => "hit",
        /// An old answer, which is refreshed meanwhile or the source fails.
        Stale => "stale",
        /// Nothing; the source was asked.
        Miss => "miss",
        /// A fresh "not found".
        Negative => "negative",
        /// Nothing usable, and the source failed.
        Error => "error",
        /// Nothing, but the source was being asked already.
        Coalesced => "coalesced",
    }

    /// What a question to account routing came to.
    pub enum LookupEnd {
        /// A route.
        Found => "found",
        /// A definite "no".
        No => "no",
        /// No answer in time.
        Late => "late",
        /// Another failure.
        Failed => "failed",
    }

    /// What happened to an open connection of a link that is no longer approved.
    pub enum RevocationStage {
        /// Its requests are refused.
        Refused => "refused",
        /// It is closed.
        Closed => "closed",
    }

    /// What is pushed out of the route cache.
    pub enum CacheEntry {
        /// A route.
        Route => "route",
        /// A "not found".
        Negative => "negative",
    }

    /// How an attempt to load changed routes ended.
    pub enum ReloadOutcome {
        /// They are in use.
        Loaded => "loaded",
        /// They were refused; the old ones stay in use.
        Refused => "refused",
    }

    /// What a reload of the configuration came to.
    pub enum ConfigOutcome {
        /// Another one is in force.
        Applied => "applied",
        /// There is no other.
        Unchanged => "unchanged",
        /// It was refused; the one in force stays.
        Refused => "refused",
    }

    /// Why something that the account-routing service said was not believed.
    pub enum DistrustReason {
        /// It cannot be read.
        Malformed => "malformed",
        /// It names a cluster that is not configured.
        Cluster => "cluster",
        /// It does not fit what was asked, or itself.
        Contradiction => "contradiction",
        /// An account has no host, too many, or no proper name.
        Bounds => "bounds",
        /// It knows less than what was seen before.
        Behind => "behind",
    }

    /// Why a snapshot on disk is of no use.
    pub enum SnapshotRefusal {
        /// It cannot be read.
        Unreadable => "unreadable",
        /// It is not whole, or was changed.
        Damaged => "damaged",
        /// It has another format.
        Format => "format",
        /// It is too old.
        TooOld => "too_old",
        /// It is dated in the future.
        Future => "future",
        /// It could not be written.
        Unwritten => "unwritten",
    }

    /// How far a drain is.
    pub enum DrainPhase {
        /// No drain.
        Serving => "serving",
        /// Not ready any more; connections are still accepted until the probes have noticed.
        Noticing => "noticing",
        /// Not accepting; connections are asked to end.
        Ending => "ending",
        /// No connection is left, or the deadline has passed.
        Drained => "drained",
    }

    /// What an upgrade came to.
    pub enum UpgradeOutcome {
        /// The new process serves.
        TakenOver => "taken_over",
        /// The old process goes on.
        Refused => "refused",
    }

    /// What credentials are for.
    pub enum CredentialUse {
        /// Our certificates towards clients.
        Server => "server",
        /// Our certificate towards the ingress.
        Client => "client",
        /// The certificate authorities of the ingress.
        Trust => "trust",
        /// Our certificate towards account routing, if it has one of its own.
        RoutingClient => "routing_client",
        /// The certificate authorities of account routing, if it has its own.
        RoutingTrust => "routing_trust",
        /// The keys of session tickets that the fleet shares.
        Tickets => "tickets",
    }
}

impl LookupEnd {
    /// Of an answer of the source.
    pub const fn of(answer: &Result<Answer, LookupError>) -> Self {
        match answer {
            Ok(Answer {
                lookup: Lookup::Found(_),
                ..
            }) => Self::Found,
            Ok(_) => Self::No,
            Err(LookupError::Late(_)) => Self::Late,
            Err(_) => Self::Failed,
        }
    }
}

impl StatusClass {
    /// The class of a status, if there was one.
    pub const fn of(status: Option<u16>) -> Self {
        match status {
            None => Self::None,
            Some(0..200) => Self::Informational,
            Some(200..300) => Self::Success,
            Some(300..400) => Self::Redirection,
            Some(400..500) => Self::ClientError,
            Some(500..) => Self::ServerError,
        }
    }
}

impl Protocol {
    /// HTTP/2 or HTTP/1.
    pub const fn of(http2: bool) -> Self {
        if http2 { Self::H2 } else { Self::H1 }
    }
}

impl TlsVersion {
    /// By its word. What is neither 1.2 nor 1.3 is never negotiated.
    pub fn of(word: &str) -> Self {
        if word == Self::Tls12.label() {
            Self::Tls12
        } else {
            Self::Tls13
        }
    }
}

impl From<bool> for Reused {
    fn from(reused: bool) -> Self {
        if reused { Self::Yes } else { Self::No }
    }
}

/// The words of one set.
pub(super) fn words<L: Label>() -> Vec<&'static str> {
    L::VALUES.iter().map(|value| value.word()).collect()
}

/// Where each label stands, and its values.
pub(super) fn documented() -> Vec<(&'static str, Vec<&'static str>)> {
    let blames: BTreeSet<_> = Refusal::all()
        .map(|refusal| refusal.blame().label())
        .collect();
    let endings = Ending::ALL
        .into_iter()
        .map(Ending::label)
        .chain(["refused"])
        .collect();
    vec![
        ("`mode`", Mode::ALL.into_iter().map(Mode::label).collect()),
        ("`blame`", blames.into_iter().collect()),
        ("`ending` of `postern_connections_total`", endings),
        (
            "`reason` of refusals",
            Refusal::all().map(Refusal::label).collect(),
        ),
        ("`protocol`", words::<Protocol>()),
        ("`status`", words::<StatusClass>()),
        (
            "`version` of `postern_handshakes_total`",
            words::<TlsVersion>(),
        ),
        ("`resumed`, `reused`", words::<Reused>()),
        ("`state`", words::<EndpointState>()),
        ("`generation`", words::<UpstreamGeneration>()),
        (
            "`outcome` of `postern_upstream_connects_total`",
            words::<ConnectOutcome>(),
        ),
        (
            "`outcome` of `postern_dns_lookups_total`",
            words::<DnsOutcome>(),
        ),
        (
            "`outcome` of `postern_route_lookups_total`",
            words::<LookupOutcome>(),
        ),
        (
            "`outcome` of `postern_route_lookup_duration_seconds`",
            words::<LookupEnd>(),
        ),
        (
            "`stage` of `postern_revocation_duration_seconds`",
            words::<RevocationStage>(),
        ),
        ("`entry`", words::<CacheEntry>()),
        (
            "`outcome` of `postern_routes_reload_total`",
            words::<ReloadOutcome>(),
        ),
        (
            "`outcome` of `postern_reloads_total`",
            words::<ConfigOutcome>(),
        ),
        (
            "`reason` of `postern_route_answers_distrusted_total`",
            words::<DistrustReason>(),
        ),
        (
            "`reason` of `postern_route_snapshot_refusals_total`",
            words::<SnapshotRefusal>(),
        ),
        ("`phase`", words::<DrainPhase>()),
        (
            "`outcome` of `postern_process_upgrades_total`",
            words::<UpgradeOutcome>(),
        ),
        ("`use`", words::<CredentialUse>()),
    ]
}
