//! What policy decides, as the agent tells it: counters, denied packets, judgements; and limits beside policy.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::IpAddr,
    time::{Duration, Instant},
};

use caracal_agent_api::v1::{
    DeniedPacket, JudgeReply, JudgeRequest, ListCountersReply, ListCountersRequest, WatchDeniedRequest,
    decider::What,
};
use caracal_api::Kind;
use caracal_testkit::{eventually, needs, netns};
use serde_json::{Value, json};

use crate::{
    traffic::{Sink, blocked, echo, reaches, stream, talk},
    world::{LONG, Node, Pod, World, block_on, connect, run, wire},
};

fn counters(node: &Node, wish: ListCountersRequest) -> Result<ListCountersReply, String> {
    let socket = node.dir.join("run/agent.sock");
    block_on(async {
        let mut client = connect(socket).await?;
        let reply = client.list_counters(wish).await;
        reply.map(tonic::Response::into_inner).map_err(|e| e.to_string())
    })
}

/// Packets of each rule of ingress of a policy, and of a tier's end under its name.
fn packets(node: &Node) -> BTreeMap<String, u64> {
    let reply = eventually(LONG, || counters(node, ListCountersRequest::default()));
    let of = reply.counters.into_iter().filter_map(|c| {
        let d = c.decider?;
        let name = match d.what() {
            What::Policy => format!("{} {} {}", d.name, d.direction, d.rule),
            What::Tier => format!("end of {} {}", d.name, d.direction),
            _ => format!("{} {}", d.name, d.direction),
        };
        Some((name, c.packets))
    });
    of.collect()
}

fn judge(node: &Node, request: JudgeRequest) -> Result<JudgeReply, String> {
    let socket = node.dir.join("run/agent.sock");
    block_on(async {
        let mut client = connect(socket).await?;
        let reply = client.judge(request).await;
        reply.map(tonic::Response::into_inner).map_err(|e| e.to_string())
    })
}

/// Watches denied packets until one fits; `knock` makes them.
fn watch(node: &Node, knock: impl Fn(), fits: impl Fn(&DeniedPacket) -> bool) -> DeniedPacket {
    let socket = node.dir.join("run/agent.sock");
    block_on(async {
        let mut client = connect(socket).await.unwrap();
        let stream = client.watch_denied(WatchDeniedRequest::default()).await.unwrap();
        let mut stream = stream.into_inner();
        let until = Instant::now() + LONG;
        loop {
            assert!(Instant::now() < until, "no such packet was told");
            knock();
            while let Ok(next) = tokio::time::timeout(Duration::from_millis(300), stream.message()).await {
                let packet = next.unwrap().expect("the agent goes on");
                if fits(&packet) {
                    return packet;
                }
            }
        }
    })
}

fn rule(action: &str, port: u16) -> Value {
    json!({"action": action, "protocol": "TCP", "destination": {"ports": [port]}})
}

