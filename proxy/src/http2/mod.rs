//! What both legs of HTTP/2 have in common: a body that arrives on a stream, a body that leaves on one, and a
//! stream that has become a tunnel.
//!
//! Framing, HPACK and flow control are h2's. Invariant: the peer gets room for more only when what it sent was
//! passed on, and no more of a body is taken in than the peer has room for.

mod receive;
mod send;
mod tunnel;

pub use receive::Received;
pub use send::send;
pub use tunnel::Tunnel;
