//! IPAM on the memory store: crashes, lost replies, many writers, a simulated cluster, repairs.

mod chaos;
mod crash;
mod group;
mod repair;
mod rules;
mod simulation;
mod world;
