//! `caracal policy` as a user sees it: output and exit codes, over examples/lab.

#![allow(clippy::unwrap_used, reason = "tests")]

mod diff;
mod errors;
mod lint;
mod rig;
mod test;
