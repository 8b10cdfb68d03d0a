//! Postern, with its own defaults but for addresses, one worker, and the access log.

use std::path::{Path, PathBuf};

use super::{Job, Launch};
use crate::compare::CompareError;
use crate::compare::install::{postern, version};
use crate::stack::accounts::{self, INGRESS_NAME};
use crate::stack::{free_address, write_file};

pub(super) async fn program(given: Option<&Path>) -> Result<(PathBuf, String), String> {
    let program = match given {
        Some(path) => path
            .canonicalize()
            .map_err(|error| format!("{}: {error}", path.display()))?,
        None => postern().await?,
    };
    let mut version = version(&program, &["version"])?;
    if cfg!(debug_assertions) && given.is_none() {
        version.push_str(" (debug build)");
    }
    Ok((program, version))
}

pub(super) fn launch(job: Job<'_>) -> Result<Launch, CompareError> {
    let configuration = configuration(job)?;
    write_file(&job.folder.join("postern.toml"), &configuration)?;
    write_file(&job.folder.join("routes.toml"), accounts::routes())?;
    Ok(Launch {
        arguments: ["run", "-c", "postern.toml"].map(Into::into).into(),
        configuration,
    })
}

fn configuration(job: Job<'_>) -> Result<String, CompareError> {
    let (probe, admin) = (free_address()?, free_address()?);
    let Job {
        listen,
        ingress,
        credentials,
        ..
    } = job;
    let log = if job.access_log {
        "access.jsonl"
    } else {
        "off"
    };
    let (certificate, identity) = (credentials.private.display(), credentials.client.display());
    let trust = credentials.trust.display();
    Ok(format!(
        r#"workers = 1

[data]
listen = "{listen}"
trusted_sources = ["127.0.0.1/32"]

[probe]
listen = "{probe}"

[admin]
listen = "{admin}"

[tls]
certificates = ["{certificate}"]

[routes]
file = "routes.toml"

[upstream]
identity = "{identity}"
trust = "{trust}"

[upstream.clusters.dicom]
name = "{INGRESS_NAME}"
endpoints = ["{ingress}"]

[access_log]
output = "{log}"
"#
    ))
}
