//! Events of the stand-in, and a Postern that is played, over real sockets. The time is stepped, never waited for.

mod order;
mod scene;
mod trouble;
