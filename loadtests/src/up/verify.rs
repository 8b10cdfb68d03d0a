//! The verified requests: what a user wants to see work before believing in the rest.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use http::{Method, StatusCode};
use postern_certs::Fingerprint;
use tokio::io::AsyncReadExt as _;
use uuid::Uuid;

use crate::check::{Broken, expect};
use crate::proxy_v2::Header;
use crate::stack::Deadline;
use crate::stack::accounts::{HOST_A, HOST_A_ARCHIVE, HOST_B, INGRESS_NAME, LINK_A};
use crate::stack::client::{Connection, Protocol, Tls, empty, open};
use crate::stack::credentials::CLIENT_NAME;
use crate::stack::echo;
use crate::stack::ingress::Ingress;
use crate::stack::postern::{Postern, TRUSTED_SOURCE};
use crate::stack::routing::Routing;
use crate::stack::vault::SERVER;
use crate::up::link;
use crate::up::vault::VaultProcess;

/// What a client may send and the ingress must not see: name and value.
pub const SPOOFED: [(&str, &str); 8] = [
    ("x-ms-private-link-id", "1"),
    ("x-forwarded-for", "203.0.113.1"),
    ("x-forwarded-proto", "gopher"),
    ("x-forwarded-host", "spoofed.example"),
    ("forwarded", "for=203.0.113.1"),
    ("x-real-ip", "203.0.113.1"),
    ("x-client-cert", "spoofed"),
    ("x-postern-foo", "spoofed"),
];

// Limit: the sidecar looks every two seconds, and Postern each second.
const ROTATION_TIMEOUT: Duration = Duration::from_secs(20);

/// What the checks need to reach.
#[derive(Debug, Clone, Copy)]
pub struct Targets<'a> {
    /// Postern.
    pub postern: &'a Postern,
    /// The ingress.
    pub ingress: &'a Ingress,
    /// Account routing.
    pub routing: &'a Routing,
    /// The vault.
    pub vault: &'a VaultProcess,
    /// The back end.
    pub echo: SocketAddr,
    /// The stand-in with the approved link.
    pub approved: SocketAddr,
    /// The stand-in with a link that nobody approved.
    pub refused: SocketAddr,
    /// PEM file of the authority for clients.
    pub ca: &'a Path,
}

/// One check: what it says, and what came of it.
pub type Outcome = (&'static str, Result<String, Broken>);

/// Runs all checks, in the order in which they are worth reading.
pub async fn all(targets: Targets<'_>) -> Vec<Outcome> {
    vec![
        (
            "an approved link is answered over HTTP/1.1",
            approved(targets, Protocol::Http1).await,
        ),
        (
            "an approved link is answered over HTTP/2",
            approved(targets, Protocol::Http2).await,
        ),
        (
            "a link that is not approved is refused",
            refused(targets).await,
        ),
        (
            "a Host that the link may reach by another connection is misdirected",
            other_host(targets, HOST_A_ARCHIVE, StatusCode::MISDIRECTED_REQUEST).await,
        ),
        (
            "a Host of another account is refused",
            other_host(targets, HOST_B, StatusCode::FORBIDDEN).await,
        ),
        (
            "a connection without a PROXY header is closed",
            without_header(targets).await,
        ),
        (
            "a link that an operator approves is answered",
            link::approved(targets).await,
        ),
        (
            "and one that an operator rejects is refused at once",
            link::rejected(targets).await,
        ),
        ("the health probe is answered", probe(targets).await),
        (
            "the certificate in use came from the vault",
            from_vault(targets).await,
        ),
        (
            "a new version in the vault comes into use",
            rotated(targets).await,
        ),
    ]
}

async fn approved(targets: Targets<'_>, protocol: Protocol) -> Result<String, Broken> {
    let tls = Tls::trusting(targets.ca)?;
    let mut connection = tls
        .connect(targets.approved, &Header::Absent, HOST_A, protocol)
        .await?;
    let path = format!("/verify/{}", Uuid::new_v4());
    let mut request = connection.request(Method::GET, &path)?;
    for (name, value) in SPOOFED {
        request = request.header(name, value);
    }
    let answer = connection.fetch(request.body(empty())?).await?;
    expect(answer.status == StatusCode::OK, || {
        format!("the answer is {}", answer.summary())
    })?;

    let line = targets
        .ingress
        .saw(&path, |line| line["uri"] == path.as_str())
        .await?;
    let expected = format!("CN={CLIENT_NAME}");
    // nginx says whether it verified the certificate; Envoy closes the connection where it could not.
    let verified = line["client_verify"]
        .as_str()
        .is_none_or(|word| word == "SUCCESS");
    expect(line["client_dn"] == expected && verified, || {
        format!("the ingress did not see our certificate: {line}")
    })?;
    expect(line["server_name"] == INGRESS_NAME, || {
        format!("the ingress was asked for another name: {line}")
    })?;

    let seen = echo::seen(targets.echo).await?;
    let seen = seen.iter().find(|seen| seen.uri == path);
    let seen = seen.ok_or_else(|| Broken::Unexpected(format!("no {path} at the back end")))?;
    for (name, value) in SPOOFED {
        expect(!seen.header(name).contains(&value), || {
            format!("the client's own `{name}: {value}` reached the back end")
        })?;
    }
    let link = LINK_A.to_string();
    for (name, value) in [
        ("x-ms-private-link-id", link.as_str()),
        ("x-forwarded-for", &TRUSTED_SOURCE.to_string()),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", HOST_A),
        ("host", HOST_A),
    ] {
        expect(seen.header(name) == [value], || {
            format!(
                "the back end saw `{name}` {:?}, not {value}",
                seen.header(name)
            )
        })?;
    }
    let ingress = line["protocol"].as_str().unwrap_or_default();
    Ok(format!(
        "200; the ingress saw {expected} and link {link} over {ingress}"
    ))
}

async fn refused(targets: Targets<'_>) -> Result<String, Broken> {
    let tls = Tls::trusting(targets.ca)?;
    let mut words = Vec::new();
    for protocol in Protocol::ALL {
        let connection = tls
            .connect(targets.refused, &Header::Absent, HOST_A, protocol)
            .await;
        let path = format!("/verify/{}", Uuid::new_v4());
        let answer = connection?.get(&path).await?;
        expect(answer.status == StatusCode::FORBIDDEN, || {
            format!("the answer over {} is {}", protocol.label(), answer.status)
        })?;
        unseen(targets, &path)?;
        words.push(answer.status.as_str().to_owned());
    }
    Ok(format!("{}; the ingress saw nothing", words.join(", ")))
}

async fn other_host(
    targets: Targets<'_>,
    host: &str,
    status: StatusCode,
) -> Result<String, Broken> {
    let tls = Tls::trusting(targets.ca)?;
    for protocol in Protocol::ALL {
        let mut connection = tls
            .connect(targets.approved, &Header::Absent, HOST_A, protocol)
            .await?;
        let path = format!("/verify/{}", Uuid::new_v4());
        let request = connection
            .request_for(host, Method::GET, &path)?
            .body(empty())?;
        let answer = connection.fetch(request).await?;
        expect(answer.status == status, || {
            format!(
                "the answer over {} is {}, not {status}",
                protocol.label(),
                answer.status
            )
        })?;
        unseen(targets, &path)?;
    }
    Ok(format!("{}; the ingress saw nothing", status.as_u16()))
}

async fn without_header(targets: Targets<'_>) -> Result<String, Broken> {
    let tls = Tls::trusting(targets.ca)?;
    let stream = open(targets.postern.data(), None, &Header::Absent).await?;
    let handshake = tls.handshake(stream, Some(HOST_A), Protocol::Http1).await;
    expect(handshake.is_err(), || "TLS was answered".to_owned())?;
    // And with bytes that are no TLS either: not one byte comes back.
    let request = Header::Raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..].into());
    let mut stream = open(targets.postern.data(), None, &request).await?;
    let mut answer = Vec::new();
    // A reset is as good an end as any.
    let _ = stream.read_to_end(&mut answer).await;
    expect(answer.is_empty(), || {
        format!("{} bytes came back", answer.len())
    })?;
    Ok("closed without a byte".to_owned())
}

