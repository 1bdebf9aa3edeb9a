//! The kernel held against the model: the rules of a node are in a namespace of the test's own.

use std::process::Command;

use caracal_analysis::State;
use caracal_desired::Desired;
use caracal_ids::NodeName;
use caracal_net::PerFamily;
use caracal_nft::{Config, Nft};
use caracal_policy::Engine;
use caracal_query::why_with;
use caracal_rules::ir::TableState;
use caracal_rules::{Compiler, RulesConfig};
use caracal_testkit::{needs, netns};
use caracal_update::{InSync, Update};
use serde_json::Value;

use crate::rig::{Done, data, run};

/// The tables that the agent of a node makes of the shop.
fn tables(node: &str) -> PerFamily<TableState> {
    let text = std::fs::read_to_string(data("shop.yaml")).expect("the data is there");
    let (mut state, mut problems) = (State::default(), Vec::new());
    state.read("shop.yaml", &text, &mut problems);
    assert_eq!(problems, Vec::<String>::new());
    state.complete();
    let mut engine = Engine::new(NodeName::new(node).expect("a name"));
    state
        .objects()
        .for_each(|o| engine.apply(&Update::set(o.clone())));
    let deltas = engine.flush();
    let mut desired = Desired::default();
    desired.apply_all(deltas.clone());
    assert!(desired.invalid.is_empty(), "{:?}", desired.invalid);
    let mut compiler = Compiler::new(RulesConfig::default());
    compiler.apply_all(&deltas);
    compiler.full_state()
}

fn why(node: &str, args: &[&str]) -> (Done, Value) {
    let shop = data("shop.yaml");
    let all: Vec<&str> = ["-f", &shop, "--node", node, "-o", "json"]
        .into_iter()
        .chain(args.iter().copied())
        .collect();
    let done = run(why_with, &all, "");
    let read = serde_json::from_str(&done.output).unwrap_or_default();
    (done, read)
}

fn nft(args: &[&str]) {
    let output = Command::new("nft").args(args).output().expect("nft is installed");
    assert!(
        output.status.success(),
        "nft {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The kernel's part of the last place on the way.
fn kernel(answer: &Value) -> &Value {
    &answer[0]["places"]
        .as_array()
        .expect("places")
        .last()
        .expect("one at least")["kernel"]
}

#[test]
fn netns_a_rule_removed_by_hand_is_a_disagreement() {
    netns!();
    needs!("nft");
    let load = || {
        let mut driver = Nft::open(Config::default()).expect("root in a fresh namespace");
        driver
            .start(tables("n2"), &InSync::after_complete_snapshot())
            .expect("a load");
    };
    load();
    let allowed = ["shop/web", "shop/cart", "http/tcp"];
    let (done, answer) = why("n2", &allowed);
    assert_eq!((done.code, done.errors.as_str()), (0, ""), "{}", done.output);
    let found = kernel(&answer);
    assert_eq!(found["table"], "ip caracal");
    let rule = found["rule"].as_str().expect("a rule");
    assert!(rule.contains("np/shop/knp.default.cart rule 0"), "{found}");
    assert!(
        found["entry"].as_str().is_some_and(|e| e.contains("to-wl")),
        "{found}"
    );
    assert!(
        answer[0]["places"][0]["kernel"].is_null(),
        "the sender is on another node"
    );
    let (chain, handle) = (
        found["chain"].as_str().expect("a chain"),
        found["handle"].as_u64().expect("a handle"),
    );

    nft(&[
        "delete",
        "rule",
        "ip",
        "caracal",
        chain,
        "handle",
        &handle.to_string(),
    ]);
    let (done, answer) = why("n2", &allowed);
    assert_eq!(done.code, 3, "{}", done.output);
    let said = kernel(&answer)["differences"][0].as_str().expect("a difference");
    assert!(
        said.contains("has lost the rule \"np/shop/knp.default.cart rule 0"),
        "{said}"
    );
    let shop = data("shop.yaml");
    let text = run(
        why_with,
        &["-f", &shop, "--node", "n2", "shop/web", "shop/cart", "http/tcp"],
        "",
    );
    assert!(
        text.output.contains("MODEL AND KERNEL DISAGREE"),
        "{}",
        text.output
    );

    // Another tool's rule, an element that is gone, a chain that is led nowhere, no table at all.
    load();
    assert_eq!(why("n2", &allowed).0.code, 0, "the driver put it right");
    nft(&["insert", "rule", "ip", "caracal", chain, "accept"]);
    let (done, answer) = why("n2", &allowed);
    let said = kernel(&answer)["differences"][0].as_str().unwrap_or_default();
    assert!(done.code == 3 && said.contains("not ours"), "{}", done.output);
    load();
    nft(&["flush", "map", "ip", "caracal", "to-wl"]);
    let (done, answer) = why("n2", &allowed);
    let said = kernel(&answer)["differences"][0].as_str().unwrap_or_default();
    assert!(
        done.code == 3 && said.contains("has no element"),
        "{}",
        done.output
    );
    load();
    nft(&["delete", "table", "ip", "caracal"]);
    let (done, answer) = why("n2", &allowed);
    let said = kernel(&answer)["differences"][0].as_str().unwrap_or_default();
    assert!(
        done.code == 3 && said.contains("no table of ours"),
        "{}",
        done.output
    );
}

#[test]
fn netns_what_blocks_is_found_too() {
    netns!();
    let mut driver = Nft::open(Config::default()).expect("root in a fresh namespace");
    driver
        .start(tables("n2"), &InSync::after_complete_snapshot())
        .expect("a load");
    let (done, answer) = why("n2", &["shop/web", "shop/cart", "9100/tcp"]);
    assert_eq!((done.code, done.errors.as_str()), (1, ""), "{}", done.output);
    let found = kernel(&answer);
    assert!(
        found["rule"]
            .as_str()
            .is_some_and(|r| r.contains("drop") && r.contains("end of tier default")),
        "{found}"
    );
    assert!(found["handle"].is_u64(), "{found}");
}
