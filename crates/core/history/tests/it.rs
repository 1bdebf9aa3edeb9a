//! The checker checked: right histories pass, wrong ones do not.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "it/play.rs"]
mod play;
#[path = "it/random.rs"]
mod random;
#[path = "it/wrong.rs"]
mod wrong;
