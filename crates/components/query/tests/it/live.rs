//! `caracal watch drops` and `caracal top`.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use caracal_agent_api::v1::{Decider, DeniedPacket, RuleCounter, decider::What};
use caracal_api::Resource;
use caracal_query::{top_with, watch_with};
use caracal_store::Store;
use caracal_store_memory::MemoryStore;
use caracal_testkit::eventually;

use crate::agent::{Knows, Running};
use crate::rig::{run, run_over, run_stuck};

fn rule(kind: &str, namespace: &str, name: &str, rule: u32, action: &str) -> Option<Decider> {
    Some(Decider {
        what: What::Policy.into(),
        kind: kind.into(),
        namespace: namespace.into(),
        name: name.into(),
        tier: "default".into(),
        direction: "ingress".into(),
        rule,
        action: action.into(),
        missing: false,
    })
}

fn end_of_tier() -> Option<Decider> {
    Some(Decider {
        what: What::Tier.into(),
        name: "default".into(),
        tier: "default".into(),
        direction: "egress".into(),
        action: "deny".into(),
        ..Decider::default()
    })
}

fn packet(protocol: u32, source: &str, destination: &str, decider: Option<Decider>) -> DeniedPacket {
    DeniedPacket {
        at: 1_800_000_000_000_123_456,
        decider,
        namespace: "shop".into(),
        name: "n1-k8s-cart-eth0".into(),
        interface_in: "eth0".into(),
        interface_out: "calic".into(),
        source: source.into(),
        destination: destination.into(),
        protocol,
        source_port: 40_000,
        destination_port: 8081,
        icmp_type: 8,
        icmp_code: 0,
        length: 60,
        lost: 0,
    }
}

fn knows() -> Knows {
    let mut flood = packet(1, "192.0.2.1", "10.65.0.2", end_of_tier());
    flood.lost = 7;
    Knows {
        node: "n1".into(),
        packets: vec![
            packet(
                6,
                "10.65.0.1",
                "10.65.0.2",
                rule("KubernetesNetworkPolicy", "shop", "cart", 2, "deny"),
            ),
            flood,
            packet(
                17,
                "fd65::1",
                "fd65::9",
                rule("GlobalNetworkPolicy", "", "quarantine", 0, "deny"),
            ),
        ],
        counters: vec![
            RuleCounter {
                decider: rule("NetworkPolicy", "shop", "cart", 0, "allow"),
                packets: 12,
                bytes: 720,
                ..RuleCounter::default()
            },
            RuleCounter {
                decider: end_of_tier(),
                packets: 90,
                bytes: 5400,
                ..RuleCounter::default()
            },
            RuleCounter {
                decider: rule("NetworkPolicy", "shop", "cart", 1, "deny"),
                never_hit: true,
                shadowed: true,
                ..RuleCounter::default()
            },
        ],
        ..Knows::default()
    }
}

fn store() -> Arc<dyn Store> {
    let store = Arc::new(MemoryStore::etcd());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    for (name, pod, nets) in [
        ("n1-k8s-web-eth0", "web", r#"["10.65.0.1/32","fd65::1/128"]"#),
        ("n1-k8s-cart-eth0", "cart", r#"["10.65.0.2/32"]"#),
    ] {
        let text = format!(
            r#"{{"metadata":{{"name":"{name}","namespace":"shop"}},"spec":{{"orchestrator":"k8s","node":"n1","pod":"{pod}",
               "endpoint":"eth0","interfaceName":"cali{pod}","ipNetworks":{nets}}}}}"#
        );
        let object =
            Resource::from_slice(caracal_api::Kind::WorkloadEndpoint, text.as_bytes()).expect("an endpoint");
        runtime.block_on(store.create(object)).expect("it is new");
    }
    store
}

