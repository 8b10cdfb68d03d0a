//! The internal authority is replaced end to end while customers work: Postern's side and the ingress's.
//!
//! In this order, as nobody may be shown what it does not trust yet, nor lose whom it still needs: both sides trust
//! the new authority beside the old one; the ingress's certificate, then Postern's identity are of the new one; both
//! sides drop the old one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::StatusCode;
use postern_certs::dev_ca::{DevCa, Issued};
use postern_certs::{Bundle, Expectations, Parts, Store, UnixTime};
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::fleet::Fleet;
use super::sign::Sign;
use super::traffic::UPLOAD_TIME;
use super::{Proof, Run, Running, Scenario};
use crate::check::{Broken, with_causes};
use crate::proxy_v2::Header;
use crate::stack::accounts::{CERTIFICATE_NAME, INGRESS_NAME};
use crate::stack::client::{Protocol, Tls, open};
use crate::stack::credentials::{CLIENT_NAME, Credentials, Stores};
use crate::stack::{Deadline, StackError, write_file};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "ca-rotation",
    promise: "The internal authority is replaced on both sides without one failed request, and in no other order than a safe one.",
    run: |run| -> Running { Box::pin(prove(run)) },
};

// Limit: how long the ingress may take to start its new workers.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(15);

// Limit: between two steps, longer than an upload.
const PAUSE: Duration = Duration::from_secs(10);
const PAUSE_QUICK: Duration = UPLOAD_TIME;

const POSTERNS: usize = 2;

async fn prove(run: Run) -> Result<Proof, Broken> {
    let place = run.folder.join("certs");
    let mut credentials = Credentials::create(&place, &[CERTIFICATE_NAME], INGRESS_NAME)?;
    let stores = Stores::create(&place.join("stores"), &mut credentials)?;
    let old = &credentials.internal;
    let new = &DevCa::new("Postern development next internal CA").map_err(StackError::from)?;
    let server = credentials.public.server(&[CERTIFICATE_NAME]);
    publish(&stores.server, &bundle(&server.map_err(StackError::from)?)?)?;
    let identity = |ca: &DevCa| bundle(&ca.client(CLIENT_NAME).map_err(StackError::from)?);
    publish(&stores.client, &identity(old)?)?;
    publish(&stores.trust, &anchors(&[old])?)?;
    let fleet = Fleet::start(&run.folder, &credentials, POSTERNS, &[]).await?;
    let tls = Tls::trusting(&credentials.public_ca)?;
    let ingress = IngressSide::new(&fleet, &credentials, &place, [old, new])?;
    let seen = async |sign: Sign| sign.shown_by_all(&fleet, &tls).await;

    let mut proof = Proof::default();
    let traffic = fleet.traffic(tls.clone());
    let pause = if run.quick { PAUSE_QUICK } else { PAUSE };
    let mut step = async |claim: &str, done: Result<(), Broken>| {
        proof.row(claim, done.map(|()| "done".to_owned()));
        // Customers work on under what is now.
        tokio::time::sleep(pause).await;
    };

    publish(&stores.trust, &anchors(&[old, new])?)?;
    let trusted = Sign::Trust(anchors(&[new])?.facts().fingerprint.to_string());
    step("Postern trusts both authorities", seen(trusted).await).await;

    let done = ingress.trusts(&[old, new], [true, true]).await;
    step("the ingress trusts both", done).await;

    let issued = new.server(&[INGRESS_NAME]).map_err(StackError::from)?;
    let done = ingress.shows(&issued).await;
    step("the ingress's certificate is of the new one", done).await;

    let bundle = identity(new)?;
    publish(&stores.client, &bundle)?;
    let serial = bundle.facts().serial.trim_start_matches('0').to_owned();
    step(
        "Postern's identity is of the new one",
        seen(Sign::Client(serial)).await,
    )
    .await;

    let done = ingress.trusts(&[new], [false, true]).await;
    step("the ingress drops the old one", done).await;

    publish(&stores.trust, &anchors(&[new])?)?;
    let dropped = Sign::NoTrust(anchors(&[old])?.facts().fingerprint.to_string());
    step("Postern drops the old one", seen(dropped).await).await;

    traffic.stop().await.tell(&mut proof);
    Ok(proof)
}

fn bundle(issued: &Issued) -> Result<Bundle, Broken> {
    Ok(issued.bundle().map_err(StackError::from)?)
}

