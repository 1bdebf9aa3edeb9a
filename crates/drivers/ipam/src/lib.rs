//! Executor of IPAM plans over the datastore's contract.
//!
//! It observes, asks `ipam-plan` for steps, does them, and begins again when somebody else was faster. It decides
//! nothing.
//!
//! **Invariant:** an address that [`Ipam::assign`] returned is in its block in the datastore.

mod error;
mod execute;
mod observe;
mod service;

pub use error::IpamError;
pub use service::{Assign, Ipam};
