//! Vaults and the issuing of certificates, over HTTPS against the Key Vault stand-in.

mod faults;
mod issue;
mod read;
mod scene;
