//! What a table does to a packet: small and obvious, with no regard to speed.

use caracal_net::{Family, Proto};
use caracal_oracle::Packet;
use caracal_rules::ir::{
    Chain, ChainName, CtState, Data, Field, Hook, Key, Match, Policy, Rule, Span, Statement, TableState,
    Verdict,
};

/// A packet at one hook.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) packet: Packet,
    pub(crate) iif: Option<String>,
    pub(crate) oif: Option<String>,
    pub(crate) state: CtState,
    /// Whether the route back to the source is not by the interface it came in.
    pub(crate) spoofed: bool,
    /// Whether the destination is an address of this host.
    pub(crate) to_host: bool,
}

impl Seen {
    pub(crate) fn new(packet: Packet, iif: Option<&str>, oif: Option<&str>) -> Self {
        Self {
            packet,
            iif: iif.map(str::to_owned),
            oif: oif.map(str::to_owned),
            state: CtState::NEW,
            spoofed: false,
            to_host: false,
        }
    }
}

/// What became of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fate {
    pub(crate) accepted: bool,
    /// Statements that did something, in order.
    pub(crate) effects: Vec<Statement>,
    /// The comment of the rule that decided.
    pub(crate) by: String,
}

enum Flow {
    Next,
    End(bool, String),
}

struct Run<'a> {
    table: &'a TableState,
    seen: &'a Seen,
    effects: Vec<Statement>,
    depth: usize,
    mark: u32,
}

/// Passes a packet through the base chain of a hook with this priority.
pub(crate) fn pass(table: &TableState, hook: Hook, priority: i32, seen: &Seen) -> Fate {
    let mut run = Run {
        table,
        seen,
        effects: vec![],
        depth: 0,
        // Bits of others, which must stay as they are.
        mark: 0x1234_5678,
    };
    let at_hook = |c: &&Chain| c.base.is_some_and(|b| b.hook == hook && b.priority == priority);
    let chains: Vec<&Chain> = table.chains.values().filter(at_hook).collect();
    assert!(chains.len() <= 1, "two base chains at one place");
    let mut fate = (true, "no base chain".to_owned());
    if let Some(chain) = chains.first() {
        fate = match run.chain(chain) {
            Flow::End(accepted, by) => (accepted, by),
            Flow::Next => {
                let accepts = chain.base.is_some_and(|b| b.policy == Policy::Accept);
                (accepts, "end of base chain".into())
            }
        };
    }
    if fate.0 {
        assert_eq!(run.mark, 0x1234_5678, "a mark is left on a packet");
    }
    Fate {
        accepted: fate.0,
        by: fate.1,
        effects: run.effects,
    }
}

