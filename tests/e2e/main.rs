//! The real binary on loopback, from outside. Every wait has a deadline, nothing sleeps to hope, and
//! whatever a test starts it also ends.

mod control;
mod daemon;
mod faults;
mod http;
mod load;
mod origin;
mod scaling;
mod tcp;
mod tools;
