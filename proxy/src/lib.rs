//! The data plane of a private-link service: who may come in, and the way to the ingress.
//!
//! ```text
//!   Private Link Service     ┌───────────── one connection, one thread ─────────────┐      AKS ingress
//!                            │                                                      │
//!    TCP, PROXY v2, TLS ───▶ │ connection   accept → proxy_header → client_hello    │
//!                            │              → authorize → handshake → http          │
//!                            │                    │ Permit                          │
//!                            │ request            ▼                                 │
//!                            │              admit → headers → forward → respond     │
//!                            │                                   │                  │
//!                            │ upstream                          ▼                  │
//!                            │              cluster → connect → pool ──────────────────▶ mutual TLS,
//!                            └──────▲────────────────▲──────────────────┬───────────┘    HTTP/2 or HTTP/1.1
//!                                routing        credentials          outcome
//!                             source → cache   disk → proven    access_log, metrics
//!
//!    load balancer ────────▶   probe   is it ready?
//!    Prometheus, people ───▶   admin   what goes on, and why
//! ```
//!
//! A connection is accepted, served and forwarded on one thread; nothing on the path of a request waits for another.
//!
//! Invariant: nothing reaches `upstream` without a `Permit`, and only `authorize` makes one. Whatever is doubtful is
//! refused, and a refusal is one word, the same in log, metric and answer.
//!
//! Glossary: *link id* the 32-bit LINKID of a private endpoint connection · *SNI* the name in the TLS `ClientHello` ·
//! *authority* `Host` or `:authority` · *account* the resource that a host belongs to · *route* what a (link id, host)
//! may reach · *permit* proof that a connection is authorized · *standing* what a connection may do now: a permit or
//! a refusal · *cluster, endpoint* a group of ingress addresses, one of them · *bundle* key, chain and trust anchors ·
//! *generation* one published bundle, or one version of the routes · *contact* when account routing was last heard of ·
//! *gap* changes of the routes that may have been missed · *refusal* we said no · *ending* how a connection
//! closed · *exchange* one request and its answer · *lease* the right to send one request on a connection to the
//! ingress · *seat* a connection's place under a bound · *drain* going away without failing a request.
//!
//! In reading order, which is the path of a connection:
//!
//! * [`server`] makes every part once and runs them; [`config`] is what it is told, [`readiness`] what it has earned.
//! * [`connection`] takes a socket to HTTP, one file a stage: `accept`, `proxy_header` (by [`proxy_protocol`]),
//!   `client_hello` (over [`read_ahead`]), `authorize` (by [`routing`]), `handshake` (with [`credentials`], over `late_ticket`), `http`.
//! * [`request`] takes a request to its answer: `admit`, `headers`, `forward` or `upgrade`, `respond`, told of by
//!   `exchange` under its [`request_id`].
//! * [`upstream`] holds the connections to the ingress; `http2` is what they and those of clients have in common.
//!   Towards both sides, TLS reads by [`read_ahead`] and is written to in [`short_slices`].
//! * [`outcome`] has every refusal and every ending, each with its blame, answer and word.
//! * [`access_log`], [`metrics`] and [`telemetry`] tell what happened; [`probe`] and [`admin`] answer who asks;
//!   [`explain`] tells what would happen.

pub mod access_log;
pub mod admin;
pub mod config;
pub mod connection;
pub mod credentials;
mod delegate;
pub mod explain;
mod http2;
pub mod metrics;
pub mod outcome;
pub mod probe;
pub mod proxy_protocol;
pub mod read_ahead;
pub mod readiness;
pub mod request;
pub mod request_id;
pub mod routing;
pub mod server;
pub mod short_slices;
pub mod telemetry;
pub mod upstream;
