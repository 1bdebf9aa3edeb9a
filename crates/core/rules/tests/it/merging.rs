//! What becomes of many rules, and what a small change costs.

use std::sync::Arc;

use caracal_api::{Action, TierDefaultAction};
use caracal_desired::{
    Delta, IpSet, IpSetKind, IpSetMember, Policy, Rule, RuleOrigin, TierPolicies, WorkloadEndpoint,
};
use caracal_ids::{IpSetId, PolicyId, PolicyKind, TierName};
use caracal_net::{Cidr, PerFamily, PortRange, Proto};
use caracal_rules::{
    Compiler, Counted, RulesConfig, What,
    ir::{ChainName, CounterName, Data, Element, Key, TableDelta, TableState, render},
};

use crate::interpreter::faults;
use crate::world::{interface, policy_id, set_id, workload_id};

fn ports(action: Action, first: u16, last: u16) -> Rule {
    let mut r = Rule::new(action);
    r.protocol = Some(Proto::TCP);
    r.dst.ports = [PortRange { first, last }].into();
    r
}

fn nets(action: Action, net: &str) -> Rule {
    let mut r = Rule::new(action);
    r.src.nets = [net.parse().unwrap()].into();
    r
}

fn policy(n: usize, ingress: Vec<Rule>) -> Delta {
    Delta::Policy(Arc::new(Policy {
        id: policy_id(n),
        tier: TierName::default_tier(),
        ingress,
        egress: vec![],
        untracked: false,
        pre_dnat: false,
    }))
}

fn endpoint(n: usize, policies: std::ops::Range<usize>) -> Delta {
    let addresses = PerFamily::<Vec<Cidr>> {
        v4: vec!["10.0.0.1/32".parse().unwrap()],
        v6: vec![],
    };
    Delta::Workload(Arc::new(WorkloadEndpoint {
        id: workload_id(n),
        interface: interface(n).into(),
        container_id: "".into(),
        mac: None,
        addresses,
        nats: vec![],
        allowed_sources: vec![],
        tiers: vec![TierPolicies {
            name: TierName::default_tier(),
            default_action: TierDefaultAction::Deny,
            ingress: policies.map(policy_id).collect(),
            egress: vec![],
        }],
        profiles: vec![],
        qos: None,
    }))
}

struct Node {
    compiler: Compiler,
    table: TableState,
}

impl Node {
    fn new(deltas: &[Delta]) -> Self {
        let mut node = Self {
            compiler: Compiler::new(RulesConfig::default()),
            table: TableState::default(),
        };
        node.apply(deltas);
        node
    }

    /// Takes changes in; what they did to the IPv4 table.
    fn apply(&mut self, deltas: &[Delta]) -> Vec<TableDelta> {
        self.compiler.apply_all(deltas);
        let changes = self.compiler.flush().v4;
        self.table.apply_all(changes.clone()).unwrap();
        changes
    }

    /// The rules of the only list of the default tier, as text.
    fn rules(&self) -> Vec<String> {
        let is_list = |n: &ChainName| n.as_str().starts_with("tw-default-");
        let mut lists = self.table.chains.iter().filter(|(n, _)| is_list(n));
        let (name, chain) = lists.next().unwrap();
        assert!(lists.next().is_none(), "one list only");
        let only = TableState {
            chains: [(name.clone(), chain.clone())].into(),
            ..TableState::default()
        };
        let text = render(caracal_net::Family::V4, "t", &only);
        let lines = text.lines().map(str::trim).filter(|l| l.contains(" comment "));
        lines.map(str::to_owned).collect()
    }

    fn elements(&self, set_starts: &str) -> Vec<String> {
        let mut sets = self
            .table
            .sets
            .iter()
            .filter(|(n, _)| n.as_str().starts_with(set_starts));
        let (_, set) = sets.next().unwrap();
        assert!(sets.next().is_none(), "one set only");
        set.elements.keys().map(ToString::to_string).collect()
    }
}

