use std::{net::IpAddr, sync::Arc};

use caracal_net::PortRange;

use super::{
    key::{Field, Span},
    name::{ChainName, CounterName, SetName},
};

/// States of a connection, joined by "or".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CtState(pub u8);

impl CtState {
    /// Not a packet of any connection.
    pub const INVALID: Self = Self(1);
    /// Of a connection that has seen packets both ways.
    pub const ESTABLISHED: Self = Self(2);
    /// Opens a connection that belongs to another one.
    pub const RELATED: Self = Self(4);
    /// Opens a connection.
    pub const NEW: Self = Self(8);
    /// Exempt from tracking.
    pub const UNTRACKED: Self = Self(64);

    /// Either of both.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Facts about a connection, joined by "or"; the bits are those of the kernel's connection tracking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CtStatus(pub u32);

impl CtStatus {
    /// Its source was translated.
    pub const SNAT: Self = Self(1 << 4);
    /// Its destination was translated.
    pub const DNAT: Self = Self(1 << 5);
}

/// What a route look-up is made with, beside the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FibKey {
    /// The interface the packet came in by.
    Iif,
    /// That interface and the packet mark.
    IifMark,
}

/// How a packet was addressed on its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PktType {
    /// To this host.
    Host,
    /// To everyone.
    Broadcast,
    /// To a group.
    Multicast,
    /// To another host.
    Other,
}

/// A condition; all conditions of a rule must hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Match {
    /// A field is (with `not`: is not) inside a run of values.
    Is {
        /// What is read.
        field: Field,
        /// Whether the condition is turned around.
        not: bool,
        /// A value, a prefix or a range.
        span: Span,
    },
    /// The fields together are (not) in a set.
    InSet {
        /// What is read, in the order of the set's key.
        fields: Vec<Field>,
        /// Whether the condition is turned around.
        not: bool,
        /// The set.
        set: SetName,
    },
    /// The fields together are in a map of counters; the counter found there counts the packet. Must be the last
    /// condition, or packets are counted that the rule does not match.
    Counted {
        /// What is read, in the order of the map's key.
        fields: Vec<Field>,
        /// The map.
        map: SetName,
    },
    /// The packet mark under `mask` is (not) `value`.
    Mark {
        /// The bits that count.
        mask: u32,
        /// What they must be.
        value: u32,
        /// Whether the condition is turned around.
        not: bool,
    },
    /// The connection mark under `mask` is (not) `value`.
    CtMark {
        /// The bits that count.
        mask: u32,
        /// What they must be.
        value: u32,
        /// Whether the condition is turned around.
        not: bool,
    },
    /// The connection is in one (none) of these states.
    CtState {
        /// The states.
        any: CtState,
        /// Whether the condition is turned around.
        not: bool,
    },
    /// The connection has one (none) of these facts.
    CtStatus {
        /// The facts.
        any: CtStatus,
        /// Whether the condition is turned around.
        not: bool,
    },
    /// There is no route to the source address by the interface the packet came in by.
    NoReversePath(FibKey),
    /// The source or destination address is (not) one of this host's.
    Local {
        /// `Saddr` or `Daddr`.
        field: Field,
        /// Whether the condition is turned around.
        not: bool,
    },
    /// The packet was (not) addressed like this on its link.
    PktType {
        /// How.
        kind: PktType,
        /// Whether the condition is turned around.
        not: bool,
    },
    /// The TCP flags under `mask` are (not) exactly `value`. The protocol must have been tested before.
    TcpFlags {
        /// The bits that count, as in the header's octet 13.
        mask: u8,
        /// What they must be.
        value: u8,
        /// Whether the condition is turned around.
        not: bool,
    },
    /// More connections than this have reached the rule and still live.
    ConnectionsOver(u32),
}

impl Match {
    /// The field is inside `span`.
    pub fn is(field: Field, span: impl Into<Span>) -> Self {
        Self::Is {
            field,
            not: false,
            span: span.into(),
        }
    }

    /// The field is not inside `span`.
    pub fn is_not(field: Field, span: impl Into<Span>) -> Self {
        Self::Is {
            field,
            not: true,
            span: span.into(),
        }
    }

    /// The fields are in `set`.
    pub fn in_set(fields: impl Into<Vec<Field>>, set: impl Into<SetName>) -> Self {
        Self::InSet {
            fields: fields.into(),
            not: false,
            set: set.into(),
        }
    }

    /// The fields are not in `set`.
    pub fn not_in_set(fields: impl Into<Vec<Field>>, set: impl Into<SetName>) -> Self {
        Self::InSet {
            fields: fields.into(),
            not: true,
            set: set.into(),
        }
    }
}

/// Where a packet goes on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Out of this hook, to the next one.
    Accept,
    /// Nowhere.
    Drop,
    /// To the rule behind the jump that led here.
    Return,
    /// Into a chain, and back at its end.
    Jump(ChainName),
    /// Into a chain, without coming back.
    Goto(ChainName),
}

impl Verdict {
    /// The chain it leads to.
    #[must_use]
    pub fn target(&self) -> Option<&ChainName> {
        match self {
            Self::Jump(chain) | Self::Goto(chain) => Some(chain),
            Self::Accept | Self::Drop | Self::Return => None,
        }
    }
}

/// What a refused sender is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RejectWith {
    /// A TCP reset; the packet must be TCP.
    TcpReset,
    /// "Port unreachable" of the family's ICMP.
    PortUnreachable,
    /// "Administratively prohibited" of the family's ICMP.
    AdminProhibited,
}

