//! Outgoing NAT.

use caracal_net::{Family, PortRange, Proto};

use super::{Builder, hook};
use crate::ir::{ChainKind, Field, Hook, Key, KeyType, Match, NatTo, Rule, SetDef, Span, Statement};

const NAT_SOURCES: &str = "nat-sources";
const NAT_SPARED: &str = "nat-spared";

impl Builder<'_> {
    /// Traffic of pools that ask for it gets an address of the host when it leaves for outside all pools.
    pub(super) fn nat(&mut self) {
        let mut rules = Vec::new();
        if !self.facts.nat_sources.is_empty() {
            let def = |what: &str| SetDef::new([KeyType::Addr]).intervals().commented(what);
            let keys = |spans: &[Span]| spans.iter().map(|s| Key::One(*s)).collect::<Vec<_>>();
            self.set(
                NAT_SOURCES,
                def("pools with outgoing NAT"),
                keys(&self.facts.nat_sources),
            );
            self.set(
                NAT_SPARED,
                def("destinations without NAT"),
                keys(&self.facts.nat_spared),
            );
            let matches = vec![
                Match::in_set([Field::Saddr], NAT_SOURCES),
                Match::not_in_set([Field::Daddr], NAT_SPARED),
            ];
            let comment = "outgoing NAT of pools";
            if let Some(ports) = self.config.nat_ports {
                for proto in [Proto::TCP, Proto::UDP, Proto::SCTP] {
                    let mut matches = matches.clone();
                    matches.push(Match::is(Field::Proto, proto));
                    rules.push(Rule::new(matches, [self.translate(Some(ports))], comment));
                }
            }
            rules.push(Rule::new(matches, [self.translate(None)], comment));
        }
        self.base_chain(
            "nat-postrouting",
            hook(ChainKind::Nat, Hook::Postrouting, 100),
            rules,
        );
    }

    fn translate(&self, ports: Option<PortRange>) -> Statement {
        let fully_random = self.config.nat_fully_random;
        let address = self.config.nat_address.get(self.family);
        match address.filter(|a| Family::of(*a) == self.family) {
            Some(address) => Statement::Snat(NatTo {
                first: address,
                last: address,
                ports,
                fully_random,
            }),
            None => Statement::Masquerade { ports, fully_random },
        }
    }
}