#[test]
fn netns_each_rule_counts_and_denials_are_told() {
    netns!(240);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let (mut node, a, b) = world.two_pods(json!({"app": "a"}), json!({"app": "b"}));
    for port in [80, 81, 82, 83] {
        echo(&b.ns, port);
    }
    let web = json!({"order": 10, "selector": "app == 'b'", "types": ["Ingress"], "ingress": [
        rule("Allow", 80), rule("Deny", 81), rule("Deny", 83), rule("Allow", 90), rule("Allow", 90)]});
    world.put(Kind::NetworkPolicy, "default/default.web", web);
    node.up();
    node.programmed(&b);
    assert_eq!(packets(&node)["default.web ingress 0"], 0);
    reaches(&a.ns, b.both(), 80);
    blocked(&a.ns, b.both(), 81);
    blocked(&a.ns, b.both(), 82);
    let now = packets(&node);
    assert!(now["default.web ingress 0"] >= 2, "{now:?}");
    assert!(now["default.web ingress 1"] >= 2, "{now:?}");
    assert!(now["end of default ingress"] >= 2, "{now:?}");
    let unused = [
        "default.web ingress 2",
        "default.web ingress 3",
        "default.web ingress 4",
    ];
    assert!(unused.iter().all(|r| now[*r] == 0), "{now:?}");
    let never = ListCountersRequest {
        never_hit: true,
        name: "default.web".into(),
        ..ListCountersRequest::default()
    };
    let reply = counters(&node, never).unwrap();
    let rules: Vec<(u32, bool)> = reply
        .counters
        .iter()
        .map(|c| (c.decider.as_ref().unwrap().rule, c.shadowed))
        .collect();
    assert_eq!(
        rules,
        [(2, false), (3, false), (4, true)],
        "the last one is as the one before it"
    );
    assert!(reply.since > 1_600_000_000);

    // Killed and started again, and over a change of the list, counting goes on.
    node.kill();
    blocked(&a.ns, b.both(), 81);
    node.up();
    let again = packets(&node);
    assert!(
        again["default.web ingress 1"] > now["default.web ingress 1"],
        "{again:?}"
    );
    let other =
        json!({"order": 1, "selector": "app == 'b'", "types": ["Ingress"], "ingress": [rule("Deny", 84)]});
    world.put(Kind::GlobalNetworkPolicy, "default.first", other);
    eventually(LONG, || match packets(&node).get("default.first ingress 0") {
        Some(_) => Ok(()),
        None => Err("the new policy is not counted".into()),
    });
    blocked(&a.ns, b.both(), 81);
    assert!(packets(&node)["default.web ingress 1"] > again["default.web ingress 1"]);
    let labels = "cnx_policy_rule_packets{action=\"deny\",kind=\"NetworkPolicy\",namespace=\"default\",policy=\"default.web\"";
    assert!(node.metric(labels).unwrap() >= 2.0);
    assert!(
        node.metric(
            "calico_denied_packets{direction=\"ingress\",policy=\"default|default/default.web|1|deny\"}"
        )
        .unwrap()
            >= 2.0
    );

    // Denied packets, told by a rule that was merged with another one.
    let knock = || drop(talk(&a.ns, b.v4, 83));
    let told = watch(&node, knock, |p| p.destination_port == 83);
    let by = told.decider.unwrap();
    assert_eq!(
        (by.what(), by.name.as_str(), by.rule),
        (What::Policy, "default.web", 2)
    );
    assert_eq!(
        (told.source, told.destination),
        (a.v4.to_string(), b.v4.to_string())
    );
    assert_eq!(
        (told.name.as_str(), told.interface_in.as_str()),
        ("n1-k8s-b-eth0", "calia")
    );
    let knock = || drop(talk(&a.ns, b.v6, 82));
    let told = watch(&node, knock, |p| p.destination_port == 82);
    assert_eq!(told.decider.unwrap().what(), What::Tier);
    assert_eq!(told.source, a.v6.to_string());
}

