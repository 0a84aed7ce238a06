//! The real binary on loopback, from outside. Every wait has a deadline, nothing sleeps to hope, and
//! whatever a test starts it also ends.

#![expect(clippy::disallowed_methods, reason = "seen from outside, time is the wall's")]

mod access_log;
mod authority;
mod balance;
mod cold;
mod control;
mod daemon;
mod elastic;
mod endurance;
mod faults;
mod http;
mod http2;
mod http2_both;
mod http2_origin;
mod http2_upstream;
mod interop;
mod keeping;
mod leaving;
mod limits;
mod load;
mod operator;
mod origin;
mod patience;
mod probes;
mod proxy_protocol;
mod queue;
mod reasons;
mod replay;
mod retry;
mod rewrite;
mod scaling;
mod streaming;
mod strict;
mod tcp;
mod tcp_trouble;
mod tls;
mod tools;
mod tunnel;
mod zones;
