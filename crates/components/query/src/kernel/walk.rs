//! The packet's way through the chains of a list, as the compiler made them.

use std::collections::BTreeMap;

use caracal_net::Family;
use caracal_oracle::Packet;
use caracal_rules::ir::{
    BaseChain, Chain, ChainKind, ChainName, Field, Hook, Match, Policy, Rule, SetName, Span, Statement,
    TableState, Verdict,
};
use caracal_rules::model::{self, Seen, pass};

/// Lists of more tiers than this many chains do not exist: the kernel forbids them.
const MOST: usize = 64;

/// The way.
#[derive(Debug, Default)]
pub(super) struct Way {
    /// The chains that the packet comes to.
    pub(super) chains: Vec<ChainName>,
    /// The place of the rule that decides, in the last of them.
    pub(super) decided: Option<usize>,
    /// The sets that were looked into, with the elements that hold the packet.
    pub(super) sets: BTreeMap<SetName, Vec<String>>,
}

/// Walks from a chain on.
pub(super) fn walk(table: &TableState, first: &ChainName, packet: &Packet) -> Way {
    let mut way = Way::default();
    let mut next = Some(first.clone());
    while let Some(name) = next.take().filter(|_| way.chains.len() < MOST) {
        let Some(chain) = table.chains.get(&name) else {
            break;
        };
        way.chains.push(name);
        for (place, rule) in chain.rules.iter().enumerate() {
            look_up(table, rule, packet, &mut way);
            if !matches(table, rule, packet) {
                continue;
            }
            match rule.statements.last() {
                Some(Statement::Verdict(Verdict::Goto(to) | Verdict::Jump(to))) => {
                    next = Some(to.clone());
                    break;
                }
                Some(Statement::Verdict(_) | Statement::Reject(_)) => {
                    way.decided = Some(place);
                    break;
                }
                _ => {}
            }
        }
    }
    way
}

/// Whether all conditions of a rule hold, by the model of the tables.
fn matches(table: &TableState, rule: &Rule, packet: &Packet) -> bool {
    let base = BaseChain {
        kind: ChainKind::Filter,
        hook: Hook::Forward,
        priority: 0,
        policy: Policy::Accept,
    };
    let mut alone = TableState::default();
    let probe = Rule::new(rule.matches.clone(), [Statement::DROP], "");
    alone.chains.insert("probe".into(), Chain::base(base, [probe]));
    for name in rule.sets() {
        alone
            .sets
            .extend(table.sets.get(name).map(|set| (name.clone(), set.clone())));
    }
    let headers = model::Packet {
        src: packet.src,
        dst: packet.dst,
        proto: packet.proto,
        sport: packet.sport,
        dport: packet.dport,
        icmp: packet.icmp,
    };
    !pass(&alone, Hook::Forward, 0, &Seen::new(headers, None, None)).accepted
}

/// Notes the sets that a rule looks into.
fn look_up(table: &TableState, rule: &Rule, packet: &Packet, way: &mut Way) {
    for condition in &rule.matches {
        let (Match::InSet { fields, set, .. } | Match::Counted { fields, map: set }) = condition else {
            continue;
        };
        let says = way.sets.entry(set.clone()).or_default();
        let Some(known) = table.sets.get(set).filter(|_| says.is_empty()) else {
            continue;
        };
        let holds = |spans: &[Span]| {
            spans.len() == fields.len() && spans.iter().zip(fields).all(|(s, f)| has(s, *f, packet))
        };
        let found = known.elements.keys().filter(|key| holds(key.spans()));
        says.extend(found.take(1).map(ToString::to_string));
    }
}

/// Whether the packet's field is in the span.
fn has(span: &Span, field: Field, packet: &Packet) -> bool {
    let address = match field {
        Field::Saddr => Some(packet.src),
        Field::Daddr => Some(packet.dst),
        _ => None,
    };
    if let (Some(address), Some(range)) = (address, span.ip_range()) {
        return Family::of(range.first) == Family::of(address)
            && range.first <= address
            && address <= range.last;
    }
    let port = match field {
        Field::Sport => packet.sport,
        Field::Dport => packet.dport,
        _ => 0,
    };
    match span {
        Span::Port(a, b) => (*a..=*b).contains(&port) && matches!(field, Field::Sport | Field::Dport),
        Span::Proto(p) => *p == packet.proto,
        Span::IcmpType(t) => packet.icmp.is_some_and(|(own, _)| own == *t),
        Span::IcmpCode(c) => packet.icmp.is_some_and(|(_, own)| own == *c),
        _ => false,
    }
}

/// The rule in a line: what it does and for which policy.
pub(super) fn rule_text(rule: &Rule) -> String {
    let does = match rule.statements.last() {
        Some(Statement::Verdict(Verdict::Return)) => "return (allowed by this list)",
        Some(Statement::Verdict(Verdict::Accept)) => "accept",
        Some(Statement::Verdict(Verdict::Drop)) => "drop",
        Some(Statement::Reject(_)) => "reject",
        _ => "",
    };
    format!("{does} comment {:?}", as_kept(&rule.comment))
}

/// A comment as the kernel keeps it.
pub(super) fn as_kept(comment: &str) -> String {
    const KEPT: usize = 127;
    let mut end = comment.len().min(KEPT);
    while !comment.is_char_boundary(end) {
        end -= 1;
    }
    comment[..end]
        .chars()
        .map(|c| if c.is_ascii_control() { ' ' } else { c })
        .collect()
}
