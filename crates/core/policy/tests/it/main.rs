//! The engine from outside: every trap of `calico-components.md` §3 by example, and random histories against a model
//! that shares no code with the engine.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod check;
mod gen_objects;
mod history;
mod model;
mod replay;
mod traps;
