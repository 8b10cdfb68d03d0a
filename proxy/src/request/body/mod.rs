//! Bodies on their way through: never collected, counted as they pass.
//!
//! A body is forwarded as the `Bytes` it arrived in. [`RequestBody`] can be sent from its first byte
//! again as long as nothing of it was read, or all that was is still kept: that is how a request survives a
//! connection that turned out to be stale, and an ingress that says it did not process it.
//! [`AnswerBody`] holds the [`Exchange`](crate::request::exchange::Exchange) and the upstream
//! [`Lease`](crate::upstream::Lease) until the last frame: the lease is given back when the *body* ends, not
//! when its head arrived.

mod answer;
mod incoming;
mod kept;
mod linger;
mod request;

pub use answer::AnswerBody;
pub use incoming::Incoming;
pub use request::{Broken, RequestBody};
