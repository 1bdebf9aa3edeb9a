//! What a network of nodes on this machine is made of. Everything here is idempotent and keeps no state: callers know
//! what they have made.
//!
//! - `fabric`: a network namespace with a bridge, and nodes on it. `mountpoints`: what a node sees of its own.
//! - `process`: starting, finishing and ending programs. `datastore`: the embedded store, or a real etcd.
//! - `follow`: a datastore brought from state to state, and whether agents have followed. `temporary`: what a run makes and
//!   takes away again.
//! - `node`: a node's programs. `cni`: attaching pods through the CNI protocol. `agent`: the agents' API.

pub(crate) mod agent;
pub(crate) mod cni;
pub(crate) mod datastore;
pub(crate) mod fabric;
pub(crate) mod follow;
pub(crate) mod mountpoints;
pub(crate) mod node;
pub(crate) mod process;
pub(crate) mod temporary;
