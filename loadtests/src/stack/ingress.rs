//! The ingress, whichever it is: what nginx and Envoy have in common.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::accounts::INGRESS_NAME;
use super::credentials::Credentials;
use super::envoy::{Envoy, EnvoyOptions};
use super::nginx::{Nginx, NginxOptions};
use super::{Child, JsonLines, StackError};

/// Which program is the ingress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum IngressKind {
    /// nginx, from the distribution.
    #[default]
    Nginx,
    /// Envoy, what AKS ships today.
    Envoy,
}

/// A running ingress.
#[derive(Debug)]
pub enum Ingress {
    /// nginx.
    Nginx(Nginx),
    /// Envoy.
    Envoy(Envoy),
}

impl Ingress {
    /// Starts one for [`INGRESS_NAME`] in front of `backend`, and waits until it listens.
    pub async fn start(
        kind: IngressKind,
        folder: &Path,
        credentials: &Credentials,
        http2: bool,
        backend: SocketAddr,
    ) -> Result<Self, StackError> {
        let (name, backend) = (INGRESS_NAME.to_owned(), Some(backend));
        Ok(match kind {
            IngressKind::Nginx => {
                let options = NginxOptions {
                    name,
                    http2,
                    backend,
                    ..NginxOptions::default()
                };
                Self::Nginx(Nginx::start(&folder.join("nginx"), credentials, &options).await?)
            }
            IngressKind::Envoy => {
                let options = EnvoyOptions {
                    name,
                    http2,
                    backend,
                    ..EnvoyOptions::default()
                };
                Self::Envoy(Envoy::start(&folder.join("envoy"), credentials, &options).await?)
            }
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Nginx(nginx) => nginx.address(),
            Self::Envoy(envoy) => envoy.address(),
        }
    }

    /// How long it took to listen.
    pub fn ready_after(&self) -> Duration {
        match self {
            Self::Nginx(nginx) => nginx.ready_after(),
            Self::Envoy(envoy) => envoy.ready_after(),
        }
    }

    /// The process.
    pub fn child(&mut self) -> &mut Child {
        match self {
            Self::Nginx(nginx) => nginx.child(),
            Self::Envoy(envoy) => envoy.child(),
        }
    }

    /// What it saw so far, one object a request; headers that were not sent are empty.
    pub fn seen(&self) -> &JsonLines {
        match self {
            Self::Nginx(nginx) => nginx.seen(),
            Self::Envoy(envoy) => envoy.seen(),
        }
    }

    /// Waits until it has logged a request that `matches`, which may be after the client has its answer.
    pub async fn saw(
        &self,
        awaited: &str,
        matches: impl Fn(&Value) -> bool,
    ) -> Result<Value, StackError> {
        self.seen().wait_for(awaited, matches).await
    }

    /// Takes the certificates of the stack anew, without ending open connections.
    pub fn reload(&self, credentials: &Credentials) -> Result<(), StackError> {
        match self {
            Self::Nginx(nginx) => nginx.reload(),
            Self::Envoy(envoy) => envoy.reload(credentials),
        }
    }
}