#[test]
fn denied_packets_are_told_with_the_names_of_pods() {
    let agent = Running::new(knows());
    let args = ["drops", "--agent", &agent.socket(), "--count", "3"];
    let done = run_over(watch_with, &args, "", Some(store()));
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(
        done.output,
        "2027-01-15T08:00:00.000123Z n1 at shop/cart: TCP shop/web (10.65.0.1:40000) -> shop/cart (10.65.0.2:8081), \
         denied by KubernetesNetworkPolicy shop/cart ingress[2] (tier default)\n\
         2027-01-15T08:00:00.000123Z n1 at shop/cart: ICMP type 8 code 0 192.0.2.1 -> shop/cart (10.65.0.2), denied \
         by end of tier default egress [7 before it were not told]\n\
         2027-01-15T08:00:00.000123Z n1 at shop/cart: UDP shop/web ([fd65::1]:40000) -> [fd65::9]:8081, denied by \
         GlobalNetworkPolicy quarantine ingress[0] (tier default)\n"
    );
    let numeric = run(
        watch_with,
        &["drops", "--agent", &agent.socket(), "--count", "1", "--numeric"],
        "",
    );
    assert!(
        numeric
            .output
            .contains("at shop/n1-k8s-cart-eth0: TCP 10.65.0.1:40000 ->"),
        "{numeric:?}"
    );
}

#[test]
fn denied_packets_are_lines_of_json_and_can_be_chosen() {
    let agent = Running::new(knows());
    let socket = agent.socket();
    let args = [
        "drops", "--agent", &socket, "--count", "1", "-o", "json", "--pod", "shop/web",
    ];
    let done = run_over(watch_with, &args, "", Some(store()));
    let line: serde_json::Value = serde_json::from_str(&done.output).unwrap();
    assert_eq!(line["source"]["name"], "shop/web");
    assert_eq!(line["source"]["port"], 40_000);
    assert_eq!(line["decidedBy"]["kind"], "KubernetesNetworkPolicy");
    assert_eq!(line["decidedBy"]["rule"], 2);
    assert_eq!(
        (&line["node"], &line["endpoint"]),
        (&"n1".into(), &"shop/cart".into())
    );
    // Nobody of this name: the agent ends, which is an error, after no line.
    let done = run_over(
        watch_with,
        &["drops", "--agent", &socket, "--pod", "other/", "--no-reconnect"],
        "",
        Some(store()),
    );
    assert_eq!((done.code, done.output.as_str()), (1, ""));
    assert!(done.errors.contains("the agent of n1 ended"), "{done:?}");
}

#[test]
fn an_agent_that_ends_is_waited_for_and_the_gap_is_told() {
    let knows = knows();
    let watched = knows.watched.clone();
    let agent = Running::new(knows);
    let socket = agent.socket();
    // It tells three packets and ends its answer; so each time it is asked.
    let args = [
        "drops",
        "--agent",
        &socket,
        "--count",
        "5",
        "-o",
        "json",
        "--numeric",
    ];
    let done = run(watch_with, &args, "");
    assert_eq!(done.code, 0, "{done:?}");
    let lines: Vec<serde_json::Value> = done
        .output
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(lines.len(), 6, "{done:?}");
    let gap = &lines[3]["gap"];
    assert_eq!(gap["node"], "n1");
    assert!(
        gap["from"].as_str().unwrap() <= gap["to"].as_str().unwrap(),
        "{gap}"
    );
    assert_eq!(lines[4]["node"], "n1");
    for part in [
        "the agent of n1 ended",
        "are not told until it is back",
        "the agent of n1 is back",
    ] {
        assert!(done.errors.contains(part), "{part}: {}", done.errors);
    }
    // Gone and started anew: another process at the same socket.
    let path = std::path::PathBuf::from(&socket);
    let args: Vec<String> = ["drops", "--agent", &socket, "--count", "4", "--numeric"]
        .map(str::to_owned)
        .into();
    let before = watched.load(Ordering::Relaxed);
    let watching = std::thread::spawn(move || {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        run(watch_with, &args, "")
    });
    // An agent that is away at the start is an error; this one is there then.
    eventually(Duration::from_secs(60), || {
        if watched.load(Ordering::Relaxed) > before {
            Ok(())
        } else {
            Err("it does not watch yet".into())
        }
    });
    let again = agent.restart();
    let done = watching.join().unwrap();
    assert_eq!((done.code, done.output.lines().count()), (0, 4), "{done:?}");
    assert!(path.exists());
    drop(again);
}

