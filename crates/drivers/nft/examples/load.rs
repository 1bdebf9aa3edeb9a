//! Times the driver at the size of the reference workload, in a network namespace of its own:
//! `cargo run --release -p caracal-nft --example load -- [POLICIES [CIDRS]]` (as root; 100 policies an endpoint; CIDRS is
//! the size of one large set that comes and goes at the end, 0 for none).
//!
//! Each policy has one rule that stays a rule (a source set and a port); its address and port rules are merged into two
//! interval sets of the endpoint, with a counter per element.

use std::{
    net::Ipv4Addr,
    process::{Command, ExitCode},
    time::Instant,
};

use caracal_net::{Cidr, Family, PerFamily, PortRange, Proto};
use caracal_nft::{Config, Nft, Report};
use caracal_rules::ir::{
    BaseChain, Chain, ChainKind, ChainName, CtState, Element, Field, Hook, IfName, Key, KeyType, Match,
    Policy, Rule, Set, SetDef, SetName, Span, Statement, TableDelta, TableState, Verdict, merge_spans,
};
use caracal_update::InSync;

const INSIDE: &str = "CARACAL_LOAD_INSIDE";
const PER_ENDPOINT: u32 = 100;

fn main() -> ExitCode {
    let mut args = std::env::args();
    let program = args.next().unwrap_or_default();
    let policies: u32 = args.next().and_then(|n| n.parse().ok()).unwrap_or(10_000);
    let cidrs: u32 = args.next().and_then(|n| n.parse().ok()).unwrap_or(0);
    if std::env::var_os(INSIDE).is_none() {
        let status = Command::new("unshare")
            .args(["--net", &program, &policies.to_string(), &cidrs.to_string()])
            .env(INSIDE, "1")
            .status();
        return match status {
            Ok(status) if status.success() => ExitCode::SUCCESS,
            other => {
                eprintln!("cannot run in a network namespace of its own (root is needed): {other:?}");
                ExitCode::FAILURE
            }
        };
    }
    match run(policies, cidrs) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

fn timed<T>(what: &str, f: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let value = f();
    println!("{what:44} {:9.2} ms", start.elapsed().as_secs_f64() * 1000.0);
    value
}

fn show(report: &Report) {
    println!(
        "    {} messages, {} KiB, {} batches, {} loads, {} problems",
        report.messages,
        report.bytes / 1024,
        report.batches,
        report.loads,
        report.problems.len()
    );
}

fn run(policies: u32, cidrs: u32) -> Result<(), caracal_nft::Error> {
    let token = InSync::after_complete_snapshot();
    let state = timed("make the state", || state(policies));
    let wanted = || PerFamily {
        v4: state.clone(),
        v6: TableState::default(),
    };
    let (first, again) = (wanted(), wanted());
    let mut driver = Nft::open(Config::default())?;
    show(&timed("load from empty", || driver.start(first, &token))?);
    show(&timed("restart, nothing to write", || {
        Nft::open(Config::default())?.start(again, &token)
    })?);

    let mut times = Vec::new();
    for n in 0..200 {
        let (name, chain) = endpoint(
            n % policies.div_ceil(PER_ENDPOINT),
            policies,
            9000 + u16::try_from(n).unwrap_or(0),
        );
        let deltas = PerFamily {
            v4: vec![TableDelta::PutChain(name, chain)],
            v6: Vec::new(),
        };
        times.push(step(&mut driver, deltas, &token)?);
    }
    percentiles("one rule replaced", times);

    let mut times = Vec::new();
    for n in 0..200u8 {
        let key = Key::from(Span::addr(Ipv4Addr::new(10, 99, 0, n).into()));
        let set = SetName::from("src-0");
        let add = TableDelta::AddElements(set, vec![(key, Element::plain())]);
        times.push(step(
            &mut driver,
            PerFamily {
                v4: vec![add],
                v6: Vec::new(),
            },
            &token,
        )?);
    }
    percentiles("one member added", times);

    let mut times = Vec::new();
    for n in 0..50 {
        let deltas = new_endpoint(n, policies);
        times.push(step(
            &mut driver,
            PerFamily {
                v4: deltas,
                v6: Vec::new(),
            },
            &token,
        )?);
    }
    percentiles("new endpoint", times);

    let (mut times, mut slices) = (Vec::new(), 0);
    timed("audit of everything", || {
        driver.audit()?;
        loop {
            let start = Instant::now();
            if !driver.wait(caracal_nft::Wait::No)? {
                return Ok::<(), caracal_nft::Error>(());
            }
            driver.repair()?;
            slices += 1;
            times.push(start.elapsed().as_secs_f64() * 1000.0);
        }
    })?;
    println!("    {slices} slices");
    percentiles("one slice of it", times);
    if cidrs > 0 {
        large_set(&mut driver, cidrs, &token)?;
    }
    timed("clean-up", || driver.cleanup())?;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|l| l.starts_with("VmHWM"));
    println!("{}", peak.unwrap_or("peak memory is not known"));
    Ok(())
}

