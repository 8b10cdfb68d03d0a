//! The byte pipe of this program. Its arguments are its configuration.

use std::ffi::OsString;
use std::path::PathBuf;

use super::{Job, Launch};
use crate::check::with_causes;
use crate::stack::accounts::INGRESS_NAME;
use crate::stack::binary;

pub(super) fn program() -> Result<(PathBuf, String), String> {
    let program = binary("postern-load").map_err(|error| with_causes(&error))?;
    Ok((program, "a byte pipe: no HTTP, no decisions".to_owned()))
}

pub(super) fn launch(job: Job<'_>) -> Launch {
    let credentials = job.credentials;
    let (listen, ingress) = (job.listen.to_string(), job.ingress.to_string());
    let arguments: Vec<OsString> = vec![
        "pipe".into(),
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
    let line = arguments.join(" ".as_ref());
    Launch {
        configuration: format!("postern-load {}\n", line.to_string_lossy()),
        arguments,
    }
}
