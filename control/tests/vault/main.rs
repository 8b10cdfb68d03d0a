//! Vaults and the issuing of certificates, over HTTPS against the Key Vault stand-in.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what fails here fails the test"
)]

mod faults;
mod issue;
mod read;
mod scene;
mod wire;
