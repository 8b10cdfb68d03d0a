//! The account-routing service over real TLS sockets.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod authorize;
mod bad_input;
mod books;
mod client;
mod fleet;
mod limits;
mod lookup;
mod roles;
mod rotation;
mod scene;
mod stream;
