//! Every shape loads, and `nft` prints it as our own renderer writes it.

use std::net::Ipv4Addr;

use caracal_net::{Family, PerFamily, PortRange, Proto};
use caracal_rules::ir::{
    BaseChain, Chain, ChainKind, CtState, CtStatus, Element, FibKey, Field, Hook, IfName, Key, KeyType,
    LogTo, Match, NatTo, Per, PktType, Policy, RejectWith, Rule, Set, SetDef, Span, Statement, TableState,
    Verdict, render,
};
use caracal_testkit::{needs, netns};

use super::kit::*;

fn cidr(text: &str) -> Span {
    text.parse::<caracal_net::Cidr>().expect("a prefix").into()
}

fn net(family: Family, v4: &str, v6: &str) -> Span {
    cidr(if family == Family::V4 { v4 } else { v6 })
}

/// Each rule with the text that `nft` prints for it in a table of IPv4 and of IPv6.
fn rules(family: Family) -> Vec<(Rule, String)> {
    let ip = if family == Family::V4 { "ip" } else { "ip6" };
    let icmp = if family == Family::V4 { "icmp" } else { "icmpv6" };
    let any = |v4: &str, v6: &str| {
        if family == Family::V4 {
            v4.to_owned()
        } else {
            v6.to_owned()
        }
    };
    let addr = |a: u8| {
        if family == Family::V4 {
            std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 0, a))
        } else {
            format!("fd00::{a}").parse().expect("an address")
        }
    };
    let run = |a, b| match (addr(a), addr(b)) {
        (std::net::IpAddr::V4(a), std::net::IpAddr::V4(b)) => Span::V4(a, b),
        (std::net::IpAddr::V6(a), std::net::IpAddr::V6(b)) => Span::V6(a, b),
        _ => unreachable!("one family"),
    };
    let cali = IfName::starting_with("cali").expect("short");
    let eth0 = IfName::exact("eth0").expect("short");
    let tcp = Match::is(Field::Proto, Proto::TCP);
    let count = [Statement::Counter];
    let m = |matches: Vec<Match>, text: String| {
        (Rule::new(matches, count.clone(), ""), format!("{text} counter"))
    };
    let s = |statements: Vec<Statement>, text: String| (Rule::new([], statements, ""), text);
    vec![
        m(vec![Match::is(Field::Iif, cali)], "iifname \"cali*\"".into()),
        m(
            vec![Match::is_not(Field::Oif, eth0)],
            "oifname != \"eth0\"".into(),
        ),
        m(
            vec![Match::is(Field::Saddr, net(family, "10.0.0.0/8", "fd00::/16"))],
            any("ip saddr 10.0.0.0/8", "ip6 saddr fd00::/16"),
        ),
        m(
            vec![Match::is(Field::Saddr, net(family, "10.128.0.0/9", "fd00::/17"))],
            any("ip saddr 10.128.0.0/9", "ip6 saddr fd00::/17"),
        ),
        m(
            vec![Match::is_not(
                Field::Daddr,
                net(family, "10.1.2.3/32", "fd00::1/128"),
            )],
            any("ip daddr != 10.1.2.3", "ip6 daddr != fd00::1"),
        ),
        m(
            vec![Match::is(Field::Daddr, run(1, 6))],
            any("ip daddr 10.0.0.1-10.0.0.6", "ip6 daddr fd00::1-fd00::6"),
        ),
        m(
            vec![Match::is_not(Field::Daddr, run(1, 6))],
            any("ip daddr != 10.0.0.1-10.0.0.6", "ip6 daddr != fd00::1-fd00::6"),
        ),
        m(
            vec![tcp.clone(), Match::is(Field::Dport, PortRange::single(80))],
            "tcp dport 80".into(),
        ),
        m(
            vec![
                tcp.clone(),
                Match::is(Field::Sport, PortRange { first: 1, last: 9 }),
            ],
            "tcp sport 1-9".into(),
        ),
        m(
            vec![Match::is_not(Field::Proto, Proto::UDP)],
            "meta l4proto != udp".into(),
        ),
        m(
            vec![Match::in_set([Field::Saddr], "nets")],
            format!("{ip} saddr @nets"),
        ),
        m(
            vec![Match::not_in_set([Field::Daddr], "nets")],
            format!("{ip} daddr != @nets"),
        ),
        m(
            vec![Match::in_set(
                [Field::Daddr, Field::Proto, Field::Dport],
                "members",
            )],
            format!("{ip} daddr . meta l4proto . th dport @members"),
        ),
        m(
            vec![Match::in_set(
                [Field::Saddr, Field::Proto, Field::Sport],
                "ranges",
            )],
            format!("{ip} saddr . meta l4proto . th sport @ranges"),
        ),
        m(
            vec![tcp.clone(), Match::in_set([Field::Dport], "ports")],
            "tcp dport @ports".into(),
        ),
        m(
            vec![Match::CtState {
                any: CtState::ESTABLISHED.or(CtState::RELATED),
                not: false,
            }],
            "ct state established,related".into(),
        ),
        m(
            vec![Match::CtState {
                any: CtState::INVALID,
                not: false,
            }],
            "ct state invalid".into(),
        ),
        m(
            vec![Match::CtStatus {
                any: CtStatus::DNAT,
                not: false,
            }],
            "ct status dnat".into(),
        ),
        m(
            vec![Match::Mark {
                mask: 0xff00,
                value: 0x100,
                not: false,
            }],
            "meta mark & 0x0000ff00 == 0x00000100".into(),
        ),
        m(
            vec![Match::Mark {
                mask: u32::MAX,
                value: 7,
                not: true,
            }],
            "meta mark != 0x00000007".into(),
        ),
        m(
            vec![Match::CtMark {
                mask: 0xf0,
                value: 0x10,
                not: true,
            }],
            "ct mark & 0x000000f0 != 0x00000010".into(),
        ),
        m(
            vec![Match::NoReversePath(FibKey::Iif)],
            "fib saddr . iif oif missing".into(),
        ),
        m(
            vec![Match::NoReversePath(FibKey::IifMark)],
            "fib saddr . mark . iif oif missing".into(),
        ),
        m(
            vec![Match::Local {
                field: Field::Daddr,
                not: false,
            }],
            "fib daddr type local".into(),
        ),
        m(
            vec![Match::Local {
                field: Field::Saddr,
                not: true,
            }],
            "fib saddr type != local".into(),
        ),
        m(
            vec![Match::PktType {
                kind: PktType::Multicast,
                not: false,
            }],
            "meta pkttype multicast".into(),
        ),
        m(
            vec![
                tcp.clone(),
                Match::TcpFlags {
                    mask: 0x12,
                    value: 2,
                    not: false,
                },
            ],
            "tcp flags syn / syn,ack".into(),
        ),
        m(vec![Match::ConnectionsOver(20)], "ct count over 20".into()),
        m(
            vec![Match::is(
                Field::OrigDaddr,
                net(family, "10.1.2.3/32", "fd00::1/128"),
            )],
            any("ct original ip daddr 10.1.2.3", "ct original ip6 daddr fd00::1"),
        ),
        m(
            vec![tcp.clone(), Match::is(Field::OrigDport, PortRange::single(80))],
            "meta l4proto tcp ct original proto-dst 80".into(),
        ),
        m(
            vec![
                Match::is(
                    Field::Proto,
                    if family == Family::V4 {
                        Proto::ICMP
                    } else {
                        Proto::ICMPV6
                    },
                ),
                Match::is(
                    Field::IcmpType,
                    Span::IcmpType(if family == Family::V4 { 8 } else { 128 }),
                ),
                Match::is(Field::IcmpCode, Span::IcmpCode(0)),
            ],
            format!(
                "{icmp} type echo-request {icmp} code {}",
                any("net-unreachable", "no-route")
            ),
        ),
        s(vec![Statement::jump("empty")], "jump empty".into()),
        s(vec![Statement::goto("empty")], "goto empty".into()),
        s(vec![Statement::RETURN], "return".into()),
        s(vec![Statement::Counter, Statement::DROP], "counter drop".into()),
        s(
            vec![Statement::Reject(RejectWith::AdminProhibited)],
            format!("reject with {icmp} admin-prohibited"),
        ),
        s(
            vec![Statement::Reject(RejectWith::PortUnreachable)],
            any("reject", "reject"),
        ),
        (
            Rule::new([tcp.clone()], [Statement::Reject(RejectWith::TcpReset)], ""),
            "reject with tcp reset".into(),
        ),
        s(
            vec![
                Statement::Limit {
                    rate: 10,
                    per: Per::Minute,
                    burst: 20,
                    over: false,
                },
                Statement::Log {
                    to: LogTo::Kernel(5),
                    prefix: "calico-packet: ".into(),
                },
            ],
            "limit rate 10/minute burst 20 packets log prefix \"calico-packet: \" level notice".into(),
        ),
        s(
            vec![
                Statement::Limit {
                    rate: 100,
                    per: Per::Second,
                    burst: 200,
                    over: true,
                },
                Statement::DROP,
            ],
            "limit rate over 100/second burst 200 packets drop".into(),
        ),
        s(
            vec![Statement::Log {
                to: LogTo::Group {
                    group: 2,
                    snaplen: 80,
                },
                prefix: "API|x".into(),
            }],
            "log prefix \"API|x\" group 2 snaplen 80".into(),
        ),
        s(
            vec![Statement::SetMark {
                mask: u32::MAX,
                value: 5,
            }],
            "meta mark set 0x00000005".into(),
        ),
        s(
            vec![Statement::SetMark {
                mask: 0xf0,
                value: 0xf0,
            }],
            "meta mark set meta mark | 0x000000f0".into(),
        ),
        s(
            vec![Statement::SetMark { mask: 0xf0, value: 0 }],
            "meta mark set meta mark & 0xffffff0f".into(),
        ),
        s(
            vec![Statement::SetMark {
                mask: 0xf0,
                value: 0x20,
            }],
            "meta mark set meta mark & 0xffffff2f | 0x00000020".into(),
        ),
        s(
            vec![Statement::SetCtMark {
                mask: 0xf0,
                value: 0xf0,
            }],
            "ct mark set ct mark | 0x000000f0".into(),
        ),
        s(
            vec![Statement::SaveMark { mask: u32::MAX }],
            "ct mark set meta mark".into(),
        ),
        s(
            vec![Statement::SaveMark { mask: 0xff }],
            "ct mark set meta mark & 0x000000ff".into(),
        ),
        s(
            vec![Statement::SetMarkFromMap {
                fields: vec![Field::Saddr],
                map: "marks".into(),
            }],
            format!("meta mark set {ip} saddr map @marks"),
        ),
        s(
            vec![Statement::VerdictMap {
                fields: vec![Field::Iif],
                map: "dispatch".into(),
            }],
            "iifname vmap @dispatch".into(),
        ),
        s(
            vec![Statement::VerdictMap {
                fields: vec![Field::Daddr, Field::Mark],
                map: "pairs".into(),
            }],
            format!("{ip} daddr . meta mark vmap @pairs"),
        ),
        s(
            vec![Statement::Count("np/ns/pol.in.3.allow".into()), Statement::ACCEPT],
            "counter name \"np/ns/pol.in.3.allow\" accept".into(),
        ),
        (
            Rule::new(
                [
                    tcp.clone(),
                    Match::Counted {
                        fields: vec![Field::Dport],
                        map: "n.ports".into(),
                    },
                ],
                [Statement::ACCEPT],
                "",
            ),
            "counter name tcp dport map @n.ports accept".into(),
        ),
        s(vec![Statement::SetDscp(46)], format!("{ip} dscp set ef")),
        (
            Rule::new([], [Statement::ACCEPT], "default.ns/pol, rule 3"),
            "accept comment \"default.ns/pol, rule 3\"".into(),
        ),
    ]
}

