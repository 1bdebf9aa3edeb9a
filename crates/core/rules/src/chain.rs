//! From a policy list to the rules of its chain.

use std::{collections::HashSet, sync::Arc};

use caracal_api::{Action, TierDefaultAction};
use caracal_ids::IpSetId;

use crate::{
    atom::Atom,
    base,
    config::RulesConfig,
    counters,
    ir::{CounterName, LogTo, Match, Rule, Set, SetName, Statement},
    list::{List, PROFILES_IN_A_ROW, Purpose, Segment, SourceId, profiles_list},
    merge::{Piece, merge},
    names,
};

/// Syslog level "info".
const LOG_LEVEL: u8 = 6;

/// How long a comment with the notes of a rule's owner may be; how many rules it stands for comes behind.
const NOTES_UP_TO: usize = 115;

/// A chain's rules and everything they need.
#[derive(Debug, Default)]
pub(crate) struct Compiled {
    pub(crate) rules: Vec<Rule>,
    /// Sets made for this chain (or for one policy, then equal in every chain that has it).
    pub(crate) sets: Vec<(SetName, Set)>,
    /// IP sets, in order, each once.
    pub(crate) ip_sets: Vec<IpSetId>,
    /// Where the chain leads.
    pub(crate) leads_to: Vec<Arc<List>>,
}

/// Rules of a source; absent when there is no such policy or profile.
pub(crate) type Atoms = Option<Arc<[Atom]>>;

/// Compiles a list. `atoms` are those of its sources, in order.
pub(crate) fn compile(list: &List, atoms: &[Atoms], config: &RulesConfig) -> Compiled {
    let passes = |a: &Atoms| a.iter().flat_map(|a| a.iter()).any(|a| a.action == Action::Pass);
    let (end, upto, next) = match &list.segment {
        Segment::Empty => {
            let comment = "an endpoint without such policy";
            return Compiled {
                rules: vec![Rule::new([], [Statement::RETURN], comment)],
                ..Compiled::default()
            };
        }
        Segment::Groups(groups) => return compile_groups(list, groups, config),
        Segment::Tier(_, end) => (*end, list.sources.len(), list.next.clone()),
        // Pass in a profile leaves that profile only: what follows must be a chain of its own.
        Segment::Profiles => match atoms.iter().position(passes) {
            Some(i) if list.sources.len() <= PROFILES_IN_A_ROW => {
                let rest = profiles_list(list.role, list.sources[i + 1..].to_vec());
                (TierDefaultAction::Pass, i + 1, Some(rest))
            }
            // Without a next chain, Pass denies.
            _ => (TierDefaultAction::Deny, list.sources.len(), None),
        },
    };
    let mut writer = Writer {
        list,
        config,
        next: next.as_ref(),
        goes_on: false,
        run: Vec::new(),
        taken: HashSet::new(),
        out: Compiled::default(),
    };
    let mut open = true;
    for (source, atoms) in list.sources.iter().zip(atoms).take(upto) {
        open = open && writer.source(source, atoms.as_deref());
    }
    if open {
        writer.end(end);
    }
    let (goes_on, mut out) = (writer.goes_on, writer.out);
    out.ip_sets.sort();
    out.ip_sets.dedup();
    out.leads_to.extend(next.filter(|_| goes_on));
    out
}

