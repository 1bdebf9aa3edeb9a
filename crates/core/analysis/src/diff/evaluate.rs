//! Which headers a program lets through between two addresses of known classes.

use caracal_desired::IcmpMatch;
use caracal_net::{Family, PortRange, Proto};

use super::program::{Cond, Op, QuestionId, SideCond, Then};
use crate::region::{Plane, Region, Span, cells, domain, is_icmp, push_span};

/// The answer to a question about an address.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer<'a> {
    No,
    Yes,
    /// Only together with one of these.
    At(&'a [(Proto, u16)]),
    /// There is no such set in this state.
    NoSuchSet,
}

/// A port criterion: one of the ranges, or one of the points.
#[derive(Default)]
struct Test<'a> {
    ranges: &'a [PortRange],
    points: Vec<(Proto, u16)>,
    /// Holds whatever the port is.
    always: bool,
    /// Whether only protocols with ports can be meant.
    ported: bool,
    /// What is wanted.
    wanted: bool,
}

impl Test<'_> {
    fn passes(&self, proto: Proto, port: u16) -> bool {
        if self.ported && !proto.has_ports() {
            return false;
        }
        let hit = self.always
            || self.ranges.iter().any(|r| r.contains(port))
            || self.points.contains(&(proto, port));
        hit == self.wanted
    }

    fn spans(&self) -> impl Iterator<Item = Span> + '_ {
        let ranges = self.ranges.iter().map(|r| (r.first, r.last));
        ranges.chain(self.points.iter().map(|(_, port)| (*port, *port)))
    }
}

/// A rule between two known addresses.
struct Line<'a> {
    cond: Option<&'a Cond>,
    src: Vec<Test<'a>>,
    dst: Vec<Test<'a>>,
    then: Then,
}

impl Line<'_> {
    fn of_proto(&self, proto: Proto, family: Family) -> bool {
        let Some(cond) = self.cond else { return true };
        cond.proto.is_none_or(|p| p == proto)
            && cond.not_proto != Some(proto)
            && (cond.icmp.is_none() && cond.not_icmp.is_none() || is_icmp(proto, family))
    }

    fn passes(&self, proto: Proto, family: Family, x: u16, y: u16) -> bool {
        if let Some(cond) = self.cond {
            let fits = |m: IcmpMatch| u16::from(m.icmp_type) == x && m.code.is_none_or(|c| u16::from(c) == y);
            if cond.icmp.is_some_and(|m| !fits(m)) || cond.not_icmp.is_some_and(fits) {
                return false;
            }
        }
        // Other protocols than those with ports have port 0 on both sides.
        let (sport, dport) = if is_icmp(proto, family) { (0, 0) } else { (x, y) };
        self.src.iter().all(|t| t.passes(proto, sport)) && self.dst.iter().all(|t| t.passes(proto, dport))
    }
}

/// The headers that a program lets through; `about` answers its questions.
pub(crate) fn region<'a>(
    ops: &[Op],
    conds: &'a [Cond],
    family: Family,
    src: impl Fn(QuestionId) -> Answer<'a>,
    dst: impl Fn(QuestionId) -> Answer<'a>,
) -> Region {
    let lines = resolve(ops, conds, &src, &dst);
    let mut protos = Region::standing(family).to_vec();
    for line in lines.iter().flatten() {
        let named = line
            .cond
            .into_iter()
            .flat_map(|c| [c.proto, c.not_proto])
            .flatten();
        let points = line
            .src
            .iter()
            .chain(&line.dst)
            .flat_map(|t| &t.points)
            .map(|(p, _)| *p);
        protos.extend(named.chain(points).map(|p| p.0));
    }
    protos.sort_unstable();
    protos.dedup();
    let other = (0..=u8::MAX).rev().find(|p| !protos.contains(p));
    let rest = other.is_some_and(|p| !plane(&lines, Proto(p), family).is_empty());
    let planes = protos.into_iter().map(|p| (p, plane(&lines, Proto(p), family)));
    Region::new(family, planes.collect(), rest)
}

/// The rules that can match, in their places.
fn resolve<'a>(
    ops: &[Op],
    conds: &'a [Cond],
    src: &impl Fn(QuestionId) -> Answer<'a>,
    dst: &impl Fn(QuestionId) -> Answer<'a>,
) -> Vec<Option<Line<'a>>> {
    let line = |op: &Op| {
        let Some(cond) = op.cond else {
            return Some(Line {
                cond: None,
                src: Vec::new(),
                dst: Vec::new(),
                then: op.then,
            });
        };
        let cond = &conds[cond as usize];
        Some(Line {
            cond: Some(cond),
            src: tests(&cond.src, src)?,
            dst: tests(&cond.dst, dst)?,
            then: op.then,
        })
    };
    ops.iter().map(line).collect()
}

