//! What a client does in a row, and what it got.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use http::{Method, StatusCode};
use rustix::process::Signal;
use rustls::AlertDescription;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::rows::REFUSED;
use crate::check::{Broken, expect};
use crate::proxy_v2::Header;
use crate::stack::accounts::{HOST_A, LINK_A};
use crate::stack::client::{Answer, Connection, Protocol, STEP_TIMEOUT, empty, open};
use crate::stack::echo;
use crate::stack::local::LocalStack;
use crate::stack::postern::TRUSTED_SOURCE;
use crate::stack::{Deadline, accepts};

/// What the client got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Got {
    /// The end of the connection, without a byte.
    Closed,
    /// A fatal TLS alert.
    Alert(AlertDescription),
    /// An HTTP answer.
    Status(u16),
    /// A TLS handshake that went through, or bytes that were not expected.
    Welcome,
}

impl fmt::Display for Got {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed"),
            Self::Alert(alert) => write!(f, "alert {alert:?}"),
            Self::Status(status) => write!(f, "{status}"),
            Self::Welcome => f.write_str("welcome"),
        }
    }
}

/// What the client does.
pub(super) enum Act {
    /// Sends these bytes from that address, then maybe the end, and reads until the other side's end.
    Bytes {
        source: IpAddr,
        header: Header,
        finish: bool,
    },
    /// A TLS handshake with that server name.
    Handshake(Header, Option<&'static str>),
    /// One request.
    Request {
        link_id: u32,
        sni: &'static str,
        host: &'static str,
        protocol: Protocol,
        path: &'static str,
    },
    /// An approved link's request in these very bytes; the connection must end after the answer.
    Http1(Cow<'static, str>),
    /// Requests as fast as can be until one is not answered with 200.
    Burst { link_id: u32, host: &'static str },
    /// A request while another one is at the back end.
    Overload,
    /// A connection while another one is open.
    Crowd,
    /// A handshake and a request on a connection that was opened before Postern stopped accepting.
    Drain,
    /// A request during which the ingress is killed.
    BreakIngress,
}

// Limit: with one request a second allowed, a burst of so many cannot all be within the limit.
const BURST_MAX: usize = 200;

// Limit: the end of an answer to raw bytes, or of a connection, comes within this.
const END_TIMEOUT: Duration = STEP_TIMEOUT;

pub(super) async fn act(stack: &mut LocalStack, act: &Act) -> Result<Got, Broken> {
    match *act {
        Act::Bytes {
            source,
            ref header,
            finish,
        } => bytes(stack, source, header, finish).await,
        Act::Handshake(ref header, sni) => handshake(stack, header, sni).await,
        Act::Request {
            link_id,
            sni,
            host,
            protocol,
            path,
        } => {
            let mut connection = stack.connect(link_id, sni, protocol).await?;
            let request = connection
                .request_for(host, Method::GET, path)?
                .body(empty())?;
            got(&connection.fetch(request).await?)
        }
        Act::Http1(ref request) => http1(stack, request).await,
        Act::Burst { link_id, host } => burst(stack, link_id, host).await,
        Act::Overload => overload(stack).await,
        Act::Crowd => crowd(stack).await,
        Act::Drain => drain(stack).await,
        Act::BreakIngress => break_ingress(stack).await,
    }
}

/// Each refusal of ours says who it concerns, in a media type made for it.
fn got(answer: &Answer) -> Result<Got, Broken> {
    let status = answer.status;
    let kind = answer.header("content-type");
    let ours =
        kind.starts_with("application/problem+json") || kind.starts_with("application/fhir+json");
    expect(status.is_success() || ours, || {
        format!("{status} with content of type `{kind}`")
    })?;
    let later = matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    );
    expect(!later || !answer.header("retry-after").is_empty(), || {
        format!("{status} without Retry-After")
    })?;
    Ok(Got::Status(status.as_u16()))
}

async fn bytes(
    stack: &LocalStack,
    source: IpAddr,
    header: &Header,
    finish: bool,
) -> Result<Got, Broken> {
    let mut stream = open(stack.postern.data(), Some(source), header).await?;
    if finish {
        stream.shutdown().await?;
    }
    let mut answer = Vec::new();
    let end = tokio::time::timeout(END_TIMEOUT, stream.read_to_end(&mut answer)).await;
    expect(end.is_ok(), || "the connection stays open".to_owned())?;
    Ok(match *answer {
        [] => Got::Closed,
        // A TLS record with a fatal alert (RFC 8446 sections 5.1 and 6): type, version, length, level, alert.
        [21, 3, _, 0, 2, 2, alert] => Got::Alert(AlertDescription::from(alert)),
        _ => Got::Welcome,
    })
}

async fn handshake(stack: &LocalStack, header: &Header, sni: Option<&str>) -> Result<Got, Broken> {
    let stream = open(stack.postern.data(), None, header).await?;
    match stack.tls()?.handshake(stream, sni, Protocol::Http2).await {
        Ok(_) => Ok(Got::Welcome),
        Err(error) => match error.alert() {
            Some(alert) => Ok(Got::Alert(alert)),
            None => Err(error.into()),
        },
    }
}

async fn http1(stack: &LocalStack, request: &str) -> Result<Got, Broken> {
    let stream = open(stack.postern.data(), None, &Header::link(LINK_A)).await?;
    let mut stream = stack
        .tls()?
        .handshake(stream, Some(HOST_A), Protocol::Http1)
        .await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    let end = tokio::time::timeout(END_TIMEOUT, stream.read_to_end(&mut answer)).await;
    expect(end.is_ok(), || {
        "the connection stays open after the answer".to_owned()
    })?;
    let text = String::from_utf8_lossy(&answer);
    let status = text
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok());
    status
        .map(Got::Status)
        .ok_or_else(|| Broken::Unexpected(format!("no status in {text:?}")))
}

async fn burst(stack: &LocalStack, link_id: u32, host: &str) -> Result<Got, Broken> {
    let mut connection = stack.connect(link_id, host, Protocol::Http2).await?;
    for _ in 0..BURST_MAX {
        let answer = connection.get("/").await?;
        if answer.status != StatusCode::OK {
            return got(&answer);
        }
    }
    Ok(Got::Status(200))
}

async fn overload(stack: &LocalStack) -> Result<Got, Broken> {
    let mut first = stack.connect(LINK_A, HOST_A, Protocol::Http2).await?;
    let mut second = stack.connect(LINK_A, HOST_A, Protocol::Http1).await?;
    let slow = tokio::spawn(async move { first.get("/slow/3000").await });
    arrived(stack, "/slow/3000").await?;
    let answer = second.get(REFUSED).await?;
    slow.abort();
    got(&answer)
}

async fn crowd(stack: &LocalStack) -> Result<Got, Broken> {
    // Answered, so that it certainly has its place.
    let mut first = stack.connect(LINK_A, HOST_A, Protocol::Http1).await?;
    first.get("/").await?;
    let got = bytes(stack, TRUSTED_SOURCE, &Header::link(LINK_A), false).await;
    first.abort();
    got
}

async fn drain(stack: &mut LocalStack) -> Result<Got, Broken> {
    let data = stack.postern.data();
    let stream = open(data, None, &Header::link(LINK_A)).await?;
    // As long as it is there, the process is, and can be asked what it counted.
    let mut last = open(data, None, &Header::link(LINK_A)).await?;
    tokio::spawn(async move { last.read_u8().await });
    stack.postern.child().signal(Signal::TERM)?;
    let closed = async || (!accepts(data).await).then_some(());
    let closed = Deadline::after(STEP_TIMEOUT).poll(closed).await;
    expect(closed.is_some(), || {
        "it still accepts connections".to_owned()
    })?;
    let stream = stack
        .tls()?
        .handshake(stream, Some(HOST_A), Protocol::Http1)
        .await?;
    let mut connection = Connection::new(stream, Protocol::Http1, HOST_A).await?;
    got(&connection.get(REFUSED).await?)
}

async fn break_ingress(stack: &mut LocalStack) -> Result<Got, Broken> {
    let path = "/slow/1500";
    let mut connection = stack.connect(LINK_A, HOST_A, Protocol::Http1).await?;
    let answer = tokio::spawn(async move {
        // Not idempotent, so that it may not be tried again.
        let request = connection.request(Method::POST, path)?.body(empty())?;
        connection.fetch(request).await
    });
    arrived(stack, path).await?;
    let child = stack.ingress.child();
    child.set_stop_signal(Signal::KILL);
    child.stop();
    let answer = answer
        .await
        .map_err(|error| Broken::Unexpected(error.to_string()))??;
    got(&answer)
}

/// Waits until a request for `path` is at the back end.
async fn arrived(stack: &LocalStack, path: &str) -> Result<(), Broken> {
    let arrived = async || {
        let seen = echo::seen(stack.echo.address()).await.ok()?;
        seen.iter().any(|seen| seen.uri == path).then_some(())
    };
    let arrived = Deadline::after(STEP_TIMEOUT).poll(arrived).await;
    arrived.ok_or_else(|| Broken::Unexpected(format!("{path} did not reach the back end")))
}
