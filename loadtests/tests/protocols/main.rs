//! The path of a request, from outside: the built `postern` between a client that speaks either HTTP and a
//! real nginx or Envoy, or an ingress that the test plays itself.
//!
//! Each test looks at what the client saw, what the ingress saw, the log line and the metric, where they
//! apply.

#![allow(
    clippy::unwrap_used,
    reason = "the set-up is part of each test, and a helper that fails fails the test"
)]

mod bodies;
mod broken;
mod common;
mod desync;
mod floods;
mod grpc;
mod headers;
mod messages;
mod targets;
mod trailers;
mod upgrade;
mod upstream;
mod upstream_choice;
mod upstream_replay;
mod upstream_retry;
