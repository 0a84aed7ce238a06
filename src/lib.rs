//! tidegate: a load balancer for scale sets.
//!
//! One daemon stands in front of a pool of identical machines, spread over zones. It balances their
//! traffic, knows which of them are healthy, and scales the pool by the request rate that it sees.
//! This page is its architecture; the operator's view is in `README.md`.
//!
//! # Two paths
//!
//! ```text
//! data path      accept → wire → route → balance → forward → observe        (every request, no waiting on control)
//! control path   config ┐
//!                probe  → health → membership → snapshot ──(one arc-swap)──▶ data path
//!                observe → scaler → plan → agent → provisioner → membership
//! ```
//!
//! The data path is [`proxy`]: N workers, each a thread with a runtime, sockets, buffers, upstream
//! connections and counters of its own. The control path runs on the main thread. Its middle is the
//! steward ([`daemon::steward`]): it alone changes the membership and publishes snapshots. Losing the
//! control plane, or a cloud's API, costs scaling and never traffic.
//!
//! # Rooms
//!
//! Each imports only rooms above it; `tests/tidy.rs` holds the order.
//!
//! - [`base`]: names, time, chance, units
//! - [`model`]: the values that rooms share, and the few hot counters that outlive a snapshot
//! - [`config`]: TOML text → a configuration that cannot be wrong, or all of its faults
//! - [`observe`]: counters, metrics, logs
//! - [`net`]: binding, dialing, splicing, the PROXY protocol, TLS (`rustls` is known nowhere else), and
//!   the HTTP client for everything off the hot path
//! - [`provision`]: where instances come from
//! - [`fleet`]: who is there, and who is healthy
//! - [`proxy`]: the data plane
//! - [`scaling`]: how many there should be, and why
//! - [`admin`]: the HTTP API
//! - [`daemon`]: ties them together, from start to stop
//! - [`cli`]: what an operator types
//!
//! `fleet`, `proxy` and `scaling` do not know each other: what they share is in `model`, and `daemon`
//! carries it across.
//!
//! # Invariants
//!
//! - *What decides does not wait.* Codecs, routes, picks, health, membership, the scaler and the
//!   config compiler take `now` and a seeded entropy as arguments; they do no I/O and never sleep.
//! - *A request is routed by one snapshot.* Where it waits in the hold queue, or is tried again, the
//!   instance comes from the newest one: who went down meanwhile is not asked.
//! - *Three truths about an instance are never folded into one*: what probes say, what an operator
//!   says, where it is between birth and death ([`model::Standing`]).
//! - *Only the steward publishes; only the agent provisions; only one place invents statuses*
//!   ([`proxy::forward::respond`]).
//! - *Nothing is terminated that is not drained*, dead, or past its drain deadline; victims are chosen
//!   here, by name, never by lowering a count.
//! - *A bad config never replaces a good one*: build first, swap, then retire the old.
//! - *No ambiguous HTTP message reaches an instance*, and no cut response is passed off as whole.

pub mod base;
pub mod model;

pub mod config;
pub mod observe;

pub mod net;
pub mod provision;

pub mod fleet;
pub mod proxy;
pub mod scaling;

pub mod admin;
pub mod daemon;

pub mod cli;
