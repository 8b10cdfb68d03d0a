//! The proxies that are compared, each with a configuration of its own for the same job:
//!
//! PROXY v2 accepted and required · TLS 1.2 and 1.3 with the same certificate · HTTP/1.1 and HTTP/2 · the
//! client's address passed on · mutual TLS to the ingress, its name verified, sessions resumed where the program
//! can · connections kept · bodies not buffered · one worker · access log only where that is measured.
//!
//! Postern does more: it reads the link id and authorizes, limits and counts by it.

mod envoy;
mod haproxy;
mod nginx;
mod pingora;
mod pipe;
mod postern;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use http::StatusCode;

use super::CompareError;
use super::cores::{Cores, Role};
use super::ingress::WHO;
use crate::proxy_v2::{CLIENT_IP, Header};
use crate::stack::accounts::{HOST_A, LINK_A};
use crate::stack::child::READY_TIMEOUT;
use crate::stack::client::{Protocol, Tls};
use crate::stack::credentials::Credentials;
use crate::stack::{Child, free_address, make_folder};

/// A proxy that Postern can be compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Peer {
    /// nginx, HTTP/1.1 to the ingress (it speaks no other).
    Nginx,
    /// `HAProxy`, HTTP/2 to the ingress.
    Haproxy,
    /// Envoy, HTTP/2 to the ingress.
    Envoy,
    /// pingora-proxy, HTTP/2 to the ingress.
    Pingora,
    /// `HAProxy`, HTTP/1.1 to the ingress.
    HaproxyH1,
    /// Envoy, HTTP/1.1 to the ingress.
    EnvoyH1,
    /// pingora-proxy, HTTP/1.1 to the ingress.
    PingoraH1,
}

/// Postern, one of the others, or what none can go below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Contender {
    Postern,
    Peer(Peer),
    /// A byte pipe between the two TLS connections.
    Floor,
}

impl Contender {
    /// Its name in tables and files.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Postern => "postern",
            Self::Peer(Peer::Nginx) => "nginx",
            Self::Peer(Peer::Haproxy) => "haproxy",
            Self::Peer(Peer::Envoy) => "envoy",
            Self::Peer(Peer::Pingora) => "pingora",
            Self::Peer(Peer::HaproxyH1) => "haproxy-h1",
            Self::Peer(Peer::EnvoyH1) => "envoy-h1",
            Self::Peer(Peer::PingoraH1) => "pingora-h1",
            Self::Floor => "floor",
        }
    }
}

/// A program that is there.
#[derive(Debug, Clone)]
pub(super) struct Installed {
    pub(super) contender: Contender,
    pub(super) program: PathBuf,
    /// As it says itself.
    pub(super) version: String,
}

/// Finds the program, or installs it. `Err` is why it cannot be had.
pub(super) async fn install(
    contender: Contender,
    postern: Option<&Path>,
) -> Result<Installed, String> {
    let (program, version) = match contender {
        Contender::Postern => postern::program(postern).await?,
        Contender::Peer(Peer::Nginx) => nginx::program().await?,
        Contender::Peer(Peer::Haproxy | Peer::HaproxyH1) => haproxy::program().await?,
        Contender::Peer(Peer::Envoy | Peer::EnvoyH1) => envoy::program().await?,
        Contender::Peer(Peer::Pingora | Peer::PingoraH1) => pingora::program().await?,
        Contender::Floor => pipe::program()?,
    };
    Ok(Installed {
        contender,
        program,
        version,
    })
}

/// What a proxy is to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job<'a> {
    pub(super) folder: &'a Path,
    pub(super) listen: SocketAddr,
    pub(super) ingress: SocketAddr,
    pub(super) credentials: &'a Credentials,
    pub(super) access_log: bool,
    /// Clients at a time.
    pub(super) connections: u64,
}

/// How to make it do that.
pub(super) struct Launch {
    pub(super) arguments: Vec<OsString>,
    /// What an operator would want to see of it.
    pub(super) configuration: String,
}

/// A running proxy.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) contender: Contender,
    pub(super) address: SocketAddr,
    pub(super) configuration: String,
    child: Child,
}

impl Proxy {
    /// Starts it and waits until a request comes through as it should.
    pub(super) async fn start(
        installed: &Installed,
        job: Job<'_>,
        cores: Cores,
    ) -> Result<Self, CompareError> {
        make_folder(job.folder)?;
        let launch = match installed.contender {
            Contender::Postern => postern::launch(job)?,
            Contender::Peer(Peer::Nginx) => nginx::launch(job)?,
            Contender::Peer(Peer::Haproxy) => haproxy::launch(job, "h2")?,
            Contender::Peer(Peer::HaproxyH1) => haproxy::launch(job, "http/1.1")?,
            Contender::Peer(Peer::Envoy) => envoy::launch(job, true)?,
            Contender::Peer(Peer::EnvoyH1) => envoy::launch(job, false)?,
            Contender::Peer(Peer::Pingora) => pingora::launch(job, true),
            Contender::Peer(Peer::PingoraH1) => pingora::launch(job, false),
            Contender::Floor => pipe::launch(job),
        };
        let mut command = cores.command(Role::Proxy, &installed.program);
        command.args(&launch.arguments).current_dir(job.folder);
        let name = installed.contender.name();
        let mut child = Child::spawn(name, command, job.folder)?;
        let tls = Tls::trusting(&job.credentials.public_ca)?;
        // A pipe adds no header that would say who the client is.
        let client = match installed.contender {
            Contender::Floor => String::new(),
            _ => CLIENT_IP.to_string(),
        };
        let expected = format!("{client} SUCCESS");
        let works = async || {
            for protocol in Protocol::ALL {
                match who(&tls, job.listen, protocol).await {
                    Some(answer) if answer == expected => {}
                    _ => return false,
                }
            }
            true
        };
        let awaited = format!("the answer `{expected}` to {WHO} over both protocols");
        child.wait_until(&awaited, READY_TIMEOUT, works).await?;
        Ok(Self {
            contender: installed.contender,
            address: job.listen,
            configuration: launch.configuration,
            child,
        })
    }

    /// The process group.
    pub(super) fn group(&self) -> u32 {
        self.child.pid()
    }

    /// The end of what it wrote, for a message.
    pub(super) fn tail(&self) -> String {
        self.child.tail()
    }
}

/// A free address for the next one.
pub(super) fn address() -> Result<SocketAddr, CompareError> {
    Ok(free_address()?)
}

/// What the ingress knows of the client, asked through the proxy.
async fn who(tls: &Tls, address: SocketAddr, protocol: Protocol) -> Option<String> {
    let header = Header::link(LINK_A);
    let connection = tls.connect(address, &header, HOST_A, protocol).await;
    let answer = connection.ok()?.get(WHO).await.ok()?;
    (answer.status == StatusCode::OK).then(|| answer.text())
}