fn only_elements(changes: &[TableDelta]) -> usize {
    let count = |d: &TableDelta| match d {
        TableDelta::AddElements(_, e) => e.len(),
        TableDelta::DeleteElements(_, k) => k.len(),
        // What an element counts for another rule has another counter.
        TableDelta::PutCounter(_) | TableDelta::RemoveCounter(_) => 0,
        other => panic!("more than elements: {other:?}"),
    };
    changes.iter().map(count).sum()
}

#[test]
fn rules_that_differ_in_one_list_become_one() {
    let mut deltas = vec![endpoint(0, 2..52)];
    for n in 2..52 {
        let number = u16::try_from(n).unwrap();
        let net = format!("172.16.{n}.0/24");
        let first = 1000 + 20 * number;
        let rules = vec![
            ports(Action::Allow, 80, 80),
            nets(Action::Allow, &net),
            ports(Action::Allow, first, first + 10),
        ];
        deltas.push(policy(n, rules));
    }
    let mut node = Node::new(&deltas);
    let rules = node.rules();
    assert_eq!(rules.len(), 3, "{rules:#?}");
    assert!(rules[0].contains("comment \"gnp/p2 rule 0 +99\""), "{rules:#?}");
    assert!(rules[1].contains("comment \"gnp/p2 rule 1 +49\""), "{rules:#?}");
    assert_eq!(node.elements("n.dport-").len(), 51);
    assert_eq!(node.elements("n.src-").len(), 50, "each prefix is counted alone");

    let mut change = |rules| only_elements(&node.apply(&[policy(9, rules)]));
    let with = |net, first, last| {
        vec![
            ports(Action::Allow, 80, 80),
            nets(Action::Allow, net),
            ports(Action::Allow, first, last),
        ]
    };
    assert_eq!(change(with("172.16.9.0/24", 40_000, 40_010)), 2, "a range moves");
    assert_eq!(
        change(with("172.16.9.0/25", 40_000, 40_010)),
        2,
        "a prefix shrinks"
    );
    assert_eq!(
        change(with("172.16.9.0/25", 40_000, 40_010)),
        0,
        "nothing changes"
    );
}

#[test]
fn a_policy_alone_changes_by_elements_too() {
    let mut node = Node::new(&[endpoint(0, 2..3), policy(2, vec![ports(Action::Allow, 100, 110)])]);
    assert_eq!(
        only_elements(&node.apply(&[policy(2, vec![ports(Action::Allow, 200, 210)])])),
        2
    );
    assert_eq!(node.elements("dport-"), ["200-210"]);
    node.apply(&[policy(2, vec![ports(Action::Allow, 80, 80)])]);
    assert!(node.rules()[0].contains("th dport 80"), "{:?}", node.rules());
}

/// The counters of a map with their values.
/// The policy and the place of a rule.
fn rule_of(counted: &Counted) -> Option<(PolicyId, u32)> {
    match &counted.what {
        What::Policy { id, rule, .. } => Some((id.clone(), (*rule)?)),
        _ => None,
    }
}

fn counter_of(node: &Node, policy: usize, rule: u32) -> CounterName {
    let counting = node.compiler.counting();
    let found = counting
        .counted()
        .iter()
        .find(|c| rule_of(c) == Some((policy_id(policy), rule)));
    found.unwrap().counter.clone()
}

#[test]
fn a_rule_put_before_others_leaves_them_their_counters() {
    let old = vec![ports(Action::Allow, 1, 1), ports(Action::Deny, 2, 2)];
    let mut new = old.clone();
    new.insert(0, ports(Action::Allow, 3, 3));
    let mut node = Node::new(&[endpoint(0, 2..3), policy(2, old)]);
    let before = [0, 1].map(|rule| counter_of(&node, 2, rule));
    node.apply(&[policy(2, new)]);
    assert_eq!([1, 2].map(|rule| counter_of(&node, 2, rule)), before);
    assert!(!before.contains(&counter_of(&node, 2, 0)));
    // Another port among several is another element, and nothing else.
    let several = |last| {
        let mut rule = ports(Action::Allow, 1, 1);
        rule.dst.ports = [1, 5, last]
            .map(|p| PortRange { first: p, last: p })
            .to_vec()
            .into();
        policy(2, vec![rule])
    };
    node.apply(&[several(9)]);
    let (counter, rules) = (counter_of(&node, 2, 0), node.rules());
    node.apply(&[several(11)]);
    assert_eq!((counter_of(&node, 2, 0), node.rules()), (counter, rules));
}