/// What is left to ask of the port when the address is known; nothing when the rule cannot match.
fn tests<'a>(side: &'a SideCond, answer: &impl Fn(QuestionId) -> Answer<'a>) -> Option<Vec<Test<'a>>> {
    let yes = |q: QuestionId| matches!(answer(q), Answer::Yes);
    if side.nets.is_some_and(|q| !yes(q)) || side.not_nets.is_some_and(yes) {
        return None;
    }
    let mut tests = Vec::new();
    let points = |points: &[(Proto, u16)], wanted| Test {
        points: points.to_vec(),
        wanted,
        ..Test::default()
    };
    for q in &side.sets {
        match answer(*q) {
            Answer::Yes => {}
            Answer::At(at) => tests.push(points(at, true)),
            Answer::No | Answer::NoSuchSet => return None,
        }
    }
    for q in &side.not_sets {
        match answer(*q) {
            Answer::No => {}
            Answer::At(at) => tests.push(points(at, false)),
            Answer::Yes | Answer::NoSuchSet => return None,
        }
    }
    let any_of = |ranges: &'a [PortRange], sets: &[QuestionId], ported, wanted| {
        let mut test = Test {
            ranges,
            ported,
            wanted,
            ..Test::default()
        };
        for q in sets {
            match answer(*q) {
                Answer::Yes => test.always = true,
                Answer::At(at) => test.points.extend_from_slice(at),
                Answer::No | Answer::NoSuchSet => {}
            }
        }
        test
    };
    if !side.ports.is_empty() || !side.named.is_empty() {
        tests.push(any_of(&side.ports, &side.named, true, true));
    }
    if !side.not_ports.is_empty() || !side.not_named.is_empty() {
        tests.push(any_of(&side.not_ports, &side.not_named, true, false));
    }
    if !side.services.is_empty() {
        tests.push(any_of(&[], &side.services, false, true));
    }
    let hopeless = |t: &Test<'_>| t.wanted && !t.always && t.ranges.is_empty() && t.points.is_empty();
    (!tests.iter().any(hopeless)).then_some(tests)
}

fn plane(lines: &[Option<Line<'_>>], proto: Proto, family: Family) -> Plane {
    let last = domain(proto, family);
    let here: Vec<(usize, &Line<'_>)> = lines
        .iter()
        .enumerate()
        .filter_map(|(n, l)| l.as_ref().filter(|l| l.of_proto(proto, family)).map(|l| (n, l)))
        .collect();
    let icmp = |code: bool| {
        let conds = here.iter().filter_map(|(_, l)| l.cond);
        let matches = conds.flat_map(|c| [c.icmp, c.not_icmp]).flatten();
        let number = move |m: IcmpMatch| if code { m.code } else { Some(m.icmp_type) };
        matches
            .filter_map(number)
            .map(|n| (u16::from(n), u16::from(n)))
            .collect::<Vec<Span>>()
    };
    let (columns, rows): (Vec<Span>, Vec<Span>) = if is_icmp(proto, family) {
        (icmp(false), icmp(true))
    } else if proto.has_ports() {
        (
            here.iter()
                .flat_map(|(_, l)| &l.src)
                .flat_map(Test::spans)
                .collect(),
            here.iter()
                .flat_map(|(_, l)| &l.dst)
                .flat_map(Test::spans)
                .collect(),
        )
    } else {
        (Vec::new(), Vec::new())
    };
    let rows = cells(rows.into_iter(), last);
    let mut plane = Plane::default();
    for x in cells(columns.into_iter(), last) {
        let mut open = Vec::new();
        for y in &rows {
            if allows(&here, proto, family, x.0, y.0) {
                push_span(&mut open, *y);
            }
        }
        plane.push(x, open);
    }
    plane
}

fn allows(lines: &[(usize, &Line<'_>)], proto: Proto, family: Family, x: u16, y: u16) -> bool {
    let mut from = 0;
    for (n, line) in lines {
        if *n < from || !line.passes(proto, family, x, y) {
            continue;
        }
        match line.then {
            Then::Allow => return true,
            Then::Deny => return false,
            Then::Jump(to) => from = to as usize,
        }
    }
    false
}
