//! `caracal validate`: judges manifests without a datastore.
//!
//! - [`run`] is the program, [`run_with`] the same over the caller's input and output, for tests.
//! - `judge` holds one object against its schema, whose verdict is that of an API server, and then against what
//!   `calicoctl` and the agent ask beyond it.
//! - `report` prints.
//!
//! **Invariant:** the exit code is 0 only if every object that was named could be read and would be taken.

mod cli;
mod judge;
mod report;

pub use cli::{run, run_with};
