//! The real kernel, in namespaces of our own.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod cluster;
mod drift;
mod links;
mod support;
mod write;
