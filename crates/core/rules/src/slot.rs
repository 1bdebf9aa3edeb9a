//! Where packets find their lists: one map from interface to chain for each purpose and direction.

use crate::{
    ir::{Field, KeyType, SetDef},
    list::{Direction, Purpose, Role},
};

/// A dispatch map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Slot {
    FromWorkload,
    ToWorkload,
    HostIn,
    HostOut,
    HostTranslated,
    ForwardIn,
    ForwardOut,
    UntrackedIn,
    UntrackedOut,
    PreDnatIn,
}

impl Slot {
    /// Those of host endpoints.
    pub(crate) const HOST: [Self; 8] = [
        Self::HostIn,
        Self::HostOut,
        Self::HostTranslated,
        Self::ForwardIn,
        Self::ForwardOut,
        Self::UntrackedIn,
        Self::UntrackedOut,
        Self::PreDnatIn,
    ];

    /// The map's name.
    pub(crate) fn map(self) -> &'static str {
        match self {
            Self::FromWorkload => "from-wl",
            Self::ToWorkload => "to-wl",
            Self::HostIn => "host-in",
            Self::HostOut => "host-out",
            Self::HostTranslated => "host-nat-out",
            Self::ForwardIn => "host-fwd-in",
            Self::ForwardOut => "host-fwd-out",
            Self::UntrackedIn => "host-raw-in",
            Self::UntrackedOut => "host-raw-out",
            Self::PreDnatIn => "host-pre-in",
        }
    }

    /// Which lists are in it.
    pub(crate) fn role(self) -> Role {
        let (purpose, direction) = match self {
            Self::FromWorkload => (Purpose::Workload, Direction::From),
            Self::ToWorkload => (Purpose::Workload, Direction::To),
            Self::HostIn => (Purpose::Host, Direction::To),
            Self::HostOut => (Purpose::Host, Direction::From),
            Self::HostTranslated => (Purpose::HostTranslated, Direction::From),
            Self::ForwardIn => (Purpose::Forward, Direction::To),
            Self::ForwardOut => (Purpose::Forward, Direction::From),
            Self::UntrackedIn => (Purpose::Untracked, Direction::To),
            Self::UntrackedOut => (Purpose::Untracked, Direction::From),
            Self::PreDnatIn => (Purpose::PreDnat, Direction::To),
        };
        Role::new(purpose, direction)
    }

    /// The interface that is looked up: a host's ingress comes in by it, a workload's egress too.
    pub(crate) fn field(self) -> Field {
        let is_workload = self.role().purpose == Purpose::Workload;
        match (is_workload, self.role().direction) {
            (true, Direction::From) | (false, Direction::To) => Field::Iif,
            (true, Direction::To) | (false, Direction::From) => Field::Oif,
        }
    }

    /// What is found in the map.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::FromWorkload => "policy list of traffic from each workload",
            Self::ToWorkload => "policy list of traffic to each workload",
            Self::HostIn => "policy of the host's interfaces, to the host",
            Self::HostOut => "policy of the host's interfaces, from the host",
            Self::HostTranslated => "the same for destinations that were translated",
            Self::ForwardIn => "policy of the host's interfaces, forwarded in",
            Self::ForwardOut => "policy of the host's interfaces, forwarded out",
            Self::UntrackedIn => "untracked policy of the host's interfaces, in",
            Self::UntrackedOut => "untracked policy of the host's interfaces, out",
            Self::PreDnatIn => "policy of the host's interfaces before destination NAT",
        }
    }

    /// The map's definition.
    pub(crate) fn def(self) -> SetDef {
        SetDef::verdict_map([KeyType::IfName]).commented(self.what())
    }
}
