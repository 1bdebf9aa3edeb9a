//! A packet's whole way through the host, past every endpoint on it (`calico-components.md` §3.9, §3.10).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use caracal_desired::{Desired, HostEndpoint, WorkloadEndpoint};
use caracal_net::{Cidr, Family, Proto};
use serde::{Deserialize, Serialize};

use crate::{
    Decider, Decision, Direction, ListKind, Packet, Reading, Verdict, decide_as, verdict::decide_host_as,
};

/// What happens to traffic from a workload to its host once policy allowed it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToHost {
    /// It is dropped.
    #[default]
    Drop,
    /// It is let in.
    Accept,
    /// The rules of others decide; here that means that it is let in.
    Return,
}

/// A port that host endpoints never close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailsafePort {
    /// The protocol.
    pub proto: Proto,
    /// The port.
    pub port: u16,
    /// The only peers; absent means all.
    pub net: Option<Cidr>,
}

/// What workloads may always ask of a host of OpenStack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenStack {
    /// Where its metadata service listens, if it has one.
    pub metadata: Option<(Ipv4Addr, u16)>,
}

/// The host that packets pass.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its interfaces, but for those of workloads, with their addresses.
    pub interfaces: BTreeMap<String, BTreeSet<IpAddr>>,
    /// How the names of workload interfaces begin.
    pub workload_prefixes: Vec<String>,
    /// Ports of this host that stay open.
    pub failsafe_in: Vec<FailsafePort>,
    /// Ports of others that stay open.
    pub failsafe_out: Vec<FailsafePort>,
    /// `DefaultEndpointToHostAction`.
    pub to_host: ToHost,
    /// `DisableConntrackInvalidCheck`: policy is asked of packets of no connection, too.
    #[serde(default)]
    pub bears_invalid: bool,
    /// `WorkloadSourceSpoofing: Any`: workloads may send from the prefixes that their endpoints allow, too.
    #[serde(default)]
    pub source_spoofing: bool,
    /// `ServiceLoopPrevention: Disabled`: forwarded packets to addresses of services that nobody translated go on.
    #[serde(default)]
    pub bears_service_loops: bool,
    /// Whether it is one of OpenStack.
    #[serde(default)]
    pub openstack: Option<OpenStack>,
}

/// From where to where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// Through the host.
    Forward {
        /// The interface it comes in by.
        from: String,
        /// The interface it leaves by.
        to: String,
    },
    /// To the host.
    In {
        /// The interface it comes in by.
        from: String,
    },
    /// From the host.
    Out {
        /// The interface it leaves by.
        to: String,
    },
}

/// The first packet of a connection and its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trip {
    /// The packet behind destination NAT.
    pub packet: Packet,
    /// Where it was sent, if that was translated.
    pub original: Option<(IpAddr, u16)>,
    /// The way.
    pub way: Way,
    /// Whether the route back to its source is not by the interface it came in.
    pub spoofed: bool,
}

/// A place on the way where something was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Whether a workload may send from the address.
    Source(String),
    /// A list of a host endpoint, by its name.
    Host(Arc<str>, ListKind),
    /// A workload.
    Workload(String),
    /// Behind the policy of a workload that talks to its host.
    ToHost,
    /// Behind all policy of what is forwarded.
    ServiceLoop,
}

/// The verdict of a trip with everything that was decided on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journey {
    /// The verdict.
    pub verdict: Verdict,
    /// The decisions, in order; those that let the packet through or left it to the next included.
    pub stages: Vec<(Stage, Option<Decision>)>,
}

/// What becomes of a packet.
#[must_use]
pub fn travel(desired: &Desired, host: &Host, reading: Reading, trip: &Trip) -> Journey {
    let mut walk = Walk {
        desired,
        host,
        reading,
        trip,
        stages: Vec::new(),
    };
    let verdict = match walk.go() {
        Ok(()) => Verdict::Allowed,
        Err(Blocked) => Verdict::Blocked,
    };
    Journey {
        verdict,
        stages: walk.stages,
    }
}

/// The end of the way.
struct Blocked;

struct Walk<'a> {
    desired: &'a Desired,
    host: &'a Host,
    reading: Reading,
    trip: &'a Trip,
    stages: Vec<(Stage, Option<Decision>)>,
}

