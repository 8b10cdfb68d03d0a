//! A drain whose deadline passes: what is open is left alone until then, and not a moment longer.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::Method;
use http_body_util::channel::Channel;
use tokio::time::{Instant, sleep, timeout};

use super::pair::drain;
use crate::check::{Broken, expect};
use crate::prove::site::Site;
use crate::proxy_v2::Header;
use crate::stack::Deadline;
use crate::stack::accounts::{HOST_A, LINK_A};
use crate::stack::child::READY_TIMEOUT;
use crate::stack::client::{BodyError, Connection, Protocol, streaming};
use crate::stack::postern::Postern;
use crate::stack::web_socket::{self, WebSocket};

const NOTICE: Duration = Duration::from_millis(300);
const TIMEOUT: Duration = Duration::from_secs(3);

// Limit: from the deadline to when a client has seen the end, on busy cores.
const LATE_MAX: Duration = Duration::from_secs(3);

const PAUSE: Duration = Duration::from_millis(20);

pub(super) async fn prove(site: &Site) -> Result<String, Broken> {
    let options = site.options(&[
        (
            "POSTERN_DRAIN__NOTICE",
            &format!("{}ms", NOTICE.as_millis()),
        ),
        ("POSTERN_DRAIN__TIMEOUT", &format!("{}s", TIMEOUT.as_secs())),
    ]);
    let postern = site.postern("deadline", &options).await?;
    let mut open = Vec::new();
    for protocol in Protocol::ALL {
        let mut connection = connect(site, &postern, protocol).await?;
        let socket = web_socket::open(&mut connection, protocol, "/websocket").await?;
        open.push(tokio::spawn(talk(socket, connection)));
        let connection = connect(site, &postern, protocol).await?;
        open.push(tokio::spawn(upload(connection)));
    }
    let uploads = as_count(Protocol::ALL.len());
    postern
        .counted("postern_requests_in_flight", &[], uploads)
        .await?;
    let deadline = Instant::now() + NOTICE + TIMEOUT;
    let asked = drain(&postern, Method::POST).await?;
    expect(asked["phase"] == "noticing", || asked.to_string())?;
    let ends = timeout(NOTICE + TIMEOUT + LATE_MAX, join_all(open.iter_mut())).await;
    let ends = ends.map_err(|_| Broken::Unexpected("something was never cut".into()))?;
    let mut latest = Duration::ZERO;
    for end in ends {
        let end = end.map_err(|error| Broken::Unexpected(error.to_string()))??;
        expect(end >= deadline, || {
            format!("something ended {:?} before the deadline", deadline - end)
        })?;
        latest = latest.max(end - deadline);
    }
    let drained = async || {
        let state = drain(&postern, Method::GET).await.ok()?;
        (state["phase"] == "drained").then_some(state)
    };
    let state = Deadline::after(READY_TIMEOUT).poll(drained).await;
    let state = state.unwrap_or_default();
    expect(state["connections_cut"] == open.len(), || state.to_string())?;
    told(&postern, open.len()).await?;
    Ok(format!(
        "{} connections, the last one {latest:.0?} after it",
        open.len()
    ))
}

/// Metric, log and access log say how many there were.
async fn told(postern: &Postern, count: usize) -> Result<(), Broken> {
    let metrics = postern.metrics().await?;
    let cut = metrics.sum("postern_drain_connections_cut_total", &[]);
    expect((cut - as_count(count)).abs() < 0.5, || {
        format!("the metric counts {cut}")
    })?;
    let line = postern.said("drain: deadline").await?;
    expect(line["connections"] == count, || line.to_string())?;
    let lines = async || {
        let lines = postern.access_log().all().into_iter();
        let lines = lines.filter(|line| line["ending"] == "cut").count();
        (lines == count).then_some(())
    };
    let lines = Deadline::after(READY_TIMEOUT).poll(lines).await;
    expect(lines.is_some(), || {
        format!("the access log has not {count} lines about it")
    })
}

async fn connect(site: &Site, to: &Postern, protocol: Protocol) -> Result<Connection, Broken> {
    let header = Header::link(LINK_A);
    let mut connection = site
        .tls
        .connect(to.data(), &header, HOST_A, protocol)
        .await?;
    // An answer shows that the server's SETTINGS have arrived.
    connection.get("/nonce/before").await?;
    Ok(connection)
}

/// Talks over a WebSocket until its end, and tells when that was.
async fn talk(mut socket: WebSocket, _carrier: Connection) -> Result<Instant, Broken> {
    while web_socket::says_back(&mut socket, "still here").await? {
        sleep(PAUSE).await;
    }
    Ok(Instant::now())
}

/// Uploads until that is cut, and tells when that was.
async fn upload(mut connection: Connection) -> Result<Instant, Broken> {
    let (mut sender, body) = Channel::<Bytes, BodyError>::new(1);
    let request = connection.request(Method::POST, "/sink")?;
    let answer = connection.send(request.body(streaming(body))?);
    let feed = async {
        while sender.send_data(Bytes::from_static(b"more")).await.is_ok() {
            sleep(PAUSE).await;
        }
        // What has become of it, the answer tells.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = answer => match answer {
            Ok(answer) => Err(Broken::Unexpected(format!("it was answered {}", answer.status()))),
            Err(_) => Ok(Instant::now()),
        },
        () = feed => Err(Broken::Unexpected("it had an end".into())),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a handful")]
fn as_count(count: usize) -> f64 {
    count as f64
}
