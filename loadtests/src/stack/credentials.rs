//! The development certificates of one stack, in folders as Postern and the ingress read them.
//!
//! Two authorities: a public-like one for the names that clients ask for, and the internal one for the
//! mutual TLS between Postern and the ingress. Never for production: keys lie unencrypted in a folder that
//! is thrown away with the stack.

use std::fmt;
use std::path::{Path, PathBuf};

use postern_certs::dev_ca::DevCa;

use super::{StackError, make_folder, write_file};

/// Common name in our client certificate, as the ingress sees it (`CN=…`).
pub const CLIENT_NAME: &str = "postern.internal.example";

/// Where the certificates and keys of one stack lie.
///
/// A credential folder has `tls.crt` (leaf first), `tls.key` and `ca.crt`; a trust folder only the last.
pub struct Credentials {
    /// `tls.crt` and `tls.key` for the names that clients ask for.
    pub private: PathBuf,
    /// `tls.crt` and `tls.key` that Postern shows to the ingress.
    pub client: PathBuf,
    /// `ca.crt`: whom Postern trusts to be the ingress, and the ingress to be Postern.
    pub trust: PathBuf,
    /// `tls.crt`, `tls.key` and `ca.crt` of the ingress.
    pub ingress: PathBuf,
    /// A client certificate and key of an authority that the ingress does not know.
    pub stranger: PathBuf,
    /// PEM file with the authority that a client needs to trust.
    pub public_ca: PathBuf,
    /// The authority for clients, to issue more from.
    pub public: DevCa,
    /// The authority between Postern and the ingress, to issue more from.
    pub internal: DevCa,
}

impl Credentials {
    /// Makes new authorities and all certificates under `folder`.
    ///
    /// `hosts` are the names (wildcards allowed) in the certificate for clients, `ingress_name` the one in
    /// the certificate of the ingress.
    pub fn create(folder: &Path, hosts: &[&str], ingress_name: &str) -> Result<Self, StackError> {
        let names = Self {
            private: folder.join("private"),
            client: folder.join("client"),
            trust: folder.join("trust"),
            ingress: folder.join("ingress"),
            stranger: folder.join("stranger"),
            public_ca: folder.join("public-ca.crt"),
            public: DevCa::new("Postern development public CA")?,
            internal: DevCa::new("Postern development internal CA")?,
        };
        names.public.server(hosts)?.write_to(&names.private)?;
        names
            .internal
            .server(&[ingress_name])?
            .write_to(&names.ingress)?;
        names
            .internal
            .client(CLIENT_NAME)?
            .write_to(&names.client)?;
        let unknown = DevCa::new("Postern development unknown CA")?;
        unknown.client(CLIENT_NAME)?.write_to(&names.stranger)?;
        make_folder(&names.trust)?;
        write_file(&names.trust.join("ca.crt"), names.internal.ca_pem())?;
        write_file(&names.public_ca, names.public.ca_pem())?;
        Ok(names)
    }

    /// Lets Postern read what a sidecar publishes: the stores `server`, `client` and `trust` under `stores`.
    pub fn read_from_stores(&mut self, stores: &Path) {
        self.private = stores.join("server");
        self.client = stores.join("client");
        self.trust = stores.join("trust");
    }
}

impl fmt::Debug for Credentials {
    /// Only where they lie.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("private", &self.private)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use postern_certs::{Bundle, Expectations, Location};
    use rustls::pki_types::UnixTime;

    use super::*;

    #[test]
    fn postern_takes_every_folder_for_what_it_is_for() {
        let folder = tempfile::tempdir().unwrap();
        let credentials =
            Credentials::create(folder.path(), &["*.a.example"], "b.example").unwrap();
        let now = UnixTime::since_unix_epoch(SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
        for (path, expectations) in [
            (&credentials.private, Expectations::server()),
            (&credentials.client, Expectations::client()),
            (&credentials.trust, Expectations::trust()),
        ] {
            let (parts, _) = Location::new(path).read().unwrap();
            Bundle::prove(parts, &expectations, now).unwrap();
        }
    }
}
