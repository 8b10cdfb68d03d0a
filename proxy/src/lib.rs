//! The data plane.
pub mod access_log;
pub mod config;
pub mod explain;
pub mod metrics;
pub mod outcome;
pub mod proxy_protocol;
pub mod request_id;
pub mod server;
pub mod telemetry;
