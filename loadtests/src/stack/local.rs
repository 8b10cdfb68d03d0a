//! The whole local stack in one value: certificates, back end, ingress, Postern.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::accounts::{self, CERTIFICATE_NAME, INGRESS_NAME};
use super::client::{ClientError, Connection, Protocol, Tls};
use super::credentials::Credentials;
use super::echo::Echo;
use super::ingress::{Ingress, IngressKind};
use super::postern::{Postern, PosternOptions, Routes};
use super::routing::{Routing, RoutingOptions};
use super::{StackError, make_folder};
use crate::proxy_v2::Header;

/// What the stack is to be like where it differs from the usual.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// Which program is the ingress.
    pub ingress: IngressKind,
    /// Whether the ingress offers HTTP/2.
    pub ingress_http2: bool,
    /// Protocol towards the ingress: `auto`, `http1` or `h2`.
    pub ingress_protocol: &'static str,
    /// Lines above the first section of Postern's configuration.
    pub top_level: String,
    /// Sections below the last one of Postern's configuration.
    pub more: String,
    /// `POSTERN_…` variables.
    pub environment: Vec<(String, String)>,
    /// The program to run as Postern, if not the one that was built.
    pub program: Option<PathBuf>,
    /// The account-routing service, to be asked in place of a route file.
    pub routing: Option<RoutingOptions>,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self {
            ingress: IngressKind::default(),
            ingress_http2: true,
            ingress_protocol: "auto",
            top_level: String::new(),
            more: String::new(),
            environment: Vec::new(),
            program: None,
            routing: None,
        }
    }
}

/// A running stack. Its parts end in the order of the fields: Postern first.
#[derive(Debug)]
pub struct LocalStack {
    /// Postern.
    pub postern: Postern,
    /// The account-routing service, if it was asked for.
    pub routing: Option<Routing>,
    /// The ingress.
    pub ingress: Ingress,
    /// The back end, in this process.
    pub echo: Echo,
    /// The certificates.
    pub credentials: Credentials,
}

impl LocalStack {
    /// Starts everything under `folder` and waits until Postern is ready.
    pub async fn start(folder: &Path, options: &LocalOptions) -> Result<Self, StackError> {
        make_folder(folder)?;
        let credentials =
            Credentials::create(&folder.join("certs"), &[CERTIFICATE_NAME], INGRESS_NAME)?;
        let echo = Echo::start(None).await?;
        let http2 = options.ingress_http2;
        let ingress =
            Ingress::start(options.ingress, folder, &credentials, http2, echo.address()).await?;
        let routing = match &options.routing {
            None => None,
            Some(options) => {
                let folder = folder.join("routing");
                let routing = Routing::start(&folder, &credentials, options).await?;
                routing.operator()?.seed().await?;
                Some(routing)
            }
        };
        let routes = match &routing {
            None => Routes::File(accounts::routes()),
            Some(routing) => Routes::Service(vec![routing.address()]),
        };
        let settings = PosternOptions {
            routes,
            more: options.more.clone(),
            ingress_protocol: options.ingress_protocol,
            top_level: options.top_level.clone(),
            environment: options.environment.clone(),
            program: options.program.clone(),
            ..PosternOptions::new(ingress.address())
        };
        let postern = Postern::start(&folder.join("postern"), &credentials, &settings).await?;
        Ok(Self {
            postern,
            routing,
            ingress,
            echo,
            credentials,
        })
    }

    /// A client that trusts the certificate for clients.
    pub fn tls(&self) -> Result<Tls, ClientError> {
        Tls::trusting(&self.credentials.public_ca)
    }

    /// A client of private endpoint `link_id` that asks for `host`.
    pub async fn connect(
        &self,
        link_id: u32,
        host: &str,
        protocol: Protocol,
    ) -> Result<Connection, ClientError> {
        let data: SocketAddr = self.postern.data();
        self.tls()?
            .connect(data, &Header::link(link_id), host, protocol)
            .await
    }
}
