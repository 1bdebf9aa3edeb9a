//! Integration tests of the lab and of policy-check.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod lab;
mod pod_starts;
mod policy_check;
mod prober;
mod world;
