//! An account: what its approved links reach.

use std::num::NonZeroU32;

use postern_api::routing::AccountRoute;
use postern_api::{CustomerKey, HostName, ServiceKind};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{AccountId, ClusterName, KeyUrl};

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Account {
    /// What kind of service it is.
    pub kind: ServiceKind,
    /// Its host names. No other account may have any of them.
    pub hosts: Hosts,
    /// The ingress cluster it lives on.
    pub cluster: ClusterName,
    /// Whether it can be reached otherwise than by a private endpoint. Of no consequence here: the data plane serves
    /// private endpoints alone.
    #[serde(default)]
    pub public_network_access: PublicNetworkAccess,
    /// The key with which the customer encrypts its contents.
    #[serde(default)]
    pub customer_key: CustomerManagedKey,
    /// Requests per second of all its links together, on one instance of the data plane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<NonZeroU32>,
    /// How many private endpoint connections it may have; otherwise what the store's options say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections_max: Option<ConnectionsMax>,
}

impl Account {
    /// The account as the data plane needs it.
    pub fn route(&self, id: &AccountId) -> AccountRoute {
        AccountRoute {
            account: id.to_string(),
            kind: self.kind,
            hosts: self.hosts.as_slice().to_vec(),
            cluster: self.cluster.as_str().to_owned(),
            customer_key: self.customer_key.state,
            requests_per_second: self.requests_per_second,
        }
    }
}

/// The host names of an account, in the order in which they were given: 1 to [`HOSTS_MAX`], each once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<HostName>")]
pub struct Hosts(Box<[HostName]>);

/// How many host names an account may have.
// Limit: a service's own name, its custom domains and their successors; each is looked up and pushed by itself.
pub const HOSTS_MAX: usize = 16;

/// Why some host names cannot be those of an account.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHosts {
    /// None, or too many.
    #[error("an account has 1 to {HOSTS_MAX} hosts, not {0}")]
    Count(usize),
    /// One more than once.
    #[error("`{0}` is named twice")]
    Twice(HostName),
}

impl Hosts {
    /// The host names.
    pub fn as_slice(&self) -> &[HostName] {
        &self.0
    }
}

impl TryFrom<Vec<HostName>> for Hosts {
    type Error = InvalidHosts;

    fn try_from(hosts: Vec<HostName>) -> Result<Self, InvalidHosts> {
        if !(1..=HOSTS_MAX).contains(&hosts.len()) {
            return Err(InvalidHosts::Count(hosts.len()));
        }
        for (at, host) in hosts.iter().enumerate() {
            if hosts[..at].contains(host) {
                return Err(InvalidHosts::Twice(host.clone()));
            }
        }
        Ok(Self(hosts.into()))
    }
}

/// Whether an account can be reached otherwise than by a private endpoint, in Azure's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum PublicNetworkAccess {
    /// Over public addresses, too.
    Enabled,
    /// By private endpoints alone.
    #[default]
    Disabled,
}

impl PublicNetworkAccess {
    /// The word that Azure Resource Manager uses.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Enabled => "Enabled",
            Self::Disabled => "Disabled",
        }
    }
}

/// The key with which a customer encrypts an account's contents, if it is the customer's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CustomerManagedKey {
    /// Which key. None if the service's own is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "https://clinic.vault.azure.net/keys/images")]
    pub key_url: Option<KeyUrl>,
    /// Whether it can be used.
    #[serde(default)]
    pub state: CustomerKey,
}

/// How many private endpoint connections an account may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32")]
pub struct ConnectionsMax(u32);

/// It is not a number of connections that an account may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an account may have 1 to {CONNECTIONS_CEILING} connections, not {0}")]
pub struct InvalidConnectionsMax(u32);

// Limit: as many private endpoints as a Private Link Service takes ("Azure Private Link limits"). A change of the
// account carries all of them, 60 bytes each.
const CONNECTIONS_CEILING: u32 = 1000;

impl ConnectionsMax {
    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Default for ConnectionsMax {
    /// 100.
    fn default() -> Self {
        Self(100)
    }
}

impl TryFrom<u32> for ConnectionsMax {
    type Error = InvalidConnectionsMax;

    fn try_from(number: u32) -> Result<Self, InvalidConnectionsMax> {
        if (1..=CONNECTIONS_CEILING).contains(&number) {
            Ok(Self(number))
        } else {
            Err(InvalidConnectionsMax(number))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(names: &[&str]) -> Result<Hosts, InvalidHosts> {
        let names: Vec<_> = names.iter().map(|n| HostName::parse(n).unwrap()).collect();
        names.try_into()
    }

    #[test]
    fn hosts_are_some_and_different() {
        assert_eq!(hosts(&[]), Err(InvalidHosts::Count(0)));
        let many: Vec<_> = (0..=HOSTS_MAX).map(|n| format!("h{n}.example")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert_eq!(hosts(&many), Err(InvalidHosts::Count(17)));
        assert!(hosts(&many[1..]).is_ok());
        let twice = hosts(&["a.example", "b.example", "A.example"]).unwrap_err();
        assert_eq!(twice.to_string(), "`a.example` is named twice");
    }

    #[test]
    fn the_least_is_a_kind_a_host_and_a_cluster() {
        let text = r#"{"kind":"dicom","hosts":["a.example"],"cluster":"dicom"}"#;
        let account: Account = serde_json::from_str(text).unwrap();
        assert_eq!(account.public_network_access, PublicNetworkAccess::Disabled);
        assert_eq!(account.customer_key.state, CustomerKey::Accessible);
        let route = account.route(&"clinic/images".parse().unwrap());
        assert_eq!(route.account, "clinic/images");
        let again = serde_json::to_string(&account).unwrap();
        assert_eq!(serde_json::from_str::<Account>(&again).unwrap(), account);
    }

    #[test]
    fn bad_fields_are_refused() {
        for field in [
            r#""requestsPerSecond":0"#,
            r#""requestsPerSecond":4294967296"#,
            r#""connectionsMax":0"#,
            r#""connectionsMax":1001"#,
            r#""customerKey":{"state":"lost"}"#,
            r#""customerKey":{"secret":"s"}"#,
            r#""unknown":1"#,
        ] {
            let text =
                format!(r#"{{"kind":"dicom","hosts":["a.example"],"cluster":"dicom",{field}}}"#);
            assert!(serde_json::from_str::<Account>(&text).is_err(), "{field}");
        }
    }
}
