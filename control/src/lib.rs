//! The control plane: the certificate sidecar and the account-routing service.
//!
//! ```text
//!   Key Vault ◀── vault ◀── issue        internal CA: creation and renewal of the mutual TLS pair
//!                   ▲         ▲
//!                   └── sidecar ──▶ postern_certs::Store ──▶ the data plane
//!
//!   operators, ingress ──▶ routing: books, changes ────────▶ the data plane, over HTTP
//! ```
//!
//! * [`sidecar`]: certificates from Key Vault to the disk, and a drain before Azure takes the machine; [`vault`]: Key Vault in our own words, and the only place
//!   that knows the Azure SDK; [`issue`]: what Key Vault does not renew by itself.
//! * [`routing`]: the account-routing service: who may reach what, its books, and what the data plane is told of them;
//!   [`routes`]: the books for people, from the command line.
//! * [`start`]: what every command begins with.
//!
//! It meets the data plane on disk (`postern-certs`) and over HTTP (`postern-api`), never in code.

pub mod issue;
mod listen;
mod metrics;
pub mod routes;
pub mod routing;
pub mod sidecar;
pub mod start;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod vault;