/// Where a log line goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogTo {
    /// The kernel log, with a syslog level (0 to 7).
    Kernel(u8),
    /// A netlink log group.
    Group {
        /// Its number.
        group: u16,
        /// Bytes of the packet to copy; 0 is the kernel's default.
        snaplen: u32,
    },
}

/// The time a rate counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Per {
    /// Second.
    Second,
    /// Minute.
    Minute,
    /// Hour.
    Hour,
    /// Day.
    Day,
}

/// What an address is translated to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NatTo {
    /// First address.
    pub first: IpAddr,
    /// Last address; equal to the first for a single one.
    pub last: IpAddr,
    /// Ports, when they are translated too.
    pub ports: Option<PortRange>,
    /// Whether ports are picked fully at random.
    pub fully_random: bool,
}

/// What a rule does with a packet that all its conditions hold for, in order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Statement {
    /// Count packets and bytes.
    Counter,
    /// Count packets and bytes in a counter that others count in too.
    Count(CounterName),
    /// Decide.
    Verdict(Verdict),
    /// Decide by a verdict map; goes on to the next rule if the map has no entry.
    VerdictMap {
        /// What is read, in the order of the map's key.
        fields: Vec<Field>,
        /// The map.
        map: SetName,
    },
    /// Refuse and tell the sender.
    Reject(RejectWith),
    /// Write a log line.
    Log {
        /// Where to.
        to: LogTo,
        /// What it begins with (at most 127 bytes).
        prefix: Arc<str>,
    },
    /// Go on only while packets come at no more (with `over`: only at more) than this rate.
    Limit {
        /// How many packets.
        rate: u64,
        /// In which time.
        per: Per,
        /// How many may come at once.
        burst: u32,
        /// Whether the statement catches what is above the rate instead.
        over: bool,
    },
    /// Set the bits of the packet mark under `mask` to `value`.
    SetMark {
        /// The bits that change.
        mask: u32,
        /// Their new value.
        value: u32,
    },
    /// Set the packet mark to what a map gives; goes on to the next rule if the map has no entry.
    SetMarkFromMap {
        /// What is read, in the order of the map's key.
        fields: Vec<Field>,
        /// A map of marks.
        map: SetName,
    },
    /// Set the bits of the connection mark under `mask` to `value`.
    SetCtMark {
        /// The bits that change.
        mask: u32,
        /// Their new value.
        value: u32,
    },
    /// Copy the packet mark's bits under `mask` to the connection mark, whose other bits become 0.
    SaveMark {
        /// The bits that are copied.
        mask: u32,
    },
    /// Set the DSCP of the packet (0 to 63).
    SetDscp(u8),
    /// Do not track this packet's connection.
    NoTrack,
    /// Translate the source to the address of the outgoing interface.
    Masquerade {
        /// Ports to choose from.
        ports: Option<PortRange>,
        /// Whether they are picked fully at random.
        fully_random: bool,
    },
    /// Translate the source.
    Snat(NatTo),
    /// Translate the destination.
    Dnat(NatTo),
}

impl Statement {
    /// Let the packet pass this hook.
    pub const ACCEPT: Self = Self::Verdict(Verdict::Accept);
    /// Drop the packet.
    pub const DROP: Self = Self::Verdict(Verdict::Drop);
    /// Go back to where the chain was jumped to from.
    pub const RETURN: Self = Self::Verdict(Verdict::Return);

    /// Jump to a chain.
    pub fn jump(chain: impl Into<ChainName>) -> Self {
        Self::Verdict(Verdict::Jump(chain.into()))
    }

    /// Go to a chain without coming back.
    pub fn goto(chain: impl Into<ChainName>) -> Self {
        Self::Verdict(Verdict::Goto(chain.into()))
    }

    /// The set or map it looks into.
    #[must_use]
    pub fn set(&self) -> Option<&SetName> {
        match self {
            Self::VerdictMap { map, .. } | Self::SetMarkFromMap { map, .. } => Some(map),
            _ => None,
        }
    }
}

/// A line of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Conditions, in the order in which they are tested: the protocol before ports and ICMP types.
    pub matches: Vec<Match>,
    /// What is done, in order; at most the last one decides.
    pub statements: Vec<Statement>,
    /// Which policy and rule the line is for (at most 127 bytes reach the kernel).
    pub comment: String,
}

impl Rule {
    /// A rule of these conditions and statements.
    pub fn new(
        matches: impl Into<Vec<Match>>,
        statements: impl Into<Vec<Statement>>,
        comment: impl Into<String>,
    ) -> Self {
        Self {
            matches: matches.into(),
            statements: statements.into(),
            comment: comment.into(),
        }
    }

    /// The sets and maps that the rule looks into.
    pub fn sets(&self) -> impl Iterator<Item = &SetName> {
        let matched = self.matches.iter().filter_map(|m| match m {
            Match::InSet { set, .. } | Match::Counted { map: set, .. } => Some(set),
            _ => None,
        });
        matched.chain(self.statements.iter().filter_map(Statement::set))
    }

    /// The counters that the rule names itself (not those that a map gives).
    pub fn counters(&self) -> impl Iterator<Item = &CounterName> {
        self.statements.iter().filter_map(|s| match s {
            Statement::Count(name) => Some(name),
            _ => None,
        })
    }

    /// The chains that the rule itself leads to (not those that a map leads to).
    pub fn targets(&self) -> impl Iterator<Item = &ChainName> {
        self.statements.iter().filter_map(|s| match s {
            Statement::Verdict(v) => v.target(),
            _ => None,
        })
    }
}
