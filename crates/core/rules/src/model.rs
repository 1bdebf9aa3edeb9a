//! What a table does to a packet: small and obvious, with no regard to speed. A dataplane that needs no kernel, for
//! tests and for the question why.

mod journey;
mod shape;

use std::net::IpAddr;

use caracal_net::{Family, Proto};

use crate::ir::{
    Chain, CtState, CtStatus, Data, DataType, Element, Field, Hook, Key, Match, Policy, Rule, Set, Span,
    Statement, TableState, Verdict,
};

pub use journey::{Trip, Way, journey};
pub use shape::faults;

/// The most chains that the kernel lets follow one another.
const CHAINS_IN_A_ROW: usize = 16;

/// A packet, as its headers tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Protocol.
    pub proto: Proto,
    /// Source port, if the protocol has ports.
    pub sport: u16,
    /// Destination port, if the protocol has ports.
    pub dport: u16,
    /// Type and code, if it is ICMP of its family.
    pub icmp: Option<(u8, u8)>,
}

/// A packet at one hook, with all that the kernel knows of it there.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its headers.
    pub packet: Packet,
    /// The interface it came in by, where it did and the hook knows it.
    pub iif: Option<String>,
    /// The interface it leaves by, where it does and the hook knows it.
    pub oif: Option<String>,
    /// What connection tracking says of it.
    pub state: CtState,
    /// Facts about its connection.
    pub status: CtStatus,
    /// The packet mark.
    pub mark: u32,
    /// Whether the route back to the source is not by the interface it came in.
    pub spoofed: bool,
    /// Whether the source is an address of this host.
    pub from_host: bool,
    /// Whether the destination is an address of this host.
    pub to_host: bool,
}

impl Seen {
    /// The first packet of a connection, from and to somewhere else.
    #[must_use]
    pub fn new(packet: Packet, iif: Option<&str>, oif: Option<&str>) -> Self {
        Self {
            packet,
            iif: iif.map(str::to_owned),
            oif: oif.map(str::to_owned),
            state: CtState::NEW,
            status: CtStatus(0),
            mark: 0,
            spoofed: false,
            from_host: false,
            to_host: false,
        }
    }
}

/// What became of a packet at a hook.
#[derive(Debug, Clone, PartialEq)]
pub struct Fate {
    /// Whether it goes on.
    pub accepted: bool,
    /// The comment of the rule that decided.
    pub by: String,
    /// Its mark now.
    pub mark: u32,
    /// Statements that did something beside deciding, in order.
    pub effects: Vec<Statement>,
    /// What the kernel would have refused, or read wrongly.
    pub faults: Vec<String>,
}

/// Sets of more elements are not examined one by one.
const FEW: usize = 64;

/// The last in order of all runs of addresses that begin here.
fn last_from(addr: IpAddr) -> Span {
    match addr {
        IpAddr::V4(a) => Span::V4(a, std::net::Ipv4Addr::BROADCAST),
        IpAddr::V6(a) => Span::V6(a, std::net::Ipv6Addr::from_bits(u128::MAX)),
    }
}

enum Flow {
    Next,
    End(bool, String),
}

struct Run<'a> {
    table: &'a TableState,
    seen: &'a Seen,
    effects: Vec<Statement>,
    faults: Vec<String>,
    depth: usize,
    mark: u32,
}

/// Passes a packet through the base chain of a hook with this priority; without one it goes on.
#[must_use]
pub fn pass(table: &TableState, hook: Hook, priority: i32, seen: &Seen) -> Fate {
    let mut run = Run {
        table,
        seen,
        effects: vec![],
        faults: vec![],
        depth: 0,
        mark: seen.mark,
    };
    let at_hook = |c: &&Chain| c.base.is_some_and(|b| b.hook == hook && b.priority == priority);
    let mut chains = table.chains.values().filter(at_hook);
    let mut fate = (true, "no base chain".to_owned());
    if let Some(chain) = chains.next() {
        fate = match run.chain(chain) {
            Flow::End(accepted, by) => (accepted, by),
            Flow::Next => {
                let accepts = chain.base.is_some_and(|b| b.policy == Policy::Accept);
                (accepts, "end of base chain".into())
            }
        };
    }
    if chains.next().is_some() {
        run.faults.push("two base chains at one place".into());
    }
    Fate {
        accepted: fate.0,
        by: fate.1,
        mark: run.mark,
        effects: run.effects,
        faults: run.faults,
    }
}