fn state(family: Family) -> TableState {
    let mut state = TableState::default();
    let addr = |n: u8| net(family, &format!("10.0.0.{n}"), &format!("fd00::{n}"));
    let mut put = |name: &str, def: SetDef, elements: Vec<(Key, Element)>| {
        let mut set = Set::empty(def);
        set.elements = elements.into_iter().collect();
        state.sets.insert(name.into(), set);
    };
    let plain = Element::plain;
    let cali1 = IfName::exact("cali1").expect("short");
    put(
        "nets",
        SetDef::new([KeyType::Addr]).intervals().commented("pods of ns"),
        vec![
            (net(family, "10.1.0.0/16", "fd01::/16").into(), plain()),
            (net(family, "0.0.0.0/8", "::/16").into(), plain()),
            (addr(9).into(), plain().commented("one")),
            (net(family, "255.0.0.0/8", "ff00::/8").into(), plain()),
        ],
    );
    put(
        "members",
        SetDef::new([KeyType::Addr, KeyType::Proto, KeyType::Port]),
        vec![(
            Key::of(&[addr(1), Proto::TCP.into(), Span::Port(80, 80)]),
            plain(),
        )],
    );
    put(
        "ranges",
        SetDef::new([KeyType::Addr, KeyType::Proto, KeyType::Port])
            .intervals()
            .counted(),
        vec![(
            Key::of(&[
                net(family, "10.2.0.0/16", "fd02::/16"),
                Proto::UDP.into(),
                Span::Port(1, 5),
            ]),
            plain(),
        )],
    );
    put(
        "ports",
        SetDef::new([KeyType::Port]).intervals(),
        vec![
            (Span::Port(0, 10).into(), plain()),
            (Span::Port(80, 80).into(), plain()),
            (Span::Port(60000, 65535).into(), plain()),
        ],
    );
    put(
        "links",
        SetDef::new([KeyType::IfName]).intervals(),
        vec![
            (IfName::starting_with("cali").expect("short").into(), plain()),
            (IfName::exact("eth0").expect("short").into(), plain()),
        ],
    );
    put(
        "counted",
        SetDef {
            size: Some(99),
            ..SetDef::new([KeyType::Addr]).counted()
        },
        vec![(addr(3).into(), plain())],
    );
    put(
        "n.ports",
        SetDef::counter_map([KeyType::Port]).intervals(),
        vec![
            (
                Span::Port(1, 5).into(),
                Element::counter("np/ns/pol.in.3.allow".into()),
            ),
            (Span::Port(80, 80).into(), Element::counter("other".into())),
        ],
    );
    put(
        "types",
        SetDef::new([KeyType::IcmpType]),
        vec![(Span::IcmpType(3).into(), plain())],
    );
    put(
        "marks",
        SetDef {
            data: Some(caracal_rules::ir::DataType::Value(vec![KeyType::Mark])),
            ..SetDef::new([KeyType::Addr])
        },
        vec![(addr(1).into(), Element::value(Span::Mark(7)))],
    );
    put(
        "dispatch",
        SetDef::verdict_map([KeyType::IfName]),
        vec![
            (
                cali1.into(),
                Element::verdict(Verdict::Goto("empty".into())).commented("pod a/b"),
            ),
            (Key::Any, Element::verdict(Verdict::Drop)),
        ],
    );
    put(
        "pairs",
        SetDef::verdict_map([KeyType::Addr, KeyType::Mark]).intervals(),
        vec![(
            Key::of(&[net(family, "10.3.0.0/16", "fd03::/16"), Span::Mark(0x10)]),
            Element::verdict(Verdict::Accept),
        )],
    );
    state.counters = ["np/ns/pol.in.3.allow", "other"].map(Into::into).into();
    state.chains.insert("empty".into(), Chain::regular([]));
    state.chains.insert(
        "shapes".into(),
        Chain::regular(rules(family).into_iter().map(|(r, _)| r).collect::<Vec<_>>()),
    );
    let base = |kind, hook, priority, policy| BaseChain {
        kind,
        hook,
        priority,
        policy,
    };
    state.chains.insert(
        "into-host".into(),
        Chain::base(
            base(ChainKind::Filter, Hook::Input, -10, Policy::Drop),
            [Rule::new([], [Statement::jump("shapes")], "")],
        ),
    );
    state.chains.insert(
        "raw".into(),
        Chain::base(
            base(ChainKind::Filter, Hook::Prerouting, -300, Policy::Accept),
            [Rule::new([], [Statement::NoTrack], "")],
        ),
    );
    state.chains.insert(
        "again".into(),
        Chain::base(base(ChainKind::Route, Hook::Output, -150, Policy::Accept), []),
    );
    state.chains.insert(
        "nat-post".into(),
        Chain::base(
            base(ChainKind::Nat, Hook::Postrouting, 100, Policy::Accept),
            nat(family),
        ),
    );
    state.chains.insert(
        "nat-pre".into(),
        Chain::base(
            base(ChainKind::Nat, Hook::Prerouting, -100, Policy::Accept),
            [Rule::new(
                [Match::is(Field::Proto, Proto::TCP)],
                [Statement::Dnat(NatTo {
                    first: if family == Family::V4 {
                        Ipv4Addr::new(10, 0, 0, 9).into()
                    } else {
                        "fd00::9".parse().expect("an address")
                    },
                    last: if family == Family::V4 {
                        Ipv4Addr::new(10, 0, 0, 9).into()
                    } else {
                        "fd00::9".parse().expect("an address")
                    },
                    ports: Some(PortRange::single(8080)),
                    fully_random: false,
                })],
                "",
            )],
        ),
    );
    state
}

