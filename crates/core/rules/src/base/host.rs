//! Host endpoints (`calico-components.md` §3.9, §3.10): where their lists are asked, and what comes before.

use caracal_net::Proto;

use super::{Builder, IPIP, IPIP_HOSTS, MANGLE, VXLAN_HOSTS, hook};
use crate::{
    config::Failsafe,
    ir::{
        ChainKind, CtState, CtStatus, Field, Hook, Key, KeyType, Match, Rule, SetDef, SetName, Span,
        Statement,
    },
    list::Direction,
    slot::Slot,
};

const FAILSAFE_IN: &str = "failsafe-in";
const FAILSAFE_OUT: &str = "failsafe-out";
const INTERFACES: &str = "host-interfaces";

impl Builder<'_> {
    fn has(&self, slot: Slot) -> bool {
        self.facts.hosts.as_ref().is_some_and(|h| h.slots.contains(&slot))
    }

    /// The mark says that policy before connection tracking or NAT allowed the packet.
    fn marked(&self, not: bool) -> Match {
        Match::Mark {
            mask: self.config.allowed_mark,
            value: self.config.allowed_mark,
            not,
        }
    }

    fn mark(&self, on: bool, comment: &str) -> Rule {
        let mask = self.config.allowed_mark;
        let value = if on { mask } else { 0 };
        Rule::new([], [Statement::SetMark { mask, value }], comment)
    }

    /// Others may have left our bit on the packet, or it may have travelled on one that was inside a tunnel.
    pub(super) fn unmarked(&self) -> Vec<Rule> {
        let hosts = self.facts.hosts.iter();
        hosts
            .map(|_| self.mark(false, "nothing allowed it yet"))
            .collect()
    }

    /// The host's own policy is not for what is forwarded: it must be known behind NAT.
    pub(super) fn forwarded(&self) -> Vec<Rule> {
        let hosts = self.facts.hosts.iter();
        hosts
            .map(|_| self.mark(true, "forwarded, not from this host"))
            .collect()
    }

    /// What is asked of host endpoints at one place; nothing if no endpoint has anything to say there.
    pub(super) fn host_rules(&mut self, slot: Slot) -> Vec<Rule> {
        if !self.has(slot) {
            return Vec::new();
        }
        let accepted = Rule::new([self.marked(false)], [Statement::ACCEPT], "allowed before");
        let mut rules = Vec::new();
        match slot {
            Slot::HostIn | Slot::PreDnatIn => {
                rules.push(accepted);
                rules.extend(self.failsafe(FAILSAFE_IN, Field::Dport, Field::Saddr));
            }
            Slot::HostOut | Slot::HostTranslated => {
                rules.extend(self.failsafe(FAILSAFE_OUT, Field::Dport, Field::Daddr));
            }
            // Nothing is tracked yet, so answers of connections by these ports must be let through as well.
            Slot::UntrackedIn => {
                rules.extend(self.failsafe(FAILSAFE_IN, Field::Dport, Field::Saddr));
                rules.extend(self.failsafe(FAILSAFE_OUT, Field::Sport, Field::Saddr));
            }
            Slot::UntrackedOut => {
                rules.extend(self.failsafe(FAILSAFE_OUT, Field::Dport, Field::Daddr));
                rules.extend(self.failsafe(FAILSAFE_IN, Field::Sport, Field::Daddr));
            }
            Slot::ForwardIn | Slot::ForwardOut | Slot::FromWorkload | Slot::ToWorkload => {}
        }
        let mut ask = self.dispatch(slot);
        if slot == Slot::ForwardIn {
            ask.matches.push(self.marked(true));
        }
        rules.push(ask);
        rules
    }

    /// Rules that let the packets of the failsafe ports of a list through.
    fn failsafe(&mut self, list: &str, port: Field, addr: Field) -> Vec<Rule> {
        let ports: &[Failsafe] = if list == FAILSAFE_IN {
            &self.config.failsafe_in
        } else {
            &self.config.failsafe_out
        };
        let (mut plain, mut from_nets) = (Vec::new(), Vec::new());
        for f in ports.iter().filter(|f| f.proto.has_ports()) {
            let head = [Span::Proto(f.proto), Span::Port(f.port, f.port)];
            match f.net {
                None => plain.push(Key::of(&head)),
                Some(net) if net.family() == self.family => {
                    from_nets.push(Key::of(&[head[0], head[1], net.into()]));
                }
                Some(_) => {}
            }
        }
        let mut rules = Vec::new();
        let key = [KeyType::Proto, KeyType::Port, KeyType::Addr];
        let fields = [Field::Proto, port, addr];
        let mut rule = |set: SetName, fields: &[Field]| {
            rules.push(Rule::new(
                [Match::in_set(fields, set)],
                [Statement::ACCEPT],
                "failsafe ports",
            ));
        };
        if !plain.is_empty() {
            let def = SetDef::new(&key[..2]).commented("ports that stay open whatever policy says");
            self.set(list, def, plain);
            rule(list.into(), &fields[..2]);
        }
        if !from_nets.is_empty() {
            let name = format!("{list}-net");
            let def = SetDef::new(key)
                .intervals()
                .commented("ports that stay open for these peers");
            self.set(&name, def, from_nets);
            rule(name.into(), &fields);
        }
        rules
    }

    /// Packets of no connection end at interfaces with an endpoint.
    pub(super) fn invalid_at_hosts(&mut self) -> Vec<Rule> {
        let Some(hosts) = &self.facts.hosts else {
            return Vec::new();
        };
        let comment = "packets of no connection";
        if hosts.everywhere {
            let stop = self.wall("invalid-at-host", Direction::To, Statement::DROP);
            return vec![Rule::new([], stop, comment)];
        }
        let def = SetDef::new([KeyType::IfName]).commented("interfaces with a host endpoint");
        let keys: Vec<Key> = hosts.interfaces.iter().map(|i| Key::from(*i)).collect();
        self.set(INTERFACES, def, keys);
        let rule = |(field, direction)| {
            let stop = self.wall("invalid-at-host", direction, Statement::DROP);
            Rule::new([Match::in_set([field], INTERFACES)], stop, comment)
        };
        [(Field::Iif, Direction::To), (Field::Oif, Direction::From)]
            .map(rule)
            .into()
    }

    /// The chains that only host endpoints need.
    pub(super) fn hosts(&mut self) {
        if self.has(Slot::PreDnatIn) {
            let mut rules = self.established();
            rules.extend(self.host_rules(Slot::PreDnatIn));
            let base = hook(ChainKind::Filter, Hook::Prerouting, MANGLE);
            self.base_chain("mangle-prerouting", base, rules);
        }
        let forwarded = self.ipvs_out();
        if self.has(Slot::HostOut) || forwarded.is_some() {
            let mut rules: Vec<Rule> = forwarded.into_iter().collect();
            rules.extend(self.own_out());
            let base = hook(ChainKind::Filter, Hook::Output, 0);
            self.base_chain("filter-output", base, rules);
        }
    }

    /// What is asked of the host's own packets.
    fn own_out(&mut self) -> Vec<Rule> {
        if !self.has(Slot::HostOut) {
            return Vec::new();
        }
        let status = |not| Match::CtStatus {
            any: CtStatus::DNAT,
            not,
        };
        let accept = [Statement::ACCEPT];
        let mut rules = self.established();
        rules.push(Rule::new([self.marked(false)], accept.clone(), "allowed before"));
        rules.extend(self.per_prefix(Field::Oif, &Statement::ACCEPT, "to workloads of this host"));
        rules.extend(self.tunnels_out());
        let elsewhere = "its interface is not known yet";
        rules.push(Rule::new([status(false)], accept.clone(), elsewhere));
        rules.extend(self.host_rules(Slot::HostOut));
        rules
    }

    /// What host endpoints judge behind NAT.
    pub(super) fn translated(&mut self) -> Vec<Rule> {
        if !self.has(Slot::HostOut) {
            return Vec::new();
        }
        let known = Match::CtState {
            any: CtState::ESTABLISHED.or(CtState::RELATED),
            not: false,
        };
        // Such a packet has no connection that could be asked whether it is translated: no rule about that matches.
        let untracked = Match::CtState {
            any: CtState::UNTRACKED,
            not: false,
        };
        let translated = Match::CtStatus {
            any: CtStatus::DNAT,
            not: true,
        };
        let accept = [Statement::ACCEPT];
        let mut rules = vec![
            Rule::new([untracked], accept.clone(), "not tracked, never translated"),
            Rule::new([translated], accept.clone(), "judged before"),
            Rule::new([known], accept.clone(), "known connections"),
            Rule::new([self.marked(false)], accept, "forwarded, or allowed before"),
        ];
        rules.extend(self.per_prefix(Field::Oif, &Statement::ACCEPT, "to workloads of this host"));
        rules.extend(self.host_rules(Slot::HostTranslated));
        rules
    }

    /// Tunnels between nodes are no business of policy.
    fn tunnels_out(&self) -> Vec<Rule> {
        let mut rules: Vec<Rule> = self.wireguard(Field::Saddr).into_iter().collect();
        if self.facts.ipip_hosts.is_some() {
            let matches = [
                Match::is(Field::Proto, IPIP),
                Match::Local {
                    field: Field::Saddr,
                    not: false,
                },
                Match::in_set([Field::Daddr], IPIP_HOSTS),
            ];
            rules.push(Rule::new(matches, [Statement::ACCEPT], "IP-in-IP to a node"));
        }
        if !self.facts.vxlan {
            return rules;
        }
        let mut matches = vec![
            Match::is(Field::Proto, Proto::UDP),
            Match::is(
                Field::Dport,
                Span::Port(self.config.vxlan_port, self.config.vxlan_port),
            ),
        ];
        matches.push(Match::Local {
            field: Field::Saddr,
            not: false,
        });
        matches.push(Match::in_set([Field::Daddr], VXLAN_HOSTS));
        rules.push(Rule::new(matches, [Statement::ACCEPT], "VXLAN to a node"));
        rules
    }
}
