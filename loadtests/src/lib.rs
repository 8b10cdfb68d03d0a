//! The local stack, the Private Link Service stand-in, and the scenarios that prove what Postern promises.
//!
//! * [`stack`]: real processes with generated configuration: ingress, back end, Postern, and a test client.

pub mod stack;
