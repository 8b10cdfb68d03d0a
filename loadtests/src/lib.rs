//! The local stack, the Private Link Service stand-in, and the scenarios that prove what Postern promises.
//!
//! * [`proxy_v2`]: the header a Private Link Service puts before each connection.
//! * [`stack`]: real processes with generated configuration: ingress, back end, Postern, and a test client.

pub mod proxy_v2;
pub mod stack;
