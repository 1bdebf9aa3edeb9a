//! Packets that could be on the wire: each from where its source is to where its destination is.

use std::net::{IpAddr, Ipv4Addr};

use caracal_api::Resource;
use caracal_net::{Family, Proto};
use caracal_oracle::{OpenStack, Packet, Trip, Way};

use super::{LOCAL, OUTSIDE, pod_address};
use crate::{Case, rng::Rng};

/// Where a packet comes from or goes to.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Pod(usize),
    Link(&'static str),
    Host,
}

fn address(rng: &mut Rng, place: Place, family: Family) -> IpAddr {
    let number = usize::from(family == Family::V6);
    let text = match place {
        Place::Pod(n) => pod_address(n)[number].clone(),
        Place::Host => rng
            .pick(&[["172.16.0.1", "fd16::1"], ["172.16.1.1", "fd16:1::1"]].map(|t| t[number])[..])
            .to_owned(),
        // Who lives behind which link; so a packet has one way, and a kernel with routes sends it that way.
        Place::Link(name) if rng.percent(35) => {
            let first = LOCAL + if name == "eth0" { 0 } else { 2 };
            pod_address(first + rng.below(2))[number].clone()
        }
        Place::Link(name) => {
            let half = OUTSIDE.len() / 2;
            let of = if name == "eth0" {
                0..half - 1
            } else {
                half - 1..half
            };
            OUTSIDE[number * half + of.start + rng.below(of.len())].to_owned()
        }
    };
    text.parse().unwrap_or(match family {
        Family::V4 => IpAddr::from([192, 0, 2, 1]),
        Family::V6 => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]),
    })
}

fn place(rng: &mut Rng) -> Place {
    match rng.below(10) {
        0..5 => Place::Pod(rng.below(LOCAL)),
        5..7 => Place::Link("eth0"),
        7 => Place::Link("eth1"),
        _ => Place::Host,
    }
}

fn interface(place: Place) -> String {
    match place {
        Place::Pod(n) => format!("cali{n}"),
        Place::Link(name) => name.to_owned(),
        Place::Host => "lo".to_owned(),
    }
}

fn packet(rng: &mut Rng, errors: bool, family: Family, src: IpAddr, dst: IpAddr) -> Packet {
    let icmp = match family {
        Family::V4 => Proto::ICMP,
        Family::V6 => Proto::ICMPV6,
    };
    let proto = rng.one(&[
        Proto::TCP,
        Proto::TCP,
        Proto::TCP,
        Proto::UDP,
        Proto::UDP,
        Proto::SCTP,
        icmp,
        Proto(47),
    ]);
    let mut port = || {
        if proto.has_ports() {
            rng.one(&[80, 80, 81, 53, 79, 4000])
        } else {
            0
        }
    };
    let (sport, dport) = (port(), port());
    // Connection tracking takes errors about nothing for invalid: policy is asked of them only if it is to be.
    let kinds: &[u8] = match (family, errors) {
        (Family::V4, false) => &[8, 13],
        (Family::V4, true) => &[8, 13, 3, 11, 12],
        (Family::V6, false) => &[128, 139, 135],
        (Family::V6, true) => &[128, 139, 135, 1, 3, 4],
    };
    Packet {
        src,
        dst,
        proto,
        sport,
        dport,
        icmp: (proto == icmp).then(|| (rng.one(kinds), rng.one(&[0, 1]))),
    }
}

/// Whether some policy leaves packets of hosts untracked: nothing is translated where that may be.
pub(super) fn has_untracked(case: &Case) -> bool {
    case.objects.iter().any(|o| match o {
        Resource::GlobalNetworkPolicy(p) => p.spec.do_not_track,
        _ => false,
    })
}

/// What guests of OpenStack ask of their host, or nearly that.
fn ask_openstack(rng: &mut Rng, openstack: OpenStack, packet: &mut Packet) {
    let (ip, port) = openstack.metadata.unwrap_or((Ipv4Addr::new(172, 16, 0, 1), 80));
    let (proto, sport, dport) = rng.one(&[
        (Proto::TCP, 4000, port),
        (Proto::UDP, 4000, port),
        (Proto::UDP, 68, 67),
        (Proto::UDP, 546, 547),
        (Proto::UDP, 67, 68),
        (Proto::UDP, 4000, 67),
        (Proto::UDP, 4000, 53),
        (Proto::TCP, 4000, 53),
    ]);
    *packet = Packet {
        proto,
        sport,
        dport,
        icmp: None,
        ..*packet
    };
    if packet.family() == Family::V4 && rng.percent(50) {
        packet.dst = ip.into();
    }
}

pub(super) fn trip(rng: &mut Rng, case: &Case) -> Trip {
    let (from, mut to) = (place(rng), place(rng));
    if from == to {
        to = if from == Place::Host {
            Place::Link("eth0")
        } else {
            Place::Host
        };
    }
    let family = rng.one(&Family::BOTH);
    let mut src = address(rng, from, family);
    let spoofed = matches!(from, Place::Pod(_)) && rng.percent(8);
    if spoofed {
        src = address(rng, Place::Link("eth0"), family);
    }
    let dst = address(rng, to, family);
    let mut packet = packet(rng, case.host.bears_invalid, family, src, dst);
    if let (Some(openstack), Place::Pod(_), Place::Host) = (case.host.openstack, from, to)
        && rng.percent(50)
    {
        ask_openstack(rng, openstack, &mut packet);
    }
    let way = match (from, to) {
        (Place::Host, _) => Way::Out { to: interface(to) },
        (_, Place::Host) => Way::In {
            from: interface(from),
        },
        _ => Way::Forward {
            from: interface(from),
            to: interface(to),
        },
    };
    let translated = packet.proto.has_ports() && rng.percent(30) && !has_untracked(case);
    let service = address(rng, Place::Link("eth1"), family);
    Trip {
        packet,
        original: translated.then(|| (service, rng.one(&[80, 81, 53]))),
        way,
        spoofed,
    }
}