fn nat(family: Family) -> Vec<Rule> {
    let addr = |n: u8| {
        if family == Family::V4 {
            Ipv4Addr::new(10, 0, 0, n).into()
        } else {
            format!("fd00::{n}").parse().expect("an address")
        }
    };
    let tcp = [Match::is(Field::Proto, Proto::TCP)];
    vec![
        Rule::new(
            [],
            [Statement::Masquerade {
                ports: None,
                fully_random: true,
            }],
            "",
        ),
        Rule::new(
            tcp.clone(),
            [Statement::Masquerade {
                ports: Some(PortRange {
                    first: 1000,
                    last: 2000,
                }),
                fully_random: false,
            }],
            "",
        ),
        Rule::new(
            [],
            [Statement::Snat(NatTo {
                first: addr(1),
                last: addr(1),
                ports: None,
                fully_random: false,
            })],
            "",
        ),
        Rule::new(
            tcp,
            [Statement::Snat(NatTo {
                first: addr(1),
                last: addr(6),
                ports: Some(PortRange { first: 5, last: 6 }),
                fully_random: true,
            })],
            "",
        ),
    ]
}

#[test]
fn netns_every_shape_is_printed_as_meant() {
    netns!();
    needs!("nft");
    let mut driver = open();
    let wanted = PerFamily::new(state);
    let report = driver
        .start(wanted.clone(), &token())
        .expect("every shape is taken");
    assert_eq!(report.problems, [], "nothing is refused");
    for (family, ip) in [(Family::V4, "ip"), (Family::V6, "ip6")] {
        let printed = nft(&["--stateless", "list", "table", ip, "caracal"]);
        let chain = printed
            .split("chain shapes {\n")
            .nth(1)
            .expect("the chain is there");
        let lines: Vec<&str> = chain
            .lines()
            .take_while(|l| l.trim() != "}")
            .map(str::trim)
            .collect();
        let expected: Vec<String> = rules(family).into_iter().map(|(_, text)| text).collect();
        assert_eq!(lines, expected, "{family}");
        let (v4, v6) = (ELEMENTS_V4, ELEMENTS_V6);
        for line in if family == Family::V4 { v4 } else { v6 } {
            assert!(printed.contains(line), "no {line:?} in\n{printed}");
        }
    }
}