async fn probe(targets: Targets<'_>) -> Result<String, Broken> {
    let answer = Connection::plain(targets.postern.probe())
        .await?
        .get("/healthz")
        .await?;
    expect(answer.status == StatusCode::OK, || {
        format!("the answer is {}", answer.status)
    })?;
    Ok("200".to_owned())
}

/// What a client is shown is what `/certs` says came from the vault; the version's name there.
async fn from_vault(targets: Targets<'_>) -> Result<String, Broken> {
    let listed = Connection::plain(targets.postern.admin())
        .await?
        .get("/certs")
        .await?
        .json();
    let shown = shown(targets).await?;
    let mut rows = listed["certificates"].as_array().into_iter().flatten();
    let row = rows.find(|row| row["fingerprint"] == shown);
    let version = row
        .and_then(|row| row["version"].as_str())
        .unwrap_or_default();
    let source = format!("{}/certificates/{SERVER}/", targets.vault.address().ip());
    expect(version.starts_with(&source), || {
        format!("a client is shown {shown}, and /certs says {listed}")
    })?;
    Ok(version.to_owned())
}

async fn rotated(targets: Targets<'_>) -> Result<String, Broken> {
    let version = targets.vault.rotate().await?;
    let in_use = async || {
        let from = from_vault(targets).await.ok()?;
        from.ends_with(&version).then_some(from)
    };
    let in_use = Deadline::after(ROTATION_TIMEOUT).poll(in_use).await;
    in_use.ok_or_else(|| {
        Broken::Unexpected(format!(
            "{version} is not in use after {ROTATION_TIMEOUT:?}"
        ))
    })
}

/// SHA-256 of the certificate that a client is shown.
async fn shown(targets: Targets<'_>) -> Result<String, Broken> {
    let tls = Tls::trusting(targets.ca)?;
    let stream = open(targets.approved, None, &Header::Absent).await?;
    let stream = tls.handshake(stream, Some(HOST_A), Protocol::Http1).await?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let leaf = chain.first().map(|leaf| Fingerprint::of(leaf).to_string());
    Ok(leaf.unwrap_or_default())
}

pub(super) fn unseen(targets: Targets<'_>, path: &str) -> Result<(), Broken> {
    let seen = targets
        .ingress
        .seen()
        .all()
        .iter()
        .any(|line| line["uri"] == path);
    expect(!seen, || format!("the ingress saw {path}"))
}
