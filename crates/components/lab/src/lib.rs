//! Multi-node lab on one machine, probes and policy-check.
//!
//! - `lab`: `caracal lab`, networks that stay. `policy_check`: `caracal policy-check`, judges truth tables.
//! - `cluster`: what both are made of: a fabric, nodes, their programs, pods by the CNI protocol; it keeps no state.
//! - [`prober`]: packets between pods.
//!
//! **Invariant:** all programs of a node are this very executable under other names: what is tested is what is built.

mod cluster;
mod explain;
mod lab;
mod policy_check;
pub mod prober;

pub use lab::run;
pub use policy_check::run as policy_check;