fn counted(node: &Node, map_starts: &str) -> Vec<String> {
    let mut maps = node
        .table
        .sets
        .iter()
        .filter(|(n, _)| n.as_str().starts_with(map_starts));
    let (_, map) = maps.next().unwrap();
    assert!(maps.next().is_none(), "one map only");
    let line = |(key, element): (&Key, &Element)| match element.data() {
        Some(Data::Counter(name)) => format!("{key} {name}"),
        other => panic!("{other:?}"),
    };
    map.elements.iter().map(line).collect()
}

#[test]
fn a_value_counts_for_the_first_rule_that_has_it() {
    let deltas = [
        endpoint(0, 2..5),
        policy(
            2,
            vec![ports(Action::Allow, 100, 110), ports(Action::Allow, 200, 200)],
        ),
        policy(3, vec![ports(Action::Allow, 105, 120)]),
        policy(4, vec![ports(Action::Allow, 106, 108)]),
    ];
    let mut node = Node::new(&deltas);
    let [first, second] = [0, 1].map(|rule| counter_of(&node, 2, rule));
    let [third, last] = [3, 4].map(|n| counter_of(&node, n, 0));
    let expected = [
        format!("100-110 {first}"),
        format!("111-120 {third}"),
        format!("200 {second}"),
    ];
    assert_eq!(counted(&node, "n.dport-"), expected);
    assert!(
        !node.table.counters.contains(last.as_str()),
        "no packet gets to it"
    );
    node.apply(&[policy(3, vec![])]);
    assert_eq!(
        counted(&node, "n.dport-"),
        [format!("100-110 {first}"), format!("200 {second}")]
    );
    node.apply(&[policy(2, vec![])]);
    let rules = node.rules();
    assert!(
        rules[0].contains(&format!("counter name \"{last}\"")),
        "{rules:#?}"
    );
    let left: Vec<&str> = node.table.counters.iter().map(|c| c.as_str()).collect();
    assert!(left.iter().all(|c| !c.starts_with("gnp/p2")), "{left:?}");
}

#[test]
fn odd_names_have_counters_of_their_own() {
    let long = "x".repeat(200);
    let names = ["plain", "no space", "no.space", &long, &format!("{long}y")];
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        let id = PolicyId::global(PolicyKind::GlobalNetworkPolicy, name);
        let mut workload = endpoint(0, 0..0);
        if let Delta::Workload(w) = &mut workload {
            Arc::make_mut(w).tiers[0].ingress = vec![id.clone()];
        }
        let policy = Delta::Policy(Arc::new(Policy {
            id,
            tier: TierName::default_tier(),
            ingress: vec![Rule::new(Action::Allow)],
            egress: vec![],
            untracked: false,
            pre_dnat: false,
        }));
        let node = Node::new(&[workload, policy]);
        let counters = node.table.counters.iter().map(|c| c.as_str());
        let of_policy: Vec<&str> = counters.filter(|c| c.starts_with("gnp/")).collect();
        assert_eq!(of_policy.len(), 1, "{of_policy:?}");
        assert!(of_policy[0].len() <= 120, "{of_policy:?}");
        assert!(
            of_policy[0]
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "./-_".contains(c)),
            "nft reads it: {of_policy:?}"
        );
        assert!(seen.insert(of_policy[0].to_owned()), "{of_policy:?}");
    }
}

