//! nginx.

use std::path::PathBuf;

use super::{Job, Launch};
use crate::compare::ingress::{nginx, nginx_user};
use crate::compare::install::{debian, version};
use crate::compare::{CIPHER_SUITES, CompareError};
use crate::stack::accounts::INGRESS_NAME;
use crate::stack::{make_folder, write_file};

pub(super) async fn program() -> Result<(PathBuf, String), String> {
    debian("nginx", nginx()).await?;
    let version = version(nginx(), &["-v"])?;
    Ok((PathBuf::from(nginx()), version))
}

pub(super) fn launch(job: Job<'_>) -> Result<Launch, CompareError> {
    let configuration = configuration(job);
    let file = job.folder.join("nginx.conf");
    make_folder(&job.folder.join("tmp"))?;
    write_file(&file, &configuration)?;
    let arguments = ["-p", ".", "-c", "nginx.conf", "-e", "stderr"];
    Ok(Launch {
        arguments: arguments.map(Into::into).into(),
        configuration,
    })
}

fn configuration(job: Job<'_>) -> String {
    let Job {
        listen,
        ingress,
        credentials,
        connections,
        ..
    } = job;
    let user = nginx_user();
    let log = if job.access_log {
        "access.log combined buffer=64k flush=1s"
    } else {
        "off"
    };
    let (certificate, identity) = (credentials.private.display(), credentials.client.display());
    let trust = credentials.trust.display();
    // A client's connection and one to the ingress.
    let connections = connections * 2;
    format!(
        r#"daemon off;
worker_processes 1;
{user}
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections {connections}; }}
http {{
  access_log {log};
  client_body_temp_path tmp/body;
  proxy_temp_path tmp/proxy;
  fastcgi_temp_path tmp/fastcgi;
  uwsgi_temp_path tmp/uwsgi;
  scgi_temp_path tmp/scgi;
  client_max_body_size 0;
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  ssl_protocols TLSv1.2 TLSv1.3;
  ssl_session_tickets on;
  ssl_prefer_server_ciphers on;
  ssl_conf_command Ciphersuites {CIPHER_SUITES};
  upstream ingress {{
    server {ingress};
    keepalive 512;
    keepalive_requests 1000000000;
  }}
  server {{
    listen {listen} ssl http2 proxy_protocol;
    ssl_certificate {certificate}/tls.crt;
    ssl_certificate_key {certificate}/tls.key;
    location / {{
      proxy_pass https://ingress;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_protocol_addr;
      proxy_set_header X-Forwarded-Proto https;
      proxy_ssl_certificate {identity}/tls.crt;
      proxy_ssl_certificate_key {identity}/tls.key;
      proxy_ssl_trusted_certificate {trust}/ca.crt;
      proxy_ssl_verify on;
      proxy_ssl_name {INGRESS_NAME};
      proxy_ssl_server_name on;
      proxy_ssl_session_reuse on;
      proxy_ssl_protocols TLSv1.2 TLSv1.3;
      proxy_buffering off;
      proxy_request_buffering off;
      # Without buffering this is what it reads at a time; the usual 4k would make many system calls of one answer.
      proxy_buffer_size 64k;
      proxy_buffers 4 64k;
      proxy_busy_buffers_size 64k;
    }}
  }}
}}
"#
    )
}
