//! `caracal policy-fuzz`: random clusters and packets, on which the objects, the engine and a dataplane must agree.
//!
//! - `cli`: the command line. `files`: cases of files. `kernel`: a dataplane of a real kernel, under an agent. `staged`: what
//!   staged policies do, and do not do.
//!
//! A case follows from its seed alone. One that fails is made small and shown: the manifests, the packet, who says what.

mod cli;
mod files;
mod kernel;
mod staged;

pub use cli::run;
