//! What the drivers and the lab need from the operating system: network and mount namespaces,
//! sysctls, the MTU file, atomic file writes, and processes recognised without pid reuse.
//!
//! **Invariant**: nothing here changes the namespace of a thread that it did not start itself,
//! except [`NetNs::enter`], whose caller asked for exactly that, and [`NetNs::visit`], which comes back.

mod error;
mod file;
mod memory;
mod mounts;
mod mtu;
mod netns;
mod process;
mod sysctl;

pub use error::SysError;
pub use file::{read_optional, remove_optional, replace, write_atomic};
pub use memory::{give_back_from, limit_heaps, release_memory, release_program};
pub use mounts::{MountPlan, spawn_in};
pub use mtu::{DEFAULT_MTU_FILE, read_mtu_file, write_mtu_file};
pub use netns::{NETNS_DIR, NetNs, NetNsId};
pub use process::{ProcessId, processes_in};
pub use sysctl::{Sysctl, SysctlDir};