const ELEMENTS_V4: &[&str] = &[
    "table ip caracal {\n\tcomment \"caracal, layout 2\"\n",
    "set nets {\n\t\ttype ipv4_addr\n\t\tflags interval\n\t\tcomment \"pods of ns\"\n\t\telements = { 0.0.0.0/8, 10.0.0.9 comment \"one\",\n\t\t\t     10.1.0.0/16, 255.0.0.0/8 }\n",
    "set members {\n\t\ttype ipv4_addr . inet_proto . inet_service\n\t\telements = { 10.0.0.1 . tcp . 80 }\n",
    "set ranges {\n\t\ttype ipv4_addr . inet_proto . inet_service\n\t\tflags interval\n\t\tcounter\n\t\telements = { 10.2.0.0/16 . udp . 1-5",
    "set ports {\n\t\ttype inet_service\n\t\tflags interval\n\t\telements = { 0-10, 80, 60000-65535 }\n",
    "set links {\n\t\ttype ifname\n\t\tflags interval\n\t\telements = { \"cali*\",\n\t\t\t     \"eth0\" }\n",
    "set counted {\n\t\ttype ipv4_addr\n\t\tsize 99\n\t\tcounter\n\t\telements = { 10.0.0.3",
    "map n.ports {\n\t\ttype inet_service : counter\n\t\tflags interval\n\t\telements = { 1-5 : \"np/ns/pol.in.3.allow\", 80 : \"other\" }\n",
    "set types {\n\t\ttype icmp_type\n\t\telements = { destination-unreachable }\n",
    "map marks {\n\t\ttype ipv4_addr : mark\n\t\telements = { 10.0.0.1 : 0x00000007 }\n",
    "\"cali1\" comment \"pod a/b\" : goto empty",
    "* : drop",
    "map pairs {\n\t\ttype ipv4_addr . mark : verdict\n\t\tflags interval\n\t\telements = { 10.3.0.0/16 . 0x00000010 : accept }\n",
    "chain into-host {\n\t\ttype filter hook input priority filter - 10; policy drop;\n",
    "chain raw {\n\t\ttype filter hook prerouting priority raw; policy accept;\n\t\tnotrack\n",
    "chain again {\n\t\ttype route hook output priority mangle; policy accept;\n",
    "masquerade fully-random\n\t\tmeta l4proto tcp masquerade to :1000-2000\n\t\tsnat to 10.0.0.1\n\t\tmeta l4proto tcp snat to 10.0.0.1-10.0.0.6:5-6 fully-random\n",
    "dnat to 10.0.0.9:8080\n",
];

