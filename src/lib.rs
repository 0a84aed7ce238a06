//! tidegate: a load balancer for scale sets.

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
