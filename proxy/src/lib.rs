//! The data plane.
pub mod config;
pub mod outcome;
pub mod proxy_protocol;
pub mod routing;
