//! The schemas against Calico's, the types, and the kinds' own validation.

#![allow(
    clippy::unwrap_used,
    reason = "what is unwrapped are facts of the project's own files"
)]

mod agent;
mod api_server;
mod corpus;
mod dice;
mod reference;
mod testdata;
