//! Multi-node lab on one machine, probes and policy-check.
//!
//! - `lab`: `caracal lab`, networks that stay. `policy_check`: `caracal policy-check`, judges truth tables.
//! - `policy_fuzz`: `caracal policy-fuzz`, random policies and packets.
//! - `cluster`: what both are made of: a fabric, nodes, their programs, pods by the CNI protocol; it keeps no state.
//! - [`prober`]: packets between pods.
//!
//! **Invariant:** all programs of a node are this very executable under other names: what is tested is what is built.

#[cfg(test)]
mod asking;
mod cluster;
mod explain;
mod lab;
mod policy_check;
mod policy_fuzz;
pub mod prober;

pub use lab::run;
pub use policy_check::run as policy_check;
pub use policy_fuzz::run as policy_fuzz;
