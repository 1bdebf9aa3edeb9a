//! What is there whatever the policies are: base chains, the walls around workloads, NAT and VXLAN.

mod host;
mod ipvs;
mod limits;
mod loops;
mod nat;
mod openstack;
mod wireguard;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use caracal_net::{Family, PortRange, Proto};

use crate::{
    config::{DenyAction, HostAction, RulesConfig},
    counters,
    ir::{
        BaseChain, Chain, ChainKind, ChainName, CtState, Element, FibKey, Field, Hook, IfName, Key, KeyType,
        LogTo, Match, Policy, RejectWith, Rule, Set, SetDef, SetName, Span, Statement, Verdict,
    },
    list::Direction,
    slot::Slot,
};

pub(crate) use ipvs::IpvsFacts;
use limits::Limited;
pub(crate) use limits::Limits;

const UNKNOWN_FROM: &str = "unknown-from-wl";
const UNKNOWN_TO: &str = "unknown-to-wl";
const INVALID: &str = "wl-invalid";
const ENCAP: &str = "wl-encap";
const TO_HOST: &str = "wl-to-host";
const SOURCE: &str = "wl-source";
const VXLAN_HOSTS: &str = "vxlan-hosts";
const IPIP_HOSTS: &str = "ipip-hosts";
const NEIGHBOURS: &str = "icmp-neighbours";
const MORE_SOURCES: &str = "wl-more-sources";
const IPIP: Proto = Proto(4);

/// Before the translation of destinations, behind connection tracking.
const MANGLE: i32 = -150;

/// Bytes of a denied packet that a listener gets: the longest IPv4 header and TCP's, or IPv6's with some extensions.
const HEADERS: u32 = 120;

/// What the static part depends on beside the configuration.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// Whether VXLAN is in use.
    pub(crate) vxlan: bool,
    /// Underlay addresses of the VTEPs.
    pub(crate) vxlan_hosts: Vec<Span>,
    /// The nodes' addresses, while IP-in-IP is in use.
    pub(crate) ipip_hosts: Option<Vec<Span>>,
    /// Pools whose traffic to outside is translated.
    pub(crate) nat_sources: Vec<Span>,
    /// Destinations that are not outside.
    pub(crate) nat_spared: Vec<Span>,
    /// Ranges of services' addresses.
    pub(crate) services: Vec<Span>,
    /// What interfaces may send from beside what is routed to them.
    pub(crate) more_sources: Vec<(IfName, Span)>,
    /// What host endpoints ask for; nothing without any.
    pub(crate) hosts: Option<HostFacts>,
    /// What IPVS forwards; nothing where it is not in use.
    pub(crate) ipvs: Option<IpvsFacts>,
    /// Limits of workloads.
    pub(crate) limits: BTreeMap<IfName, Limits>,
    /// What workloads send from, by the DSCP that it gets on its way out of the cluster.
    pub(crate) dscp: BTreeMap<u8, Vec<Span>>,
    /// Pools and nodes: what is inside the cluster.
    pub(crate) near: Vec<Span>,
}

/// What host endpoints need of the static part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HostFacts {
    /// Maps that hold something.
    pub(crate) slots: BTreeSet<Slot>,
    /// Whether there is an endpoint for every interface that has none of its own.
    pub(crate) everywhere: bool,
    /// Interfaces with an endpoint.
    pub(crate) interfaces: BTreeSet<IfName>,
}

/// The chains and sets by name.
#[derive(Debug, Default)]
pub(crate) struct Base {
    pub(crate) chains: BTreeMap<ChainName, Chain>,
    pub(crate) sets: BTreeMap<SetName, Set>,
    /// The dispatch maps that the chains look into.
    pub(crate) maps: BTreeSet<Slot>,
}

pub(crate) fn deny(config: &RulesConfig) -> Statement {
    match config.deny {
        DenyAction::Drop => Statement::DROP,
        DenyAction::Reject => Statement::Reject(RejectWith::PortUnreachable),
    }
}

/// Tells whoever listens of a denied packet.
pub(crate) fn told(config: &RulesConfig, prefix: &str) -> Option<Statement> {
    let to = LogTo::Group {
        group: config.denied_group?,
        snaplen: HEADERS,
    };
    Some(Statement::Log {
        to,
        prefix: prefix.into(),
    })
}

