//! What an operator decides about a link, seen from the client that comes by it.

use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;
use uuid::Uuid;

use super::verify::Targets;
use crate::check::{Broken, expect};
use crate::proxy_v2::Header;
use crate::stack::Deadline;
use crate::stack::accounts::{HOST_A, LINK_PENDING};
use crate::stack::client::{Connection, Protocol, Tls};
use crate::stack::operator::{WORKSPACE, connection_name};

// Limit: what is promised, from the acknowledged change until it is seen.
const PROMISED: Duration = Duration::from_secs(1);

/// `postern-control routes approve`, and the next connection is answered.
pub(super) async fn approved(targets: Targets<'_>) -> Result<String, Broken> {
    decide(targets, "approve")?;
    let decided = Instant::now();
    let answered = async || {
        let mut connection = connect(targets).await.ok()?;
        let answer = connection.get(&path()).await.ok()?;
        (answer.status == StatusCode::OK).then(|| decided.elapsed())
    };
    let answered = Deadline::after(PROMISED).poll(answered).await;
    let after = answered.ok_or_else(|| late("it is not answered"))?;
    Ok(format!("200 after {} ms", after.as_millis()))
}

/// `postern-control routes reject`, and a connection that is open is refused or ended.
pub(super) async fn rejected(targets: Targets<'_>) -> Result<String, Broken> {
    let mut open = connect(targets).await?;
    let answer = open.get(&path()).await?;
    expect(answer.status == StatusCode::OK, || answer.summary())?;
    decide(targets, "reject")?;
    let decided = Instant::now();
    let refused = async || {
        // An end of the connection is as good as 403.
        let status = open.get(&path()).await.map(|answer| answer.status);
        (!matches!(status, Ok(StatusCode::OK))).then(|| decided.elapsed())
    };
    let refused = Deadline::after(PROMISED).poll(refused).await;
    let after = refused.ok_or_else(|| late("it is still answered"))?;
    let path = path();
    let answer = connect(targets).await?.get(&path).await?;
    expect(answer.status == StatusCode::FORBIDDEN, || answer.summary())?;
    super::verify::unseen(targets, &path)?;
    Ok(format!("403 after {} ms", after.as_millis()))
}

fn decide(targets: Targets<'_>, word: &str) -> Result<(), Broken> {
    let link = format!("{WORKSPACE}/hospital-a/{}", connection_name(LINK_PENDING));
    let output = targets.routing.routes(&[word, &link])?;
    expect(output.status.success(), || format!("{word}: {output:?}"))
}

async fn connect(targets: Targets<'_>) -> Result<Connection, Broken> {
    let tls = Tls::trusting(targets.ca)?;
    let header = Header::Absent;
    let connection = tls.connect(targets.refused, &header, HOST_A, Protocol::Http2);
    Ok(connection.await?)
}

fn path() -> String {
    format!("/verify/{}", Uuid::new_v4())
}

fn late(text: &str) -> Broken {
    Broken::Unexpected(format!("{text} within {PROMISED:?}"))
}
