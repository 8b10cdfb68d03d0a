//! What the reloads change, and how a file is spoilt.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use postern_certs::dev_ca::{DevCaError, Issued};

use crate::check::Broken;
use crate::prove::sign::Sign;
use crate::prove::site::Site;
use crate::stack::StackError;
use crate::stack::accounts::CERTIFICATE_NAME;
use crate::stack::credentials::CLIENT_NAME;

/// The settings of one reload.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Settings(u32);

/// Where ingresses and certificates are: two of each.
pub(super) struct Places {
    ingresses: [SocketAddr; 2],
    /// Each with what shows that it is in use.
    servers: [(PathBuf, Sign); 2],
    clients: [(PathBuf, Sign); 2],
}

/// A way to spoil a file.
pub(super) struct Mistake {
    pub(super) claim: &'static str,
    from: &'static str,
    to: &'static str,
    /// What the refusal says.
    pub(super) says: &'static str,
}

/// All of them.
pub(super) const MISTAKES: &[Mistake] = &[
    Mistake {
        claim: "a key that there is not changes nothing",
        from: "[tls]\n",
        to: "[tls]\ntimeoutt = \"9s\"\n",
        says: "`timeout`",
    },
    Mistake {
        claim: "a file that is no TOML changes nothing",
        from: "[tls]\n",
        to: "[tls\n",
        says: "postern.toml:",
    },
    Mistake {
        claim: "a key that needs an upgrade changes nothing",
        from: "[data]\n",
        to: "workers = 7\n[data]\n",
        says: "workers cannot change",
    },
    Mistake {
        claim: "a certificate for other names changes nothing",
        from: "names = [\"*.dicom.example\"]",
        to: "names = [\"*.other.example\"]",
        says: "*.other.example",
    },
    Mistake {
        claim: "a place without ticket keys changes nothing",
        from: "[tls]\n",
        to: "[tls]\nticket_keys = \"nowhere\"\n",
        says: "nowhere",
    },
    Mistake {
        claim: "a cluster that routes lead to and is gone changes nothing",
        from: "clusters.dicom]",
        to: "clusters.other]",
        says: "there is no cluster `dicom`",
    },
];

impl Settings {
    pub(super) const fn number(number: u32) -> Self {
        Self(number)
    }

    /// Which certificate for clients, and which towards the ingress. They change seldom enough that connections to
    /// the ingress are used for a while.
    const fn certificates(self) -> (usize, usize) {
        ((self.0 / 2 % 2) as usize, (self.0 / 4 % 2) as usize)
    }

    /// What `/config` shows. Nobody is to meet one of these bounds.
    pub(super) fn lines(self) -> [String; 5] {
        let Self(number) = self;
        [
            format!("connections_max = {}", 10_000 + number),
            format!("response_timeout = \"{}s\"", 31 + number % 29),
            format!("idle_timeout = \"{}s\"", 31 + number % 27),
            format!("requests_max = {}", 5_000 + number),
            format!("check_interval = \"{}ms\"", 200 + number),
        ]
    }
}

impl Mistake {
    /// The file with it.
    pub(super) fn spoil(&self, text: &str) -> String {
        text.replacen(self.from, self.to, 1)
    }
}

impl Places {
    /// Issues a second certificate of each kind.
    pub(super) fn new(site: &Site, ingresses: [SocketAddr; 2]) -> Result<Self, Broken> {
        let credentials = &site.credentials;
        let server = |name| {
            let issued = credentials.public.server(&[CERTIFICATE_NAME]);
            issue(site, name, issued, Sign::server)
        };
        let client = |name| {
            let issued = credentials.internal.client(CLIENT_NAME);
            issue(site, name, issued, Sign::client)
        };
        Ok(Self {
            ingresses,
            servers: [server("server-0")?, server("server-1")?],
            clients: [client("client-0")?, client("client-1")?],
        })
    }

    /// Where requests go.
    pub(super) const fn ingress(&self, settings: Settings) -> SocketAddr {
        self.ingresses[(settings.0 % 2) as usize]
    }

    /// What shows that certificates are taken from where the settings say.
    pub(super) const fn signs(&self, settings: Settings) -> [&Sign; 2] {
        let (server, client) = settings.certificates();
        [&self.servers[server].1, &self.clients[client].1]
    }

    /// The file that the site's Postern began with, with these settings.
    pub(super) fn configuration(&self, site: &Site, base: &str, settings: Settings) -> String {
        let quoted = |path: &Path| format!("\"{}\"", path.display());
        let (server, client) = settings.certificates();
        let credentials = &site.credentials;
        let [connections, response, idle, requests, check] = settings.lines();
        let ingress = site.ingress.address().to_string();
        let edits = [
            (ingress, self.ingress(settings).to_string()),
            (
                quoted(&credentials.private),
                quoted(&self.servers[server].0),
            ),
            (quoted(&credentials.client), quoted(&self.clients[client].0)),
            ("[data]\n".into(), format!("[data]\n{connections}\n")),
            ("[upstream]\n".into(), format!("[upstream]\n{response}\n")),
            (
                "[access_log]".into(),
                format!("[http]\n{idle}\n{requests}\n\n[credentials]\n{check}\n\n[access_log]"),
            ),
        ];
        let edit = |text: String, (from, to): &(String, String)| text.replacen(from, to, 1);
        edits.iter().fold(base.to_owned(), edit)
    }
}

/// Puts a certificate in a folder of its own.
fn issue(
    site: &Site,
    name: &str,
    issued: Result<Issued, DevCaError>,
    sign: impl Fn(&Issued) -> Result<Sign, Broken>,
) -> Result<(PathBuf, Sign), Broken> {
    let folder = site.place(name);
    let issued = issued.map_err(StackError::from)?;
    issued.write_to(&folder).map_err(StackError::from)?;
    Ok((folder, sign(&issued)?))
}