/// Passes a packet through one rule, as if it stood alone in a base chain that accepts.
#[must_use]
pub fn pass_rule(table: &TableState, rule: &Rule, seen: &Seen) -> Fate {
    let mut run = Run {
        table,
        seen,
        effects: vec![],
        faults: vec![],
        depth: 0,
        mark: seen.mark,
    };
    let matches = rule.matches.iter().all(|m| run.holds(m, rule));
    let flow = if matches { run.statements(rule) } else { None };
    let (accepted, by) = match flow {
        Some(Flow::End(accepted, by)) => (accepted, by),
        Some(Flow::Next) | None => (true, "nothing".into()),
    };
    Fate {
        accepted,
        by,
        mark: run.mark,
        effects: run.effects,
        faults: run.faults,
    }
}

impl<'a> Run<'a> {
    fn fault(&mut self, rule: &Rule, what: impl std::fmt::Display) {
        self.faults
            .push(format!("{what} in rule {:?}: {rule:?}", rule.comment));
    }

    fn chain(&mut self, chain: &Chain) -> Flow {
        // A chain entered by goto counts like one entered by jump: so the kernel does.
        if self.depth >= CHAINS_IN_A_ROW {
            self.faults.push("too many chains in a row".into());
            return Flow::End(false, "too many chains in a row".into());
        }
        self.depth += 1;
        let flow = self.rules(chain);
        self.depth -= 1;
        flow
    }

    fn rules(&mut self, chain: &Chain) -> Flow {
        for rule in &chain.rules {
            if !rule.matches.iter().all(|m| self.holds(m, rule)) {
                continue;
            }
            if let Some(flow) = self.statements(rule) {
                return flow;
            }
        }
        Flow::Next
    }

    /// Nothing when the next rule is asked.
    fn statements(&mut self, rule: &Rule) -> Option<Flow> {
        for statement in &rule.statements {
            match statement {
                Statement::Verdict(v) => return self.verdict(v, rule),
                Statement::VerdictMap { fields, map } => {
                    let v = self.look_up(fields, map.as_str(), rule)?;
                    return self.verdict(&v, rule);
                }
                Statement::Reject(_) => {
                    self.effects.push(statement.clone());
                    return Some(Flow::End(false, rule.comment.clone()));
                }
                Statement::Masquerade { .. } | Statement::Snat(_) | Statement::Dnat(_) => {
                    self.effects.push(statement.clone());
                    return Some(Flow::End(true, rule.comment.clone()));
                }
                Statement::Log { .. } | Statement::NoTrack | Statement::SetDscp(_) => {
                    self.effects.push(statement.clone())
                }
                Statement::Count(_) => self.effects.push(statement.clone()),
                Statement::Limit { .. } | Statement::Counter => {}
                Statement::SetMark { mask, value } => self.mark = self.mark & !mask | value,
                Statement::SetMarkFromMap { .. }
                | Statement::SetCtMark { .. }
                | Statement::SaveMark { .. } => self.fault(rule, "a statement that this model does not know"),
            }
        }
        None
    }

