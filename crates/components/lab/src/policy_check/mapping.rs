//! IPv4 as IPv6: a truth table is written once and holds for both families.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use caracal_api::{Resource, Rule};
use caracal_net::{Cidr, Family};

/// The /64 that all IPv4 addresses are mapped into; an address becomes its last 32 bits.
const PREFIX: Ipv6Addr = Ipv6Addr::new(0xfdca, 0xca1, 0x64, 0x64, 0, 0, 0, 0);

/// The bits before those of the IPv4 address.
const BEFORE: u8 = 96;

fn embedded(addr: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(PREFIX) | u128::from(u32::from(addr)))
}

/// An address as probes of `family` use it. What is IPv6 in the file stays as it is.
pub(super) fn address(addr: IpAddr, family: Family) -> IpAddr {
    match (addr, family) {
        (IpAddr::V4(a), Family::V6) => embedded(a).into(),
        _ => addr,
    }
}

/// A CIDR of a policy, likewise. What is no CIDR stays, for validation to name.
fn cidr(text: &str) -> String {
    match text.parse::<Cidr>() {
        Ok(c) => match c.addr() {
            IpAddr::V4(a) => Cidr::new(embedded(a).into(), BEFORE + c.len()).to_string(),
            IpAddr::V6(_) => text.to_owned(),
        },
        Err(_) => text.to_owned(),
    }
}

fn cidrs(list: &mut [String]) {
    list.iter_mut().for_each(|c| *c = cidr(c));
}

fn rules(list: &mut [Rule]) {
    for rule in list {
        for side in [&mut rule.source, &mut rule.destination] {
            cidrs(&mut side.nets);
            cidrs(&mut side.not_nets);
        }
        // What was said about the one family is meant for the other: a rule that never applied to the table's
        // addresses must not begin to.
        rule.ip_version = match rule.ip_version {
            Some(4) => Some(6),
            Some(6) => Some(4),
            other => other,
        };
    }
}

/// An object as it is for probes of `family`.
pub(super) fn object(mut resource: Resource, family: Family) -> Resource {
    if family == Family::V4 {
        return resource;
    }
    match &mut resource {
        Resource::NetworkPolicy(o) => {
            rules(&mut o.spec.ingress);
            rules(&mut o.spec.egress);
        }
        Resource::GlobalNetworkPolicy(o) => {
            rules(&mut o.spec.ingress);
            rules(&mut o.spec.egress);
        }
        Resource::Profile(o) => {
            rules(&mut o.spec.ingress);
            rules(&mut o.spec.egress);
        }
        Resource::NetworkSet(o) => cidrs(&mut o.spec.nets),
        Resource::GlobalNetworkSet(o) => cidrs(&mut o.spec.nets),
        // Nothing else that a table may hold names addresses; staged policies are not enforced.
        _ => {}
    }
    resource
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_to_one_and_inside_one_64() {
        let range: Cidr = "fdca:ca1:64:64::/64".parse().unwrap();
        for (v4, v6) in [
            ("192.168.1.4", "fdca:ca1:64:64::c0a8:104"),
            ("0.0.0.0", "fdca:ca1:64:64::"),
            ("255.255.255.255", "fdca:ca1:64:64::ffff:ffff"),
        ] {
            let mapped = address(v4.parse().unwrap(), Family::V6);
            assert_eq!(mapped, v6.parse::<IpAddr>().unwrap());
            assert!(range.contains(mapped));
            assert_eq!(
                address(v4.parse().unwrap(), Family::V4),
                v4.parse::<IpAddr>().unwrap()
            );
        }
        let own: IpAddr = "2001:db8::1".parse().unwrap();
        assert_eq!(address(own, Family::V6), own);
    }

    #[test]
    fn a_cidr_holds_the_same_addresses_as_before() {
        let cases = [
            ("192.168.1.0/24", "fdca:ca1:64:64::c0a8:100/120"),
            ("192.168.1.4", "fdca:ca1:64:64::c0a8:104/128"),
            ("0.0.0.0/0", "fdca:ca1:64:64::/96"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("nonsense", "nonsense"),
        ];
        for (v4, v6) in cases {
            assert_eq!(cidr(v4), v6);
        }
    }
}
