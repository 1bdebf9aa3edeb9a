//! The store from outside: engine against a model, server through its client stubs, and kill -9.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "it/api.rs"]
mod api;
#[path = "it/backup.rs"]
mod backup;
#[path = "it/crash.rs"]
mod crash;
#[path = "it/model.rs"]
mod model;
#[path = "it/opening.rs"]
mod opening;
#[path = "it/random.rs"]
mod random;
#[path = "it/watching.rs"]
mod watching;