impl<'a> Walk<'a> {
    fn go(&mut self) -> Result<(), Blocked> {
        match &self.trip.way {
            Way::Forward { from, to } => {
                let accepted = self.before_routing(from)?;
                if !accepted {
                    self.host_list(from, ListKind::Forward, Direction::Ingress, &self.trip.packet)?;
                }
                self.workload(from, Direction::Egress)?;
                self.workload(to, Direction::Ingress)?;
                self.host_list(to, ListKind::Forward, Direction::Egress, &self.trip.packet)?;
                self.service_loop()
            }
            Way::In { from } => {
                let accepted = self.before_routing(from)?;
                if self.is_workload(from) {
                    return self.workload_to_host(from);
                }
                if accepted {
                    return Ok(());
                }
                self.host_list(from, ListKind::Normal, Direction::Ingress, &self.trip.packet)?;
                Ok(())
            }
            Way::Out { to } => {
                if self.host_list(to, ListKind::Untracked, Direction::Egress, &self.as_sent())? {
                    return Ok(());
                }
                if self.is_workload(to) {
                    let stage = Stage::Workload(to.clone());
                    self.say(
                        stage,
                        Direction::Ingress,
                        Verdict::Allowed,
                        Decider::HostToWorkload,
                    );
                    return Ok(());
                }
                self.host_list(to, ListKind::Normal, Direction::Egress, &self.trip.packet)?;
                Ok(())
            }
        }
    }

    /// The packet before destination NAT.
    fn as_sent(&self) -> Packet {
        let mut packet = self.trip.packet;
        if let Some((dst, dport)) = self.trip.original {
            (packet.dst, packet.dport) = (dst, dport);
        }
        packet
    }

    fn is_workload(&self, interface: &str) -> bool {
        let mut prefixes = self.host.workload_prefixes.iter();
        prefixes.any(|p| interface.starts_with(p.as_str()))
    }

