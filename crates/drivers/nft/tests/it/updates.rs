//! Changes cost what they touch, and a restart costs nothing.

use caracal_net::{Family, PerFamily, PortRange};
use caracal_nft::{Config, LAYOUT, Nft, Object};
use caracal_rules::ir::{
    Chain, ChainName, Element, Field, IfName, Key, KeyType, Match, Rule, Set, SetDef, SetName, Span,
    Statement, TableDelta, TableState, Verdict,
};
use caracal_testkit::{needs, netns};

use super::kit::*;

fn put_policy(rules: &[Rule]) -> TableDelta {
    TableDelta::PutChain("pol".into(), Chain::regular(rules))
}

fn blocked() -> Rule {
    small().chains["pol"].rules[0].clone()
}

fn host(text: &str) -> Key {
    Span::addr(text.parse().expect("an address")).into()
}

#[test]
fn netns_a_change_is_as_small_as_it_can_be() {
    netns!();
    needs!("nft");
    let mut driver = open();
    driver.start(v4(small()), &token()).expect("a first load");
    let mut apply = |deltas: Vec<TableDelta>| driver.apply(change(deltas), &token()).expect("a change");

    let replaced = [blocked(), allow(80), allow(90), allow(82)];
    wrote(&apply(vec![put_policy(&replaced)]), 1);
    wrote(&apply(vec![put_policy(&replaced)]), 0);
    let inserted = [blocked(), allow(80), allow(90), allow(91), allow(82)];
    wrote(&apply(vec![put_policy(&inserted)]), 1);
    // The handle of the rule that was inserted is known by its echo.
    let again = [blocked(), allow(80), allow(90), allow(95), allow(82)];
    wrote(&apply(vec![put_policy(&again)]), 1);
    let deleted = [blocked(), allow(80), allow(95), allow(82)];
    wrote(&apply(vec![put_policy(&deleted)]), 1);

    let add = |text| TableDelta::AddElements("blocked".into(), vec![(host(text), Element::plain())]);
    wrote(&apply(vec![add("10.9.0.1")]), 1);
    wrote(&apply(vec![add("10.9.0.1")]), 0);
    let del = |text| TableDelta::DeleteElements("blocked".into(), vec![host(text)]);
    wrote(&apply(vec![add("10.9.0.3"), del("10.9.0.3")]), 0);
    wrote(&apply(vec![del("10.9.0.1")]), 1);

    // A new endpoint: chain and two rules ahead, then the map element. One that goes: element and chain.
    let cali3 = Key::from(IfName::exact("cali3").expect("short"));
    let rules = [
        Rule::new([], [Statement::jump("pol")], ""),
        Rule::new([], [Statement::DROP], "end"),
    ];
    let entry = (cali3.clone(), Element::verdict(Verdict::Goto("ep-3".into())));
    let report = apply(vec![
        TableDelta::AddElements("endpoints".into(), vec![entry]),
        TableDelta::PutChain("ep-3".into(), Chain::regular(rules)),
    ]);
    assert_eq!((report.messages, report.batches), (4, 2), "{report:?}");
    assert!(ruleset().contains("\"cali3\" : goto ep-3"), "{}", ruleset());
    let gone = vec![
        TableDelta::RemoveChain("ep-3".into()),
        TableDelta::DeleteElements("endpoints".into(), vec![cali3]),
    ];
    wrote(&apply(gone), 2);
    same_as_from_scratch(&driver);
}

/// What the kernel has is what a fresh load of the same state makes, and a restart writes nothing.
fn same_as_from_scratch(driver: &Nft) {
    let wanted = PerFamily::new(|f| driver.desired(f).clone());
    let before = ruleset();
    let mut second = open();
    let report = second.start(wanted.clone(), &token()).expect("a restart");
    wrote(&report, 0);
    assert_eq!(report.loads, 0);
    second.cleanup().expect("all is ours");
    open().start(wanted, &token()).expect("a load");
    let bare = |text: String| objects(&text.replace("\tcomment \"caracal, layout 2\"\n", ""));
    assert_eq!(bare(ruleset()), bare(before));
}

