//! pingora-proxy, as a small binary of ours. Its arguments are its configuration.

use std::ffi::OsString;
use std::path::PathBuf;

use super::{Job, Launch};
use crate::compare::install::pingora_peer;
use crate::stack::accounts::INGRESS_NAME;

const LOCK: &str = include_str!("../../../../Cargo.lock");

pub(super) async fn program() -> Result<(PathBuf, String), String> {
    let program = pingora_peer().await?;
    let version = locked("pingora-proxy").unwrap_or("of an unknown version");
    let tls = locked("rustls").unwrap_or("?");
    Ok((program, format!("pingora-proxy {version}, rustls {tls}")))
}

pub(super) fn launch(job: Job<'_>, http2: bool) -> Launch {
    let credentials = job.credentials;
    let (listen, ingress) = (job.listen.to_string(), job.ingress.to_string());
    let mut arguments: Vec<OsString> = vec![
        "--listen".into(),
        listen.into(),
        "--certificate".into(),
        credentials.private.clone().into(),
        "--ingress".into(),
        ingress.into(),
        "--name".into(),
        INGRESS_NAME.into(),
        "--identity".into(),
        credentials.client.clone().into(),
        "--trust".into(),
        credentials.trust.join("ca.crt").into(),
    ];
    if !http2 {
        arguments.push("--http1".into());
    }
    if job.access_log {
        arguments.extend(["--access-log".into(), "access.log".into()]);
    }
    let line = arguments.join(" ".as_ref());
    Launch {
        configuration: format!("pingora-peer {}\n", line.to_string_lossy()),
        arguments,
    }
}

/// The version that our lock file has of a crate.
fn locked(name: &str) -> Option<&'static str> {
    let entry = LOCK.split_once(&format!("\nname = \"{name}\"\nversion = \""))?;
    entry.1.split('"').next()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_lock_file_has_the_versions_that_are_reported() {
        assert!(super::locked("pingora-proxy").is_some());
        assert!(super::locked("rustls").is_some());
    }
}
