//! Credentials: what a bundle is, how it is proven, and where writer and readers meet on disk.
//!
//! ```text
//!   Key Vault sidecar, development CA                       the data plane
//!   ┌──────────────────────────────────┐                  ┌─────────────────────────────┐
//!   │ Parts ── Bundle::prove ── Bundle │                  │ Bundle ── certified_key()   │
//!   │   PEM      or Unproven      │    │                  │   ▲          roots()        │
//!   └─────────────────────────────┼────┘                  └───┼─────────────────────────┘
//!                                 │ Store::publish            │ Watch::check: Proven | Refused | Unchanged
//!                                 ▼                           │
//!              store/current ─▶ g-0000000007/ ──── Location::read ──▶ Parts ── Bundle::prove
//!                               chain key anchors manifest
//!              or tls.crt tls.key ca.crt (Kubernetes, CSI) · one PEM file (VM extension) · certificates only
//! ```
//!
//! Both sides prove: the writer before it publishes, the reader before it uses. So a reader needs to trust no
//! writer, and files that other software lays down are held to the same rules.
//!
//! Glossary: *parts* unproven text · *bundle* key, chain and trust anchors that hold together · *ticket keys* what a
//! fleet encrypts session tickets with · *content* a bundle or ticket keys · *anchor* a CA certificate that is trusted
//! as such · *purpose* server, client, trust or tickets · *generation* one published content · *current* the
//! generation that readers get · *manifest* what a generation says about itself · *label* where its publisher says it
//! comes from · *identity* of a location: what `stat` says about its files · *settled* old enough that an equal
//! identity means equal content.
//!
//! In reading order: `parts`, `expectations`, `unproven` (the closed list of reasons), `prove`, `facts`, `bundle`;
//! then `tickets`, which are published and read in the same way (`content`: what both have in common); then `store`,
//! `manifest`, `location`, `watch`; and `dev_ca` (feature `dev-ca`).
//!
//! This crate knows no network, no clock (`now` is passed; the development CA alone asks) and no Azure.

mod bundle;
mod content;
#[cfg(any(test, feature = "dev-ca"))]
pub mod dev_ca;
mod expectations;
mod facts;
mod fingerprint;
mod location;
mod manifest;
mod parts;
mod pem;
mod prove;
mod store;
mod tickets;
mod unproven;
mod watch;

pub use bundle::Bundle;
pub use content::{About, Content, ContentFile, Proof};
pub use expectations::{Expectations, Purpose};
pub use facts::{Facts, KeyType};
pub use fingerprint::Fingerprint;
pub use location::{Identity, Layout, Location, ReadError};
pub use manifest::Manifest;
pub use parts::Parts;
pub use rustls_pki_types::UnixTime;
pub use store::{Generation, PublishError, Store};
pub use tickets::{TicketExpectations, TicketKey, TicketKeyError, TicketKeys};
pub use unproven::{Piece, Unproven};
pub use watch::{Change, Refused, Watch};
