use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use caracal_net::{Cidr, Proto};
use serde::{Deserialize, Serialize};

/// What the members of a set are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum IpSetKind {
    /// Prefixes (single addresses are /32 and /128).
    Net,
    /// Address, protocol and port.
    IpPort,
}

/// A member of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum IpSetMember {
    /// A prefix; may overlap others of the set, may be the whole family.
    Net(Cidr),
    /// An address with a port.
    IpPort(IpAddr, Proto, u16),
}

impl IpSetMember {
    /// The member's address family.
    #[must_use]
    pub fn family(&self) -> caracal_net::Family {
        match self {
            Self::Net(c) => c.family(),
            Self::IpPort(a, _, _) => caracal_net::Family::of(*a),
        }
    }
}

/// A set of addresses of both families.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpSet {
    /// What the members are.
    pub kind: IpSetKind,
    /// The members, each once.
    pub members: BTreeSet<IpSetMember>,
    /// What it is of, for people: a selector, a named port of one, a service. Follows from its id; empty where nobody knows.
    #[serde(default)]
    pub about: Arc<str>,
}
