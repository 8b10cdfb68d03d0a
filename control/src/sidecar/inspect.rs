//! Whether a version may be published: proven against what the configuration demands, and against what is published
//! beside it.
//!
//! A CA is rotated in this order, and no other: the new CA is added to the published trust; then client certificates
//! of it are published; then the old CA is dropped from the trust. What comes too early is refused.

use postern_certs::{
    Bundle, Expectations, Location, Parts, Purpose, TicketKeys, UnixTime, Unproven,
};

use super::outcome::Refusal;

/// What a version is held against.
#[derive(Debug, Clone)]
pub(super) struct Demands {
    /// What it is for, and the names it must cover.
    pub(super) expectations: Expectations,
    /// For a client: the trust that it must verify to, by name and store.
    pub(super) trust: Option<(String, Location)>,
    /// For trust: the published client certificates that must go on verifying to it, by name and store.
    pub(super) clients: Vec<(String, Location)>,
}

impl Demands {
    /// Whether it is CAs that are published.
    pub(super) fn is_trust(&self) -> bool {
        self.expectations.purpose() == Purpose::Trust
    }

    /// Proves `parts` at `now`, or says why they are not published.
    pub(super) fn inspect(&self, parts: Parts, now: UnixTime) -> Result<Bundle, Refusal> {
        match self.expectations.purpose() {
            Purpose::Server => Ok(Bundle::prove(parts, &self.expectations, now)?),
            Purpose::Client => self.inspect_client(parts, now),
            Purpose::Trust => self.inspect_trust(parts, now),
        }
    }

    /// What is published at `location`, proven again: time has gone by, and the configuration may have changed.
    pub(super) fn published(&self, location: &Location, now: UnixTime) -> Option<Bundle> {
        let (parts, _) = location.read().ok()?;
        self.inspect(parts, now).ok()
    }

    fn inspect_client(&self, parts: Parts, now: UnixTime) -> Result<Bundle, Refusal> {
        let bundle = Bundle::prove(parts.clone(), &self.expectations, now)?;
        let Some((name, location)) = &self.trust else {
            return Ok(bundle);
        };
        let trust = read_trust(location, now).ok_or_else(|| Refusal::NoTrust {
            trust: name.clone(),
        })?;
        let anchored = self.expectations.clone().anchored_in(trust.roots());
        match Bundle::prove(parts, &anchored, now) {
            Err(Unproven::UntrustedIssuer { .. }) => Err(Refusal::WrongOrder(format!(
                "the client certificate ({}) is issued by {}, which is not in the published trust ({name}); publish the \
                 new CA first: add it to the vault as a version of the CA certificate",
                bundle.facts().subject,
                issuer(&bundle),
            ))),
            other => Ok(other?),
        }
    }

    fn inspect_trust(&self, parts: Parts, now: UnixTime) -> Result<Bundle, Refusal> {
        let trust = Bundle::prove(parts, &self.expectations, now)?;
        for (name, location) in &self.clients {
            let Ok((parts, _)) = location.read() else {
                continue;
            };
            let held = Expectations::client().anchored_in(trust.roots());
            // Whatever else is wrong with it, such as its age, this trust is not to blame for.
            if let Err(Unproven::UntrustedIssuer { .. }) = Bundle::prove(parts.clone(), &held, now)
            {
                let client = Bundle::prove(parts, &Expectations::client(), now)?;
                return Err(Refusal::WrongOrder(format!(
                    "the published client certificate {name} ({}) is issued by {}, which this trust no longer has; \
                     publish a client certificate of the new CA first, or enable the old CA again in the vault",
                    client.facts().subject,
                    issuer(&client),
                )));
            }
        }
        Ok(trust)
    }
}

/// The trust that is published at `location`.
pub(super) fn read_trust(location: &Location, now: UnixTime) -> Option<Bundle> {
    let (parts, _) = location.read().ok()?;
    Bundle::prove(parts, &Expectations::trust(), now).ok()
}

/// The ticket keys that are published at `location`.
pub(super) fn read_tickets(location: &Location, now: UnixTime) -> Option<TicketKeys> {
    let (parts, _) = location.read().ok()?;
    TicketKeys::prove(&parts, now).ok()
}

/// Who issued the last certificate of the chain.
fn issuer(bundle: &Bundle) -> &str {
    let last = bundle.all_facts().last();
    last.map_or(&bundle.facts().issuer, |facts| &facts.issuer)
}
