//! The ingress of the comparison: nginx with one worker that answers from memory, so that it is never what is
//! measured.

use std::net::SocketAddr;
use std::path::Path;

use super::CIPHER_SUITES;
use super::cores::{Cores, Role};
use crate::stack::accounts::INGRESS_NAME;
use crate::stack::credentials::Credentials;
use crate::stack::nginx::pattern;
use crate::stack::{Child, StackError, free_address, make_folder, write_file};

/// An answer of 100 bytes.
pub(super) const SMALL: &str = "/small";
/// An answer of 64 KiB.
pub(super) const MEDIUM: &str = "/files/64k";
/// An answer of 16 MiB.
pub(super) const LARGE: &str = "/files/16m";
/// Takes a body of 16 MiB and answers when all of it is there.
pub(super) const UPLOAD: &str = "/upload";
/// Says who the client is and whether the certificate was ours.
pub(super) const WHO: &str = "/who";

/// 16 MiB.
pub(super) const LARGE_BYTES: usize = 16 * 1024 * 1024;
const MEDIUM_BYTES: usize = 64 * 1024;

/// A running ingress.
#[derive(Debug)]
pub(super) struct Ingress {
    pub(super) address: SocketAddr,
    pub(super) configuration: String,
    _child: Child,
}

impl Ingress {
    /// Starts it and waits until it listens.
    pub(super) async fn start(
        folder: &Path,
        credentials: &Credentials,
        cores: Cores,
    ) -> Result<Self, StackError> {
        let files = folder.join("files");
        make_folder(&files)?;
        make_folder(&folder.join("tmp"))?;
        write_file(&files.join("64k"), pattern(MEDIUM_BYTES))?;
        write_file(&files.join("16m"), pattern(LARGE_BYTES))?;
        let (address, sink) = (free_address()?, free_address()?);
        let configuration = configuration(address, sink, &credentials.ingress);
        let file = folder.join("nginx.conf");
        write_file(&file, &configuration)?;
        let mut command = cores.command(Role::Load, nginx());
        command.arg("-p").arg(folder).arg("-c").arg(&file);
        command.args(["-e", "stderr"]);
        let mut child = Child::spawn("ingress", command, folder)?;
        child.wait_for_port(address).await?;
        Ok(Self {
            address,
            configuration,
            _child: child,
        })
    }
}

/// Debian installs it where only root's PATH looks.
pub(super) fn nginx() -> &'static str {
    let usual = "/usr/sbin/nginx";
    if Path::new(usual).exists() {
        usual
    } else {
        "nginx"
    }
}

/// As root, nginx would hand its workers to an account that cannot read our folder.
pub(super) fn nginx_user() -> &'static str {
    if rustix::process::geteuid().is_root() {
        "user root root;"
    } else {
        ""
    }
}

fn configuration(address: SocketAddr, sink: SocketAddr, certificates: &Path) -> String {
    let user = nginx_user();
    let certificates = certificates.display();
    let small = "0123456789".repeat(10);
    format!(
        r#"daemon off;
worker_processes 1;
{user}
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path tmp/body;
  proxy_temp_path tmp/proxy;
  fastcgi_temp_path tmp/fastcgi;
  uwsgi_temp_path tmp/uwsgi;
  scgi_temp_path tmp/scgi;
  client_max_body_size 0;
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  http2_max_concurrent_streams 512;
  open_file_cache max=16 inactive=1h;
  ssl_protocols TLSv1.2 TLSv1.3;
  ssl_session_cache shared:tls:4m;
  ssl_prefer_server_ciphers on;
  ssl_conf_command Ciphersuites {CIPHER_SUITES};
  upstream sink {{ server {sink}; keepalive 16; }}
  server {{
    listen {sink};
    location / {{ return 200; }}
  }}
  server {{
    listen {address} ssl http2;
    server_name {INGRESS_NAME};
    ssl_certificate {certificates}/tls.crt;
    ssl_certificate_key {certificates}/tls.key;
    ssl_client_certificate {certificates}/ca.crt;
    ssl_verify_client on;
    default_type application/octet-stream;
    location = {SMALL} {{ return 200 "{small}"; }}
    location = {WHO} {{ return 200 "$http_x_forwarded_for $ssl_client_verify"; }}
    location /files/ {{ root .; sendfile on; tcp_nopush on; }}
    # The whole body is read, into memory, before the answer is asked for.
    location = {UPLOAD} {{
      client_body_buffer_size 17m;
      proxy_pass http://sink;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Content-Length "";
      proxy_pass_request_body off;
    }}
  }}
}}
"#
    )
}
