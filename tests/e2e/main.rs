//! The real binary on loopback, from outside. Every wait has a deadline, nothing sleeps to hope, and
//! whatever a test starts it also ends.

#![expect(clippy::disallowed_methods, reason = "seen from outside, time is the wall's")]

mod control;
mod daemon;
mod faults;
mod http;
mod load;
mod origin;
mod proxy_protocol;
mod scaling;
mod streaming;
mod tcp;
mod tools;
