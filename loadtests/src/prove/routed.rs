//! What the scenarios about routes run on: the account-routing service with the accounts of the stack, Posterns that
//! ask it, an ingress and a back end.

use std::path::{Path, PathBuf};

use crate::check::Broken;
use crate::prove::traffic::{Targets, Traffic};
use crate::proxy_v2::Header;
use crate::stack::accounts::{CERTIFICATE_NAME, INGRESS_NAME};
use crate::stack::client::{ClientError, Connection, Protocol, Tls};
use crate::stack::credentials::Credentials;
use crate::stack::echo::Echo;
use crate::stack::ingress::{Ingress, IngressKind};
use crate::stack::operator::Operator;
use crate::stack::postern::{Postern, PosternOptions, Routes};
use crate::stack::routing::{Routing, RoutingOptions};

/// A running stack. Its parts end in the order of the fields.
#[derive(Debug)]
pub(super) struct Routed {
    pub(super) posterns: Vec<Postern>,
    pub(super) routing: Routing,
    pub(super) operator: Operator,
    pub(super) ingress: Ingress,
    /// The back end, in this process.
    _echo: Echo,
    pub(super) credentials: Credentials,
    /// Trusts the certificate for clients.
    pub(super) tls: Tls,
    folder: PathBuf,
}

impl Routed {
    /// Starts all of it under `folder` and waits until it is ready, with `count` Posterns with these variables.
    pub(super) async fn start(
        folder: &Path,
        count: usize,
        variables: &[(&str, &str)],
        options: &RoutingOptions,
    ) -> Result<Self, Broken> {
        let place = folder.join("certs");
        let credentials = Credentials::create(&place, &[CERTIFICATE_NAME], INGRESS_NAME)?;
        let routing = Routing::start(&folder.join("routing"), &credentials, options).await?;
        let operator = routing.operator()?;
        operator.seed().await?;
        let echo = Echo::start(None).await?;
        let kind = IngressKind::Nginx;
        let ingress = Ingress::start(kind, folder, &credentials, true, echo.address()).await?;
        let mut stack = Self {
            posterns: Vec::with_capacity(count),
            routing,
            operator,
            ingress,
            _echo: echo,
            tls: Tls::trusting(&credentials.public_ca)?,
            credentials,
            folder: folder.to_owned(),
        };
        let options = stack.postern_options(variables);
        for number in 1..=count {
            let folder = stack.place(&format!("postern-{number}"));
            let postern = Postern::start(&folder, &stack.credentials, &options).await?;
            stack.posterns.push(postern);
        }
        Ok(stack)
    }

    /// How a Postern is set up that asks this service.
    pub(super) fn postern_options(&self, variables: &[(&str, &str)]) -> PosternOptions {
        let options = PosternOptions {
            routes: Routes::Service(vec![self.routing.address()]),
            ..PosternOptions::new(self.ingress.address())
        };
        variables
            .iter()
            .fold(options, |options, (name, value)| options.with(name, value))
    }

    /// The folder of a part.
    pub(super) fn place(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A client of private endpoint `link_id` that asks for `host`.
    pub(super) async fn connect(
        &self,
        postern: &Postern,
        link_id: u32,
        host: &str,
        protocol: Protocol,
    ) -> Result<Connection, ClientError> {
        self.tls
            .connect(postern.data(), &Header::link(link_id), host, protocol)
            .await
    }

    /// The status of a request over a connection of its own.
    pub(super) async fn status(
        &self,
        postern: &Postern,
        link_id: u32,
        host: &str,
        path: &str,
    ) -> Result<u16, ClientError> {
        let connection = self.connect(postern, link_id, host, Protocol::Http1).await;
        let answer = connection?.get(path).await?;
        Ok(answer.status.as_u16())
    }

    /// Starts traffic of every kind to all Posterns.
    pub(super) fn traffic(&self) -> Traffic {
        let data = self.posterns.iter().map(Postern::data).collect();
        Traffic::start(Targets::new(data, self.tls.clone()))
    }
}
