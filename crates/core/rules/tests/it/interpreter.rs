//! The model dataplane, for the oracle's packets.

use caracal_net::{Family, Proto};
use caracal_oracle::Packet;
use caracal_rules::{
    ir::{CtState, Hook, TableState},
    model,
};

pub(crate) use caracal_rules::model::{Fate, faults};

/// Bits of the mark that are others', and must stay as they are.
const OTHERS: u32 = 0x1234_5678 & !0x0001_0000;

/// A packet at one hook.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) packet: Packet,
    pub(crate) iif: Option<String>,
    pub(crate) oif: Option<String>,
    pub(crate) state: CtState,
    pub(crate) spoofed: bool,
    pub(crate) to_host: bool,
}

impl Seen {
    pub(crate) fn new(packet: Packet, iif: Option<&str>, oif: Option<&str>) -> Self {
        Self {
            packet,
            iif: iif.map(str::to_owned),
            oif: oif.map(str::to_owned),
            state: CtState::NEW,
            spoofed: false,
            to_host: false,
        }
    }
}

/// The headers of a packet.
pub(crate) fn headers(p: &Packet) -> model::Packet {
    model::Packet {
        src: p.src,
        dst: p.dst,
        proto: p.proto,
        sport: p.sport,
        dport: p.dport,
        icmp: p.icmp,
    }
}

/// Passes a packet through the base chain of a hook with this priority, in a table without host endpoints.
pub(crate) fn pass(table: &TableState, hook: Hook, priority: i32, seen: &Seen) -> Fate {
    let there = model::Seen {
        state: seen.state,
        spoofed: seen.spoofed,
        to_host: seen.to_host,
        mark: OTHERS,
        ..model::Seen::new(headers(&seen.packet), seen.iif.as_deref(), seen.oif.as_deref())
    };
    let fate = model::pass(table, hook, priority, &there);
    assert_eq!(fate.faults, Vec::<String>::new());
    if fate.accepted {
        assert_eq!(fate.mark, OTHERS, "a mark is left on a packet");
    }
    fate
}

/// The ICMP of a family.
pub(crate) fn icmp_of(family: Family) -> Proto {
    match family {
        Family::V4 => Proto::ICMP,
        Family::V6 => Proto::ICMPV6,
    }
}
