//! The store from outside: engine against a model, server through its client stubs, and kill -9.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "it/api.rs"]
mod api;
#[path = "it/backup.rs"]
mod backup;
#[path = "it/chaos.rs"]
mod chaos;
#[path = "it/crash.rs"]
mod crash;
#[path = "it/damage.rs"]
mod damage;
#[path = "it/dice.rs"]
mod dice;
#[path = "it/disk.rs"]
mod disk;
#[path = "it/etcd.rs"]
mod etcd;
#[path = "it/faults.rs"]
mod faults;
#[path = "it/model.rs"]
mod model;
#[path = "it/opening.rs"]
mod opening;
#[path = "it/random.rs"]
mod random;
#[path = "it/speak.rs"]
mod speak;
#[path = "it/watching.rs"]
mod watching;
