//! Asks name servers for the addresses of a name, and for how long they hold.
//!
//! Names are whole: no search list is applied. /etc/hosts goes first. A records are asked for, and AAAA where there is
//! none. Each lookup reads the system's files anew, so that a change of them needs no restart; nothing is cached here.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RecordType};
use postern_api::HostName;
use tokio::time::timeout;

use crate::metrics::DnsOutcome;
use crate::upstream::endpoints::ENDPOINTS_MAX;

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// At least one address, in order, none twice, at most [`ENDPOINTS_MAX`].
    pub addresses: Vec<IpAddr>,
    /// How long that holds: the least TTL over the chain of CNAMEs, as the servers say it.
    pub ttl: Duration,
}

impl Answer {
    /// With this port.
    pub fn at(&self, port: u16) -> Vec<SocketAddr> {
        let addresses = self.addresses.iter();
        addresses.map(|ip| SocketAddr::new(*ip, port)).collect()
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AskError {
    /// The servers say so. Traffic Manager does of a profile that is disabled.
    #[error("there is no such name")]
    NoName,
    /// There is the name, and no address.
    #[error("the name has no address")]
    NoAddress,
    /// No server answered in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// Asking failed, or the system's configuration cannot be read.
    #[error("{0}")]
    Failed(#[from] NetError),
}

impl AskError {
    /// Whether the servers answered, but with no address.
    pub const fn is_none(&self) -> bool {
        matches!(self, Self::NoName | Self::NoAddress)
    }
}

impl DnsOutcome {
    /// Of one lookup.
    pub const fn of(asked: &Result<Answer, AskError>) -> Self {
        match asked {
            Ok(_) => Self::Answered,
            Err(error) if error.is_none() => Self::None,
            Err(_) => Self::Failed,
        }
    }
}

/// Who knows the addresses of names.
pub trait Ask: Send + Sync + 'static {
    /// Asks these name servers, or those of the system if there are none.
    fn ask(
        &self,
        name: &HostName,
        servers: &[SocketAddr],
    ) -> impl Future<Output = Result<Answer, AskError>> + Send;
}

/// The network's name servers.
#[derive(Debug, Default)]
pub struct Dns;

impl Ask for Dns {
    async fn ask(&self, name: &HostName, servers: &[SocketAddr]) -> Result<Answer, AskError> {
        timeout(LOOKUP_TIMEOUT, look_up(name, servers))
            .await
            .map_err(|_| AskError::Timeout(LOOKUP_TIMEOUT))?
    }
}

async fn look_up(name: &HostName, servers: &[SocketAddr]) -> Result<Answer, AskError> {
    let resolver = resolver(servers)?;
    let mut name = Name::from_ascii(name).map_err(NetError::from)?;
    name.set_fqdn(true);
    match records(&resolver, &name, RecordType::A).await {
        Err(error) if error.is_none() => match records(&resolver, &name, RecordType::AAAA).await {
            // What the first said is the better word.
            Err(second) if second.is_none() => Err(error),
            other => other,
        },
        other => other,
    }
}

async fn records(
    resolver: &TokioResolver,
    name: &Name,
    kind: RecordType,
) -> Result<Answer, AskError> {
    let lookup = resolver.lookup(name.clone(), kind).await;
    let lookup = lookup.map_err(|error| match error {
        error if error.is_nx_domain() => AskError::NoName,
        error if error.is_no_records_found() => AskError::NoAddress,
        error => AskError::Failed(error),
    })?;
    // CNAMEs are among them.
    let chain = lookup.answers();
    let mut addresses: Vec<IpAddr> = chain
        .iter()
        .filter_map(|record| record.data.ip_addr())
        .filter(|ip| !ip.is_unspecified() && !ip.is_multicast())
        .collect();
    // Servers rotate them; the same set must look the same.
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(ENDPOINTS_MAX);
    let ttl = chain.iter().map(|record| record.ttl).min().unwrap_or(0);
    if addresses.is_empty() {
        return Err(AskError::NoAddress);
    }
    Ok(Answer {
        addresses,
        ttl: Duration::from_secs(ttl.into()),
    })
}

fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let mut builder = if servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = servers.iter().map(name_server).collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    options.timeout = options.timeout.min(QUERY_TIMEOUT);
    builder.build()
}

fn name_server(server: &SocketAddr) -> NameServerConfig {
    let ways = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut way| {
        way.port = server.port();
        way
    });
    NameServerConfig::new(server.ip(), true, ways.into())
}

// Limit: a resolver in the network answers in milliseconds, and in a second if it has to ask around.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);
// Limit: of two servers, each asked three times. Nobody waits for it but the next lookup of the same name.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_of_special_use_are_answered_without_asking() {
        let nobody = "127.0.0.1:9".parse().unwrap();
        let name = |text| HostName::parse(text).unwrap();
        let local = Dns.ask(&name("localhost"), &[nobody]).await.unwrap();
        assert_eq!(local.addresses, ["127.0.0.1".parse::<IpAddr>().unwrap()]);
        // RFC 6761 section 6.4: never asked for.
        let never = Dns.ask(&name("a.invalid"), &[nobody]).await.unwrap_err();
        assert!(never.is_none(), "{never}");
    }
}
