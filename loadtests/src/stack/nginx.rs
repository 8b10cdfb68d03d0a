//! A real nginx as the AKS ingress.
//!
//! It terminates TLS for one name, demands a client certificate of the internal CA, answers HTTP/1.1 and,
//! if asked to, HTTP/2, and writes what it saw of each request as one JSON object a line.
//!
//! | path | answer |
//! |---|---|
//! | `/` | a small JSON object |
//! | `/nonce/TEXT` | TEXT |
//! | `/identity` | the serial number of the client certificate, and whether it was verified |
//! | `/bytes/N` | a file of N bytes, for each N of [`STATIC_SIZES`] |
//! | `/grpc/…` | proxied with `grpc_pass` (HTTP/2 cleartext, trailers) |
//! | anything else | proxied to the back end, unbuffered, upgrades allowed; 404 without a back end |
//!
//! What goes to the back end but `/grpc/` is authorized by account routing first, if it was told where that is.
//!
//! It answers for any `Host`, as an ingress with many hosts does. nginx chooses a server by SNI for the
//! handshake and by `Host` for the request, and answers 421 when the two differ and the second server has
//! `ssl_verify_client`; so any other `Host` is served where that is off and the result is looked at instead.
//!
//! Invariant: a request without our client certificate gets 400, a handshake for another name an alert.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::credentials::Credentials;
use super::json_lines::JsonLines;
use super::{Child, StackError, free_address, make_folder, write_file};

/// Sizes, in bytes, of the static files under `/bytes/`.
pub const STATIC_SIZES: [usize; 4] = [1024, 65_536, 1_048_576, 16_777_216];

/// What an ingress is made of.
#[derive(Debug, Clone)]
pub struct NginxOptions {
    /// The one name it serves: SNI and certificate.
    pub name: String,
    /// Whether ALPN offers `h2`.
    pub http2: bool,
    /// Where `/grpc/` and everything without a location of its own goes.
    pub backend: Option<SocketAddr>,
    /// Worker processes.
    pub workers: usize,
    /// Requests on one connection before nginx ends it; nginx's own default is 1000.
    pub keepalive_requests: usize,
    /// The address to listen on; a free one on the loopback interface if `None`.
    pub listen: Option<SocketAddr>,
    /// Whom it asks before anything goes to the back end.
    pub authority: Option<Authority>,
}

/// The account-routing service, as an ingress asks it who may pass (`auth_request`).
#[derive(Debug, Clone)]
pub struct Authority {
    /// Where it listens.
    pub address: SocketAddr,
    /// The name in its certificate.
    pub name: String,
    /// PEM file with whom the ingress trusts to be it.
    pub ca: PathBuf,
    /// The folder with what the ingress shows it: `tls.crt` and `tls.key`.
    pub identity: PathBuf,
}

impl Default for NginxOptions {
    fn default() -> Self {
        Self {
            name: "z1-weu-aks.internal.example".to_owned(),
            http2: true,
            backend: None,
            workers: 1,
            keepalive_requests: 1000,
            listen: None,
            authority: None,
        }
    }
}

/// A running nginx.
#[derive(Debug)]
pub struct Nginx {
    child: Child,
    address: SocketAddr,
    seen: JsonLines,
    ready_after: Duration,
}

