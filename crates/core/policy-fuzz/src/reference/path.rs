//! The way of a packet past the endpoints (§3.9, §3.10).

use std::net::IpAddr;

use caracal_api::{Kind, Resource};
use caracal_net::{Family, Proto};
use caracal_oracle::{FailsafePort, ListKind, Packet, ToHost, Trip, Way};

use super::{Reference, Thing};
use crate::{Mistake, NODE};

impl Reference<'_> {
    /// Whether the packet gets through.
    #[must_use]
    pub fn allows(&self, trip: &Trip) -> bool {
        let packet = &trip.packet;
        match &trip.way {
            Way::Forward { from, to } => {
                let Some(done) = self.early(from, trip) else {
                    return false;
                };
                let skip = done && !self.wrong(Mistake::AcceptedIsAskedAgain);
                (skip || self.host(from, ListKind::Forward, true, packet) != Some(false))
                    && self.pod(from, false, packet)
                    && self.pod(to, true, packet)
                    && self.host(to, ListKind::Forward, false, packet) != Some(false)
                    && !self.loops(trip)
            }
            Way::In { .. } | Way::Out { .. }
                if self.wrong(Mistake::ServiceLoopsEverywhere) && self.loops(trip) =>
            {
                false
            }
            Way::In { from } => {
                let Some(done) = self.early(from, trip) else {
                    return false;
                };
                if self.is_pod(from) {
                    return self.pod_to_host(from, packet);
                }
                (done && !self.wrong(Mistake::AcceptedIsAskedAgain))
                    || self.host(from, ListKind::Normal, true, packet) != Some(false)
            }
            Way::Out { to } => {
                match self.host(to, ListKind::Untracked, false, &sent(trip)) {
                    Some(false) => return false,
                    Some(true) if !self.wrong(Mistake::AcceptedIsAskedAgain) => return true,
                    _ => {}
                }
                if self.is_pod(to) {
                    return !self.wrong(Mistake::HostToWorkloadPoliced) || self.pod(to, true, packet);
                }
                self.host(to, ListKind::Normal, false, packet) != Some(false)
            }
        }
    }

    /// Before routing: nothing if it is dropped, true if it was allowed for good.
    fn early(&self, from: &str, trip: &Trip) -> Option<bool> {
        let packet = sent(trip);
        if self.is_pod(from) && trip.spoofed && !self.may_spoof(from, &packet) {
            return None;
        }
        if let Some(allowed) = self.host(from, ListKind::Untracked, true, &packet) {
            return allowed.then_some(true);
        }
        let seen = match self.wrong(Mistake::PreDnatSeesTranslated) {
            true => trip.packet,
            false => packet,
        };
        self.host(from, ListKind::PreDnat, true, &seen)
            .map_or(Some(false), |allowed| allowed.then_some(true))
    }

    /// Whether the packet still has a service's address, so that it would come back.
    fn loops(&self, trip: &Trip) -> bool {
        let dst = match self.wrong(Mistake::ServiceLoopsAsSent) {
            true => sent(trip).dst,
            false => trip.packet.dst,
        };
        let named = self.case.objects.iter().any(|o| match o {
            Resource::BgpConfiguration(o) => {
                let own = o.metadata.name == format!("node.{NODE}");
                let counts =
                    o.metadata.name == "default" || (own && self.wrong(Mistake::ServiceLoopsOfNodes));
                let mut blocks = o.spec.service_cluster_ips.clone();
                if !self.wrong(Mistake::ServiceLoopsOfClusterOnly) {
                    blocks.extend(o.spec.service_external_ips.clone());
                    blocks.extend(o.spec.service_load_balancer_ips.clone());
                }
                let hit = |text: &str| text.parse().is_ok_and(|c: caracal_net::Cidr| c.contains(dst));
                counts && blocks.iter().any(|b| hit(&b.cidr))
            }
            _ => false,
        });
        let asked = !self.case.host.bears_service_loops || self.wrong(Mistake::ServiceLoopsAlways);
        named && asked && !self.wrong(Mistake::ServiceLoopsIgnored)
    }

    /// Whether a pod asks for what guests of OpenStack may always have.
    fn openstacks(&self, p: &Packet) -> bool {
        let openstack = self.case.host.openstack;
        let metadata = openstack.and_then(|o| o.metadata).is_some_and(|(ip, port)| {
            let there = p.dst == IpAddr::V4(ip)
                || (p.family() == Family::V4 && self.wrong(Mistake::OpenStackMetadataAnywhere));
            p.proto == Proto::TCP && there && p.dport == port
        });
        let dhcp = match p.family() {
            Family::V4 => p.sport == 68 && p.dport == 67,
            Family::V6 => p.sport == 546 && p.dport == 547,
        };
        let dns = p.dport == 53;
        let by_tcp = p.proto == Proto::TCP && dns && self.wrong(Mistake::OpenStackByTcp);
        let here = openstack.is_some() || self.wrong(Mistake::OpenStackEverywhere);
        let open = metadata || by_tcp || (p.proto == Proto::UDP && (dhcp || dns));
        here && open && !self.wrong(Mistake::OpenStackIgnored)
    }

    fn is_pod(&self, interface: &str) -> bool {
        let mut prefixes = self.case.host.workload_prefixes.iter();
        prefixes.any(|p| interface.starts_with(p.as_str()))
    }

    fn pod_of(&self, interface: &str) -> Option<&Thing> {
        let mut things = self.things.iter();
        things.find(|t| t.key.kind == Kind::WorkloadEndpoint && t.node == NODE && t.interface == interface)
    }

    fn may_spoof(&self, from: &str, p: &Packet) -> bool {
        let no_address_yet = match p.src {
            IpAddr::V4(a) => a.is_unspecified() && p.proto == Proto::UDP && p.dport == 67,
            IpAddr::V6(a) => (a.is_unspecified() && p.proto == Proto::ICMPV6) || a.is_unicast_link_local(),
        };
        let prefixes = self.case.objects.iter().any(|r| match r {
            Resource::WorkloadEndpoint(w) => {
                let mut prefixes = w.spec.allow_spoofed_source_prefixes.iter();
                let hit = prefixes.any(|t| t.parse().is_ok_and(|c: caracal_net::Cidr| c.contains(p.src)));
                w.spec.interface_name == from && w.spec.node == NODE && hit
            }
            _ => false,
        });
        let prefixes =
            prefixes && (self.case.host.source_spoofing || self.wrong(Mistake::PrefixesAlwaysOpen));
        no_address_yet || prefixes || self.wrong(Mistake::SpoofingAllowed)
    }

    /// Whether a pod's policy lets the packet through; true where there is no pod.
    fn pod(&self, interface: &str, ingress: bool, p: &Packet) -> bool {
        if !self.is_pod(interface) {
            return true;
        }
        let speaks = |t: &&Thing| t.nets.iter().any(|n| n.family() == p.family());
        match self.pod_of(interface).filter(speaks) {
            Some(pod) => self.ask(pod, ListKind::Normal, ingress, p) == Some(true),
            None => self.wrong(Mistake::UnknownWorkloadOpen),
        }
    }

    fn pod_to_host(&self, from: &str, p: &Packet) -> bool {
        let discovery = p.family() == Family::V6
            && p.proto == Proto::ICMPV6
            && p.icmp
                .is_some_and(|(t, _)| [130, 131, 132, 133, 135, 136].contains(&t));
        let open = self.case.host.to_host != ToHost::Drop || self.wrong(Mistake::ToHostAlwaysOpen);
        let policy = self.pod(from, false, p) || self.wrong(Mistake::WorkloadToHostUnpoliced);
        discovery || self.openstacks(p) || (policy && open)
    }

    /// The host endpoint of an interface.
    fn host_of(&self, interface: &str) -> Option<&Thing> {
        let mut hosts: Vec<&Thing> = self.things.iter().collect();
        hosts.retain(|t| t.key.kind == Kind::HostEndpoint && t.node == NODE);
        hosts.sort_by(|a, b| a.key.name.cmp(&b.key.name));
        if self.wrong(Mistake::LastHostEndpointWins) {
            hosts.reverse();
        }
        let held = self.case.host.interfaces.get(interface);
        let has = |t: &Thing| held.is_some_and(|held| t.nets.iter().any(|n| held.contains(&n.addr())));
        let any_name = self.wrong(Mistake::AddressesBesideName);
        let is_own = |t: &Thing| match t.interface.as_str() {
            "*" => false,
            "" => has(t),
            name => name == interface || (any_name && has(t)),
        };
        let own = hosts.iter().find(|t| !self.is_pod(interface) && is_own(t));
        let rest = hosts.iter().find(|t| t.interface == "*");
        match self.wrong(Mistake::WildcardBeatsNamed) {
            true => rest.or(own),
            false => own.or(rest),
        }
        .copied()
    }

    /// What a list of an interface's host endpoint says; nothing if it says nothing.
    fn host(&self, interface: &str, list: ListKind, ingress: bool, p: &Packet) -> Option<bool> {
        let endpoint = self.host_of(interface)?;
        let everywhere = endpoint.interface == "*" && !self.wrong(Mistake::UntrackedEverywhere);
        if list == ListKind::Untracked && everywhere {
            return None;
        }
        let forwarded = list == ListKind::Forward && !self.wrong(Mistake::FailsafeForwarded);
        if !forwarded && self.is_failsafe(list, ingress, p) {
            return None;
        }
        self.ask(endpoint, list, ingress, p)
    }

    fn is_failsafe(&self, list: ListKind, ingress: bool, p: &Packet) -> bool {
        let host = &self.case.host;
        let (peer, ports, answers) = match ingress {
            true => (p.src, &host.failsafe_in, &host.failsafe_out),
            false => (p.dst, &host.failsafe_out, &host.failsafe_in),
        };
        let everyone = self.wrong(Mistake::FailsafeForEveryone);
        let fits = |f: &FailsafePort, port: u16| {
            f.proto == p.proto && f.port == port && (everyone || f.net.is_none_or(|n| n.contains(peer)))
        };
        let asked = ports.iter().any(|f| fits(f, p.dport));
        let answered = list == ListKind::Untracked && answers.iter().any(|f| fits(f, p.sport));
        (asked || answered) && !self.wrong(Mistake::FailsafeIgnored)
    }
}

/// The packet before destination NAT.
fn sent(trip: &Trip) -> Packet {
    let mut packet = trip.packet;
    if let Some((dst, dport)) = trip.original {
        (packet.dst, packet.dport) = (dst, dport);
    }
    packet
}
