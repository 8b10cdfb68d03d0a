//! What shows from outside that something new is in use.

use std::io;
use std::time::{Duration, SystemTime};

use futures_util::future::try_join_all;
use postern_certs::dev_ca::{DevCa, Issued};
use postern_certs::{Bundle, Expectations, UnixTime};
use rustls::ClientConnection;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};

use crate::check::{Broken, with_causes};
use crate::prove::fleet::{Fleet, certificates};
use crate::proxy_v2::Header;
use crate::stack::accounts::{HOST_A, LINK_A};
use crate::stack::client::{Connection, Protocol, Tls, open};
use crate::stack::postern::Postern;
use crate::stack::{Deadline, StackError};

/// What shows that something new is in use.
#[derive(Debug)]
pub(super) enum Sign {
    /// A client is shown this certificate.
    Server(CertificateDer<'static>),
    /// The ingress is shown a certificate with this serial number, in lower-case hex without leading zeros.
    Client(String),
    /// A certificate with this SHA-256 fingerprint is a trust anchor.
    Trust(String),
    /// And this one is not.
    NoTrust(String),
    /// From this moment on, a client's next ticket begins with this name of a key.
    Tickets { name: [u8; 16], from: SystemTime },
}

impl Sign {
    /// A server certificate.
    pub(super) fn server(issued: &Issued) -> Result<Self, Broken> {
        let leaf = CertificateDer::from_pem_slice(issued.chain_pem.as_bytes());
        let leaf = leaf.map_err(|error| Broken::Unexpected(with_causes(&error)))?;
        Ok(Self::Server(leaf))
    }

    /// A client identity.
    pub(super) fn client(issued: &Issued) -> Result<Self, Broken> {
        let bundle = issued.bundle().map_err(StackError::from)?;
        let serial = bundle.facts().serial.trim_start_matches('0');
        Ok(Self::Client(serial.to_owned()))
    }

    /// An authority that is trusted.
    pub(super) fn trust(ca: &DevCa) -> Result<Self, Broken> {
        Ok(Self::Trust(anchor(ca)?.facts().fingerprint.to_string()))
    }

    /// An authority that is not trusted.
    pub(super) fn no_trust(ca: &DevCa) -> Result<Self, Broken> {
        Ok(Self::NoTrust(anchor(ca)?.facts().fingerprint.to_string()))
    }

    /// Waits until every Postern shows it.
    pub(super) async fn shown_by_all(&self, fleet: &Fleet) -> Result<(), Broken> {
        if let Self::Tickets { from, .. } = self {
            let ahead = from.duration_since(SystemTime::now());
            tokio::time::sleep(ahead.unwrap_or_default()).await;
        }
        // At the same time: a ticket key may be out of use again a second later.
        let all = fleet
            .posterns
            .iter()
            .map(|postern| self.shown_by(postern, &fleet.tls));
        try_join_all(all).await.map(drop)
    }

    async fn shown_by(&self, postern: &Postern, tls: &Tls) -> Result<(), Broken> {
        let shown = async || match self.is_shown_by(postern, tls).await {
            Ok(true) => Some(Ok(())),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        };
        let shown = Deadline::after(SHOWN_TIMEOUT).poll(shown).await;
        shown.unwrap_or_else(|| {
            let data = postern.data();
            Err(Broken::Unexpected(format!(
                "after {SHOWN_TIMEOUT:?}, {data} does not show {self:?}"
            )))
        })
    }

    /// Whether a Postern shows it now, to a client of `tls`.
    pub(super) async fn is_shown_by(&self, postern: &Postern, tls: &Tls) -> Result<bool, Broken> {
        match self {
            Self::Server(expected) => Ok(leaf(postern, tls).await?.as_ref() == Some(expected)),
            Self::Client(serial) => {
                let answer = connect(postern, tls).await?.get("/identity").await?.json();
                let shown = answer["serial"].as_str().unwrap_or_default().to_lowercase();
                Ok(answer["verify"] == "SUCCESS" && shown.trim_start_matches('0') == serial)
            }
            Self::Trust(fingerprint) => is_anchor(postern, fingerprint).await,
            Self::NoTrust(fingerprint) => Ok(!is_anchor(postern, fingerprint).await?),
            Self::Tickets { name, .. } => {
                let tls = tls.resuming(Resumption::in_memory_sessions(SESSIONS_MAX));
                let answer = connect(postern, &tls).await?.get("/nonce/ticket").await?;
                let first = first_flight(&tls)?;
                // The ticket came with the answer, and begins with the name of its key.
                let is_named = first.windows(name.len()).any(|window| window == name);
                Ok(answer.status == http::StatusCode::OK && is_named)
            }
        }
    }
}

/// The authority by itself, as a trust anchor.
pub(super) fn anchor(ca: &DevCa) -> Result<Bundle, Broken> {
    Bundle::prove(ca.trust(), &Expectations::trust(), UnixTime::now())
        .map_err(|error| Broken::Unexpected(with_causes(&error)))
}

async fn is_anchor(postern: &Postern, fingerprint: &str) -> Result<bool, Broken> {
    let listed = certificates(postern).await?;
    let mut rows = listed["certificates"].as_array().into_iter().flatten();
    Ok(rows.any(|row| row["role"] == "anchor" && row["fingerprint"] == fingerprint))
}

async fn connect(postern: &Postern, tls: &Tls) -> Result<Connection, Broken> {
    let header = Header::link(LINK_A);
    let connection = tls.connect(postern.data(), &header, HOST_A, Protocol::Http1);
    Ok(connection.await?)
}

async fn leaf(postern: &Postern, tls: &Tls) -> Result<Option<CertificateDer<'static>>, Broken> {
    let tls = tls.resuming(Resumption::disabled());
    let stream = open(postern.data(), None, &Header::link(LINK_A)).await?;
    let stream = tls.handshake(stream, Some(HOST_A), Protocol::Http1).await?;
    let chain = stream.get_ref().1.peer_certificates();
    Ok(chain
        .and_then(|chain| chain.first())
        .map(|leaf| leaf.clone().into_owned()))
}

/// The bytes with which a client of `tls` would begin its next handshake: the ticket is in there as it came.
fn first_flight(tls: &Tls) -> Result<Vec<u8>, Broken> {
    let invalid = |error| Broken::Socket(io::Error::other(error));
    let name =
        ServerName::try_from(HOST_A).map_err(|error| Broken::Socket(io::Error::other(error)))?;
    let mut client = ClientConnection::new(tls.config().into(), name).map_err(invalid)?;
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes)?;
    Ok(bytes)
}

// Limit: how long something new may take to be in use everywhere, on busy cores.
const SHOWN_TIMEOUT: Duration = Duration::from_secs(15);

// Limit: sessions of a client that makes one handshake.
const SESSIONS_MAX: usize = 8;
