//! The composition root.

use postern_api::{HostName, LinkId};

use crate::config::Config;
use crate::explain::Explanation;

/// Proves what the configuration refers to: the route file and the credentials.
pub fn check(_config: &Config) -> Result<(), String> {
    Ok(())
}

/// Runs until it is told to stop.
pub fn run(_config: Config) -> Result<(), String> {
    Err("this build cannot run".into())
}

/// What would happen to a request.
pub fn explain(
    _config: &Config,
    _link_id: LinkId,
    _sni: &HostName,
    _host: &str,
) -> Result<Explanation, String> {
    Err("this build cannot explain".into())
}