#[test]
fn top_goes_on_when_an_agent_is_away_for_a_moment() {
    let (a, mut other) = (Running::new(knows()), knows());
    other.node = "n2".into();
    other.fails_after = Some(1);
    let b = Running::new(other);
    let sockets = [a.socket(), b.socket()];
    let args = [
        "--agent",
        &sockets[0],
        "--agent",
        &sockets[1],
        "--watch",
        "1",
        "--count",
        "2",
        "-o",
        "json",
    ];
    let done = run(top_with, &args, "");
    assert_eq!(done.code, 0, "{done:?}");
    let looks: Vec<serde_json::Value> = done
        .output
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(looks[0]["nodes"].as_array().unwrap().len(), 2);
    assert!(looks[0].get("unanswered").is_none());
    assert_eq!(looks[1]["nodes"].as_array().unwrap().len(), 1);
    assert_eq!(looks[1]["unanswered"][0]["node"], "n2");
}

#[test]
fn the_busiest_rules_come_first_and_those_never_met_can_be_asked_for() {
    let (a, mut other) = (Running::new(knows()), knows());
    other.node = "n2".into();
    other.counters.truncate(1);
    let b = Running::new(other);
    let one = run(top_with, &["--agent", &a.socket()], "");
    assert_eq!(
        one.output,
        "PACKETS  BYTES  ACTION  RULE        TIER     OF\n\
         90       5400   deny    egress      default  end of tier default\n\
         12       720    allow   ingress[0]  default  NetworkPolicy shop/cart\n\
         0        0      deny    ingress[1]  default  NetworkPolicy shop/cart (shadowed)\n\
         counted since n1: 2027-01-15T08:00:00Z\n"
    );
    let sockets = [a.socket(), b.socket()];
    let both = ["--agent", &sockets[0], "--agent", &sockets[1]];
    let with = |more: &[&str]| {
        let args: Vec<&str> = both.iter().chain(more).copied().collect();
        run(top_with, &args, "")
    };
    let never = with(&["--never-hit", "-o", "json"]);
    let data: serde_json::Value = serde_json::from_str(&never.output).unwrap();
    assert_eq!(data["rules"].as_array().unwrap().len(), 1, "{data}");
    assert_eq!(
        (&data["rules"][0]["node"], &data["rules"][0]["neverHit"]),
        (&"n1".into(), &true.into())
    );
    let limited = with(&["--limit", "2"]);
    assert!(limited.output.contains("2 more rules"), "{limited:?}");
    let filtered = with(&["--node", "n2", "-o", "yaml"]);
    assert!(
        filtered.output.contains("node: n2") && !filtered.output.contains("node: n1"),
        "{filtered:?}"
    );
    // What came between two looks; a fake agent counts nothing.
    let again = with(&["--watch", "1", "--count", "2", "--node", "n2"]);
    let heads = again.output.lines().filter(|l| l.starts_with("NEW")).count();
    assert!(
        heads == 2 && again.output.contains("\n0    12"),
        "{}",
        again.output
    );
}

#[test]
fn questions_that_no_agent_answers_say_so() {
    let old = Running::new(Knows { old: true, ..knows() });
    let socket = old.socket();
    for (args, word) in [
        (vec!["--agent", &socket], "older than this program"),
        (vec!["--agent", &socket, "--node", "n7"], "--node n7"),
        (
            vec!["--agent", "/nonexistent/agent.sock"],
            "/nonexistent/agent.sock",
        ),
        (vec!["--agent", &socket, "--watch", "0"], "--watch 0"),
        (vec!["--bogus"], "--bogus"),
    ] {
        let done = run(top_with, &args, "");
        assert!(done.code == 1 && done.errors.contains(word), "{args:?}: {done:?}");
    }
    for (args, word) in [
        (
            vec!["drops", "--agent", &socket, "--numeric"],
            "older than this program",
        ),
        (
            vec!["drops", "--agent", &socket, "--pod", "web"],
            "NAMESPACE/NAME",
        ),
        (vec!["drops", "-o", "yaml"], "yaml"),
        (vec!["rises"], "rises"),
        (vec![], "drops"),
    ] {
        let done = run(watch_with, &args, "");
        assert!(done.code == 1 && done.errors.contains(word), "{args:?}: {done:?}");
    }
    let agent = Running::new(knows());
    let socket = agent.socket();
    let (code, errors) = run_stuck(top_with, &["--agent", &socket], ErrorKind::StorageFull);
    assert!(code == 1 && errors.contains("cannot write"), "{code} {errors}");
    let drops: &[&str] = &["drops", "--agent", &socket, "--numeric"];
    assert_eq!(run_stuck(watch_with, drops, ErrorKind::StorageFull).0, 1);
    assert_eq!(run_stuck(watch_with, drops, ErrorKind::BrokenPipe).0, 0);
}