    fn workload_of(&self, interface: &str) -> Option<&'a WorkloadEndpoint> {
        let mut all = self.desired.workloads.values();
        all.find(|w| &*w.interface == interface).map(|w| &**w)
    }

    /// The host endpoint of an interface: by the interface's name only where the endpoint has one, else by address; of
    /// several the first by name. `*` is for interfaces that have none, those of workloads too.
    fn host_endpoint(&self, interface: &str) -> Option<&'a HostEndpoint> {
        let all = || self.desired.host_endpoints.values().map(|h| &**h);
        let addresses = self.host.interfaces.get(interface);
        let mut own = all().filter(|h| match &*h.interface {
            "*" => false,
            "" => addresses.is_some_and(|a| h.expected_ips.iter().any(|ip| a.contains(ip))),
            name => name == interface,
        });
        let own = if self.is_workload(interface) {
            None
        } else {
            own.next()
        };
        own.or_else(|| all().find(|h| &*h.interface == "*"))
    }

    fn say(&mut self, stage: Stage, direction: Direction, verdict: Verdict, by: Decider) {
        let decision = Decision {
            direction,
            verdict,
            by,
            path: Vec::new(),
        };
        self.stages.push((stage, Some(decision)));
    }

    /// What comes before routing; true if that is the last word of the interface's host endpoint.
    fn before_routing(&mut self, from: &str) -> Result<bool, Blocked> {
        if self.is_workload(from) {
            self.source(from)?;
        }
        let packet = self.as_sent();
        Ok(
            self.host_list(from, ListKind::Untracked, Direction::Ingress, &packet)?
                || self.host_list(from, ListKind::PreDnat, Direction::Ingress, &packet)?,
        )
    }

    /// A workload sends from what is routed to it, and from little else.
    fn source(&mut self, from: &str) -> Result<(), Blocked> {
        let p = self.as_sent();
        let endpoint = self.workload_of(from);
        let allowed = self.host.source_spoofing
            && endpoint.is_some_and(|w| w.allowed_sources.iter().any(|c| c.contains(p.src)));
        let before_it_has_an_address = match p.src {
            IpAddr::V4(a) => a.is_unspecified() && p.proto == Proto::UDP && p.dport == 67,
            IpAddr::V6(a) => (a.is_unspecified() && p.proto == Proto::ICMPV6) || a.is_unicast_link_local(),
        };
        if self.trip.spoofed && !allowed && !before_it_has_an_address {
            let stage = Stage::Source(from.to_owned());
            self.say(stage, Direction::Egress, Verdict::Blocked, Decider::Spoofed);
            return Err(Blocked);
        }
        Ok(())
    }

    /// Whether the packet is of a failsafe port: policy of this host endpoint is not asked then.
    fn is_failsafe(&self, list: ListKind, direction: Direction, p: &Packet) -> bool {
        let (peer, ports, answers) = match direction {
            Direction::Ingress => (p.src, &self.host.failsafe_in, &self.host.failsafe_out),
            Direction::Egress => (p.dst, &self.host.failsafe_out, &self.host.failsafe_in),
        };
        let fits = |f: &FailsafePort, port: u16| {
            f.proto == p.proto && f.port == port && f.net.is_none_or(|n| n.contains(peer))
        };
        ports.iter().any(|f| fits(f, p.dport))
            // Before connection tracking nobody knows an answer from a question.
            || (list == ListKind::Untracked && answers.iter().any(|f| fits(f, p.sport)))
    }

    /// Asks a host endpoint, if there is one with such a list; true if it allowed the packet.
    fn host_list(
        &mut self,
        interface: &str,
        list: ListKind,
        direction: Direction,
        packet: &Packet,
    ) -> Result<bool, Blocked> {
        let Some(endpoint) = self.host_endpoint(interface) else {
            return Ok(false);
        };
        let governed = match list {
            ListKind::Normal => true,
            // Not supported for all interfaces at once.
            ListKind::Untracked => !endpoint.untracked.is_empty() && &*endpoint.interface != "*",
            ListKind::PreDnat => !endpoint.pre_dnat.is_empty(),
            ListKind::Forward => !endpoint.forward.is_empty(),
        };
        if !governed {
            return Ok(false);
        }
        let stage = Stage::Host(Arc::clone(&endpoint.name), list);
        if list != ListKind::Forward && self.is_failsafe(list, direction, packet) {
            self.say(stage, direction, Verdict::Allowed, Decider::Failsafe);
            return Ok(false);
        }
        let decision = decide_host_as(self.desired, self.reading, endpoint, list, direction, packet);
        let verdict = decision.as_ref().map(|d| d.verdict);
        self.stages.push((stage, decision));
        match verdict {
            Some(Verdict::Blocked) => Err(Blocked),
            Some(Verdict::Allowed) => Ok(true),
            None => Ok(false),
        }
    }

    /// Asks a workload, if the interface is one's.
    fn workload(&mut self, interface: &str, direction: Direction) -> Result<(), Blocked> {
        if !self.is_workload(interface) {
            return Ok(());
        }
        let packet = &self.trip.packet;
        let speaks = |w: &&WorkloadEndpoint| !w.addresses.get(packet.family()).is_empty();
        let Some(endpoint) = self.workload_of(interface).filter(speaks) else {
            let stage = Stage::Workload(interface.to_owned());
            self.say(stage, direction, Verdict::Blocked, Decider::UnknownEndpoint);
            return Err(Blocked);
        };
        let decision = decide_as(self.desired, self.reading, endpoint, direction, packet);
        let verdict = decision.verdict;
        let stage = Stage::Workload(endpoint.id.to_string());
        self.stages.push((stage, Some(decision)));
        match verdict {
            Verdict::Allowed => Ok(()),
            Verdict::Blocked => Err(Blocked),
        }
    }

    /// What still has an address of a service, nobody translated: it would come back.
    fn service_loop(&mut self) -> Result<(), Blocked> {
        let dst = self.trip.packet.dst;
        let is_services = self.desired.service_cidrs.iter().any(|c| c.contains(dst));
        if self.host.bears_service_loops || !is_services {
            return Ok(());
        }
        self.say(
            Stage::ServiceLoop,
            Direction::Ingress,
            Verdict::Blocked,
            Decider::ServiceLoop,
        );
        Err(Blocked)
    }

    /// What a guest of OpenStack cannot begin without.
    fn is_openstacks(&self) -> bool {
        let p = &self.trip.packet;
        let Some(OpenStack { metadata }) = self.host.openstack else {
            return false;
        };
        let dhcp = match p.family() {
            Family::V4 => (68, 67),
            Family::V6 => (546, 547),
        };
        let asks_metadata = metadata
            .is_some_and(|(ip, port)| p.proto == Proto::TCP && p.dst == IpAddr::V4(ip) && p.dport == port);
        asks_metadata || (p.proto == Proto::UDP && (p.dport == 53 || (p.sport, p.dport) == dhcp))
    }

    fn workload_to_host(&mut self, from: &str) -> Result<(), Blocked> {
        let p = &self.trip.packet;
        let is_neighbours = p.family() == Family::V6
            && p.proto == Proto::ICMPV6
            && p.icmp.is_some_and(|(t, _)| matches!(t, 130..=133 | 135 | 136));
        let (direction, stage) = (Direction::Egress, Stage::ToHost);
        if is_neighbours {
            self.say(stage, direction, Verdict::Allowed, Decider::Neighbours);
            return Ok(());
        }
        if self.is_openstacks() {
            self.say(stage, direction, Verdict::Allowed, Decider::OpenStack);
            return Ok(());
        }
        self.workload(from, Direction::Egress)?;
        let verdict = match self.host.to_host {
            ToHost::Drop => Verdict::Blocked,
            ToHost::Accept | ToHost::Return => Verdict::Allowed,
        };
        self.say(stage, direction, verdict, Decider::EndpointToHost);
        match verdict {
            Verdict::Allowed => Ok(()),
            Verdict::Blocked => Err(Blocked),
        }
    }
}

#[cfg(test)]
#[path = "journey_tests.rs"]
mod tests;
