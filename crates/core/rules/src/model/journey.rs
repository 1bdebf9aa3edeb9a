//! A packet's way past all hooks.

use std::net::IpAddr;

use super::{Fate, Packet, Seen, pass};
use crate::ir::{CtState, CtStatus, Hook, Statement, TableState};

const RAW: i32 = -300;
const MANGLE: i32 = -150;
const FILTER: i32 = 0;

/// From where to where; interfaces by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way<'a> {
    /// Through the host, from one interface to another.
    Forward(&'a str, &'a str),
    /// To the host.
    In(&'a str),
    /// From the host.
    Out(&'a str),
}

/// The first packet of a connection and its way.
#[derive(Debug, Clone, Copy)]
pub struct Trip<'a> {
    /// The packet behind destination NAT.
    pub packet: Packet,
    /// Where it was sent, if that was translated.
    pub original: Option<(IpAddr, u16)>,
    /// The way.
    pub way: Way<'a>,
    /// Whether the route back to its source is not by the interface it came in.
    pub spoofed: bool,
    /// The packet mark that others gave it.
    pub mark: u32,
}

/// What becomes of a packet at all filtering hooks on its way.
#[must_use]
pub fn journey(table: &TableState, trip: &Trip<'_>) -> Fate {
    let mut sent = trip.packet;
    if let Some((dst, dport)) = trip.original {
        (sent.dst, sent.dport) = (dst, dport);
    }
    let mut on = Passing {
        table,
        seen: Seen {
            mark: trip.mark,
            spoofed: trip.spoofed,
            ..Seen::new(sent, None, None)
        },
        fate: Fate {
            accepted: true,
            by: "nothing".into(),
            mark: trip.mark,
            effects: vec![],
            faults: vec![],
        },
    };
    match trip.way {
        Way::Forward(from, to) => {
            on.seen.iif = Some(from.to_owned());
            on.hook(Hook::Prerouting, RAW);
            on.track();
            on.hook(Hook::Prerouting, MANGLE);
            on.translate(trip);
            on.seen.oif = Some(to.to_owned());
            on.hook(Hook::Forward, FILTER);
            on.hook(Hook::Postrouting, MANGLE);
        }
        Way::In(from) => {
            on.seen.iif = Some(from.to_owned());
            // An address that leads to the host by translation need not be its own.
            on.seen.to_host = trip.original.is_none();
            on.hook(Hook::Prerouting, RAW);
            on.track();
            on.hook(Hook::Prerouting, MANGLE);
            on.translate(trip);
            on.seen.to_host = true;
            on.hook(Hook::Input, FILTER);
        }
        Way::Out(to) => {
            on.seen.from_host = true;
            on.seen.oif = Some(to.to_owned());
            on.hook(Hook::Output, RAW);
            on.track();
            on.translate(trip);
            if trip.original.is_some() {
                // The kernel routes anew only behind this hook: until then the interface is that of the old way.
                on.seen.oif = Some("not-yet-known".into());
            }
            on.hook(Hook::Output, FILTER);
            on.seen.oif = Some(to.to_owned());
            on.hook(Hook::Postrouting, MANGLE);
        }
    }
    on.fate
}

struct Passing<'a> {
    table: &'a TableState,
    seen: Seen,
    fate: Fate,
}

impl Passing<'_> {
    fn hook(&mut self, hook: Hook, priority: i32) {
        if !self.fate.accepted {
            return;
        }
        let here = pass(self.table, hook, priority, &self.seen);
        self.seen.mark = here.mark;
        self.fate.accepted = here.accepted;
        self.fate.by = format!("{hook:?} {priority}: {}", here.by);
        self.fate.mark = here.mark;
        self.fate.effects.extend(here.effects);
        self.fate.faults.extend(here.faults);
    }

    fn track(&mut self) {
        if self.fate.effects.contains(&Statement::NoTrack) {
            self.seen.state = CtState::UNTRACKED;
        }
    }

    fn translate(&mut self, trip: &Trip<'_>) {
        self.seen.packet = trip.packet;
        if trip.original.is_some() {
            self.seen.status = CtStatus::DNAT;
        }
    }
}