#[test]
fn netns_a_restart_writes_the_difference_only() {
    netns!();
    needs!("nft");
    open()
        .start(PerFamily::new(|_| endpoints_only()), &token())
        .expect("a first load");
    let mut wanted = PerFamily::new(|_| endpoints_only());
    wrote(&open().start(wanted.clone(), &token()).expect("a restart"), 0);
    // While the agent was away a policy changed, an endpoint went, and another table came.
    script("table ip other {\n chain c {\n type filter hook input priority 0;\n }\n}");
    wanted
        .v4
        .chains
        .insert("pol".into(), Chain::regular([allow(80), allow(99)]));
    wanted.v4.chains.remove("ep-2");
    let map = wanted.v4.sets.get_mut("endpoints").expect("the map");
    map.elements
        .remove(&IfName::exact("cali2").expect("short").into());
    let report = open().start(wanted, &token()).expect("a restart");
    // One rule replaced, one deleted, one element, one chain.
    wrote(&report, 4);
    assert!(ruleset().contains("table ip other"), "a foreign table stays");
}

fn endpoints_only() -> TableState {
    let mut state = small();
    state.sets.remove("blocked");
    state
        .chains
        .insert("pol".into(), Chain::regular([allow(80), allow(81), allow(82)]));
    state
}

#[test]
fn netns_another_layout_is_replaced_as_a_whole() {
    netns!();
    needs!("nft");
    script("table ip calico {\n chain c {\n type filter hook input priority 0;\n }\n}");
    open().start(v4(small()), &token()).expect("a first load");
    assert!(
        !ruleset().contains("calico"),
        "the table of the one before us is gone:\n{}",
        ruleset()
    );
    let mut next = Nft::open(Config {
        layout: LAYOUT + 1,
        ..Config::default()
    })
    .expect("root");
    let report = next.start(v4(small()), &token()).expect("a load");
    assert_eq!(report.loads, 1);
    assert_eq!(next.table(Family::V4), Some("caracal-b"));
    let tables = nft(&["list", "tables"]);
    assert_eq!(tables, "table ip caracal-b\n");
    let mut third = Nft::open(Config {
        layout: LAYOUT + 2,
        ..Config::default()
    })
    .expect("root");
    third.start(v4(small()), &token()).expect("a load");
    assert_eq!(nft(&["list", "tables"]), "table ip caracal\n");
    // A load that was cut off leaves a table without hooks; it is no state of ours.
    script(&format!(
        "table ip caracal-b {{\n comment \"caracal, layout {}\"; \n chain x {{\n }}\n}}",
        LAYOUT + 2
    ));
    let report = Nft::open(Config {
        layout: LAYOUT + 2,
        ..Config::default()
    })
    .expect("root")
    .start(v4(small()), &token())
    .expect("a restart");
    wrote(&report, 1);
    assert_eq!(nft(&["list", "tables"]), "table ip caracal\n");
}

#[test]
fn netns_a_calico_table_beside_ours_goes_with_the_difference() {
    netns!();
    needs!("nft");
    open().start(v4(small()), &token()).expect("a first load");
    script("table ip6 calico {\n chain c {\n type filter hook input priority 0;\n }\n}");
    wrote(&open().start(v4(small()), &token()).expect("a restart"), 1);
    assert!(!ruleset().contains("calico"));
}

#[test]
fn netns_a_set_that_becomes_another_is_made_anew() {
    netns!();
    needs!("nft");
    let mut driver = open();
    driver.start(v4(small()), &token()).expect("a first load");
    let name = SetName::from("blocked");
    let deltas = [
        TableDelta::PutSet(name.clone(), SetDef::new([KeyType::Addr]).commented("hosts now")),
        TableDelta::AddElements(name.clone(), vec![(host("10.7.7.7"), Element::plain())]),
    ];
    let report = driver.apply(change(deltas), &token()).expect("a change");
    assert_eq!((report.batches, report.loads), (1, 0), "{report:?}");
    assert!(
        ruleset().contains("comment \"hosts now\"\n\t\telements = { 10.7.7.7 }"),
        "{}",
        ruleset()
    );
    assert!(
        ruleset().contains("ip saddr @blocked drop comment \"blocked\""),
        "{}",
        ruleset()
    );
    same_as_from_scratch(&driver);
}

