//! Instances as child processes on loopback addresses.