impl Nginx {
    /// Starts nginx under `folder` with the certificates of the stack, and waits until it listens.
    pub async fn start(
        folder: &Path,
        credentials: &Credentials,
        options: &NginxOptions,
    ) -> Result<Self, StackError> {
        let address = match options.listen {
            Some(address) => address,
            None => free_address()?,
        };
        make_folder(&folder.join("tmp"))?;
        make_folder(&folder.join("bytes"))?;
        for size in STATIC_SIZES {
            write_file(&folder.join("bytes").join(size.to_string()), pattern(size))?;
        }
        let config = folder.join("nginx.conf");
        write_file(
            &config,
            configuration(address, &credentials.ingress, options),
        )?;
        let seen = folder.join("seen.jsonl");
        write_file(&seen, "")?;

        let mut command = Command::new(program());
        command
            .arg("-p")
            .arg(folder)
            .arg("-c")
            .arg(&config)
            .args(["-e", "stderr"]);
        let mut child = Child::spawn("nginx", command, folder)?;
        let ready_after = child.wait_for_port(address).await?;
        Ok(Self {
            child,
            address,
            seen: JsonLines::new("nginx", seen),
            ready_after,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How long it took to listen.
    pub fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// The process.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Reads configuration and certificates again without ending open connections.
    pub fn reload(&self) -> Result<(), StackError> {
        self.child
            .signal(Signal::HUP)
            .map_err(|source| StackError::Signal {
                name: self.child.name().to_owned(),
                source,
            })
    }

    /// What it saw so far, one object a request; headers that were not sent are empty strings.
    pub fn seen(&self) -> &JsonLines {
        &self.seen
    }

    /// Waits until it has logged a request that `matches`.
    ///
    /// nginx logs when the answer has been written, which may be after the client has read it.
    pub async fn saw(
        &self,
        awaited: &str,
        matches: impl Fn(&Value) -> bool,
    ) -> Result<Value, StackError> {
        self.seen.wait_for(awaited, matches).await
    }
}

/// The content of `/bytes/N`: bytes that repeat with a period that no buffer size divides.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..=250u8).cycle().take(length).collect()
}

fn program() -> &'static str {
    // Debian installs it where only root's PATH looks.
    let usual = "/usr/sbin/nginx";
    if Path::new(usual).exists() {
        usual
    } else {
        "nginx"
    }
}

/// Names in the JSON log and the nginx variable each one shows.
const SEEN: [(&str, &str); 23] = [
    ("method", "$request_method"),
    ("uri", "$request_uri"),
    ("host", "$http_host"),
    ("protocol", "$server_protocol"),
    ("status", "$status"),
    ("x_forwarded_for", "$http_x_forwarded_for"),
    ("x_forwarded_proto", "$http_x_forwarded_proto"),
    ("x_forwarded_host", "$http_x_forwarded_host"),
    ("x_ms_private_link_id", "$http_x_ms_private_link_id"),
    ("x_request_id", "$http_x_request_id"),
    ("traceparent", "$http_traceparent"),
    ("x_real_ip", "$http_x_real_ip"),
    ("x_client_cert", "$http_x_client_cert"),
    ("forwarded", "$http_forwarded"),
    ("x_postern_foo", "$http_x_postern_foo"),
    ("client_dn", "$ssl_client_s_dn"),
    ("client_verify", "$ssl_client_verify"),
    ("tls", "$ssl_protocol"),
    ("tls_resumed", "$ssl_session_reused"),
    ("server_name", "$ssl_server_name"),
    ("connection", "$connection"),
    ("connection_requests", "$connection_requests"),
    ("request_bytes", "$request_length"),
];

fn configuration(address: SocketAddr, certificates: &Path, options: &NginxOptions) -> String {
    let root = rustix::process::geteuid().is_root();
    // As root, nginx would hand its workers to an account that cannot read the stack's folder.
    let user = if root { "user root root;" } else { "" };
    let http2 = if options.http2 { " http2" } else { "" };
    let fields: Vec<String> = SEEN
        .iter()
        .map(|(name, variable)| format!("\"{name}\":\"{variable}\""))
        .collect();
    let NginxOptions {
        name,
        workers,
        keepalive_requests,
        ..
    } = options;
    let certificates = certificates.display();
    let locations = locations(options.backend, options.authority.as_ref());
    format!(
        r"daemon off;
worker_processes {workers};
{user}
pid nginx.pid;
error_log stderr notice;
events {{ worker_connections 4096; }}
http {{
  log_format seen escape=json '{{{fields}}}';
  access_log seen.jsonl seen;
  client_body_temp_path tmp/body;
  proxy_temp_path tmp/proxy;
  fastcgi_temp_path tmp/fastcgi;
  uwsgi_temp_path tmp/uwsgi;
  scgi_temp_path tmp/scgi;
  client_max_body_size 0;
  keepalive_requests {keepalive_requests};
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  ssl_protocols TLSv1.2 TLSv1.3;
  ssl_session_cache shared:tls:4m;
  server {{
    listen {address} ssl{http2} default_server;
    server_name _;
    ssl_reject_handshake on;
    if ($ssl_client_verify != SUCCESS) {{ return 400; }}
{locations}  }}
  server {{
    listen {address} ssl{http2};
    server_name {name};
    ssl_certificate {certificates}/tls.crt;
    ssl_certificate_key {certificates}/tls.key;
    ssl_client_certificate {certificates}/ca.crt;
    ssl_verify_client on;
{locations}  }}
}}
",
        fields = fields.join(",")
    )
}

fn locations(backend: Option<SocketAddr>, authority: Option<&Authority>) -> String {
    let own = r#"    location = / {
      default_type application/json;
      return 200 '{"ingress":"nginx","uri":"$request_uri","protocol":"$server_protocol"}';
    }
    location = /identity {
      default_type application/json;
      return 200 '{"serial":"$ssl_client_serial","verify":"$ssl_client_verify","port":"$server_port"}';
    }
    location ~ ^/nonce/(?<nonce>[A-Za-z0-9-]+)$ { default_type text/plain; return 200 $nonce; }
    location /bytes/ { root .; default_type application/octet-stream; }
"#;
    let Some(backend) = backend else {
        return own.to_owned();
    };
    let (ask, asking) = match authority {
        None => ("", String::new()),
        Some(authority) => ("auth_request /authorize;", asking(authority)),
    };
    format!(
        r"{own}{asking}    location / {{
      {ask}
      proxy_pass http://{backend};
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_buffering off;
      proxy_request_buffering off;
      proxy_read_timeout 1h;
      proxy_send_timeout 1h;
    }}
    location /grpc/ {{
      grpc_pass grpc://{backend};
      grpc_set_header Host $http_host;
      grpc_read_timeout 1h;
      grpc_send_timeout 1h;
    }}
"
    )
}

/// How it asks. The names of the headers are those of the service: what the client sent under them, Postern has
/// replaced.
fn asking(authority: &Authority) -> String {
    let Authority {
        address,
        name,
        ca,
        identity,
    } = authority;
    let (ca, identity) = (ca.display(), identity.display());
    format!(
        r#"    location = /authorize {{
      internal;
      proxy_pass https://{address}/v1/authorize;
      proxy_http_version 1.1;
      proxy_pass_request_body off;
      proxy_pass_request_headers off;
      proxy_set_header Host {name};
      proxy_set_header Content-Length "";
      proxy_set_header X-MS-Private-Link-Id $http_x_ms_private_link_id;
      proxy_set_header X-Original-Host $host;
      proxy_ssl_server_name on;
      proxy_ssl_name {name};
      proxy_ssl_verify on;
      proxy_ssl_trusted_certificate {ca};
      proxy_ssl_certificate {identity}/tls.crt;
      proxy_ssl_certificate_key {identity}/tls.key;
    }}
"#
    )
}