#[test]
fn who_denies_tells_those_who_listen() {
    let config = RulesConfig {
        denied_group: Some(7),
        ..RulesConfig::default()
    };
    let mut compiler = Compiler::new(config);
    compiler.apply_all(&[
        endpoint(0, 2..3),
        policy(2, vec![ports(Action::Deny, 1, 1), ports(Action::Deny, 3, 3)]),
    ]);
    let text = render(caracal_net::Family::V4, "t", &compiler.full_state().v4);
    let counted = compiler.counting();
    let first = counted
        .counted()
        .iter()
        .find(|c| rule_of(c) == Some((policy_id(2), 0)));
    for line in [
        &*format!(
            "log prefix \"{} +1\" group 7 snaplen 120 drop",
            first.unwrap().counter
        ),
        "log prefix \"tier/default.in.deny\" group 7 snaplen 120 drop",
        "log prefix \"wall/unknown-interface.in.deny\" group 7 snaplen 120 drop",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[test]
fn only_neighbours_of_one_verdict_merge() {
    let one = |rules| Node::new(&[endpoint(0, 2..3), policy(2, rules)]).rules().len() - 1;
    let allow = |n| ports(Action::Allow, n, n);
    let deny = |n| ports(Action::Deny, n, n);
    assert_eq!(one(vec![allow(1), allow(2), allow(3)]), 1);
    assert_eq!(one(vec![allow(1), deny(2), allow(3)]), 3);
    assert_eq!(one(vec![allow(1), Rule::new(Action::Log), allow(3)]), 3);
    assert_eq!(
        one(vec![allow(1), allow(1), deny(1), deny(1)]),
        2,
        "equal ones are one"
    );
    assert_eq!(
        one(vec![allow(1), nets(Action::Allow, "10.0.0.0/8"), allow(3)]),
        2
    );
    let both = |net, port| Rule {
        src: nets(Action::Allow, net).src,
        ..allow(port)
    };
    let square = vec![
        both("10.0.0.0/8", 1),
        both("11.1.0.0/16", 1),
        both("10.0.0.0/8", 2),
        both("11.1.0.0/16", 2),
    ];
    assert_eq!(one(square), 2, "no element of a product would say whose it is");
    assert_eq!(
        one(vec![both("10.0.0.0/8", 1), both("11.1.0.0/16", 2)]),
        2,
        "two lists differ"
    );
}

#[test]
fn nothing_is_written_behind_a_rule_that_decides_all() {
    let rules = vec![Rule::new(Action::Allow), ports(Action::Deny, 1, 1)];
    let node = Node::new(&[endpoint(0, 2..4), policy(2, rules), policy(3, vec![])]);
    let counter = counter_of(&node, 2, 0);
    assert_eq!(
        node.rules(),
        [format!(
            "counter name \"{counter}\" return comment \"gnp/p2 rule 0\""
        )]
    );
}

#[test]
fn endpoints_with_one_list_share_its_chain_and_cost_elements() {
    let mut node = Node::new(&[endpoint(0, 2..4), policy(2, vec![]), policy(3, vec![])]);
    assert_eq!(only_elements(&node.apply(&[endpoint(1, 2..4)])), 2);
    assert_eq!(
        only_elements(&node.apply(&[Delta::WorkloadGone(workload_id(0))])),
        2
    );
    let gone = node.apply(&[Delta::WorkloadGone(workload_id(1))]);
    let removed = gone
        .iter()
        .filter(|d| matches!(d, TableDelta::RemoveChain(_)))
        .count();
    assert_eq!(removed, 2, "{gone:?}");
}

#[test]
fn rules_of_one_policy_share_a_set_between_lists() {
    let wide = || policy(2, vec![ports(Action::Allow, 100, 110)]);
    let other = policy(3, vec![nets(Action::Deny, "10.0.0.0/8")]);
    let mut node = Node::new(&[endpoint(0, 2..3), endpoint(1, 2..4), wide(), other]);
    assert_eq!(node.elements("dport-"), ["100-110"]);
    assert_eq!(
        only_elements(&node.apply(&[policy(2, vec![ports(Action::Allow, 1, 5)])])),
        2
    );
}

#[test]
fn a_member_is_an_element_and_a_prefix_makes_another_set() {
    let member = |text: &str| IpSetMember::Net(text.parse().unwrap());
    let change = |added: &[&str], removed: &[&str]| Delta::IpSetMembers {
        id: set_id(0),
        added: added.iter().map(|t| member(t)).collect(),
        removed: removed.iter().map(|t| member(t)).collect(),
    };
    let mut rule = Rule::new(Action::Allow);
    rule.src.ip_sets = [set_id(0)].into();
    let members = [member("10.0.0.1/32"), member("fd00::1/128")].into();
    let mut node = Node::new(&[
        Delta::IpSet(
            set_id(0),
            IpSet {
                kind: IpSetKind::Net,
                members,
                about: Arc::default(),
            },
        ),
        policy(2, vec![rule]),
        endpoint(0, 2..3),
    ]);
    assert_eq!(node.elements("s.0.addr"), ["10.0.0.1"]);
    assert_eq!(only_elements(&node.apply(&[change(&["10.0.0.2/32"], &[])])), 1);
    assert_eq!(
        only_elements(&node.apply(&[change(&["10.0.0.3/32"], &["10.0.0.2/32"])])),
        2
    );
    assert_eq!(
        only_elements(&node.apply(&[change(&["fd00::9/128"], &[])])),
        0,
        "not of this table"
    );
    let back = [change(&["10.0.0.4/32"], &[]), change(&[], &["10.0.0.4/32"])];
    assert_eq!(node.apply(&back), [], "came and went");

    node.apply(&[change(&["10.0.0.0/30", "0.0.0.0/0"], &[])]);
    assert_eq!(node.elements("s.0."), ["0.0.0.0/0"]);
    assert!(node.rules()[0].contains("@s.0.net"), "{:?}", node.rules());
    assert_eq!(only_elements(&node.apply(&[change(&[], &["0.0.0.0/0"])])), 2);
    assert_eq!(
        node.elements("s.0."),
        ["10.0.0.0/30"],
        "one prefix covers the addresses"
    );
    node.apply(&[change(&[], &["10.0.0.0/30"])]);
    assert_eq!(node.elements("s.0.addr"), ["10.0.0.1", "10.0.0.3"]);
    let gone = node.apply(&[Delta::WorkloadGone(workload_id(0))]);
    assert!(
        gone.iter()
            .any(|d| matches!(d, TableDelta::RemoveSet(n) if n.as_str() == "s.0.addr"))
    );
    assert_eq!(
        node.apply(&[change(&["10.0.0.7/32"], &[])]),
        [],
        "nobody needs the set"
    );
}

#[test]
fn names_of_unlike_sets_are_unlike() {
    let odd = IpSetId::new("not a kernel name; drop");
    let mut rule = Rule::new(Action::Allow);
    rule.src.ip_sets = [odd.clone()].into();
    let set = IpSet {
        kind: IpSetKind::Net,
        members: [].into(),
        about: Arc::default(),
    };
    let node = Node::new(&[Delta::IpSet(odd, set), policy(2, vec![rule]), endpoint(0, 2..3)]);
    assert!(node.rules()[0].contains("@set.."), "{:?}", node.rules());
}

#[test]
fn what_the_owner_wrote_to_a_rule_is_in_its_comment() {
    let noted = |value: &str| {
        let mut rule = ports(Action::Allow, 80, 80);
        rule.origin = Some(Arc::new(RuleOrigin {
            annotations: vec![("name".into(), value.into()), ("team".into(), "x".into())],
            ..RuleOrigin::default()
        }));
        rule
    };
    for (value, expected) in [
        ("web", "gnp/p2 rule 0 (name=web, team=x)".to_owned()),
        ("a \"b\"\n", "gnp/p2 rule 0 (name=a _b__, team=x)".to_owned()),
    ] {
        let mut compiler = Compiler::new(RulesConfig::default());
        compiler.apply_all(&[policy(2, vec![noted(value)]), endpoint(0, 2..3)]);
        let table = compiler.full_state().v4;
        let comments: Vec<&str> = table
            .chains
            .values()
            .flat_map(|c| &c.rules)
            .map(|r| r.comment.as_str())
            .collect();
        assert!(comments.contains(&expected.as_str()), "{comments:?}");
    }
    let mut compiler = Compiler::new(RulesConfig::default());
    compiler.apply_all(&[policy(2, vec![noted(&"ä".repeat(300))]), endpoint(0, 2..3)]);
    assert_eq!(
        faults(&compiler.full_state().v4),
        Vec::<String>::new(),
        "it fits the kernel"
    );
}
