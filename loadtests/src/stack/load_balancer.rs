//! `HAProxy` as the Standard Load Balancer: it distributes connections, probes, and touches nothing else.
//!
//! Each connection goes to one server for good, byte for byte, so that the PROXY v2 header which the Private Link
//! Service (or a client in its place) puts first arrives as it was sent. A connection that a server refuses is not
//! tried elsewhere: it fails. A server that is down gets no new connection and keeps those that it has.
//!
//! The probe is that of a load balancer in front of which a Private Link Service has PROXY v2 switched on: a LOCAL
//! header, `GET /healthz`, and nothing but 200 will do.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::child::READY_TIMEOUT;
use super::postern::Postern;
use super::{Child, Deadline, StackError, free_address, make_folder, write_file};

/// How often it probes; Azure does every 5 s or more.
pub const PROBE_INTERVAL: Duration = Duration::from_millis(250);
/// So many probes have to fail, or to succeed, before a server is down or up.
pub const PROBE_THRESHOLD: u32 = 2;

// Limit: its admin socket answers from memory.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// A server behind it.
#[derive(Debug, Clone, Copy)]
pub struct Server {
    /// Where connections go.
    pub data: SocketAddr,
    /// Where probes go.
    pub probe: SocketAddr,
}

impl From<&Postern> for Server {
    fn from(postern: &Postern) -> Self {
        Self {
            data: postern.data(),
            probe: postern.probe(),
        }
    }
}

/// What it has counted of one server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Connections {
    /// All that it was given.
    pub total: u64,
    /// Those that it did not take.
    pub failed: u64,
}

/// A running load balancer.
#[derive(Debug)]
pub struct LoadBalancer {
    child: Child,
    address: SocketAddr,
    admin: PathBuf,
}