/// The element of a workloads' dispatch map for interfaces that no endpoint has.
pub(crate) fn unknown(slot: Slot) -> Option<(Key, Element)> {
    let chain = match slot {
        Slot::FromWorkload => UNKNOWN_FROM,
        Slot::ToWorkload => UNKNOWN_TO,
        _ => return None,
    };
    Some((Key::Any, Element::verdict(Verdict::Jump(chain.into()))))
}

pub(crate) fn base(config: &RulesConfig, family: Family, facts: &Facts) -> Base {
    let prefixes = config
        .interface_prefixes
        .iter()
        .filter_map(|p| IfName::starting_with(p).ok())
        .collect();
    let mut b = Builder {
        config,
        family,
        facts,
        prefixes,
        out: Base::default(),
    };
    b.raw();
    b.forward();
    b.input();
    b.walls();
    b.hosts();
    b.postrouting();
    b.nat();
    b.openstack_metadata();
    b.out
}

struct Builder<'a> {
    config: &'a RulesConfig,
    family: Family,
    facts: &'a Facts,
    prefixes: Vec<IfName>,
    out: Base,
}

fn hook(kind: ChainKind, hook: Hook, priority: i32) -> BaseChain {
    BaseChain {
        kind,
        hook,
        priority,
        policy: Policy::Accept,
    }
}

