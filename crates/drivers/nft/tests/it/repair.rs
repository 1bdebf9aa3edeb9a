//! What others do to our tables is put right; what they do elsewhere is left alone.

use std::time::{Duration, Instant};

use caracal_nft::{Config, Nft, Report, Wait};
use caracal_rules::ir::{Chain, TableDelta};
use caracal_testkit::{needs, netns};

use super::kit::*;

/// Runs the driver as its thread would, until it has nothing to do.
fn settle(driver: &mut Nft) -> Report {
    let mut all = Report::default();
    let start = Instant::now();
    while driver.wait(Wait::For(Duration::from_millis(50))).expect("a wait") {
        let report = driver.repair().expect("a repair");
        all.messages += report.messages;
        all.batches += report.batches;
        all.loads += report.loads;
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "the driver never comes to rest"
        );
    }
    all
}

/// A listing without order and without the table's comment.
fn bare(text: &str) -> Vec<String> {
    objects(&text.replace("\tcomment \"caracal, layout 2\"\n", ""))
}

/// Does something to our tables and checks that all is as before within a second.
fn repairs(driver: &mut Nft, script_text: &str) -> Report {
    let before = ruleset();
    script(script_text);
    assert_ne!(ruleset(), before, "nothing was done by {script_text}");
    let start = Instant::now();
    let report = settle(driver);
    let took = start.elapsed();
    assert_eq!(bare(&ruleset()), bare(&before), "after {script_text}");
    assert!(took < Duration::from_secs(1), "{script_text} took {took:?}");
    report
}

#[test]
fn netns_foreign_changes_are_put_right() {
    netns!();
    needs!("nft");
    let mut driver = open();
    driver.start(v4(small()), &token()).expect("a first load");
    settle(&mut driver);
    let mut small_repair = |text: &str, most: usize| {
        let report = repairs(&mut driver, text);
        assert!(report.messages <= most && report.loads == 0, "{text}: {report:?}");
    };
    small_repair("insert rule ip caracal pol accept", 1);
    small_repair("add rule ip caracal pol ip saddr 1.2.3.4 counter accept", 1);
    small_repair("flush chain ip caracal pol", 4);
    small_repair("add chain ip caracal stranger", 1);
    small_repair("add set ip caracal strange { type ipv4_addr; }", 1);
    small_repair("add element ip caracal blocked { 99.0.0.0/8 }", 1);
    small_repair("delete element ip caracal blocked { 10.0.0.0/24 }", 1);
    small_repair("flush map ip caracal endpoints", 1);
    small_repair("add chain ip caracal forward { policy drop; }", 1);
    small_repair(
        "delete element ip caracal endpoints { cali1 }; flush chain ip caracal ep-1; delete chain ip caracal ep-1",
        4,
    );
}

#[test]
fn netns_a_flush_of_everything_is_put_right() {
    netns!();
    needs!("nft");
    let mut driver = open();
    driver.start(v4(small()), &token()).expect("a first load");
    let before = ruleset();
    for text in ["flush ruleset", "delete table ip caracal"] {
        let report = repairs_unordered(&mut driver, text, &before);
        assert_eq!(report.loads, 1, "{text}: {report:?}");
    }
}

fn repairs_unordered(driver: &mut Nft, text: &str, before: &str) -> Report {
    script(text);
    let report = settle(driver);
    assert_eq!(bare(&ruleset()), bare(before), "after {text}");
    report
}

#[test]
fn netns_a_table_put_in_place_of_ours_is_replaced() {
    netns!();
    needs!("nft");
    let mut driver = open();
    driver.start(v4(small()), &token()).expect("a first load");
    script(
        "delete table ip caracal\ntable ip caracal {\n chain forward {\n type filter hook forward priority 0;\n }\n}",
    );
    settle(&mut driver);
    let tables = nft(&["list", "tables"]);
    assert_eq!(tables, "table ip caracal-b\n");
    assert!(ruleset().contains("oifname vmap @endpoints"), "{}", ruleset());
}

#[test]
fn netns_a_change_meets_a_table_that_is_gone() {
    netns!();
    needs!("nft");
    let mut driver = open();
    driver.start(v4(small()), &token()).expect("a first load");
    script("flush ruleset");
    let put = TableDelta::PutChain("pol".into(), Chain::regular([allow(99)]));
    let report = driver.apply(change([put]), &token()).expect("a change");
    assert_eq!(report.loads, 1);
    assert!(ruleset().contains("tcp dport 99 counter accept"), "{}", ruleset());
}

#[test]
fn netns_other_tables_are_nobody_elses_business() {
    netns!();
    needs!("nft");
    let mut driver = open();
    driver.start(v4(small()), &token()).expect("a first load");
    settle(&mut driver);
    script("table ip other {\n chain pol {\n }\n}\ntable inet caracal {\n chain pol {\n }\n}");
    let report = settle(&mut driver);
    assert_eq!(report.messages, 0);
    driver.cleanup().expect("all is ours");
    assert_eq!(nft(&["list", "tables"]), "table ip other\ntable inet caracal\n");
}

#[test]
fn netns_an_audit_finds_what_was_missed() {
    netns!();
    needs!("nft");
    let mut driver = Nft::open(Config {
        listen_buffer: 16 * 1024,
        ..Config::default()
    })
    .expect("root");
    driver.start(v4(small()), &token()).expect("a first load");
    // Others' notifications overrun the listener, with a change of our own table in the middle.
    let before = ruleset();
    let mut flood = String::from("table ip flood {\n set s {\n type ipv4_addr\n }\n}\n");
    for n in 0..2000 {
        let a = std::net::Ipv4Addr::from_bits(0x0a00_0000 + n);
        flood.push_str(&format!("add element ip flood s {{ {a} }}\n"));
    }
    script(&flood);
    script("flush chain ip caracal pol\nadd element ip caracal blocked { 99.0.0.0/8 }");
    script("delete table ip flood");
    assert!(
        drops() > 0,
        "the listener lost nothing, so the test shows nothing"
    );
    settle(&mut driver);
    assert_eq!(bare(&ruleset()), bare(&before));
}

/// Messages that netlink sockets of this namespace have lost.
fn drops() -> u64 {
    let table = std::fs::read_to_string("/proc/net/netlink").expect("proc is mounted");
    table
        .lines()
        .skip(1)
        .filter_map(|l| l.split_whitespace().nth(8)?.parse::<u64>().ok())
        .sum()
}
