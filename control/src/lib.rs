//! The control plane: the certificate sidecar and the account-routing service.
//!
//! It meets the data plane on disk (`postern-certs`) and over HTTP (`postern-api`), never in code.

pub mod issue;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod vault;
