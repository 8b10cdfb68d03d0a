//! Rounds against the Key Vault stand-in, over real HTTPS. The time is stepped, never waited for.

mod faults;
mod notifications;
mod order;
mod rounds;
mod scene;
mod tickets;

pub(super) use scene::Page;