impl LoadBalancer {
    /// Starts one in front of `servers`, numbered from 0, and waits until the probes of all have succeeded.
    pub async fn start(folder: &Path, servers: &[Server]) -> Result<Self, StackError> {
        make_folder(folder)?;
        let (address, admin) = (free_address()?, folder.join("admin.sock"));
        let config = folder.join("haproxy.cfg");
        write_file(&config, configuration(address, &admin, servers))?;
        let mut command = Command::new(PROGRAM);
        command.arg("-db").arg("-f").arg(&config);
        let mut child = Child::spawn("haproxy", command, folder)?;
        child.wait_for_port(address).await?;
        let balancer = Self {
            child,
            address,
            admin,
        };
        for number in 0..servers.len() {
            // Until it has been probed, it counts as up.
            let probed = async || balancer.field(PROBES, number, "check_code").await == "200";
            let probed = Deadline::after(READY_TIMEOUT).poll(async || probed().await.then_some(()));
            let probed = probed.await;
            probed.ok_or_else(|| balancer.late(number, "probed"))?;
            balancer.is(number, "UP").await?;
        }
        Ok(balancer)
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits until a server gets new connections.
    pub async fn is_up(&self, number: usize) -> Result<(), StackError> {
        self.is(number, "UP").await
    }

    /// Waits until a server gets no new connection.
    pub async fn is_down(&self, number: usize) -> Result<(), StackError> {
        self.is(number, "DOWN").await
    }

    /// Probes a server elsewhere from now on: whoever takes its place has a probe listener of its own.
    pub async fn probe_at(&self, number: usize, address: SocketAddr) -> Result<(), StackError> {
        let (ip, port) = (address.ip(), address.port());
        self.tell(&format!(
            "set server {PROBES}/{number} addr {ip} port {port}"
        ))
        .await
        .map(drop)
    }

    /// What it has counted of a server.
    pub async fn connections(&self, number: usize) -> Connections {
        let count = async |field| {
            let text = self.field(SERVERS, number, field).await;
            text.parse().unwrap_or_default()
        };
        Connections {
            total: count("stot").await,
            failed: count("econ").await,
        }
    }

    async fn is(&self, number: usize, state: &str) -> Result<(), StackError> {
        let is = async || {
            // It may be on its way: `UP 1/2`.
            (self.field(SERVERS, number, "status").await == state).then_some(())
        };
        let is = Deadline::after(READY_TIMEOUT).poll(is).await;
        is.ok_or_else(|| self.late(number, state))
    }

    fn late(&self, number: usize, awaited: &str) -> StackError {
        StackError::Late {
            name: self.child.name().to_owned(),
            limit: READY_TIMEOUT,
            awaited: format!("server {number} to be {awaited}"),
            log: self.child.tail(),
        }
    }

    /// A field of a server's statistics; an empty text if there is none.
    async fn field(&self, group: &str, number: usize, name: &str) -> String {
        let table = self.tell("show stat").await.unwrap_or_default();
        field(&table, group, number, name).unwrap_or_default()
    }

    /// A command to its admin socket, and the answer.
    async fn tell(&self, command: &str) -> Result<String, StackError> {
        let exchange = async {
            let mut socket = UnixStream::connect(&self.admin).await?;
            socket.write_all(format!("{command}\n").as_bytes()).await?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await?;
            Ok(answer)
        };
        let answer = timeout(COMMAND_TIMEOUT, exchange).await;
        let answer = answer.unwrap_or_else(|late| Err(late.into()));
        answer.map_err(|source| StackError::File {
            action: "ask",
            path: self.admin.clone(),
            source,
        })
    }
}

/// Finds a field in a table of comma-separated values whose first line has the names, after `# `.
fn field(table: &str, group: &str, number: usize, name: &str) -> Option<String> {
    let mut lines = table.trim_start_matches("# ").lines();
    let index = lines.next()?.split(',').position(|column| column == name)?;
    let row = lines.find(|line| line.starts_with(&format!("{group},{number},")))?;
    row.split(',').nth(index).map(str::to_owned)
}

fn configuration(address: SocketAddr, admin: &Path, servers: &[Server]) -> String {
    let list = |line: &dyn Fn(usize, &Server) -> String| -> String {
        let numbered = servers.iter().enumerate();
        numbered
            .map(|(number, server)| line(number, server))
            .collect()
    };
    let data = list(&|number, Server { data, .. }| {
        format!("  server {number} {data} track {PROBES}/{number}\n")
    });
    let interval = PROBE_INTERVAL.as_millis();
    let probes = list(&|number, Server { probe, .. }| {
        format!(
            "  server {number} {probe} send-proxy-v2 check inter {interval}ms fall {PROBE_THRESHOLD} \
             rise {PROBE_THRESHOLD}\n"
        )
    });
    format!(
        "global
  nbthread 1
  stats socket {admin} level admin
defaults
  mode tcp
  retries 0
  timeout connect 5s
  timeout client 1h
  timeout server 1h
frontend clients
  bind {address}
  default_backend {SERVERS}
backend {SERVERS}
  balance roundrobin
{data}backend {PROBES}
  option httpchk
  http-check send meth GET uri /healthz ver HTTP/1.1 hdr Host 10.1.0.5:8080
  http-check expect status 200
{probes}",
        admin = admin.display()
    )
}

/// Debian installs it where only root's PATH looks.
const PROGRAM: &str = "/usr/sbin/haproxy";
/// The servers that connections go to, each up while the server of the same number below is.
const SERVERS: &str = "posterns";
/// The servers that are probed.
const PROBES: &str = "probes";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_name_and_its_server() {
        let table = "# pxname,svname,status,\nposterns,0,UP,\nposterns,1,DOWN,\nprobes,1,x,\n";
        let status = |group, number| field(table, group, number, "status");
        assert_eq!(status("posterns", 1).as_deref(), Some("DOWN"));
        assert_eq!(status("probes", 1).as_deref(), Some("x"));
        assert_eq!(status("posterns", 2), None);
        assert_eq!(field(table, "posterns", 0, "weight"), None);
    }
}
