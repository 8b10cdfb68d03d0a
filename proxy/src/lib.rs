//! The data plane.

pub mod access_log;
pub mod admin;
pub mod config;
pub mod connection;
pub mod credentials;
pub mod explain;
pub mod metrics;
pub mod outcome;
pub mod probe;
pub mod proxy_protocol;
pub mod read_ahead;
pub mod readiness;
pub mod request;
pub mod request_id;
pub mod routing;
pub mod server;
pub mod telemetry;
pub mod upstream;