fn anchors(authorities: &[&DevCa]) -> Result<Bundle, Broken> {
    let all: String = authorities.iter().map(|ca| ca.ca_pem()).collect();
    Bundle::prove(
        Parts::anchors(&all),
        &Expectations::trust(),
        UnixTime::now(),
    )
    .map_err(|error| Broken::Unexpected(with_causes(&error)))
}

fn publish(store: &Store, bundle: &Bundle) -> Result<(), Broken> {
    let published = store.publish(bundle, "rotated");
    published
        .map(drop)
        .map_err(|error| Broken::Unexpected(with_causes(&error)))
}

fn late(what: &str) -> Broken {
    Broken::Unexpected(format!(
        "the ingress did not {what} within {RELOAD_TIMEOUT:?}"
    ))
}

/// The ingress's own side, as its operator keeps it, with a look at it from outside.
struct IngressSide<'a> {
    fleet: &'a Fleet,
    credentials: &'a Credentials,
    /// A client that trusts both authorities, for each identity.
    by_old: Tls,
    by_new: Tls,
}

impl<'a> IngressSide<'a> {
    fn new(
        fleet: &'a Fleet,
        credentials: &'a Credentials,
        place: &Path,
        [old, new]: [&DevCa; 2],
    ) -> Result<Self, Broken> {
        let both = place.join("both.crt");
        write_file(&both, format!("{}{}", old.ca_pem(), new.ca_pem()))?;
        let client = |ca: &DevCa, name: &str| -> Result<Tls, Broken> {
            let folder: PathBuf = place.join(name);
            let issued = ca.client(name).map_err(StackError::from)?;
            issued.write_to(&folder).map_err(StackError::from)?;
            Ok(Tls::with_identity(&both, &folder)?.resuming(Resumption::disabled()))
        };
        Ok(Self {
            by_old: client(old, "probe-old")?,
            by_new: client(new, "probe-new")?,
            fleet,
            credentials,
        })
    }

    /// Lets it trust these, and no others.
    async fn trusts(&self, authorities: &[&DevCa], [old, new]: [bool; 2]) -> Result<(), Broken> {
        let anchors: String = authorities.iter().map(|ca| ca.ca_pem()).collect();
        write_file(&self.credentials.ingress.join("ca.crt"), anchors)?;
        self.reload()?;
        let as_expected = async || {
            let both = [
                self.accepts(&self.by_old).await,
                self.accepts(&self.by_new).await,
            ];
            matches!(both, [Ok(by_old), Ok(by_new)] if [by_old, by_new] == [old, new]).then_some(())
        };
        let trusts = Deadline::after(RELOAD_TIMEOUT).poll(as_expected).await;
        trusts.ok_or_else(|| late("trust what it was told to"))
    }

    /// Gives it another certificate.
    async fn shows(&self, issued: &Issued) -> Result<(), Broken> {
        write_file(
            &self.credentials.ingress.join("tls.key"),
            issued.key_pem.as_bytes(),
        )?;
        write_file(&self.credentials.ingress.join("tls.crt"), &issued.chain_pem)?;
        self.reload()?;
        let leaf = CertificateDer::from_pem_slice(issued.chain_pem.as_bytes()).ok();
        let shown = async || (self.leaf().await.ok()? == leaf).then_some(());
        let shown = Deadline::after(RELOAD_TIMEOUT).poll(shown).await;
        shown.ok_or_else(|| late("show its new certificate"))
    }

    fn reload(&self) -> Result<(), StackError> {
        self.fleet.ingress.reload(self.credentials)
    }

    async fn accepts(&self, tls: &Tls) -> Result<bool, Broken> {
        let address = self.fleet.ingress.address();
        let connection = tls.connect(address, &Header::Absent, INGRESS_NAME, Protocol::Http1);
        // Whoever is not trusted gets an answer all the same: 400.
        Ok(connection.await?.get("/").await?.status == StatusCode::OK)
    }

    async fn leaf(&self) -> Result<Option<CertificateDer<'static>>, Broken> {
        let stream = open(self.fleet.ingress.address(), None, &Header::Absent).await?;
        let stream = self
            .by_old
            .handshake(stream, Some(INGRESS_NAME), Protocol::Http1)
            .await?;
        let chain = stream.get_ref().1.peer_certificates();
        Ok(chain
            .and_then(|chain| chain.first())
            .map(|leaf| leaf.clone().into_owned()))
    }
}
