//! The control plane: the certificate sidecar and the account-routing service.
//!
//! It meets the data plane on disk (`postern-certs`) and over HTTP (`postern-api`), never in code.

pub mod issue;
pub mod vault;