/// Asks one group after the other, until one allows or denies.
fn compile_groups(list: &List, groups: &[Arc<List>], config: &RulesConfig) -> Compiled {
    let mask = config.allowed_mark;
    let clear = Statement::SetMark { mask, value: 0 };
    let allowed = Match::Mark {
        mask,
        value: mask,
        not: false,
    };
    let (last, asked) = match groups.split_last() {
        Some((last, asked)) => (Statement::goto(last.name.clone()), asked),
        None => (base::deny(config), groups),
    };
    let mut rules = Vec::new();
    if !list.role.purpose.allows_for_good() {
        rules.push(Rule::new([], [clear.clone()], "nothing allowed it yet"));
    }
    for group in asked {
        rules.push(Rule::new(
            [],
            [Statement::jump(group.name.clone())],
            "some of the tiers",
        ));
        if !list.role.purpose.allows_for_good() {
            let done = [clear.clone(), Statement::RETURN];
            rules.push(Rule::new(
                [allowed.clone()],
                done,
                "one of these tiers allowed it",
            ));
        }
    }
    rules.push(Rule::new([], [last], "the last tiers"));
    Compiled {
        rules,
        leads_to: groups.to_vec(),
        ..Compiled::default()
    }
}

struct Writer<'a> {
    list: &'a List,
    config: &'a RulesConfig,
    next: Option<&'a Arc<List>>,
    goes_on: bool,
    run: Vec<Piece<'a>>,
    taken: HashSet<SetName>,
    out: Compiled,
}

impl<'a> Writer<'a> {
    /// Writes a policy or profile; false when nothing behind it can be reached.
    fn source(&mut self, source: &'a SourceId, atoms: Option<&'a [Atom]>) -> bool {
        let Some(atoms) = atoms else {
            self.flush();
            let comment = format!("{} is missing", source.label());
            let counter = counters::of_missing(&source.counters(), self.list.role.direction);
            self.out
                .rules
                .push(Rule::new([], self.denied(counter, ""), comment));
            return false;
        };
        for atom in atoms {
            let piece = Piece { source, atom };
            if atom.action == Action::Log {
                self.flush();
                self.log(piece);
                continue;
            }
            if self.run.first().is_some_and(|p| p.atom.action != atom.action) {
                self.flush();
            }
            self.run.push(piece);
            if atom.is_any() {
                self.flush();
                return false;
            }
        }
        true
    }

    fn end(&mut self, end: TierDefaultAction) {
        self.flush();
        let name = match &self.list.segment {
            Segment::Tier(tier, _) => format!("end of tier {}", names::shortened(tier.as_str(), 80)),
            Segment::Profiles | Segment::Groups(_) | Segment::Empty => "no profile allowed it".into(),
        };
        let direction = self.list.role.direction;
        let (then, comment) = match (end, &self.list.segment) {
            (TierDefaultAction::Deny, Segment::Tier(tier, _)) => {
                let counter = counters::of_tier(tier, direction, Action::Deny);
                (self.denied(counter, ""), name)
            }
            (TierDefaultAction::Deny, _) => (self.denied(counters::of_no_profile(direction), ""), name),
            (TierDefaultAction::Pass, Segment::Tier(tier, _)) => {
                let counter = Statement::Count(counters::of_tier(tier, direction, Action::Pass));
                (vec![counter, self.go_on()], format!("{name}: pass"))
            }
            (TierDefaultAction::Pass, _) => (vec![self.go_on()], "next profile".into()),
        };
        self.out.rules.push(Rule::new([], then, comment));
    }

    fn go_on(&mut self) -> Statement {
        match self.next {
            Some(next) => {
                self.goes_on = true;
                Statement::goto(next.name.clone())
            }
            // The end of a group: what leaves it without a mark goes on. Or of a list that leaves it to others.
            None if self.list.marks || self.list.role.purpose.ends_open() => Statement::RETURN,
            None => self.deny(),
        }
    }

    fn deny(&self) -> Statement {
        if self.list.role.purpose.can_answer() {
            base::deny(self.config)
        } else {
            Statement::DROP
        }
    }

    /// Counts a packet, tells whoever listens, and denies it. The line begins with the counter's name.
    fn denied(&self, counter: CounterName, more: &str) -> Vec<Statement> {
        let told = self.told(&counter, more);
        let told = std::iter::once(Statement::Count(counter)).chain(told);
        told.chain([self.deny()]).collect()
    }