#[test]
fn netns_what_the_kernel_refuses_is_closed_and_named() {
    netns!();
    needs!("nft");
    let mut driver = open();
    driver.start(v4(small()), &token()).expect("a first load");
    // A rule of one policy needs a set that does not exist; another chain changes in the same call.
    let bad = Rule::new(
        [Match::in_set([Field::Saddr], "missing")],
        [Statement::ACCEPT],
        "bad",
    );
    let deltas = [
        put_policy(&[allow(80), bad]),
        TableDelta::PutChain(
            "ep-2".into(),
            Chain::regular([Rule::new([], [Statement::jump("pol")], "changed")]),
        ),
    ];
    let report = driver
        .apply(change(deltas), &token())
        .expect("the rest is in force");
    let names: Vec<&Object> = report.problems.iter().map(|p| &p.object).collect();
    assert_eq!(names, [&Object::Rule("pol".into(), 1)]);
    let listed = ruleset();
    assert!(listed.contains("jump pol comment \"changed\""), "{listed}");
    assert!(
        listed.contains("counter drop comment \"closed: it needs set missing, which does not exist\""),
        "{listed}"
    );
    // It comes, and the policy is as meant.
    let deltas = [TableDelta::PutSet("missing".into(), SetDef::new([KeyType::Addr]))];
    let report = driver.apply(change(deltas), &token()).expect("a change");
    assert_eq!(report.problems, []);
    assert!(
        ruleset().contains("ip saddr @missing accept comment \"bad\""),
        "{}",
        ruleset()
    );
}

#[test]
fn netns_a_full_set_closes_those_who_look_into_it() {
    netns!();
    needs!("nft");
    let mut driver = open();
    let mut state = small();
    let mut set = Set::empty(SetDef {
        size: Some(2),
        ..SetDef::new([KeyType::Addr])
    });
    set.elements.insert(host("10.0.0.1"), Element::plain());
    state.sets.insert("blocked".into(), set);
    driver.start(v4(state), &token()).expect("a first load");
    let more = ["10.0.0.2", "10.0.0.3"].map(|a| (host(a), Element::plain()));
    let report = driver
        .apply(
            change([TableDelta::AddElements("blocked".into(), more.into())]),
            &token(),
        )
        .expect("the rest is in force");
    assert!(
        report
            .problems
            .iter()
            .any(|p| p.object == Object::Set("blocked".into())),
        "{:?}",
        report.problems
    );
    assert!(
        ruleset().contains("chain pol {\n\t\tcounter drop comment \"closed: "),
        "{}",
        ruleset()
    );
    // One member less, and it fits.
    let report = driver
        .apply(
            change([TableDelta::DeleteElements(
                "blocked".into(),
                vec![host("10.0.0.1")],
            )]),
            &token(),
        )
        .expect("a change");
    assert_eq!(report.problems, []);
    assert!(
        ruleset().contains("elements = { 10.0.0.2, 10.0.0.3 }"),
        "{}",
        ruleset()
    );
}

#[test]
fn netns_a_rule_that_the_kernel_alone_refuses_is_closed() {
    netns!();
    needs!("nft");
    let mut driver = open();
    // A chain of NAT can only be reached from a hook of NAT: this one is reached from a filter.
    let mut state = small();
    let nat = Rule::new(
        [],
        [Statement::Masquerade {
            ports: None,
            fully_random: false,
        }],
        "out",
    );
    state
        .chains
        .insert("pol".into(), Chain::regular([allow(80), nat]));
    let report = driver.start(v4(state), &token());
    let report = report.expect("the rest is in force");
    assert!(!report.problems.is_empty(), "{report:?}");
    let listed = ruleset();
    assert!(
        listed.contains("chain forward {\n\t\ttype filter hook forward"),
        "{listed}"
    );
}

