//! `postern-control routes` as its user meets it: the real command, against the service over mutual TLS and against the
//! file, with its output and its exit codes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod books;
mod failures;
mod import;
mod scene;
