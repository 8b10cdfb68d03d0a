//! Who may ask for what.

use std::collections::BTreeMap;

use postern_api::HostName;
use postern_chassis::{Section, Setting, options};
use serde::{Deserialize, Serialize};

options! {
    /// One client, or one kind of them that share a certificate's name.
    pub struct ClientOptions {
        /// Required. The DNS name in the client certificate's subjectAltName: this very name, no wildcard.
        pub san: Option<HostName> = None => r#""postern.internal.example""#;
        /// Required. What it may do: "read" (lookup, changes, snapshot), "authorize" (an ingress's auth_request),
        /// "write" (the books: workspaces, accounts, private endpoint connections).
        pub roles: Vec<Role> = Vec::new() => r#"["read"]"#;
    }
}

/// What a client may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look up, follow the changes, take a snapshot: a data plane.
    Read,
    /// Have a request judged: an ingress.
    Authorize,
    /// Read and write the books: operators and what works for them.
    Write,
}

impl Setting for Role {}

impl Role {
    /// The word in the configuration and in answers.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Authorize => "authorize",
            Self::Write => "write",
        }
    }
}

// Limit: a client is a kind of program, not one instance; a name is a metric label and a log word.
const CLIENTS_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 63;

pub(super) fn validate(clients: &BTreeMap<String, ClientOptions>, at: &mut Section<'_>) {
    at.require("clients", !clients.is_empty(), || {
        "at least one is required, as in [clients.proxies]: nobody else is answered".into()
    });
    at.require("clients", clients.len() <= CLIENTS_MAX, || {
        format!("{} are more than {CLIENTS_MAX}", clients.len())
    });
    let mut at = at.under("clients");
    let mut sans = BTreeMap::new();
    for (name, client) in clients {
        at.require(name, is_name(name), || {
            format!("a name has 1 to {NAME_BYTES_MAX} of a-z, 0-9, - and _")
        });
        let mut at = at.under(name);
        at.require("san", client.san.is_some(), || {
            "is required: the DNS name in the client's certificate".into()
        });
        at.require("roles", !client.roles.is_empty(), || {
            "is required: one or more of \"read\", \"authorize\", \"write\"".into()
        });
        if let Some(san) = &client.san {
            let other = *sans.entry(san).or_insert(name);
            at.require("san", other == name, || {
                format!("`{san}` is already that of clients.{other}; give all its roles there")
            });
        }
    }
}

fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain)
}
