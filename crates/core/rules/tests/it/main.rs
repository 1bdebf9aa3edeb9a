//! The compiler against the reference verdict, against itself from scratch, and against tables written by hand.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod golden;
mod history;
mod hosts;
mod interpreter;
mod ipvs;
mod merging;
mod verdicts;
mod walls;
mod world;