fn large_set(driver: &mut Nft, cidrs: u32, token: &InSync) -> Result<(), caracal_nft::Error> {
    let addr = |n: u32| Span::addr(Ipv4Addr::from_bits(0x2000_0000 + 4 * n).into());
    let elements = (0..cidrs)
        .map(|n| (Key::from(addr(n)), Element::plain()))
        .collect();
    let deltas = vec![
        TableDelta::PutSet("large".into(), SetDef::new([KeyType::Addr]).intervals()),
        TableDelta::AddElements("large".into(), elements),
        TableDelta::PutChain(
            "large".into(),
            Chain::regular([Rule::new(
                [Match::in_set([Field::Saddr], "large")],
                [Statement::DROP],
                "",
            )]),
        ),
    ];
    let one = PerFamily {
        v4: deltas,
        v6: Vec::new(),
    };
    show(&timed("one large set", || driver.apply(one, token))?);
    let mut times = Vec::new();
    for n in 0..20 {
        let key = Key::from(addr(n));
        let delta = TableDelta::DeleteElements("large".into(), vec![key]);
        times.push(step(
            driver,
            PerFamily {
                v4: vec![delta],
                v6: Vec::new(),
            },
            token,
        )?);
    }
    percentiles("one of its members deleted", times);
    let wanted = PerFamily::new(|f| driver.desired(f).clone());
    show(&timed("restart with it", || {
        Nft::open(Config::default())?.start(wanted, token)
    })?);
    Ok(())
}

fn step(
    driver: &mut Nft,
    deltas: PerFamily<Vec<TableDelta>>,
    token: &InSync,
) -> Result<f64, caracal_nft::Error> {
    let start = Instant::now();
    driver.apply(deltas, token)?;
    Ok(start.elapsed().as_secs_f64() * 1000.0)
}

fn percentiles(what: &str, mut times: Vec<f64>) {
    times.sort_by(f64::total_cmp);
    let at = |q: usize| {
        times
            .get((times.len() * q / 100).min(times.len().saturating_sub(1)))
            .copied()
            .unwrap_or(0.0)
    };
    println!("{what:44} {:9.2} ms p50 {:9.2} ms p99", at(50), at(99));
}

fn rule_one(policy: u32, port: u16) -> Rule {
    Rule::new(
        [
            Match::in_set([Field::Saddr], format!("src-{}", policy % 50)),
            Match::is(Field::Proto, Proto::TCP),
            Match::is(Field::Dport, PortRange::single(port)),
        ],
        [Statement::Counter, Statement::ACCEPT],
        format!("policy-{policy} rule 1"),
    )
}

fn name_of(endpoint: u32) -> ChainName {
    format!("to-cali{endpoint}").into()
}

fn endpoint(number: u32, policies: u32, first_port: u16) -> (ChainName, Chain) {
    let mine = number * PER_ENDPOINT..((number + 1) * PER_ENDPOINT).min(policies);
    let mut rules: Vec<Rule> = mine
        .clone()
        .map(|p| rule_one(p, if p == mine.start { first_port } else { 8080 }))
        .collect();
    for (set, field) in [("nets", Field::Saddr), ("ports", Field::Dport)] {
        let matches = [
            Match::is(Field::Proto, Proto::TCP),
            Match::in_set([field], format!("{set}-{number}")),
        ];
        rules.push(Rule::new(matches, [Statement::ACCEPT], format!("rules by {set}")));
    }
    rules.push(Rule::new([], [Statement::Counter, Statement::DROP], "end"));
    (name_of(number), Chain::regular(rules))
}

