//! What the tests share.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use caracal_net::{Cidr, PerFamily};
use caracal_nft::{Config, Nft, Report};
use caracal_rules::ir::{
    BaseChain, Chain, ChainKind, Hook, KeyType, Match, Policy, Rule, Set, SetDef, Span, Statement,
    TableDelta, TableState,
};
use caracal_update::InSync;

/// A token as a feed would give it.
pub(crate) fn token() -> InSync {
    InSync::after_complete_snapshot()
}

/// A driver of the test's namespace.
pub(crate) fn open() -> Nft {
    Nft::open(Config::default()).expect("root in a fresh namespace")
}

/// The same state for both families; no address may be in it.
pub(crate) fn both(state: &TableState) -> PerFamily<TableState> {
    PerFamily::new(|_| state.clone())
}

/// A state for IPv4 only.
pub(crate) fn v4(state: TableState) -> PerFamily<TableState> {
    PerFamily {
        v4: state,
        v6: TableState::default(),
    }
}

/// A change for IPv4 only.
pub(crate) fn change(deltas: impl IntoIterator<Item = TableDelta>) -> PerFamily<Vec<TableDelta>> {
    PerFamily {
        v4: deltas.into_iter().collect(),
        v6: Vec::new(),
    }
}

/// Runs `nft` and returns what it prints.
pub(crate) fn nft(args: &[&str]) -> String {
    let output = Command::new("nft").args(args).output().expect("nft is installed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "nft {args:?}: {errors}");
    String::from_utf8(output.stdout).expect("nft writes UTF-8")
}

/// Feeds a script to `nft`.
pub(crate) fn script(text: &str) {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("nft is installed");
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(text.as_bytes())
        .expect("nft reads");
    assert!(child.wait().expect("nft ends").success(), "nft refused:\n{text}");
}

/// Everything in the kernel, without counts.
pub(crate) fn ruleset() -> String {
    nft(&["--stateless", "list", "ruleset"])
}

/// A filter chain in the forward hook.
pub(crate) fn forward(rules: impl Into<Vec<Rule>>) -> Chain {
    let base = BaseChain {
        kind: ChainKind::Filter,
        hook: Hook::Forward,
        priority: 0,
        policy: Policy::Accept,
    };
    Chain::base(base, rules)
}

/// `tcp dport N counter accept`
pub(crate) fn allow(port: u16) -> Rule {
    use caracal_net::{PortRange, Proto};
    use caracal_rules::ir::Field;
    Rule::new(
        [
            Match::is(Field::Proto, Proto::TCP),
            Match::is(Field::Dport, PortRange::single(port)),
        ],
        [Statement::Counter, Statement::ACCEPT],
        format!("allow {port}"),
    )
}

/// An interval set of addresses.
pub(crate) fn addresses(cidrs: &[&str]) -> Set {
    let spans = cidrs
        .iter()
        .map(|c| Span::from(c.parse::<Cidr>().expect("a prefix")));
    let mut set = Set::empty(SetDef::new([KeyType::Addr]).intervals());
    set.elements = caracal_rules::ir::merge_spans(spans)
        .into_iter()
        .map(|s| (s.into(), Default::default()))
        .collect();
    set
}

/// A hook, a map of endpoints, two endpoint chains, a policy chain, and a set.
pub(crate) fn small() -> TableState {
    use caracal_rules::ir::{ChainName, Element, Field, IfName, SetName, Verdict};
    let mut state = TableState::default();
    let mut map = Set::empty(SetDef::verdict_map([KeyType::IfName]));
    for n in 1..=2 {
        let name = IfName::exact(&format!("cali{n}")).expect("short");
        let to = Verdict::Goto(ChainName::from(format!("ep-{n}")));
        map.elements.insert(name.into(), Element::verdict(to));
        let rules = [
            Rule::new([], [Statement::jump("pol")], ""),
            Rule::new([], [Statement::DROP], "end"),
        ];
        state
            .chains
            .insert(format!("ep-{n}").into(), Chain::regular(rules));
    }
    state.sets.insert("endpoints".into(), map);
    state.sets.insert(
        SetName::from("blocked"),
        addresses(&["10.0.0.0/24", "10.0.2.0/24"]),
    );
    let drop = Rule::new(
        [Match::in_set([Field::Saddr], "blocked")],
        [Statement::DROP],
        "blocked",
    );
    state.chains.insert(
        "pol".into(),
        Chain::regular([drop, allow(80), allow(81), allow(82)]),
    );
    let dispatch = Statement::VerdictMap {
        fields: vec![Field::Oif],
        map: "endpoints".into(),
    };
    state.chains.insert(
        "forward".into(),
        forward([Rule::new([], [dispatch], "to endpoints")]),
    );
    state
}

/// Asserts that a call wrote so many messages, in one batch or none.
pub(crate) fn wrote(report: &Report, messages: usize) {
    assert_eq!(report.messages, messages, "{report:?}");
    assert_eq!(report.batches, messages.min(1), "{report:?}");
    assert!(report.problems.is_empty(), "{report:?}");
}

/// The objects of a listing, sorted: their order in the kernel says nothing. Numbered names of our table read alike.
pub(crate) fn objects(listing: &str) -> Vec<String> {
    let (mut table, mut object, mut all) = (String::new(), String::new(), Vec::new());
    for line in listing.lines() {
        match line {
            _ if line.starts_with("table ") => table = line.replace("caracal-b", "caracal"),
            "\t}" => all.push(format!("{table}\n{}", std::mem::take(&mut object))),
            "" | "}" => {}
            _ => object += &format!("{line}\n"),
        }
    }
    all.sort();
    all
}
