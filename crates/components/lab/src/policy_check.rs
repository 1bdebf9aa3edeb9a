//! `caracal policy-check`: judges the cases of a truth table, by the engine and the oracle or by packets through the
//! kernel. `docs/policy-check.md` tells how the file looks and what comes out.
//!
//! - `table`: the file, read and checked. `objects`: a step as the objects of a datastore. `mapping`: IPv4 as IPv6.
//! - `model`: judges by engine and oracle. `kernel`: judges by packets between pods on several nodes.
//! - `cli`: the command line. `report`: what is counted and printed.
//!
//! **Invariant:** a step is the whole state, and reaches engine and agents as the difference to the step before.

mod cli;
mod kernel;
mod mapping;
mod model;
mod objects;
mod report;
mod table;

pub use cli::run;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod why_tests;
