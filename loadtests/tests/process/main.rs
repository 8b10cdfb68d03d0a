//! Everything around the path of a request, through the real binary, with a real ingress: files that change
//! while it runs, the drain, modes, probes, TLS, limits, and a DICOM session.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what fails here fails the test"
)]

mod answers;
mod config;
mod credentials;
mod customer_key;
mod dicom;
mod drain;
mod limits;
mod modes;
mod parked;
mod probes;
mod readiness;
mod reload;
mod resolve;
mod revocation;
mod routes;
mod routing;
mod scene;
mod superseded;
mod supervision;
mod tickets;
mod timeouts;
mod tls;
mod traffic;
mod upgrade;
