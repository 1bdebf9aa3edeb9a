//! The whole program as its users start it.

mod cni;
mod commands;
