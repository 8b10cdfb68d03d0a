//! The ingress's side of a CA rotation, as its operator does it by hand: files, then a reload. Whether it took them is
//! seen from outside.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::StatusCode;
use postern_certs::dev_ca::DevCa;
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::check::Broken;
use crate::prove::fleet::Fleet;
use crate::proxy_v2::Header;
use crate::stack::accounts::INGRESS_NAME;
use crate::stack::client::{Protocol, Tls, open};
use crate::stack::{Deadline, StackError, make_folder, write_file};

// Limit: how long the ingress may take to start its new workers.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(15);

/// The ingress, and two clients of it.
pub(super) struct IngressSide<'a> {
    fleet: &'a Fleet,
    /// A client that trusts both authorities, for each identity.
    by_old: Tls,
    by_new: Tls,
}

impl<'a> IngressSide<'a> {
    pub(super) fn new(
        fleet: &'a Fleet,
        place: &Path,
        [old, new]: [&DevCa; 2],
    ) -> Result<Self, Broken> {
        make_folder(place)?;
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
        })
    }

    /// Lets it trust these, and no others.
    pub(super) async fn trusts(
        &self,
        authorities: &[&DevCa],
        [old, new]: [bool; 2],
    ) -> Result<String, Broken> {
        let anchors: String = authorities.iter().map(|ca| ca.ca_pem()).collect();
        write_file(&self.fleet.credentials.ingress.join("ca.crt"), anchors)?;
        self.reload()?;
        let as_expected = async || {
            let both = [
                self.accepts(&self.by_old).await,
                self.accepts(&self.by_new).await,
            ];
            matches!(both, [Ok(by_old), Ok(by_new)] if [by_old, by_new] == [old, new]).then_some(())
        };
        let trusts = Deadline::after(RELOAD_TIMEOUT).poll(as_expected).await;
        trusts.ok_or_else(|| late("trust what it was told to"))?;
        Ok(format!("{} in its bundle", authorities.len()))
    }

    /// Gives it a certificate of this authority.
    pub(super) async fn shows(&self, ca: &DevCa) -> Result<String, Broken> {
        let issued = ca.server(&[INGRESS_NAME]).map_err(StackError::from)?;
        write_file(
            &self.fleet.credentials.ingress.join("tls.key"),
            issued.key_pem.as_bytes(),
        )?;
        write_file(
            &self.fleet.credentials.ingress.join("tls.crt"),
            &issued.chain_pem,
        )?;
        self.reload()?;
        let leaf = CertificateDer::from_pem_slice(issued.chain_pem.as_bytes()).ok();
        let shown = async || (self.leaf().await.ok()? == leaf).then_some(());
        let shown = Deadline::after(RELOAD_TIMEOUT).poll(shown).await;
        shown.ok_or_else(|| late("show its new certificate"))?;
        Ok("shown".to_owned())
    }

    fn reload(&self) -> Result<(), StackError> {
        self.fleet.ingress.reload(&self.fleet.credentials)
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

fn late(what: &str) -> Broken {
    Broken::Unexpected(format!(
        "the ingress did not {what} within {RELOAD_TIMEOUT:?}"
    ))
}