    /// Nothing when the rule behind is asked.
    fn verdict(&mut self, verdict: &Verdict, rule: &Rule) -> Option<Flow> {
        let table = self.table;
        let mut enter = |name: &str| match table.chains.get(name) {
            Some(chain) => self.chain(chain),
            None => {
                self.fault(rule, format!("no chain {name}"));
                Flow::End(false, "a chain that is not there".into())
            }
        };
        match verdict {
            Verdict::Accept => Some(Flow::End(true, rule.comment.clone())),
            Verdict::Drop => Some(Flow::End(false, rule.comment.clone())),
            Verdict::Return => Some(Flow::Next),
            Verdict::Jump(chain) => match enter(chain.as_str()) {
                Flow::Next => None,
                end => Some(end),
            },
            Verdict::Goto(chain) => Some(enter(chain.as_str())),
        }
    }

    fn holds(&mut self, condition: &Match, rule: &Rule) -> bool {
        let seen = self.seen;
        match condition {
            Match::Is { field, not, span } => {
                if field.key_type() != span.key_type() {
                    self.fault(rule, format!("{span} is no value of {field:?}"));
                }
                self.check_readable(*field, rule);
                self.inside(*field, span).is_some_and(|inside| inside != *not)
            }
            Match::InSet { fields, not, set } => self.in_set(fields, set.as_str(), rule) != *not,
            Match::Counted { fields, map } => self.counted(fields, map.as_str(), rule),
            Match::CtState { any, not } => (seen.state.0 & any.0 != 0) != *not,
            // As in the kernel: what has no connection has no facts about one either.
            Match::CtStatus { any, not } => {
                seen.state != CtState::UNTRACKED && (seen.status.0 & any.0 != 0) != *not
            }
            Match::Mark { mask, value, not } => (self.mark & mask == *value) != *not,
            Match::NoReversePath(_) => seen.spoofed,
            Match::Local {
                field: Field::Daddr,
                not,
            } => seen.to_host != *not,
            Match::Local { not, .. } => seen.from_host != *not,
            Match::CtMark { .. }
            | Match::PktType { .. }
            | Match::TcpFlags { .. }
            | Match::ConnectionsOver(_) => {
                self.fault(rule, "a condition that this model does not know");
                false
            }
        }
    }

    fn in_set(&mut self, fields: &[Field], name: &str, rule: &Rule) -> bool {
        self.find(fields, name, rule, None).is_some()
    }

    fn counted(&mut self, fields: &[Field], map: &str, rule: &Rule) -> bool {
        if !matches!(rule.matches.last(), Some(Match::Counted { .. })) {
            self.fault(rule, "a packet is counted that the rule may not match");
        }
        match self
            .find(fields, map, rule, Some(&DataType::Counter))
            .map(Element::data)
        {
            Some(Some(Data::Counter(name))) => {
                self.effects.push(Statement::Count(name.clone()));
                true
            }
            Some(other) => {
                self.fault(rule, format!("{map} gives {other:?}"));
                true
            }
            None => false,
        }
    }

