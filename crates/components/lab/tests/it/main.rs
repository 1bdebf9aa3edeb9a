//! Integration tests of the lab and of policy-check.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod lab;
mod pod_starts;
mod policy_check;
mod policy_fuzz;
mod prober;
mod world;

/// The same sentences that the pure crates judge by a model of the kernel.
#[path = "../../../../core/policy-fuzz/tests/it/sentences.rs"]
mod sentences;