#[test]
fn netns_what_staged_policy_would_do_is_told_beside_what_is_enforced() {
    netns!(120);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let (mut node, a, b) = world.two_pods(json!({"app": "a"}), json!({"app": "b"}));
    echo(&b.ns, 80);
    let staged = json!({"order": 1, "selector": "app == 'b'", "types": ["Ingress"],
        "ingress": [{"action": "Deny", "source": {"selector": "app == 'a'"}}, {"action": "Allow"}]});
    world.put(Kind::StagedGlobalNetworkPolicy, "default.tighten", staged);
    node.up();
    node.programmed(&b);
    reaches(&a.ns, b.both(), 80);
    let ask = |source: IpAddr, namespace: &str, name: &str| JudgeRequest {
        namespace: namespace.into(),
        name: name.into(),
        direction: "ingress".into(),
        source: source.to_string(),
        destination: b.v4.to_string(),
        protocol: 6,
        source_port: 40_000,
        destination_port: 80,
        ..JudgeRequest::default()
    };
    let reply = eventually(LONG, || judge(&node, ask(a.v4, "default", "n1-k8s-b-eth0")));
    let (enforced, staged) = (reply.enforced.unwrap(), reply.staged.unwrap());
    assert!(enforced.allowed && !staged.allowed);
    assert_eq!(enforced.decider.unwrap().what(), What::Profile);
    let by = staged.decider.unwrap();
    assert_eq!(
        (by.kind.as_str(), by.name.as_str(), by.rule),
        ("StagedGlobalNetworkPolicy", "default.tighten", 0)
    );
    let other = judge(
        &node,
        ask("192.0.2.9".parse().unwrap(), "default", "n1-k8s-b-eth0"),
    )
    .unwrap();
    assert_eq!(other.staged.unwrap().decider.unwrap().rule, 1);
    // What would be replaced or deleted decides no more than what would be made does now.
    let closed = |selector: &str| json!({"order": 0, "selector": selector, "types": ["Ingress"], "ingress": [{"action": "Deny"}]});
    world.put(Kind::GlobalNetworkPolicy, "default.closed", closed("app == 'b'"));
    for (about, open) in [
        (closed("app == 'b'"), false),
        (closed("app == 'nobody'"), true),
        (closed("has(app)"), false),
        (json!({"stagedAction": "Delete"}), true),
    ] {
        world.put(Kind::StagedGlobalNetworkPolicy, "default.closed", about);
        eventually(LONG, || {
            let request = ask("192.0.2.9".parse().unwrap(), "default", "n1-k8s-b-eth0");
            let reply = judge(&node, request)?;
            match (reply.enforced, reply.staged) {
                (Some(e), Some(s)) if !e.allowed && s.allowed == open => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }
    for (namespace, name) in [("default", "none"), ("", "none")] {
        let e = judge(&node, ask(a.v4, namespace, name)).unwrap_err();
        assert!(e.contains("on this node"), "{e}");
    }
}

/// Announces a pod with limits.
fn limited(world: &World, pod: &Pod, qos: Value) {
    let spec = json!({
        "orchestrator": "k8s", "node": pod.node, "pod": pod.name, "endpoint": "eth0", "workload": "",
        "containerID": format!("c-{}", pod.name), "interfaceName": pod.interface,
        "ipNetworks": [format!("{}/32", pod.v4), format!("{}/128", pod.v6)], "profiles": ["kns.default"],
        "qosControls": qos,
    });
    let labels = json!({"projectcalico.org/namespace": "default", "projectcalico.org/orchestrator": "k8s"});
    let name = format!("default/{}-k8s-{}-eth0", pod.node, pod.name);
    world.put_with(Kind::WorkloadEndpoint, &name, json!({"labels": labels}), spec);
}

#[test]
fn netns_packets_and_connections_of_pods_are_limited() {
    netns!(120);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let (mut node, a, b) = world.two_pods(json!({"app": "a"}), json!({"app": "b"}));
    echo(&b.ns, 80);
    node.up();
    node.programmed(&a);
    // Packets: a burst goes through, most of the rest does not.
    limited(
        &world,
        &a,
        json!({"egressPacketRate": 10, "egressPacketBurst": 5}),
    );
    node.programmed(&a);
    eventually(LONG, || match node.sh("nft list ruleset") {
        rules if rules.contains("rate-from-calia") => Ok(()),
        _ => Err("no limit in the tables".into()),
    });
    let (sink, before) = (Sink::new(&b.ns, 9000), Instant::now());
    let socket =
        a.ns.run(|| std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0)))
            .unwrap()
            .unwrap();
    for _ in 0..500 {
        socket.send_to(b"x", (b.v4, 9000)).unwrap();
    }
    let allowed = 5 + 10 * (before.elapsed().as_secs() + 1);
    let arrived = eventually(LONG, || match sink.arrived().len() as u64 {
        0 => Err("nothing arrived".into()),
        n => Ok(n),
    });
    assert!(
        arrived <= allowed,
        "{arrived} of 500 packets arrived, at most {allowed} may"
    );
    // Connections: the third at a time is refused, and one that ends makes room.
    limited(&world, &a, json!({"egressMaxConnections": 2}));
    eventually(LONG, || match node.sh("nft list ruleset") {
        rules if rules.contains("conn-from-calia") && !rules.contains("rate-from-calia") => Ok(()),
        _ => Err("no limit of connections in the tables".into()),
    });
    let first = eventually(LONG, || talk(&a.ns, b.v4, 80));
    let _second = eventually(LONG, || talk(&a.ns, b.v4, 80));
    let refused = talk(&a.ns, b.v4, 80).unwrap_err();
    assert!(
        refused.contains("refused") || refused.contains("reset"),
        "{refused}"
    );
    let hit = packets(&node);
    assert!(hit["connections egress"] >= 1, "{hit:?}");
    drop(first);
    // The kernel remembers a closed connection for a while.
    node.sh("conntrack -D -p tcp --state TIME_WAIT 2>/dev/null || true");
    limited(&world, &a, json!({}));
    reaches(&a.ns, [b.v4], 80);
    eventually(LONG, || match node.sh("nft list ruleset") {
        rules if rules.contains("conn-from") => Err("the limit is still there".into()),
        _ => Ok(()),
    });
    assert!(reached_three(&a, &b));
}

fn reached_three(a: &Pod, b: &Pod) -> bool {
    let three: Vec<_> = (0..3).map(|_| talk(&a.ns, b.v4, 80)).collect();
    three.iter().all(Result::is_ok)
}

/// Bytes a second of half a megabyte from one pod to another.
fn speed(from: &Pod, to: &Pod, port: u16) -> f64 {
    let listener = to
        .ns
        .run(|| std::net::TcpListener::bind((to.v4, port)))
        .unwrap()
        .unwrap();
    let reader = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut all = Vec::new();
        let start = Instant::now();
        stream.read_to_end(&mut all).unwrap();
        all.len() as f64 / start.elapsed().as_secs_f64()
    });
    let mut stream = from
        .ns
        .run(|| std::net::TcpStream::connect((to.v4, port)))
        .unwrap()
        .unwrap();
    stream.write_all(&vec![7; 512 * 1024]).unwrap();
    drop(stream);
    reader.join().unwrap()
}