#[test]
fn netns_seventy_thousand_elements_and_overlaps() {
    netns!();
    needs!("nft");
    let mut state = TableState::default();
    let mut hosts = Set::empty(SetDef::new([KeyType::Addr]));
    for n in 0..70_000u32 {
        hosts.elements.insert(
            Span::addr(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into()).into(),
            Element::plain(),
        );
    }
    state.sets.insert("hosts".into(), hosts);
    state.sets.insert(
        "nets".into(),
        addresses(&[
            "10.0.0.0/8",
            "10.1.0.0/16",
            "11.0.0.0/8",
            "10.1.0.0/16",
            "12.0.0.1/32",
        ]),
    );
    let drop = Rule::new([Match::in_set([Field::Saddr], "hosts")], [Statement::DROP], "");
    state.chains.insert("forward".into(), forward([drop]));
    let mut driver = open();
    driver.start(v4(state.clone()), &token()).expect("a first load");
    assert!(nft(&["list", "set", "ip", "caracal", "nets"]).contains("elements = { 10.0.0.0/7, 12.0.0.1 }"));
    let printed = nft(&["list", "set", "ip", "caracal", "hosts"]);
    assert_eq!(printed.matches(',').count() + 1, 70_000);
    wrote(&open().start(v4(state), &token()).expect("a restart"), 0);
    let gone = Span::addr("10.0.5.5".parse().expect("an address")).into();
    wrote(
        &driver
            .apply(
                change([TableDelta::DeleteElements("hosts".into(), vec![gone])]),
                &token(),
            )
            .expect("a change"),
        1,
    );
}

#[test]
fn netns_both_families_change_in_one_batch() {
    netns!();
    needs!("nft");
    let mut driver = open();
    let mut state = small();
    state.sets.remove("blocked");
    state.chains.insert("pol".into(), Chain::regular([allow(80)]));
    driver.start(both(&state), &token()).expect("a first load");
    let put = || {
        vec![TableDelta::PutChain(
            ChainName::from("pol"),
            Chain::regular([allow(81)]),
        )]
    };
    let report = driver
        .apply(PerFamily::new(|_| put()), &token())
        .expect("a change");
    wrote(&report, 2);
}

#[test]
fn netns_random_changes_end_as_from_scratch() {
    netns!();
    needs!("nft");
    let mut driver = open();
    driver.start(v4(small()), &token()).expect("a first load");
    // A plain generator with a fixed seed: the kernel is too slow for many cases.
    let mut seed = 7u32;
    let mut pick = |n: u32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) % n
    };
    for _ in 0..300 {
        let port = |n: u32| 80 + u16::try_from(n).expect("small");
        let rules: Vec<Rule> = (0..pick(6)).map(|_| allow(port(pick(5)))).collect();
        let chain = ChainName::from(format!("extra-{}", pick(3)));
        let set = SetName::from(format!("set-{}", pick(2)));
        let key: Key = Span::from(PortRange::single(port(pick(9)))).into();
        let ports = SetDef::new([KeyType::Port]);
        let put = TableDelta::PutSet(
            set.clone(),
            if pick(2) == 0 {
                ports.clone()
            } else {
                ports.counted()
            },
        );
        let deltas = match pick(6) {
            0 => vec![TableDelta::PutChain("pol".into(), Chain::regular(rules))],
            1 => vec![TableDelta::PutChain(chain, Chain::regular(rules))],
            2 => vec![TableDelta::RemoveChain(chain)],
            3 => vec![put],
            4 => vec![put, TableDelta::AddElements(set, vec![(key, Element::plain())])],
            _ => vec![TableDelta::RemoveSet(set)],
        };
        let report = driver.apply(change(deltas), &token()).expect("a change");
        assert_eq!((report.refused_batches, report.loads), (0, 0), "{report:?}");
    }
    same_as_from_scratch(&driver);
}

