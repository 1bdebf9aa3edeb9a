//! Addresses, prefixes, MACs and ports, for both families.
//!
//! **Invariant:** a [`Cidr`] is always masked (no host bits); an address with a prefix length that keeps its host
//! bits is an [`IfAddr`].

mod cidr;
mod family;
mod interval;
mod mac;
mod port;

pub use cidr::{BadCidr, Cidr, IfAddr};
pub use family::{Family, PerFamily};
pub use interval::{IntervalSet, IpRange, Step};
pub use mac::{BadMac, MacAddr};
pub use port::{BadPort, PortRange, Proto};
