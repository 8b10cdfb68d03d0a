//! What `postern explain` and `/routes/explain` say: what would happen to a request, step by step.
//!
//! Promises the same words as the metrics and the access log. For operators only: it names accounts and
//! clusters, so it never goes to a client.

use std::fmt;

use postern_api::{HostName, LinkId};
use serde::Serialize;

use crate::connection::authorize::{Authorizer, Permit};
use crate::credentials::Credentials;
use crate::outcome::{Answer, Refusal};
use crate::request::admit;
use crate::routing::{Held, Lookup, RemoteRoutes};

/// What would happen to one request on one connection, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// `allowed`, or the word of the refusal.
    pub decision: &'static str,
    /// What the client would get.
    pub answer: ExplainedAnswer,
    /// Why, in one sentence.
    pub reason: String,
    /// The account that the host belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The cluster that the request would go to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// What the route cache held before this was asked, if it held anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cached>,
    /// How it stands with the account-routing service, if routes come from there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceContact>,
    /// Each step of the decision, in order.
    pub steps: Vec<Step>,
}

/// What the route cache holds about the link and the server name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cached {
    /// `approved`, `unknown`, or the state of the link.
    pub answer: &'static str,
    /// Whether it is given: `fresh`, `stale` (given, and asked for again), `only_if_source_fails`, `too_old`.
    pub judgement: &'static str,
    /// How long ago account routing gave it.
    pub age_seconds: u64,
    /// How long ago it was last known to hold.
    pub confirmed_seconds: u64,
}

/// When the account-routing service was last heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ServiceContact {
    /// How many seconds ago; none if it never was.
    pub last_contact_seconds: Option<u64>,
    /// Whether the last attempt to reach it failed.
    pub out_of_reach: bool,
    /// The newest change that was seen; 0 if there was none.
    pub sequence: u64,
}

/// What the client would get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExplainedAnswer {
    /// The ingress's answer.
    Forwarded,
    /// An HTTP status of ours.
    Status(u16),
    /// A fatal TLS alert, by its number.
    Alert(u8),
    /// A closed connection.
    Close,
}

/// One step of the decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The stage, as its file is named: `client_hello`, `authorize`, `admit`, …
    pub stage: &'static str,
    /// Whether the stage lets it through.
    pub passed: bool,
    /// What was looked at and what was found.
    pub finding: String,
}

/// Decides as a connection and its first request would be decided, and tells each step.
pub async fn decide(
    authorizer: &Authorizer,
    credentials: &Credentials,
    link_id: LinkId,
    sni: &HostName,
    host: &str,
) -> Explanation {
    let mut steps = Vec::new();
    let mut step = |stage, passed, finding: String| {
        steps.push(Step {
            stage,
            passed,
            finding,
        });
    };
    if credentials.server().select(sni).is_none() {
        step(
            "client_hello",
            false,
            format!("no certificate is held for {sni}"),
        );
        return Explanation::refused(Refusal::SniUnknown, steps);
    }
    step("client_hello", true, format!("a certificate covers {sni}"));
    // Before it is asked: that may write into it.
    let cache = authorizer.cache().describe(link_id, sni).map(Cached::from);
    let permit = match authorizer.explain(link_id, sni).await {
        Ok(permit) => permit,
        Err(refusal) => {
            step(
                "authorize",
                false,
                format!("link {link_id} for {sni}: {}", refusal.label()),
            );
            return Explanation {
                cache,
                ..Explanation::refused(refusal, steps)
            };
        }
    };
    let found = match permit.would_refuse() {
        Some(refusal) => format!("mode audit lets through what is {}", refusal.label()),
        None => format!("link {link_id} may reach {sni}"),
    };
    step("authorize", true, found);
    let account = permit.account().map(str::to_owned);
    let cluster = Some(permit.cluster().to_string());
    let refusal = judge_host(authorizer, credentials, &permit, host).await;
    match refusal {
        None => step(
            "admit",
            true,
            format!("{host} is the host of this connection"),
        ),
        Some(refusal) => step("admit", false, format!("{host}: {}", refusal.label())),
    }
    let explanation = match refusal {
        None => Explanation::allowed("The request is forwarded to the cluster.".into(), steps),
        Some(refusal) => Explanation::refused(refusal, steps),
    };
    Explanation {
        account,
        cluster,
        cache,
        ..explanation
    }
}

async fn judge_host(
    authorizer: &Authorizer,
    credentials: &Credentials,
    permit: &Permit,
    host: &str,
) -> Option<Refusal> {
    let Some(authority) = admit::authority_of(host) else {
        return Some(Refusal::BadRequest);
    };
    let name = authority.host();
    if permit.host().matches(name.as_bytes()) {
        return permit.customer_key_lost().then_some(Refusal::CustomerKey);
    }
    let Ok(other) = HostName::parse(name) else {
        return Some(Refusal::HostNotPermitted);
    };
    let same_certificate = credentials.same_certificate(permit.host(), &other);
    Some(
        authorizer
            .explain_other_host(permit.link_id(), &other, same_certificate)
            .await,
    )
}