/// Every second /32 from 10.0.0.0 on, which is as many intervals.
fn scattered(count: u32) -> Vec<(Key, Element)> {
    let addr = |n: u32| std::net::Ipv4Addr::from_bits(0x0a00_0000 + 2 * n);
    (0..count)
        .map(|n| (Span::addr(addr(n).into()).into(), Element::plain()))
        .collect()
}

#[test]
fn netns_a_large_new_set_comes_before_the_change_that_uses_it() {
    netns!();
    needs!("nft");
    let mut driver = open();
    driver.start(v4(small()), &token()).expect("a first load");
    let drop = Rule::new(
        [Match::in_set([Field::Saddr], "large")],
        [Statement::DROP],
        "large",
    );
    let deltas = [
        TableDelta::PutChain("pol".into(), Chain::regular([drop])),
        TableDelta::PutSet("large".into(), SetDef::new([KeyType::Addr]).intervals()),
        TableDelta::AddElements("large".into(), scattered(20_000)),
    ];
    let report = driver.apply(change(deltas), &token()).expect("a change");
    assert_eq!((report.refused_batches, report.loads), (0, 0), "{report:?}");
    assert!(report.batches > 3, "{report:?}");
    assert!(ruleset().contains("ip saddr @large drop"), "the rule is there");
    assert_eq!(
        nft(&["list", "set", "ip", "caracal", "large"])
            .matches(',')
            .count()
            + 1,
        20_000
    );
    let wanted = PerFamily::new(|f| driver.desired(f).clone());
    wrote(&open().start(wanted, &token()).expect("a restart"), 0);
}

#[test]
fn netns_seventy_thousand_intervals_survive_a_restart() {
    netns!();
    needs!("nft");
    let mut state = small();
    let set = state.sets.get_mut("blocked").expect("the set");
    set.elements = scattered(70_000).into_iter().collect();
    open().start(v4(state.clone()), &token()).expect("a first load");
    wrote(&open().start(v4(state.clone()), &token()).expect("a restart"), 0);
    // One goes, and one comes: each an interval's two ends in one message.
    let set = state.sets.get_mut("blocked").expect("the set");
    set.elements.remove(&host("10.0.4.0"));
    set.elements.insert(host("99.0.0.1"), Element::plain());
    wrote(&open().start(v4(state), &token()).expect("a restart"), 2);
}

#[test]
fn netns_a_member_of_the_wrong_family_closes_who_looks_into_the_set() {
    netns!();
    needs!("nft");
    let wrong = (host("fd00::1"), Element::plain());
    let closed =
        "chain pol {\n\t\tcounter drop comment \"closed: it needs set blocked, which was refused: fd00::1";
    let mut state = small();
    state
        .sets
        .get_mut("blocked")
        .expect("the set")
        .elements
        .insert(wrong.0.clone(), wrong.1.clone());
    let report = open().start(v4(state), &token()).expect("the rest is in force");
    assert!(
        report
            .problems
            .iter()
            .any(|p| p.object == Object::Set("blocked".into())),
        "{report:?}"
    );
    assert!(ruleset().contains(closed), "{}", ruleset());
    open().cleanup().expect("all is ours");

    let mut driver = open();
    driver.start(v4(small()), &token()).expect("a first load");
    let add = TableDelta::AddElements("blocked".into(), vec![wrong.clone()]);
    driver
        .apply(change([add]), &token())
        .expect("the rest is in force");
    assert!(ruleset().contains(closed), "{}", ruleset());
    let del = TableDelta::DeleteElements("blocked".into(), vec![wrong.0]);
    let report = driver.apply(change([del]), &token()).expect("a change");
    assert_eq!(report.problems, []);
    same_as_from_scratch(&driver);
}