    fn told(&self, counter: &CounterName, more: &str) -> Option<Statement> {
        base::told(self.config, &format!("{counter}{more}"))
    }

    fn verdict(&mut self, action: Action) -> Vec<Statement> {
        let mask = self.config.allowed_mark;
        let mark = Statement::SetMark { mask, value: mask };
        match (action, self.list.role.purpose) {
            (Action::Allow, Purpose::Untracked) => vec![mark, Statement::NoTrack, Statement::ACCEPT],
            (Action::Allow, Purpose::PreDnat) => vec![mark, Statement::ACCEPT],
            (Action::Allow, _) if self.list.marks => vec![mark, Statement::RETURN],
            (Action::Allow, _) => vec![Statement::RETURN],
            (Action::Pass, _) => vec![self.go_on()],
            (Action::Deny | Action::Log, _) => vec![self.deny()],
        }
    }

    fn flush(&mut self) {
        let run = std::mem::take(&mut self.run);
        let Some(first) = run.first() else { return };
        let verdict = self.verdict(first.atom.action);
        for piece in &run {
            self.out.ip_sets.extend(piece.atom.sets.iter().cloned());
        }
        for m in merge(&run, self.list, &mut self.taken) {
            let more = match m.count {
                1 => String::new(),
                n => format!(" +{}", n - 1),
            };
            let comment = comment(m.first) + &more;
            let denies = first.atom.action == Action::Deny;
            let told = self.told(&m.first.atom.counter, &more).filter(|_| denies);
            let count = m.counter.map(Statement::Count);
            let statements: Vec<_> = count.into_iter().chain(told).chain(verdict.clone()).collect();
            self.out.rules.push(Rule::new(m.matches, statements, comment));
            self.out.sets.extend(m.sets);
        }
    }

    fn log(&mut self, piece: Piece<'a>) {
        let pattern = &self.config.log_prefix;
        let prefix = match (piece.source, &self.list.segment) {
            (SourceId::Policy(id), Segment::Tier(tier, _)) => {
                let slash = if id.namespace.is_empty() { "" } else { "/" };
                let name = format!("{}{slash}{}", id.namespace, id.name);
                names::log_prefix(pattern, tier.as_str(), id.kind.as_str(), &name, "")
            }
            (SourceId::Profile(name), _) => {
                names::log_prefix(pattern, "", "Profile", name.as_str(), name.as_str())
            }
            (SourceId::Policy(id), _) => names::log_prefix(pattern, "", id.kind.as_str(), &id.name, ""),
        };
        let rate = self.config.log_rate.map(|r| Statement::Limit {
            rate: r.rate,
            per: r.per,
            burst: r.burst,
            over: false,
        });
        let to = LogTo::Kernel(LOG_LEVEL);
        let count = Statement::Count(piece.atom.counter.clone());
        let log = Statement::Log { to, prefix };
        let statements: Vec<Statement> = [count].into_iter().chain(rate).chain([log]).collect();
        self.out.ip_sets.extend(piece.atom.sets.iter().cloned());
        for m in merge(&[piece], self.list, &mut self.taken) {
            self.out
                .rules
                .push(Rule::new(m.matches, statements.clone(), comment(m.first)));
            self.out.sets.extend(m.sets);
        }
    }
}

fn comment(piece: Piece<'_>) -> String {
    match &piece.atom.missing {
        Some(set) => format!(
            "{}: IP set {} is missing",
            names::shortened(&piece.source.label(), 60),
            names::shortened(set.as_str(), 30)
        ),
        None => {
            let line = format!("{} rule {}", piece.source.label(), piece.atom.rule);
            match &piece.atom.note {
                // A name that fills the line leaves no room for more.
                Some(note) if line.len() + 12 < NOTES_UP_TO => {
                    let room = NOTES_UP_TO - line.len() - 3;
                    format!("{line} ({})", names::shortened(note, room))
                }
                _ => line,
            }
        }
    }
}