impl Explanation {
    /// It would be forwarded.
    pub fn allowed(reason: String, steps: Vec<Step>) -> Self {
        let answer = ExplainedAnswer::Forwarded;
        Self {
            decision: "allowed",
            answer,
            reason,
            account: None,
            cluster: None,
            cache: None,
            service: None,
            steps,
        }
    }

    /// It would be refused.
    pub fn refused(refusal: Refusal, steps: Vec<Step>) -> Self {
        Self {
            decision: refusal.label(),
            answer: refusal.answer().into(),
            reason: refusal.explanation().to_owned(),
            account: None,
            cluster: None,
            cache: None,
            service: None,
            steps,
        }
    }
}

impl Explanation {
    /// With how it stands with the account-routing service, if routes come from there.
    #[must_use]
    pub fn with_service(mut self, service: Option<&RemoteRoutes>) -> Self {
        self.service = service.map(ServiceContact::of);
        self
    }
}

impl ServiceContact {
    /// As it is now.
    pub fn of(service: &RemoteRoutes) -> Self {
        let contact = service.contact();
        Self {
            last_contact_seconds: contact.age().map(|age| age.as_secs()),
            out_of_reach: contact.is_out_of_reach(),
            sequence: service.sequence().unwrap_or(0),
        }
    }
}

impl fmt::Display for ServiceContact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.last_contact_seconds {
            Some(seconds) => write!(f, "last heard of {seconds} s ago")?,
            None => f.write_str("never heard of")?,
        }
        if self.out_of_reach {
            f.write_str(", out of reach now")?;
        }
        if self.sequence > 0 {
            write!(f, ", at change {}", self.sequence)?;
        }
        Ok(())
    }
}

impl From<Answer> for ExplainedAnswer {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Close => Self::Close,
            Answer::Alert(number) => Self::Alert(number),
            Answer::Status { status, .. } => Self::Status(status.as_u16()),
        }
    }
}

impl From<Held> for Cached {
    fn from(held: Held) -> Self {
        let answer = match held.answer {
            Lookup::Found(_) => "approved",
            Lookup::NotApproved(state) => state.label(),
            Lookup::Unknown => "unknown",
        };
        Self {
            answer,
            judgement: held.judgement.label(),
            age_seconds: held.age.as_secs(),
            confirmed_seconds: held.confirmed.as_secs(),
        }
    }
}

impl fmt::Display for Cached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            answer,
            judgement,
            age_seconds,
            confirmed_seconds,
        } = self;
        write!(
            f,
            "{answer}, {judgement}, {age_seconds} s old, known to hold {confirmed_seconds} s ago"
        )
    }
}

impl fmt::Display for ExplainedAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forwarded => f.write_str("the ingress's answer"),
            Self::Status(status) => write!(f, "HTTP status {status}"),
            Self::Alert(number) => write!(f, "TLS alert {number}"),
            Self::Close => f.write_str("the connection is closed"),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            let mark = if step.passed { "ok" } else { "no" };
            writeln!(f, "{mark}  {:<13} {}", step.stage, step.finding)?;
        }
        writeln!(f, "decision: {}", self.decision)?;
        writeln!(f, "answer:   {}", self.answer)?;
        writeln!(f, "reason:   {}", self.reason)?;
        if let Some(account) = &self.account {
            writeln!(f, "account:  {account}")?;
        }
        if let Some(cluster) = &self.cluster {
            writeln!(f, "cluster:  {cluster}")?;
        }
        if let Some(cache) = &self.cache {
            writeln!(f, "cache:    {cache}")?;
        }
        if let Some(service) = &self.service {
            writeln!(f, "service:  {service}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_reads_as_its_steps_and_its_answer() {
        let step = Step {
            stage: "authorize",
            passed: false,
            finding: "link 7 is Pending".into(),
        };
        let explanation = Explanation::refused(Refusal::LinkNotApproved, vec![step]);
        let text = explanation.to_string();
        assert!(!text.contains("service:"), "{text}");
        assert!(
            text.starts_with("no  authorize     link 7 is Pending\ndecision: link_not_approved\n"),
            "{text}"
        );
        assert!(text.contains("answer:   HTTP status 403\n"), "{text}");
        let json = serde_json::to_value(&explanation).unwrap();
        assert_eq!(json["answer"]["status"], 403);
        assert_eq!(json["steps"][0]["passed"], false);
    }

    #[test]
    fn the_service_is_told_of_where_routes_come_from_it() {
        let shown = |last_contact_seconds, out_of_reach, sequence| {
            let contact = ServiceContact {
                last_contact_seconds,
                out_of_reach,
                sequence,
            };
            contact.to_string()
        };
        assert_eq!(
            shown(Some(3), false, 812),
            "last heard of 3 s ago, at change 812"
        );
        assert_eq!(
            shown(Some(90), true, 812),
            "last heard of 90 s ago, out of reach now, at change 812"
        );
        assert_eq!(shown(None, false, 0), "never heard of");
    }
}
