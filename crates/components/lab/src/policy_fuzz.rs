//! `caracal policy-fuzz`: random clusters and packets, on which the objects, the engine and a dataplane must agree.
//!
//! - `cli`: the command line. `kernel`: a dataplane of a real kernel, under an agent.
//!
//! A case follows from its seed alone. One that fails is made small and shown: the manifests, the packet, who says what.

mod cli;
mod kernel;

pub use cli::run;