    /// The element of a set, or of a map of this kind.
    fn find(
        &mut self,
        fields: &[Field],
        name: &str,
        rule: &Rule,
        kind: Option<&DataType>,
    ) -> Option<&'a Element> {
        let table = self.table;
        let Some(set) = table.sets.get(name) else {
            self.fault(rule, format!("no set {name}"));
            return None;
        };
        if set.def.data.as_ref() != kind {
            self.fault(rule, format!("{name} is of another kind"));
        }
        if !fields
            .iter()
            .map(|f| f.key_type())
            .eq(set.def.key.iter().copied())
        {
            self.fault(rule, format!("{fields:?} are not the key of {name}"));
        }
        if let [field] = fields {
            self.check_readable(*field, rule);
        }
        if set.elements.len() > FEW {
            return self.find_fast(fields, set);
        }
        for key in set.elements.keys() {
            let types = key.spans().iter().map(Span::key_type);
            if !types.eq(set.def.key.iter().copied()) {
                self.fault(rule, format!("{key} is no element of {name}"));
            }
            if !set.def.interval && !key.spans().iter().all(Span::is_single) {
                self.fault(rule, format!("range {key} in hash set {name}"));
            }
        }
        let mut elements = set.elements.iter();
        elements
            .find(|(k, _)| self.key_matches(fields, k))
            .map(|(_, e)| e)
    }

    /// In a large set: the one element that can hold a single address or port, whose neighbours in order are no nearer.
    fn find_fast(&self, fields: &[Field], set: &'a Set) -> Option<&'a Element> {
        let p = &self.seen.packet;
        let probe = match fields {
            [Field::Saddr] => last_from(p.src),
            [Field::Daddr] => last_from(p.dst),
            [Field::Sport] => Span::Port(p.sport, u16::MAX),
            [Field::Dport] => Span::Port(p.dport, u16::MAX),
            _ => {
                let mut elements = set.elements.iter();
                return elements
                    .find(|(k, _)| self.key_matches(fields, k))
                    .map(|(_, e)| e);
            }
        };
        let (key, element) = set.elements.range(..=Key::One(probe)).next_back()?;
        self.key_matches(fields, key).then_some(element)
    }

    /// The kernel reads ports and ICMP types where they would be, whatever is there.
    fn check_readable(&mut self, field: Field, rule: &Rule) {
        let p = &self.seen.packet;
        let readable = match field {
            Field::Sport | Field::Dport => p.proto.has_ports(),
            Field::IcmpType | Field::IcmpCode => p.icmp.is_some(),
            _ => true,
        };
        if !readable {
            self.fault(rule, format!("{field:?} of {p:?} is read"));
        }
    }

    fn look_up(&mut self, fields: &[Field], map: &str, rule: &Rule) -> Option<Verdict> {
        let Some(set) = self.table.sets.get(map) else {
            self.fault(rule, format!("no map {map}"));
            return None;
        };
        let elements = &set.elements;
        let found = elements
            .iter()
            .find(|(k, _)| **k != Key::Any && self.key_matches(fields, k));
        let element = found.map(|(_, e)| e).or_else(|| elements.get(&Key::Any))?;
        match element.data() {
            Some(Data::Verdict(v)) => Some(v.clone()),
            other => {
                self.fault(rule, format!("{map} gives {other:?}"));
                None
            }
        }
    }

    fn key_matches(&self, fields: &[Field], key: &Key) -> bool {
        let spans = key.spans();
        let mut pairs = fields.iter().zip(spans);
        spans.len() == fields.len() && pairs.all(|(f, s)| self.inside(*f, s) == Some(true))
    }

    fn inside(&self, field: Field, span: &Span) -> Option<bool> {
        let p = &self.seen.packet;
        let name = |name: &Option<String>| {
            let Span::If(want) = span else { return None };
            let name = name.as_deref()?;
            Some(if want.is_prefix() {
                name.starts_with(want.text())
            } else {
                name == want.text()
            })
        };
        let addr = |addr: IpAddr| {
            let range = span.ip_range()?;
            (Family::of(range.first) == Family::of(addr)).then_some(range.first <= addr && addr <= range.last)
        };
        let port = |port: u16| match span {
            Span::Port(a, b) => Some((*a..=*b).contains(&port)),
            _ => None,
        };
        match (field, span) {
            (Field::Iif, _) => name(&self.seen.iif),
            (Field::Oif, _) => name(&self.seen.oif),
            (Field::Saddr, _) => addr(p.src),
            (Field::Daddr, _) => addr(p.dst),
            (Field::Proto, Span::Proto(want)) => Some(p.proto == *want),
            (Field::Sport, _) => port(p.sport),
            (Field::Dport, _) => port(p.dport),
            (Field::IcmpType, Span::IcmpType(t)) => Some(p.icmp.is_some_and(|i| i.0 == *t)),
            (Field::IcmpCode, Span::IcmpCode(c)) => Some(p.icmp.is_some_and(|i| i.1 == *c)),
            _ => None,
        }
    }
}
