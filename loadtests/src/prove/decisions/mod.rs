//! Every row of the decision table, from outside: what the client got, that the ingress saw nothing of it,
//! the word in the access log, and the same word in the metrics.

mod act;
mod malformed;
mod rows;

use super::{Proof, Run, Running, Scenario};
use crate::check::{Broken, expect};
use crate::stack::Deadline;
use crate::stack::local::{LocalOptions, LocalStack};
use crate::stack::metrics::Metrics;
use crate::stack::routing::RoutingOptions;
use act::{Got, act};
use rows::{Row, Source};

use std::time::Duration;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "decisions",
    promise: "Every refusal has one answer for the client and one word in log and metrics, and the ingress sees nothing of it.",
    run: |run| -> Running { Box::pin(prove(run)) },
};

// Limit: how long a counter may lag behind the answer it counts.
const METRIC_TIMEOUT: Duration = Duration::from_secs(10);

async fn prove(run: Run) -> Result<Proof, Broken> {
    let mut proof = Proof::default();
    let mut count = 0;
    for (name, source, environment, rows) in rows::groups() {
        let environment = environment
            .iter()
            .map(|(key, value)| (String::from(*key), String::from(*value)));
        let routing = match source {
            Source::File => None,
            Source::KilledService => Some(RoutingOptions::default()),
        };
        let options = LocalOptions {
            environment: environment.collect(),
            routing,
            ..LocalOptions::default()
        };
        let mut stack = LocalStack::start(&run.folder.join(name), &options).await?;
        if let Some(routing) = &mut stack.routing {
            routing.kill();
        }
        for row in rows {
            count += 1;
            let outcome = hold(&mut stack, &row).await;
            proof.row(row.claim, outcome);
        }
        // Once more at the end: the ingress writes its log when it is done with a request.
        let lines = stack.ingress.seen().all();
        let refused = lines
            .iter()
            .filter(|line| line["uri"] == rows::REFUSED)
            .count();
        if refused > 0 {
            proof.broken(&format!(
                "the ingress saw {refused} requests that were refused"
            ));
        }
    }
    proof.figure("rows", count);
    Ok(proof)
}

async fn hold(stack: &mut LocalStack, row: &Row) -> Result<String, Broken> {
    let ingress_before = stack.ingress.seen().all().len();
    let log_before = stack.postern.access_log().all().len();
    let refusals_before = refusals(&stack.postern.metrics().await?, row.word);

    let got = act(stack, &row.act).await?;
    expect(got == row.expected, || {
        format!("the client got {got}, not {}", row.expected)
    })?;

    let logged = async || {
        let lines = stack.postern.access_log().all();
        lines
            .into_iter()
            .skip(log_before)
            .find(|line| line["refusal"] == row.word)
    };
    let line = Deadline::after(METRIC_TIMEOUT).poll(logged).await;
    let line =
        line.ok_or_else(|| missing(format!("no access log line with refusal {}", row.word)))?;
    // A head that never became a request is told by the line of its connection, which has no status.
    if let Got::Status(status) = row.expected
        && line["kind"] == "request"
    {
        expect(line["status"] == status, || {
            format!("the log line has another status: {line}")
        })?;
    }
    let counted = async || {
        let metrics = stack.postern.metrics().await.ok()?;
        (refusals(&metrics, row.word) > refusals_before).then_some(())
    };
    let counted = Deadline::after(METRIC_TIMEOUT).poll(counted).await;
    counted.ok_or_else(|| missing(format!("no refusal {} was counted", row.word)))?;

    let new = stack.ingress.seen().all().len() - ingress_before;
    expect(new <= row.ingress_sees, || {
        format!("the ingress saw {new} requests, not {}", row.ingress_sees)
    })?;
    Ok(format!("{got}, {}", row.word))
}

fn refusals(metrics: &Metrics, word: &str) -> f64 {
    metrics.sum("postern_refusals_total", &[("reason", word)])
}

fn missing(text: String) -> Broken {
    Broken::Unexpected(text)
}