#[test]
fn netns_bandwidth_of_pods_is_limited_both_ways() {
    netns!(240);
    needs!("root", "ip", "nft", "tc", "sh");
    let world = World::new();
    let (mut node, a, b) = world.two_pods(json!({"app": "a"}), json!({"app": "b"}));
    node.up();
    node.programmed(&a);
    // Four megabits are half a megabyte a second, with room for a tenth of a second at once.
    let slow = json!({"egressBandwidth": 4_000_000, "egressBurst": 400_000});
    limited(&world, &a, slow.clone());
    let shown = |what: &str| {
        eventually(LONG, || match node.sh("tc qdisc show") {
            text if text.contains(what) => Ok(()),
            text => Err(text),
        });
    };
    shown("tbf ca1a: dev bwcali");
    shown("ingress ffff: dev calia");
    let sent = speed(&a, &b, 7001);
    assert!(sent < 900_000.0, "{sent} bytes a second, half a million may go");
    limited(
        &world,
        &a,
        json!({"ingressBandwidth": 4_000_000, "ingressBurst": 400_000}),
    );
    shown("tbf ca1a: dev calia");
    eventually(LONG, || match node.sh("ip -o link show type ifb") {
        text if text.contains("bwcali") => Err(text),
        _ => Ok(()),
    });
    let received = speed(&b, &a, 7002);
    assert!(
        received < 900_000.0,
        "{received} bytes a second, half a million may come"
    );
    // An agent that starts over limits takes back what nobody asks for any more.
    limited(&world, &a, slow);
    shown("ingress ffff: dev calia");
    node.kill();
    limited(&world, &a, json!({}));
    node.up();
    eventually(LONG, || {
        match node.sh("tc qdisc show; ip -o link show type ifb") {
            text if text.contains("tbf") || text.contains("bwcali") => Err(text),
            _ => Ok(()),
        }
    });
}

