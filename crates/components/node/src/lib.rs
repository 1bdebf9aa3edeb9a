//! Node start-up: the Node object, tunnel addresses and the defaults of a new cluster.
//!
//! Everything here may run at any time, on several nodes at once, and again: what is there already stays.

mod cluster;
mod startup;
#[cfg(test)]
mod tests;
mod tunnel;

pub use cluster::{ClusterDefaults, default_pool_v4, ensure_cluster};
pub use startup::{NodeFacts, ensure_node, node_address};
pub use tunnel::ensure_tunnel_addresses;

/// The component's command line; `args[0]` is the program's name. The result is the exit code.
#[must_use]
pub fn run(args: Vec<std::ffi::OsString>) -> i32 {
    let name = args
        .first()
        .map(|a| a.to_string_lossy().into_owned())
        .unwrap_or_default();
    eprintln!("{name}: this component is not in this version");
    64
}
