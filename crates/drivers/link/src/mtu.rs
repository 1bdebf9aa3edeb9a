use caracal_net::Family;

use crate::Link;

/// How packets are wrapped on their way between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encapsulation {
    /// Not at all.
    None,
    /// IP-in-IP (IPv4 only).
    IpIp,
    /// VXLAN over an underlay of that family.
    Vxlan(Family),
    /// WireGuard over an underlay of that family.
    WireGuard(Family),
}

/// The bytes that an encapsulation adds to each packet; the outer Ethernet header does not count.
pub fn overhead(encapsulation: Encapsulation) -> u32 {
    match encapsulation {
        Encapsulation::None => 0,
        Encapsulation::IpIp => 20,
        // Outer IP, UDP 8, VXLAN 8, inner Ethernet 14.
        Encapsulation::Vxlan(Family::V4) => 50,
        Encapsulation::Vxlan(Family::V6) => 70,
        // Outer IP, UDP 8, WireGuard 32.
        Encapsulation::WireGuard(Family::V4) => 60,
        Encapsulation::WireGuard(Family::V6) => 80,
    }
}

/// The least MTU of the host's own links: those that `matches` (Calico's `MTUIfacePattern`) knows by
/// name. `None` if there is no such link.
pub fn host_mtu(links: &[Link], matches: impl Fn(&str) -> bool) -> Option<u32> {
    links
        .iter()
        .filter(|link| !link.loopback && link.mtu > 0 && matches(&link.name))
        .map(|link| link.mtu)
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OperState;

    fn link(name: &str, mtu: u32, loopback: bool) -> Link {
        Link {
            index: 1,
            name: name.to_owned(),
            kind: None,
            mac: None,
            mtu,
            up: true,
            running: true,
            loopback,
            oper_state: OperState::Up,
            alias: None,
            parent: None,
            netnsid: None,
            controller: None,
            vxlan: None,
        }
    }

    #[test]
    fn the_smallest_matching_link_counts() {
        let links = [
            link("lo", 65536, true),
            link("eth0", 9000, false),
            link("eth1", 1500, false),
            link("cali1", 1400, false),
        ];
        assert_eq!(host_mtu(&links, |name| name.starts_with("eth")), Some(1500));
        assert_eq!(host_mtu(&links, |name| name == "lo"), None);
        assert_eq!(host_mtu(&[], |_| true), None);
        assert_eq!(1500 - overhead(Encapsulation::Vxlan(Family::V4)), 1450);
        assert_eq!(1500 - overhead(Encapsulation::Vxlan(Family::V6)), 1430);
    }
}
