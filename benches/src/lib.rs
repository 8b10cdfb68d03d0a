//! Micro-benchmarks and instruction counts of the data plane's hot paths.
//!
//! The cases are written once, in `benches/scene/`, and measured twice:
//!
//! * `cargo bench -p postern-benches --bench time [-- FILTER]`: nanoseconds, by Criterion.
//! * `cargo bench -p postern-benches --bench instructions [-- FILTER]`: instructions, by valgrind's callgrind, which do
//!   not depend on what else the machine does. Compare two commits with these.
//!   The cases with a million routes take minutes, since callgrind watches the cache being filled, too.
//!
//! | case | what is measured |
//! |---|---|
//! | `proxy_header/…` | reading a PROXY v2 header with the link id |
//! | `tlv/…` | the same behind other vectors, and with a checksum |
//! | `authorize/…` | from (link id, host name) to a permit, by a cache hit |
//! | `admit/…` | judging a request head: one authority, framing, host of the permit, limits |
//! | `exchange/…` | the record of a request, from its head to the metrics |
//! | `cache/hit/N`, `cache/hit_busy/N` | the route cache with N routes, asked for any of them, or for a few again and again |
//! | `cache/wait/N`, `cache/floor/N` | what memory alone takes: one read that the next must wait for; a look in a plain hash table of N numbers |
//! | `cache/negative/N` | the same, asked for links that it knows to be unknown |
//! | `cache/stampede/N` | a thousand tasks that ask for one unknown key: one lookup |
//! | `headers/…` | header rewriting towards the ingress and the client |
//! | `access_log/…` | the line of one request, formatted and queued |
//!
//! `cargo test` runs each case once, with fewer routes, so that what is measured here keeps working.
