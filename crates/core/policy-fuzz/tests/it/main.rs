//! Reference, engine and dataplane agree on random cases; and a reference with a mistake is caught.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod agree;
mod mistakes;
mod sentences;
