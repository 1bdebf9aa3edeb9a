//! Executor of IPAM plans over the datastore's contract.
//!
//! It observes, asks `ipam-plan` for steps, does them, and begins again when somebody else was faster. It decides
//! nothing.
//!
//! - [`Ipam`]: assign and release, blocks' affinities, attributes of owners, utilisation.
//! - [`Grouped`]: requests that wait at one moment share one compare-and-swap per block.
//! - [`Ipam::look`], [`Ipam::draw`] and [`Ipam::write_together`]: the same in one transaction with what else is written,
//!   where the datastore has such and blocks are there; [`Ipam::look_back`] and [`Ipam::give_back`] for releases.
//! - [`Ipam::load`] reads the whole database for checks; [`Ipam::collect`] is one round of the garbage collector and
//!   [`Ipam::repair`] one repair.
//!
//! **Invariant:** an address that [`Ipam::assign`] returned is in its block in the datastore.

mod affinity;
mod assign;
mod collect;
mod error;
mod execute;
mod group;
mod ipam;
mod load;
mod observe;
mod owner;
mod release;
mod release_group;
mod repair;
mod together;

pub use assign::{Assign, AssignOptions};
pub use collect::Collected;
pub use error::IpamError;
pub use group::Grouped;
pub use ipam::Ipam;
pub use owner::OwnerChange;
pub use release::Released;
pub use together::{Drawn, Memory, Parting, Sight};
