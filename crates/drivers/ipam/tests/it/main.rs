//! IPAM on the memory store: crashes, lost replies, many writers, a simulated cluster, repairs.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod agent;
mod chaos;
mod crash;
mod group;
mod repair;
mod rules;
mod simulation;
mod together;
mod world;
