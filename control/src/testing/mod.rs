//! Stand-ins for Azure's services, for tests and for the local stack. Never part of a production build.
//!
//! * [`key_vault`]: a Key Vault; [`identity`]: what gives out the tokens that it accepts.
//! * [`scheduled_events`]: what a machine is told of what is planned for it.
//! * [`credential`]: the identity for a vault in the same process.
//! * [`http`]: the server under all of them; [`tokens`], [`clock`]: what they share.
//!
//! Invariant: they speak the services' protocol as the SDKs of Azure know it. The SDK for Python is run against
//! them in the tests of `postern-loadtests`, so that it is not only our idea of it.

pub mod clock;
pub mod credential;
pub mod http;
pub mod identity;
pub mod key_vault;
pub mod scheduled_events;
pub mod tokens;

use std::io;

/// Why a stand-in could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StandInError {
    /// It could not listen.
    #[error("the stand-in cannot listen")]
    Listen(#[from] io::Error),
    /// Its own certificate could not be made.
    #[error("the stand-in's certificate could not be made")]
    Certificate(#[from] postern_certs::dev_ca::DevCaError),
    /// Its own certificate could not be used.
    #[error("the stand-in's certificate cannot be used")]
    Tls(#[from] rustls::Error),
    /// Its own certificate could not be read.
    #[error("the stand-in's certificate cannot be read")]
    Pem(#[from] rustls_pki_types::pem::Error),
}
