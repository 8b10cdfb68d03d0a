//! Who is at the other end of a connection, and what it may do.
//!
//! Promises: a certificate that verifies is not enough. What a client may do is what the configuration says of one of
//! the DNS names in its certificate, by that very name; of whom it says nothing may do nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use tokio::sync::{Notify, watch};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::routing::options::{ClientOptions, Role};

/// Who may do what: the configured clients by the name in their certificates.
#[derive(Debug)]
pub(in crate::routing) struct Clients(BTreeMap<String, BTreeSet<Role>>);

/// The client of a connection.
#[derive(Debug)]
pub(in crate::routing) struct Peer {
    /// The DNS names of its certificate, in lower case.
    pub(in crate::routing) names: Vec<String>,
    /// Of every configured client that it is.
    roles: BTreeSet<Role>,
    /// When its certificate ends, Unix seconds.
    pub(super) not_after: i64,
    /// Turns true when the connection is to end in good order: streams that would go on for ever end.
    pub(in crate::routing) closing: watch::Sender<bool>,
    /// Cuts the connection.
    pub(in crate::routing) cut: Notify,
}

impl Clients {
    /// As configured. What has no name in a certificate is nobody.
    pub(in crate::routing) fn new(clients: &BTreeMap<String, ClientOptions>) -> Self {
        let named = clients.values().filter_map(|client| {
            let roles = client.roles.iter().copied().collect();
            Some((client.san.as_ref()?.to_string(), roles))
        });
        Self(named.collect())
    }

    /// Who shows this certificate.
    pub(super) fn identify(&self, certificate: &[u8]) -> Arc<Peer> {
        // It was verified a moment ago; one that does not parse names nobody.
        let (names, not_after) = X509Certificate::from_der(certificate).map_or_else(
            |_| (Vec::new(), i64::MIN),
            |(_, parsed)| (dns_names(&parsed), parsed.validity().not_after.timestamp()),
        );
        let known = names.iter().filter_map(|name| self.0.get(name));
        Arc::new(Peer {
            roles: known.flatten().copied().collect(),
            names,
            not_after,
            closing: watch::Sender::new(false),
            cut: Notify::new(),
        })
    }
}

impl Peer {
    pub(in crate::routing) fn may(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}

/// The names in its certificate, for logs and refusals.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<_> = self.names.iter().take(NAMES_SHOWN).cloned().collect();
        match self.names.len() {
            0 => f.write_str("no DNS name"),
            count if count > NAMES_SHOWN => write!(f, "{}, …", shown.join(", ")),
            _ => f.write_str(&shown.join(", ")),
        }
    }
}

fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map(|extension| extension.value.general_names.as_slice());
    let dns = names
        .unwrap_or_default()
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) if name.bytes().all(|b| b.is_ascii_graphic()) => {
                Some(name.to_ascii_lowercase())
            }
            _ => None,
        });
    dns.collect()
}

// Limit: a line in a log; a certificate may have hundreds.
const NAMES_SHOWN: usize = 4;

#[cfg(test)]
mod tests {
    use postern_api::HostName;
    use postern_certs::Purpose;
    use postern_certs::dev_ca::{DevCa, LeafOptions};

    use super::*;

    fn peer(names: &[&str]) -> Arc<Peer> {
        let client = |san: &str, role| ClientOptions {
            san: Some(HostName::parse(san).unwrap()),
            roles: vec![role],
        };
        let clients = Clients::new(&BTreeMap::from([
            ("proxies".into(), client("proxy.example", Role::Read)),
            ("people".into(), client("people.example", Role::Write)),
        ]));
        let options = LeafOptions::new(Purpose::Client, names.iter().copied());
        let leaf = DevCa::new("CA").unwrap().leaf(&options).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(leaf.chain_pem.as_bytes()).unwrap();
        clients.identify(&pem.contents)
    }

    #[test]
    fn roles_come_from_the_very_name_and_nothing_else() {
        let roles = |names: &[&str]| -> Vec<_> {
            let peer = peer(names);
            let all = [Role::Read, Role::Authorize, Role::Write].into_iter();
            all.filter(|role| peer.may(*role)).collect()
        };
        assert_eq!(roles(&["Proxy.example"]), [Role::Read]);
        assert_eq!(
            roles(&["people.example", "other.example", "proxy.example"]),
            [Role::Read, Role::Write]
        );
        for names in [&["*.example"][..], &["a.proxy.example"], &["10.0.0.1"]] {
            assert_eq!(roles(names), [], "{names:?}");
        }
    }

    #[test]
    fn a_peer_is_shown_by_its_first_names() {
        assert_eq!(peer(&["10.0.0.1"]).to_string(), "no DNS name");
        assert_eq!(
            peer(&["a.x", "b.x", "c.x", "d.x", "e.x"]).to_string(),
            "a.x, b.x, c.x, d.x, …"
        );
        assert_eq!(
            Clients(BTreeMap::new()).identify(b"no").to_string(),
            "no DNS name"
        );
    }
}
