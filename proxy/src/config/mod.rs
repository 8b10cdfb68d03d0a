//! Configuration.

pub mod toml_error;
