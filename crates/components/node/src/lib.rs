//! Node start-up: the Node object, tunnel addresses and the defaults of a new cluster; the collector of addresses.
//!
//! Everything here may run at any time, on several nodes at once, and again: what is there already stays.

mod cli;
mod cluster;
mod config;
mod ipam;
mod startup;
#[cfg(test)]
mod tests;
mod tunnel;

pub use cli::run;
pub use ipam::run_ipam;