const ELEMENTS_V6: &[&str] = &[
    "elements = { ::/16,\n\t\t\t     fd00::9 comment \"one\",\n\t\t\t     fd01::/16,\n\t\t\t     ff00::/8 }\n",
    "elements = { fd00::1 . tcp . 80 }\n",
    "elements = { fd02::/16 . udp . 1-5",
    "set types {\n\t\ttype icmpv6_type\n",
    "map marks {\n\t\ttype ipv6_addr : mark\n\t\telements = { fd00::1 : 0x00000007 }\n",
    "elements = { fd03::/16 . 0x00000010 : accept }\n",
    "snat to fd00::1\n\t\tmeta l4proto tcp snat to [fd00::1]-[fd00::6]:5-6 fully-random\n",
    "dnat to [fd00::9]:8080\n",
];

#[test]
fn netns_the_text_is_what_the_driver_loads() {
    netns!();
    needs!("nft");
    for family in [Family::V4, Family::V6] {
        script(&render(family, "caracal", &state(family)));
    }
    let by_text = ruleset();
    nft(&["flush", "ruleset"]);
    open()
        .start(PerFamily::new(state), &token())
        .expect("every shape is taken");
    let by_driver = ruleset().replace("\tcomment \"caracal, layout 2\"\n", "");
    assert_eq!(objects(&by_text), objects(&by_driver));
}
