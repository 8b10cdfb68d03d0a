//! The three listeners, and the PROXY protocol header in front of the data listener.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use postern_chassis::{Section, options, period};

options! {
    /// The data listener: PROXY v2 header, TLS, HTTP.
    pub struct DataOptions {
        /// Address and port to listen on.
        pub listen: SocketAddr = SocketAddr::from(([0, 0, 0, 0], 8443));
        /// Required. Networks (CIDR) that may open data connections: the NAT subnets of the Private Link Service.
        /// Whoever can connect from here can claim any link id.
        pub trusted_sources: Vec<IpNet> = Vec::new() => r#"["10.0.0.0/24"]"#;
        /// Networks (CIDR) whose connections without a link id get the health answer. Azure probes from 168.63.129.16.
        pub probe_sources: Vec<IpNet> = vec![IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(168, 63, 129, 16), 32))];
        /// Connections open at once in the whole process; more are closed at accept.
        pub connections_max: usize = 100_000;
        /// Time between TCP keepalive probes. Under 240s: the Private Link Service drops idle flows silently then.
        #[serde(with = "period")]
        pub tcp_keepalive: Duration = Duration::from_mins(2);
    }
}

options! {
    /// The probe listener.
    pub struct ProbeOptions {
        /// Address and port to listen on: plain HTTP, with or without a PROXY header.
        pub listen: SocketAddr = SocketAddr::from(([0, 0, 0, 0], 8080));
    }
}

options! {
    /// The admin listener.
    pub struct AdminOptions {
        /// Address and port to listen on: plain HTTP without authentication, so keep it on the loopback.
        pub listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 9090));
    }
}

options! {
    /// The PROXY v2 header in front of each data connection.
    pub struct ProxyHeaderOptions {
        /// Time until the header must be whole.
        #[serde(with = "period")]
        pub timeout: Duration = Duration::from_secs(3);
        /// Bytes of a header, the first 16 included; a longer one is refused.
        pub bytes_max: usize = 4096;
    }
}

// Limit: what one process can have in file descriptors (two for each proxied connection, of the kernel's
// default `nr_open` of 1048576).
const CONNECTIONS_MAX: usize = 500_000;
// Limit: the Private Link Service drops an idle flow after 240 to 300 seconds without telling either side.
const KEEPALIVE_MAX: Duration = Duration::from_secs(239);
// Limit: 16 fixed bytes, 216 for the largest address (AF_UNIX), and room for TLVs at the least; one page at
// the most, since Azure sends 36 bytes and TLVs are of no other use to us.
const HEADER_BYTES: std::ops::RangeInclusive<usize> = 536..=4096;

impl DataOptions {
    pub(super) fn validate(&self, mut at: Section<'_>) {
        at.port("listen", self.listen);
        at.require("trusted_sources", !self.trusted_sources.is_empty(), || {
            "is required: list the NAT subnets of the Private Link Service, as in [\"10.0.0.0/24\"]"
                .into()
        });
        at.within("connections_max", self.connections_max, 1..=CONNECTIONS_MAX);
        at.period(
            "tcp_keepalive",
            self.tcp_keepalive,
            Duration::from_secs(1)..=KEEPALIVE_MAX,
        );
    }
}

impl ProbeOptions {
    pub(super) fn validate(&self, mut at: Section<'_>) {
        at.port("listen", self.listen);
    }
}

impl AdminOptions {
    pub(super) fn validate(&self, mut at: Section<'_>) {
        at.port("listen", self.listen);
    }
}

impl ProxyHeaderOptions {
    pub(super) fn validate(&self, mut at: Section<'_>) {
        at.wait("timeout", self.timeout);
        at.within("bytes_max", self.bytes_max, HEADER_BYTES);
    }
}
