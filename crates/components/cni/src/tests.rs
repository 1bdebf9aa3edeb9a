//! Reading, planning, and whole calls against the kernel.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod agent;
mod asked;
mod files;
mod kernel;
mod lab;
mod later;
mod plans;
mod reading;
mod refusals;