impl Run<'_> {
    fn chain(&mut self, chain: &Chain) -> Flow {
        // A chain entered by goto counts like one entered by jump: so the kernel does.
        assert!(self.depth < 16, "the kernel refuses so many chains in a row");
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
            for statement in &rule.statements {
                match statement {
                    Statement::Verdict(v) => match self.verdict(v, rule) {
                        Some(flow) => return flow,
                        None => break,
                    },
                    Statement::VerdictMap { fields, map } => match self.look_up(fields, map.as_str()) {
                        Some(v) => {
                            if let Some(flow) = self.verdict(&v, rule) {
                                return flow;
                            }
                        }
                        None => break,
                    },
                    Statement::Reject(_) => {
                        self.effects.push(statement.clone());
                        return Flow::End(false, rule.comment.clone());
                    }
                    Statement::Masquerade { .. } | Statement::Snat(_) => {
                        self.effects.push(statement.clone());
                        return Flow::End(true, rule.comment.clone());
                    }
                    Statement::Log { .. } | Statement::NoTrack => self.effects.push(statement.clone()),
                    Statement::Limit { .. } | Statement::Counter => {}
                    Statement::SetMark { mask, value } => self.mark = self.mark & !mask | value,
                    other => panic!("nobody taught the interpreter {other:?}"),
                }
            }
        }
        Flow::Next
    }

    fn verdict(&mut self, verdict: &Verdict, rule: &Rule) -> Option<Flow> {
        let target = |name| &self.table.chains[name];
        match verdict {
            Verdict::Accept => Some(Flow::End(true, rule.comment.clone())),
            Verdict::Drop => Some(Flow::End(false, rule.comment.clone())),
            Verdict::Return => Some(Flow::Next),
            Verdict::Jump(chain) => match self.chain(target(chain)) {
                Flow::Next => None,
                end => Some(end),
            },
            Verdict::Goto(chain) => Some(self.chain(target(chain))),
        }
    }

    fn holds(&self, condition: &Match, rule: &Rule) -> bool {
        match condition {
            Match::Is { field, not, span } => {
                assert_eq!(field.key_type(), span.key_type(), "{rule:?}");
                self.assert_readable(*field, rule);
                self.inside(*field, span).is_some_and(|inside| inside != *not)
            }
            Match::InSet { fields, not, set } => {
                let set = &self.table.sets[set];
                assert!(set.def.data.is_none(), "{rule:?} uses a map as a set");
                let types: Vec<_> = fields.iter().map(|f| f.key_type()).collect();
                assert_eq!(set.def.key, types, "{rule:?}");
                if let [field] = fields.as_slice() {
                    self.assert_readable(*field, rule);
                }
                for key in set.elements.keys() {
                    assert_eq!(key.spans().len(), types.len(), "{rule:?}");
                    for (span, t) in key.spans().iter().zip(&types) {
                        assert_eq!(span.key_type(), *t, "{rule:?}");
                        assert!(
                            span.is_single() || set.def.interval,
                            "range in a hash set: {span}"
                        );
                    }
                }
                set.elements.keys().any(|k| self.key_matches(fields, k)) != *not
            }
            Match::CtState { any, not } => (self.seen.state.0 & any.0 != 0) != *not,
            Match::Mark { mask, value, not } => (self.mark & mask == *value) != *not,
            Match::NoReversePath(_) => self.seen.spoofed,
            Match::Local {
                field: Field::Daddr,
                not,
            } => self.seen.to_host != *not,
            other => panic!("nobody taught the interpreter {other:?}"),
        }
    }

    fn assert_readable(&self, field: Field, rule: &Rule) {
        let p = &self.seen.packet;
        let readable = match field {
            Field::Sport | Field::Dport => p.proto.has_ports(),
            Field::IcmpType | Field::IcmpCode => p.icmp.is_some(),
            _ => true,
        };
        assert!(readable, "{rule:?} reads what {p} does not have");
    }

    fn look_up(&self, fields: &[Field], map: &str) -> Option<Verdict> {
        let elements = &self.table.sets[map].elements;
        let found = elements
            .iter()
            .find(|(k, _)| **k != Key::Any && self.key_matches(fields, k));
        let element = found.map(|(_, e)| e).or_else(|| elements.get(&Key::Any))?;
        match element.data() {
            Some(Data::Verdict(v)) => Some(v.clone()),
            other => panic!("{map} gives {other:?}"),
        }
    }

    fn key_matches(&self, fields: &[Field], key: &Key) -> bool {
        let spans = key.spans();
        spans.len() == fields.len()
            && fields
                .iter()
                .zip(spans)
                .all(|(f, s)| self.inside(*f, s) == Some(true))
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
        let addr = |addr: std::net::IpAddr| {
            let range = span.ip_range()?;
            assert_eq!(Family::of(range.first), p.family(), "address of the other family");
            Some(range.first <= addr && addr <= range.last)
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

/// The ICMP of a family.
pub(crate) fn icmp_of(family: Family) -> Proto {
    match family {
        Family::V4 => Proto::ICMP,
        Family::V6 => Proto::ICMPV6,
    }
}

/// What is wrong with a table whatever packets come: dangling names, and chains or sets that nothing leads to.
pub(crate) fn faults(table: &TableState) -> Vec<String> {
    let mut faults = vec![];
    let (mut chains, mut sets) = (
        std::collections::BTreeSet::new(),
        std::collections::BTreeSet::new(),
    );
    for (name, chain) in &table.chains {
        for rule in &chain.rules {
            chains.extend(rule.targets().cloned());
            sets.extend(rule.sets().cloned());
            if rule.comment.len() > 127 {
                faults.push(format!("long comment in {name}: {}", rule.comment));
            }
        }
    }
    for set in table.sets.values() {
        for element in set.elements.values() {
            if let Some(Data::Verdict(v)) = element.data() {
                chains.extend(v.target().cloned());
            }
        }
    }
    let missing = chains.iter().filter(|c| !table.chains.contains_key(*c));
    faults.extend(missing.map(|c| format!("no chain {c}")));
    let missing = sets.iter().filter(|s| !table.sets.contains_key(*s));
    faults.extend(missing.map(|s| format!("no set {s}")));
    let is_base = |c: &Chain| c.base.is_some();
    let idle = table
        .chains
        .iter()
        .filter(|(n, c)| !is_base(c) && !chains.contains(*n));
    faults.extend(idle.map(|(n, _)| format!("nothing leads to chain {n}")));
    let bases = table.chains.iter().filter(|(_, c)| is_base(c));
    let mut known = std::collections::BTreeMap::new();
    let rows = bases.map(|(n, _)| row(table, n, &mut known)).max();
    if rows > Some(16) {
        faults.push(format!("{rows:?} chains in a row, the kernel takes 16"));
    }
    let idle = table.sets.keys().filter(|n| !sets.contains(*n));
    faults.extend(idle.map(|n| format!("nothing looks into set {n}")));
    faults
}

/// How many chains can follow one another from this one on. The kernel counts jumps and gotos alike.
fn row(
    table: &TableState,
    name: &ChainName,
    known: &mut std::collections::BTreeMap<ChainName, usize>,
) -> usize {
    if let Some(n) = known.get(name) {
        return *n;
    }
    let mut targets: Vec<ChainName> = vec![];
    for rule in table.chains.get(name).into_iter().flat_map(|c| &c.rules) {
        targets.extend(rule.targets().cloned());
        for set in rule.sets().filter_map(|s| table.sets.get(s)) {
            targets.extend(set.elements.values().filter_map(|e| match e.data() {
                Some(Data::Verdict(v)) => v.target().cloned(),
                _ => None,
            }));
        }
    }
    let n = 1 + targets.iter().map(|t| row(table, t, known)).max().unwrap_or(0);
    known.insert(name.clone(), n);
    n
}
