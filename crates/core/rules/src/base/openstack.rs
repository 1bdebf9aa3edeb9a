//! What OpenStack's workloads may always ask of their host (`calico-components.md` §3.10).

use std::net::Ipv4Addr;

use caracal_net::{Family, PortRange, Proto};

use super::{Builder, hook};
use crate::{
    config::OpenStack,
    ir::{ChainKind, Field, Hook, Match, NatTo, Rule, Span, Statement},
};

/// Where guests look for the metadata service, whoever their cloud is.
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const HTTP: u16 = 80;
const DNS: u16 = 53;

/// Ports of DHCP's clients and servers.
fn dhcp(family: Family) -> (u16, u16) {
    match family {
        Family::V4 => (68, 67),
        Family::V6 => (546, 547),
    }
}

impl Builder<'_> {
    fn metadata(&self) -> Option<(Ipv4Addr, u16)> {
        let OpenStack { metadata } = self.config.openstack?;
        metadata.filter(|_| self.family == Family::V4)
    }

    /// Rules that let workloads ask for what a guest cannot begin without, whatever policy says.
    pub(super) fn openstack_services(&self) -> Vec<Rule> {
        if self.config.openstack.is_none() {
            return Vec::new();
        }
        let accept = |matches: Vec<Match>, what: &str| Rule::new(matches, [Statement::ACCEPT], what);
        let port = |field, number| Match::is(field, PortRange::single(number));
        let udp = Match::is(Field::Proto, Proto::UDP);
        let (client, server) = dhcp(self.family);
        let mut rules = Vec::new();
        if let Some((address, number)) = self.metadata() {
            let matches = vec![
                Match::is(Field::Proto, Proto::TCP),
                Match::is(Field::Daddr, Span::addr(address.into())),
                port(Field::Dport, number),
            ];
            rules.push(accept(matches, "OpenStack: metadata"));
        }
        let matches = vec![
            udp.clone(),
            port(Field::Sport, client),
            port(Field::Dport, server),
        ];
        rules.push(accept(matches, "OpenStack: DHCP"));
        rules.push(accept(vec![udp, port(Field::Dport, DNS)], "OpenStack: DNS"));
        rules
    }

    /// The chain that leads guests to the metadata service.
    pub(super) fn openstack_metadata(&mut self) {
        let Some((address, number)) = self.metadata() else {
            return;
        };
        let matches = [
            Match::is(Field::Proto, Proto::TCP),
            Match::is(Field::Daddr, Span::addr(METADATA.into())),
            Match::is(Field::Dport, PortRange::single(HTTP)),
        ];
        let lead = Statement::Dnat(NatTo {
            first: address.into(),
            last: address.into(),
            ports: Some(PortRange::single(number)),
            fully_random: false,
        });
        let base = hook(ChainKind::Nat, Hook::Prerouting, -100);
        let rule = Rule::new(matches, [lead], "OpenStack: metadata");
        self.base_chain("nat-prerouting", base, vec![rule]);
    }
}
