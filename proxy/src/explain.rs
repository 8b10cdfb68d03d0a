//! What `postern explain` and `/routes/explain` say: what would happen to a request, step by step.
//!
//! Promises the same words as the metrics and the access log. For operators only: it names accounts and
//! clusters, so it never goes to a client.

use std::fmt;

use serde::Serialize;

use crate::outcome::{Answer, Refusal};

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
    /// Each step of the decision, in order.
    pub steps: Vec<Step>,
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
            steps,
        }
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
        assert!(
            text.starts_with("no  authorize     link 7 is Pending\ndecision: link_not_approved\n"),
            "{text}"
        );
        assert!(text.contains("answer:   HTTP status 403\n"), "{text}");
        let json = serde_json::to_value(&explanation).unwrap();
        assert_eq!(json["answer"]["status"], 403);
        assert_eq!(json["steps"][0]["passed"], false);
    }
}
