//! What a bundle has to be good for.

use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;

/// What a bundle is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The certificate that clients see: a chain and key whose leaf may authenticate a TLS server.
    Server,
    /// Our own identity towards the ingress: a chain and key whose leaf may authenticate a TLS client.
    Client,
    /// The CAs that may have issued the ingress's certificate: trust anchors, no key.
    Trust,
}

impl Purpose {
    /// The word in logs, metrics and manifests.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Trust => "trust",
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// What [`Bundle::prove`](crate::Bundle::prove) holds parts against.
#[derive(Debug, Clone)]
pub struct Expectations {
    pub(crate) purpose: Purpose,
    pub(crate) names: Vec<String>,
    pub(crate) anchors: Option<Arc<RootCertStore>>,
}

impl Expectations {
    /// A server certificate. The chain must be ordered and each signature in it must verify.
    pub const fn server() -> Self {
        Self::new(Purpose::Server)
    }

    /// A client identity. The same, and if the parts ship trust anchors the chain must verify to them.
    pub const fn client() -> Self {
        Self::new(Purpose::Client)
    }

    /// Trust anchors.
    pub const fn trust() -> Self {
        Self::new(Purpose::Trust)
    }

    const fn new(purpose: Purpose) -> Self {
        Self {
            purpose,
            names: Vec::new(),
            anchors: None,
        }
    }

    /// The leaf must also cover these DNS names. `*.example` asks for that very wildcard.
    #[must_use]
    pub fn covering<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.names.extend(names.into_iter().map(Into::into));
        self
    }

    /// The chain must also verify to one of these anchors.
    #[must_use]
    pub fn anchored_in(mut self, anchors: Arc<RootCertStore>) -> Self {
        self.anchors = Some(anchors);
        self
    }

    /// What the bundle is for.
    pub const fn purpose(&self) -> Purpose {
        self.purpose
    }
}
