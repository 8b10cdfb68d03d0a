//! `HAProxy`.

use std::path::{Path, PathBuf};

use super::{Job, Launch};
use crate::compare::install::{debian, version};
use crate::compare::{CIPHER_SUITES, CompareError};
use crate::stack::accounts::INGRESS_NAME;
use crate::stack::{StackError, write_file};

pub(super) async fn program() -> Result<(PathBuf, String), String> {
    let program = "/usr/sbin/haproxy";
    debian("haproxy", program).await?;
    Ok((PathBuf::from(program), version(program, &["-v"])?))
}

pub(super) fn launch(job: Job<'_>, alpn: &str) -> Result<Launch, CompareError> {
    let configuration = configuration(job, alpn);
    write_file(&job.folder.join("haproxy.cfg"), &configuration)?;
    // It wants certificate and key in one file.
    for (name, folder) in [
        ("certificate", &job.credentials.private),
        ("identity", &job.credentials.client),
    ] {
        let pem = [
            read(&folder.join("tls.crt"))?,
            read(&folder.join("tls.key"))?,
        ];
        write_file(&job.folder.join(name).with_extension("pem"), pem.concat())?;
    }
    Ok(Launch {
        arguments: ["-f", "haproxy.cfg"].map(Into::into).into(),
        configuration,
    })
}

fn read(path: &Path) -> Result<String, StackError> {
    std::fs::read_to_string(path).map_err(|source| StackError::File {
        action: "read",
        path: path.to_owned(),
        source,
    })
}

fn configuration(job: Job<'_>, alpn: &str) -> String {
    let Job {
        listen,
        ingress,
        connections,
        ..
    } = job;
    let trust = job.credentials.trust.display();
    let log = if job.access_log {
        "  log stdout format raw daemon\n  option httplog\n"
    } else {
        ""
    };
    format!(
        "global
  nbthread 1
  maxconn {connections}
  ssl-default-bind-options ssl-min-ver TLSv1.2
  ssl-default-bind-ciphersuites {CIPHER_SUITES}
defaults
  mode http
{log}  option forwardfor
  timeout client 600s
  timeout server 600s
  timeout connect 5s
frontend clients
  bind {listen} accept-proxy ssl crt certificate.pem alpn h2,http/1.1
  http-request set-header X-Forwarded-Proto https
  default_backend ingress
backend ingress
  http-reuse always
  server ingress {ingress} ssl crt identity.pem ca-file {trust}/ca.crt verify required \
verifyhost {INGRESS_NAME} sni str({INGRESS_NAME}) alpn {alpn} pool-max-conn 512
"
    )
}
