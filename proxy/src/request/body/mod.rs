//! Bodies on their way through: never collected, counted as they pass.
//!
//! A body is forwarded as the `Bytes` it arrived in. [`RequestBody`] can be taken back as long as nothing of
//! it was read, so that a request whose connection turned out to be stale can be sent once more.
//! [`AnswerBody`] holds the [`Exchange`](crate::request::exchange::Exchange) and the upstream
//! [`Lease`](crate::upstream::Lease) until the last frame: the lease is given back when the *body* ends, not
//! when its head arrived.

mod answer;
mod linger;
mod request;

pub use answer::AnswerBody;
pub use request::{Broken, RequestBody};