impl Builder<'_> {
    fn chain(&mut self, name: &str, rules: Vec<Rule>) {
        self.out.chains.insert(name.into(), Chain::regular(rules));
    }

    fn base_chain(&mut self, name: &str, base: BaseChain, rules: Vec<Rule>) {
        self.out.chains.insert(name.into(), Chain::base(base, rules));
    }

    fn set(&mut self, name: &str, def: SetDef, keys: impl IntoIterator<Item = Key>) {
        let elements = keys.into_iter().map(|k| (k, Element::plain())).collect();
        self.out.sets.insert(name.into(), Set { def, elements });
    }

    /// One rule per prefix of workload interfaces' names.
    fn per_prefix(&self, field: Field, then: &Statement, comment: &str) -> Vec<Rule> {
        self.each_prefix(field, std::slice::from_ref(then), comment)
    }

    fn each_prefix(&self, field: Field, then: &[Statement], comment: &str) -> Vec<Rule> {
        let rule = |p: &IfName| Rule::new([Match::is(field, *p)], then, comment);
        self.prefixes.iter().map(rule).collect()
    }

    /// Counts a packet that a wall stops, tells whoever listens, and stops it.
    fn wall(&self, name: &str, direction: Direction, how: Statement) -> Vec<Statement> {
        let counter = counters::of_wall(name, direction);
        let told = told(self.config, counter.as_str());
        [Statement::Count(counter)]
            .into_iter()
            .chain(told)
            .chain([how])
            .collect()
    }

    /// Where an interface's packets find their list.
    fn dispatch(&mut self, slot: Slot) -> Rule {
        self.out.maps.insert(slot);
        let vmap = Statement::VerdictMap {
            fields: vec![slot.field()],
            map: slot.map().into(),
        };
        let what = match slot {
            Slot::HostTranslated => "policy of the host's interfaces, where destinations were translated",
            slot => slot.what(),
        };
        Rule::new([], [vmap], what)
    }

    fn vxlan_port(&self) -> [Match; 2] {
        [
            Match::is(Field::Proto, Proto::UDP),
            Match::is(Field::Dport, PortRange::single(self.config.vxlan_port)),
        ]
    }

    fn raw(&mut self) {
        let mut rules = self.unmarked();
        let jump = Statement::goto(SOURCE);
        rules.extend(self.per_prefix(Field::Iif, &jump, "sources of workloads"));
        let mut output = self.unmarked();
        if self.facts.vxlan {
            let mut matches = self.vxlan_port().to_vec();
            matches.push(Match::Local {
                field: Field::Daddr,
                not: false,
            });
            let comment = "tunnel packets are not tracked";
            rules.push(Rule::new(matches, [Statement::NoTrack], comment));
            output.push(Rule::new(self.vxlan_port(), [Statement::NoTrack], comment));
        }
        rules.extend(self.host_rules(Slot::UntrackedIn));
        output.extend(self.host_rules(Slot::UntrackedOut));
        if !output.is_empty() {
            let base = hook(ChainKind::Filter, Hook::Output, -300);
            self.base_chain("raw-output", base, output);
        }
        let base = hook(ChainKind::Filter, Hook::Prerouting, -300);
        self.base_chain("raw-prerouting", base, rules);
        self.sources();
    }

    /// A workload sends from what is routed to it, and from little else.
    fn sources(&mut self) {
        let mut rules = match self.family {
            Family::V4 => vec![Rule::new(
                [
                    Match::is(Field::Saddr, Span::addr(Ipv4Addr::UNSPECIFIED.into())),
                    Match::is(Field::Proto, Proto::UDP),
                    Match::is(Field::Dport, PortRange::single(67)),
                ],
                [Statement::ACCEPT],
                "a DHCP client has no address yet",
            )],
            // Neighbour discovery speaks from link-local addresses and, before it has one, from none. Neither is
            // ever forwarded.
            Family::V6 => vec![
                Rule::new(
                    [
                        Match::is(Field::Saddr, Span::addr(std::net::Ipv6Addr::UNSPECIFIED.into())),
                        Match::is(Field::Proto, Proto::ICMPV6),
                    ],
                    [Statement::ACCEPT],
                    "duplicate address detection has no address yet",
                ),
                Rule::new(
                    [Match::is(Field::Saddr, link_local())],
                    [Statement::ACCEPT],
                    "link-local, never forwarded",
                ),
            ],
        };
        if self.config.source_spoofing && !self.facts.more_sources.is_empty() {
            let def = SetDef::new([KeyType::IfName, KeyType::Addr])
                .intervals()
                .commented("prefixes that workloads may send from besides their addresses");
            let keys: Vec<Key> = self
                .facts
                .more_sources
                .iter()
                .map(|(i, s)| Key::of(&[Span::If(*i), *s]))
                .collect();
            self.set(MORE_SOURCES, def, keys);
            rules.push(Rule::new(
                [Match::in_set([Field::Iif, Field::Saddr], MORE_SOURCES)],
                [Statement::ACCEPT],
                "allowed source prefixes",
            ));
        }
        rules.push(Rule::new(
            [Match::NoReversePath(FibKey::Iif)],
            self.wall("spoofed", Direction::From, Statement::DROP),
            "source that is not the workload's",
        ));
        self.chain(SOURCE, rules);
    }

    fn established(&self) -> Vec<Rule> {
        let state = |any| Match::CtState { any, not: false };
        let mut rules = vec![Rule::new(
            [state(CtState::ESTABLISHED.or(CtState::RELATED))],
            [Statement::ACCEPT],
            "known connections",
        )];
        if self.config.drop_invalid {
            rules.push(Rule::new(
                [state(CtState::INVALID)],
                [Statement::jump(INVALID)],
                "packets of no connection",
            ));
        }
        rules
    }

    fn encap_rules(&self) -> Vec<Rule> {
        let deny = deny(self.config);
        let mut rules = Vec::new();
        if !self.config.allow_vxlan_from_workloads {
            rules.push(Rule::new(
                self.vxlan_port(),
                self.wall("vxlan", Direction::From, deny.clone()),
                "VXLAN from a workload",
            ));
        }
        if !self.config.allow_ipip_from_workloads {
            rules.push(Rule::new(
                [Match::is(Field::Proto, IPIP)],
                self.wall("ipip", Direction::From, deny),
                "IP-in-IP from a workload",
            ));
        }
        rules
    }

    fn forward(&mut self) {
        let mut rules = self.rates(&[Limited::From, Limited::To]);
        rules.extend(self.established());
        rules.extend(self.connections(&[Limited::From, Limited::To]));
        rules.extend(self.host_rules(Slot::ForwardIn));
        let encap = self.encap_rules();
        if !encap.is_empty() {
            rules.extend(self.per_prefix(Field::Iif, &Statement::jump(ENCAP), "tunnels of workloads"));
            self.chain(ENCAP, encap);
        }
        for slot in [Slot::FromWorkload, Slot::ToWorkload] {
            rules.push(self.dispatch(slot));
        }
        rules.extend(self.host_rules(Slot::ForwardOut));
        rules.extend(self.service_loops());
        rules.extend(self.forwarded());
        // What policy let through, and what is no workload's, goes on to the rules of others.
        self.base_chain("filter-forward", hook(ChainKind::Filter, Hook::Forward, 0), rules);
    }

    fn input(&mut self) {
        let mut rules = self.rates(&[Limited::From]);
        rules.extend(self.established());
        if self.facts.vxlan {
            let def = SetDef::new([KeyType::Addr]).commented("nodes that tunnel packets come from");
            self.set(
                VXLAN_HOSTS,
                def,
                self.facts.vxlan_hosts.iter().map(|s| Key::One(*s)),
            );
            let mut matches = self.vxlan_port().to_vec();
            matches.push(Match::Local {
                field: Field::Daddr,
                not: false,
            });
            let stop = self.wall("vxlan-stranger", Direction::To, Statement::DROP);
            let stranger = Rule::new(matches.clone(), stop, "VXLAN from a stranger");
            matches.push(Match::in_set([Field::Saddr], VXLAN_HOSTS));
            rules.push(Rule::new(matches, [Statement::ACCEPT], "VXLAN from a node"));
            rules.push(stranger);
        }
        rules.extend(self.ipip_in());
        rules.extend(self.wireguard(Field::Daddr));
        rules.extend(self.end_of_input());
        self.base_chain("filter-input", hook(ChainKind::Filter, Hook::Input, 0), rules);

        let mut rules = self.openstack_services();
        rules.extend(self.connections(&[Limited::From]));
        if self.family == Family::V6 {
            // Listener queries and reports, router and neighbour discovery, but no router advertisement (134).
            let types = [130, 131, 132, 133, 135, 136].map(|t| Key::One(Span::IcmpType(t)));
            let def = SetDef::new([KeyType::IcmpType]).commented("what a host must hear from its neighbours");
            self.set(NEIGHBOURS, def, types);
            rules.push(Rule::new(
                [
                    Match::is(Field::Proto, Proto::ICMPV6),
                    Match::in_set([Field::IcmpType], NEIGHBOURS),
                ],
                [Statement::ACCEPT],
                "neighbour and multicast discovery",
            ));
        }
        if !self.encap_rules().is_empty() {
            rules.push(Rule::new([], [Statement::jump(ENCAP)], "tunnels of workloads"));
        }
        rules.push(self.dispatch(Slot::FromWorkload));
        let end = match self.config.endpoint_to_host {
            HostAction::Drop => Some(self.wall("to-host", Direction::From, deny(self.config))),
            HostAction::Accept => Some(vec![Statement::ACCEPT]),
            HostAction::Return => None,
        };
        rules.extend(end.map(|s| Rule::new([], s, "default endpoint to host action")));
        self.chain(TO_HOST, rules);
    }

    /// IP-in-IP comes from nodes only.
    fn ipip_in(&mut self) -> Vec<Rule> {
        let Some(hosts) = &self.facts.ipip_hosts else {
            return Vec::new();
        };
        let def = SetDef::new([KeyType::Addr]).commented("nodes that IP-in-IP comes from");
        self.set(IPIP_HOSTS, def, hosts.iter().map(|s| Key::One(*s)));
        let to_us = vec![
            Match::is(Field::Proto, IPIP),
            Match::Local {
                field: Field::Daddr,
                not: false,
            },
        ];
        let mut from_node = to_us.clone();
        from_node.push(Match::in_set([Field::Saddr], IPIP_HOSTS));
        let stop = self.wall("ipip-stranger", Direction::To, Statement::DROP);
        vec![
            Rule::new(from_node, [Statement::ACCEPT], "IP-in-IP from a node"),
            Rule::new(to_us, stop, "IP-in-IP from a stranger"),
        ]
    }

    /// Chains that close what no endpoint opens. They stay when the agent dies.
    fn walls(&mut self) {
        let deny = deny(self.config);
        for (chain, field, direction) in [
            (UNKNOWN_FROM, Field::Iif, Direction::From),
            (UNKNOWN_TO, Field::Oif, Direction::To),
        ] {
            let stop = self.wall("unknown-interface", direction, deny.clone());
            let rules = self.each_prefix(field, &stop, "no endpoint has this interface");
            self.chain(chain, rules);
        }
        if self.config.drop_invalid {
            let mut rules: Vec<Rule> = [(Field::Iif, Direction::From), (Field::Oif, Direction::To)]
                .into_iter()
                .flat_map(|(field, direction)| {
                    let stop = self.wall("invalid", direction, Statement::DROP);
                    self.each_prefix(field, &stop, "packets of no connection")
                })
                .collect();
            rules.extend(self.invalid_at_hosts());
            self.chain(INVALID, rules);
        }
    }
}

fn link_local() -> Span {
    let first = std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
    let last = std::net::Ipv6Addr::new(0xfebf, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff);
    Span::V6(first, last)
}
