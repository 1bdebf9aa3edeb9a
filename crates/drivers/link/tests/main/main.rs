//! The real kernel, in namespaces of our own.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod ipip;
mod links;
mod monitor;
mod support;
mod vxlan;