#[test]
fn netns_packets_leave_the_cluster_with_the_dscp_of_their_pod() {
    netns!(120);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let (mut node, a, b) = world.two_pods(json!({"app": "a"}), json!({"app": "b"}));
    let outside = world.node("out");
    wire(
        ("n1", &["172.20.0.1/24", "fd20::1/64"]),
        ("out", &["172.20.0.9/24", "fd20::9/64"]),
    );
    run("ip -n out route add 10.65.0.0/16 via 172.20.0.1; ip -n out -6 route add fd65::/64 via fd20::1");
    world.put(Kind::IpPool, "v4", json!({"cidr": "10.65.0.0/16"}));
    world.put(Kind::IpPool, "v6", json!({"cidr": "fd65::/64"}));
    for node in ["out", "b"] {
        run(&format!(
            "ip netns exec {node} nft 'add table inet t; \
             add chain inet t c {{ type filter hook prerouting priority 0; }}; \
             add rule inet t c ip dscp 46 counter; add rule inet t c ip6 dscp 46 counter'"
        ));
    }
    echo(&outside.ns, 80);
    echo(&b.ns, 80);
    node.up();
    limited(&world, &a, json!({"dscp": "EF"}));
    eventually(LONG, || match node.sh("nft list ruleset") {
        rules if rules.contains("dscp-from") => Ok(()),
        _ => Err("no DSCP in the tables".into()),
    });
    let out = ["172.20.0.9".parse().unwrap(), "fd20::9".parse().unwrap()];
    reaches(&a.ns, out, 80);
    reaches(&a.ns, b.both(), 80);
    let seen = run("ip netns exec out nft list ruleset");
    assert!(!seen.contains("packets 0 "), "both families are marked: {seen}");
    let seen = run("ip netns exec b nft list ruleset");
    assert_eq!(
        seen.matches("packets 0 ").count(),
        2,
        "not inside the cluster: {seen}"
    );
}

#[test]
fn netns_connections_that_policy_denies_end_where_that_is_asked_for() {
    netns!(240);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let (mut node, a, b) = world.two_pods(json!({"app": "a"}), json!({"app": "b"}));
    echo(&b.ns, 80);
    echo(&b.ns, 81);
    node.up();
    node.programmed(&b);
    let deny = |port| {
        json!({"order": 1, "selector": "app == 'b'", "types": ["Ingress"],
            "ingress": [rule("Deny", port), {"action": "Allow"}]})
    };
    // As in Calico: what is open stays open.
    let (old, other) = (stream(&a.ns, b.v4, 80), stream(&a.ns, b.v6, 81));
    world.put(Kind::GlobalNetworkPolicy, "default.close", deny(80));
    blocked(&a.ns, b.both(), 80);
    old.more_rounds(20);
    world.delete(Kind::GlobalNetworkPolicy, "default.close");
    reaches(&a.ns, b.both(), 80);
    // Asked to, the agent cuts what a new policy denies, and nothing else.
    let annotations = json!({"annotations": {"config.caracal/CutConnections": "true"}});
    world.put_with(Kind::FelixConfiguration, "default", annotations, json!({}));
    let six = stream(&a.ns, b.v6, 80);
    eventually(LONG, || {
        world.put(Kind::GlobalNetworkPolicy, "default.close", deny(80));
        match node.metric("caracal_connections_cut")? {
            n if n >= 2.0 => Ok(()),
            n => Err(format!("{n} connections cut")),
        }
    });
    for cut in [old, six] {
        eventually(LONG, || match cut.ended() {
            true => Ok(()),
            false => Err("it goes on".into()),
        });
        assert!(cut.end().is_err());
    }
    other.more_rounds(20);
    other.end().unwrap();
}