fn endpoint_sets(number: u32) -> [(SetName, SetDef, Vec<Key>); 2] {
    let nets = (0..PER_ENDPOINT).map(|p| {
        let n = number * PER_ENDPOINT + p;
        Span::from(Cidr::new(Ipv4Addr::from_bits(0xac10_0000 + n * 32).into(), 28))
    });
    let ports = (0..PER_ENDPOINT).filter_map(|p| {
        Some(Span::Port(
            u16::try_from(10_000 + p * 20).ok()?,
            u16::try_from(10_010 + p * 20).ok()?,
        ))
    });
    let keys = |spans: Vec<Span>| merge_spans(spans).into_iter().map(Key::from).collect();
    [
        (
            format!("nets-{number}").into(),
            SetDef::new([KeyType::Addr]).intervals().counted(),
            keys(nets.collect()),
        ),
        (
            format!("ports-{number}").into(),
            SetDef::new([KeyType::Port]).intervals().counted(),
            keys(ports.collect()),
        ),
    ]
}

fn new_endpoint(n: u32, policies: u32) -> Vec<TableDelta> {
    let number = policies.div_ceil(PER_ENDPOINT) + n;
    let mut deltas = Vec::new();
    for (name, def, keys) in endpoint_sets(number) {
        deltas.push(TableDelta::PutSet(name.clone(), def));
        deltas.push(TableDelta::AddElements(
            name,
            keys.into_iter().map(|k| (k, Element::plain())).collect(),
        ));
    }
    let (_, mut chain) = endpoint(0, policies, 8080);
    let own = |field| {
        if field == Field::Saddr {
            format!("nets-{number}")
        } else {
            format!("ports-{number}")
        }
    };
    for rule in &mut chain.rules {
        for m in &mut rule.matches {
            if let Match::InSet { set, fields, .. } = m
                && !set.as_str().starts_with("src")
            {
                *set = own(fields[0]).into();
            }
        }
    }
    deltas.push(TableDelta::PutChain(name_of(number), chain));
    let entry = Element::verdict(Verdict::Goto(name_of(number)));
    deltas.push(TableDelta::AddElements(
        "endpoints".into(),
        interface(number).map(|i| (i.into(), entry)).into_iter().collect(),
    ));
    deltas
}

fn interface(number: u32) -> Option<IfName> {
    IfName::exact(&format!("cali{number}")).ok()
}

fn state(policies: u32) -> TableState {
    let mut state = TableState::default();
    let mut map = Set::empty(SetDef::verdict_map([KeyType::IfName]));
    for k in 0..50u32 {
        let mut set = Set::empty(SetDef::new([KeyType::Addr]));
        for n in 0..200u32 {
            let addr = Ipv4Addr::from_bits(0x0a00_0000 + k * 256 + n);
            set.elements
                .insert(Span::addr(addr.into()).into(), Element::plain());
        }
        state.sets.insert(format!("src-{k}").into(), set);
    }
    for number in 0..policies.div_ceil(PER_ENDPOINT) {
        let (name, chain) = endpoint(number, policies, 8080);
        if let Some(interface) = interface(number) {
            map.elements
                .insert(interface.into(), Element::verdict(Verdict::Goto(name.clone())));
        }
        state.chains.insert(name, chain);
        for (name, def, keys) in endpoint_sets(number) {
            let mut set = Set::empty(def);
            set.elements = keys.into_iter().map(|k| (k, Element::plain())).collect();
            state.sets.insert(name, set);
        }
    }
    state.sets.insert("endpoints".into(), map);
    let established = Match::CtState {
        any: CtState::ESTABLISHED.or(CtState::RELATED),
        not: false,
    };
    let dispatch = Statement::VerdictMap {
        fields: vec![Field::Oif],
        map: "endpoints".into(),
    };
    let base = BaseChain {
        kind: ChainKind::Filter,
        hook: Hook::Forward,
        priority: 0,
        policy: Policy::Accept,
    };
    let rules = [
        Rule::new([established], [Statement::ACCEPT], "established"),
        Rule::new([], [dispatch], format!("endpoints of {}", Family::V4)),
    ];
    state.chains.insert("forward".into(), Chain::base(base, rules));
    state
}
