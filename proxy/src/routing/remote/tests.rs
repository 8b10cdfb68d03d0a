//! The source, the cache and a service that does what a test says: real TLS and HTTP/2, over TCP where sockets matter
//! and in memory where time does.

mod following;
mod lookups;
mod outage;
mod scene;
mod sockets;
