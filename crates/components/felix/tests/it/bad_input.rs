//! Objects that break the rules of their kind, written past everything that would have refused them; and lawful ones
//! that are large or odd.

use std::collections::BTreeMap;

use caracal_agent_api::v1::ListInvalidRequest;
use caracal_api::Kind;
use caracal_testkit::{eventually, needs, netns};
use caracal_wire::etcdserverpb::{PutRequest, kv_client::KvClient};
use serde_json::{Value, json};

use crate::{
    traffic::{Sink, blocked, echo, flood, reaches},
    world::{LONG, Node, World, block_on, channel, connect},
};

/// Writes what it likes under a key of the datastore.
pub(crate) fn put_raw(world: &World, plural: &str, name: &str, value: &str) {
    let socket = world.dir.path().join("store.sock");
    let request = PutRequest {
        key: format!("/calico/resources/v3/projectcalico.org/{plural}/{name}").into(),
        value: value.to_owned().into(),
        ..PutRequest::default()
    };
    let put = block_on(async {
        let mut client = KvClient::new(channel(socket).await?);
        client.put(request).await.map(drop).map_err(|e| e.to_string())
    });
    assert_eq!(put, Ok(()), "{plural}/{name}");
}

fn put_object(world: &World, plural: &str, kind: &str, name: &str, spec: &Value) {
    let metadata = match name.split_once('/') {
        Some((namespace, name)) => json!({"namespace": namespace, "name": name}),
        None => json!({"name": name}),
    };
    let object =
        json!({"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": metadata, "spec": spec});
    put_raw(world, plural, name, &object.to_string());
}

/// What the agent calls invalid: reason by `Kind name`.
fn invalid(node: &Node) -> Result<BTreeMap<String, String>, String> {
    let socket = node.dir.join("run/agent.sock");
    let reply = block_on(async {
        let mut client = connect(socket).await?;
        let reply = client.list_invalid(ListInvalidRequest {}).await;
        reply.map(tonic::Response::into_inner).map_err(|e| e.to_string())
    })?;
    let named = reply.objects.into_iter();
    Ok(named
        .map(|o| (format!("{} {}", o.kind, o.name), o.reason))
        .collect())
}

pub(crate) fn is_named(node: &Node, object: &str, part: &str) {
    eventually(LONG, || match invalid(node)?.get(object) {
        Some(reason) if reason.contains(part) => Ok(()),
        other => Err(format!("{object}: {other:?} does not say {part:?}")),
    });
}

/// Kind, plural, name, spec, and what the agent must say of it.
fn bad_objects() -> Vec<(&'static str, &'static str, &'static str, Value, &'static str)> {
    let nets: Vec<String> = (0..300)
        .map(|n| format!("10.9.{}.{}/32", n / 256, n % 256))
        .collect();
    let rules: Vec<Value> = (0..1025)
        .map(|_| json!({"action": "Deny", "protocol": "UDP"}))
        .collect();
    let deny_udp = |more: Value| {
        let mut rule = json!({"action": "Deny", "protocol": "UDP"});
        rule.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({"order": 5, "selector": "has(nobody)", "types": ["Ingress"], "ingress": [rule]})
    };
    let gnp = ("GlobalNetworkPolicy", "globalnetworkpolicies");
    vec![
        // What has no meaning at all.
        (
            gnp.0,
            gnp.1,
            "bad-action",
            json!({"selector": "has(nobody)", "ingress": [{"action": "Drop"}]}),
            "Drop",
        ),
        (
            gnp.0,
            gnp.1,
            "bad-list",
            json!({"selector": "has(nobody)", "ingress": [["Deny"]]}),
            "spec.ingress[0]: found a list",
        ),
        (gnp.0, gnp.1, "bad-type", json!({"selector": 5}), "5"),
        ("Tier", "tiers", "bad-tier", json!({"order": "first"}), "first"),
        (
            "HostEndpoint",
            "hostendpoints",
            "bad-port",
            json!({"node": "n1", "interfaceName": "eth9", "ports": [{"name": "x", "protocol": "TCP", "port": 70_000}]}),
            "70000",
        ),
        (
            "GlobalNetworkSet",
            "globalnetworksets",
            "bad-nets",
            json!({"nets": "10.0.0.0/8"}),
            "10.0.0.0/8",
        ),
        (
            "IPPool",
            "ippools",
            "bad-mode",
            json!({"cidr": "10.0.0.0/16", "vxlanMode": "always"}),
            "always",
        ),
        // What has a meaning in part.
        (
            gnp.0,
            gnp.1,
            "bad-selector",
            json!({"selector": "a ==", "ingress": [{"action": "Deny"}]}),
            "spec.selector",
        ),
        (
            gnp.0,
            gnp.1,
            "long-selector",
            json!({"selector": format!("has({})", "a".repeat(10_000)), "ingress": [{"action": "Deny"}]}),
            "spec.selector",
        ),
        (
            "GlobalNetworkSet",
            "globalnetworksets",
            "bad-cidr",
            json!({"nets": ["10.0.0.0/33"]}),
            "spec.nets[0]",
        ),
        // What has a meaning that the schema forbids.
        (
            gnp.0,
            gnp.1,
            "both-early",
            json!({"selector": "has(nobody)", "doNotTrack": true, "preDNAT": true, "applyOnForward": true}),
            "spec.preDNAT",
        ),
        (
            gnp.0,
            gnp.1,
            "not-forwarded",
            json!({"selector": "has(nobody)", "preDNAT": true, "types": ["Ingress"]}),
            "spec.applyOnForward",
        ),
        (
            gnp.0,
            gnp.1,
            "too-many-nets",
            deny_udp(json!({"source": {"nets": nets}})),
            "spec.ingress[0].source.nets",
        ),
        (
            gnp.0,
            gnp.1,
            "too-many-rules",
            json!({"order": 6, "selector": "has(nobody)", "types": ["Ingress"], "ingress": rules}),
            "spec.ingress",
        ),
        (
            gnp.0,
            gnp.1,
            "twice",
            json!({"order": 7, "selector": "has(nobody)", "types": ["Ingress", "Ingress"]}),
            "spec.types",
        ),
        (
            gnp.0,
            gnp.1,
            "bad-code",
            json!({"order": 5, "selector": "has(nobody)", "ingress": [{"action": "Allow", "protocol": "ICMP", "icmp": {"code": 3}}]}),
            "spec.ingress[0].icmp",
        ),
        (
            "Tier",
            "tiers",
            "default",
            json!({"order": 5, "defaultAction": "Pass"}),
            "spec.order",
        ),
        (
            "HostEndpoint",
            "hostendpoints",
            "nowhere",
            json!({"node": "n1"}),
            "spec.interfaceName",
        ),
        (
            "FelixConfiguration",
            "felixconfigurations",
            "node.n1",
            json!({"natOutgoingAddress": "fd00::1"}),
            "spec.natOutgoingAddress",
        ),
    ]
}

#[test]
fn netns_bad_objects_are_named_and_disturb_nobody() {
    netns!(240);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let (mut node, a, b) = world.two_pods(json!({}), json!({"app": "b"}));
    for port in [80, 81, 82] {
        echo(&b.ns, port);
    }
    let only = |port: u16| {
        json!({"order": 10, "selector": "app == 'b'", "types": ["Ingress"],
        "ingress": [{"action": "Allow", "protocol": "TCP", "destination": {"ports": [port]}}]})
    };
    world.put(Kind::GlobalNetworkPolicy, "good", only(80));
    // Half of it is there before the agent, half comes while it works.
    let bad = bad_objects();
    let (before, after) = bad.split_at(bad.len() / 2);
    for (kind, plural, name, spec, _) in before {
        put_object(&world, plural, kind, name, spec);
    }
    node.up();
    node.programmed(&b);
    reaches(&a.ns, b.both(), 80);
    blocked(&a.ns, b.both(), 81);
    for (kind, plural, name, spec, _) in after {
        put_object(&world, plural, kind, name, spec);
    }
    put_raw(&world, "globalnetworkpolicies", "no-json", "{\"kind\": ");
    for (kind, _, name, _, part) in &bad {
        is_named(&node, &format!("{kind} {name}"), part);
    }
    is_named(&node, "GlobalNetworkPolicy no-json", "");
    let of = |kind: &str| bad.iter().filter(|b| b.0 == kind).count() as f64;
    node.metric_is(
        "caracal_invalid_objects{kind=\"GlobalNetworkPolicy\"}",
        of("GlobalNetworkPolicy") + 1.0,
    );
    node.metric_is("caracal_invalid_objects{kind=\"Tier\"}", of("Tier"));
    node.metric_is(
        "caracal_invalid_objects{kind=\"HostEndpoint\"}",
        of("HostEndpoint"),
    );
    // Its neighbours work, and go on to change.
    node.ready();
    reaches(&a.ns, b.both(), 80);
    blocked(&a.ns, b.both(), 81);
    world.put(Kind::GlobalNetworkPolicy, "good", only(82));
    reaches(&a.ns, b.both(), 82);
    blocked(&a.ns, b.both(), 80);
    // Mended or gone, they are named no longer.
    for (kind, plural, name, ..) in &bad {
        let spec = match (*kind, *name) {
            ("Tier", "default") => json!({"order": 1_000_000, "defaultAction": "Deny"}),
            ("HostEndpoint", _) => json!({"node": "n9", "interfaceName": "eth9"}),
            ("IPPool", _) => json!({"cidr": "10.0.0.0/16"}),
            ("GlobalNetworkPolicy", _) => json!({"selector": "has(nobody)", "types": ["Ingress"]}),
            _ => json!({}),
        };
        put_object(&world, plural, kind, name, &spec);
    }
    world.delete(Kind::GlobalNetworkPolicy, "no-json");
    eventually(LONG, || match invalid(&node)? {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
    node.metric_is("caracal_invalid_objects{kind=\"GlobalNetworkPolicy\"}", 0.0);
    reaches(&a.ns, b.both(), 82);
    blocked(&a.ns, b.both(), 80);
}

#[test]
fn netns_large_and_odd_but_lawful_objects_are_enforced() {
    netns!(240);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let (mut node, a, b) = world.two_pods(
        json!({"quote": "it's", "words": "ünï \"quoted\" 😀"}),
        json!({"app": "b"}),
    );
    for port in [80, 81, 2000, 60_000] {
        echo(&b.ns, port);
    }
    // Two tiers of one order: the name decides, so that what the first says is not asked of the second.
    for (tier, action) in [("twin-a", "Allow"), ("twin-b", "Deny")] {
        world.put(Kind::Tier, tier, json!({"order": 100, "defaultAction": "Pass"}));
        let rule = json!({"action": action, "protocol": "TCP", "destination": {"ports": [80]}});
        world.put(
            Kind::GlobalNetworkPolicy,
            &format!("{tier}.p"),
            json!({"tier": tier, "order": 1, "selector": "app == 'b'", "types": ["Ingress"], "ingress": [rule]}),
        );
    }
    // 10 000 ports, in as many rules as it takes; then as many rules as a policy can have, of which the last matters.
    let ports: Vec<Value> = (0..200_u16)
        .map(|n| {
            let some: Vec<u16> = (0..50).map(|m| 1001 + 2 * (50 * n + m)).collect();
            json!({"action": "Deny", "protocol": "TCP", "destination": {"ports": some}})
        })
        .collect();
    world.put(
        Kind::GlobalNetworkPolicy,
        "ports",
        json!({"order": 1, "selector": "app == 'b'", "types": ["Ingress"], "ingress": ports}),
    );
    let mut rules: Vec<Value> = (0..1023)
        .map(|n| json!({"action": "Deny", "source": {"nets": [format!("10.{}.{}.0/24", 100 + n / 256, n % 256)]}}))
        .collect();
    rules.push(json!({"action": "Allow", "protocol": "TCP",
        "source": {"selector": "quote == \"it's\" && words == 'ünï \"quoted\" 😀'"}, "destination": {"ports": ["2000:2001", 60_000]}}));
    world.put(
        Kind::GlobalNetworkPolicy,
        "rules",
        json!({"order": 2, "selector": "app == 'b'", "types": ["Ingress"], "ingress": rules}),
    );
    node.up();
    node.programmed(&b);
    assert_eq!(invalid(&node), Ok(BTreeMap::new()));
    reaches(&a.ns, b.both(), 80);
    reaches(&a.ns, b.both(), 2000);
    reaches(&a.ns, b.both(), 60_000);
    blocked(&a.ns, b.both(), 81);
    // A policy in a tier that does not exist comes after all that do: what they allow stays allowed. Where only it
    // selects, its tier ends in Deny.
    world.put(
        Kind::GlobalNetworkPolicy,
        "lost",
        json!({"tier": "missing", "order": 1, "selector": "has(quote)", "types": ["Egress"],
            "egress": [{"action": "Allow", "protocol": "TCP", "destination": {"ports": [80]}}]}),
    );
    blocked(&a.ns, b.both(), 2000);
    reaches(&a.ns, b.both(), 80);
    world.put(
        Kind::Tier,
        "missing",
        json!({"order": 7, "defaultAction": "Pass"}),
    );
    reaches(&a.ns, b.both(), 2000);
}

#[test]
fn netns_what_is_refused_lets_nothing_through_and_opens_nothing() {
    netns!(300);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let (mut node, a, b) = world.two_pods(json!({}), json!({"app": "b"}));
    for port in [80, 81, 82] {
        echo(&b.ns, port);
    }
    let deny = |port: u16| {
        let of = |protocol| json!({"action": "Deny", "protocol": protocol, "destination": {"ports": [port]}});
        json!([of("TCP"), of("UDP")])
    };
    let shut = json!({"order": 10, "selector": "app == 'b'", "types": ["Ingress"], "ingress": deny(81)});
    let open = json!({"order": 20, "selector": "app == 'b'", "types": ["Ingress"], "ingress": [{"action": "Allow"}]});
    let with = |whole: &Value, field: &str, value: Value| {
        let mut whole = whole.clone();
        whole[field] = value;
        whole
    };
    let put = |name: &str, spec: &Value| {
        put_object(&world, "globalnetworkpolicies", "GlobalNetworkPolicy", name, spec);
    };
    put("shut", &shut);
    put("open", &open);
    node.up();
    node.programmed(&b);
    reaches(&a.ns, b.both(), 80);
    blocked(&a.ns, b.both(), 81);
    // Throughout, not one of these gets through: not in between either.
    let sink = Sink::new(&b.ns, 81);
    let flood = flood(&a.ns, b.both().into(), 81);
    for (spec, part) in [
        (with(&shut, "types", json!(["Ingress", "Ingress"])), "spec.types"),
        (with(&shut, "ingress", json!([["Deny"]])), "found a list"),
        (with(&shut, "ingress", json!([{"action": "Drop"}])), "Drop"),
        (
            with(&shut, "ingress", json!({"action": "Deny"})),
            "expected a sequence",
        ),
        (with(&shut, "order", json!("first")), "first"),
    ] {
        // What it says is not believed; what it kept closed stays closed, and all else it may have.
        put("shut", &spec);
        is_named(&node, "GlobalNetworkPolicy shut", part);
        blocked(&a.ns, b.both(), 80);
        blocked(&a.ns, b.both(), 81);
        flood.more_rounds(20);
        put("shut", &shut);
        reaches(&a.ns, b.both(), 80);
        blocked(&a.ns, b.both(), 81);
    }
    // Neither does an agent that never saw it otherwise.
    put("shut", &with(&shut, "ingress", json!([["Deny"]])));
    blocked(&a.ns, b.both(), 80);
    node.kill();
    node.up();
    node.programmed(&b);
    is_named(&node, "GlobalNetworkPolicy shut", "found a list");
    blocked(&a.ns, b.both(), 80);
    blocked(&a.ns, b.both(), 81);
    flood.more_rounds(20);
    put("shut", &shut);
    reaches(&a.ns, b.both(), 80);
    // One that only lets through lets nothing through, and leaves the rest to others.
    put("open", &with(&open, "types", json!(["Ingress", "Ingress"])));
    is_named(&node, "GlobalNetworkPolicy open", "spec.types");
    blocked(&a.ns, b.both(), 80);
    let only_82 = json!([{"action": "Allow", "protocol": "TCP", "destination": {"ports": [82]}}]);
    put(
        "other",
        &with(&with(&open, "order", json!(30)), "ingress", only_82),
    );
    reaches(&a.ns, b.both(), 82);
    blocked(&a.ns, b.both(), 80);
    put("open", &open);
    reaches(&a.ns, b.both(), 80);
    flood.end();
    assert_eq!(sink.arrived(), Vec::<std::net::IpAddr>::new());
    // A tier stays where it is, and its end denies.
    let first = |spec: Value| put_object(&world, "tiers", "Tier", "first", &spec);
    first(json!({"order": 1, "defaultAction": "Pass"}));
    put(
        "first.p",
        &json!({"tier": "first", "selector": "app == 'b'", "types": ["Ingress"], "ingress": deny(82)}),
    );
    blocked(&a.ns, b.both(), 82);
    reaches(&a.ns, b.both(), 80);
    first(json!({"order": 1, "defaultAction": "Drop"}));
    is_named(&node, "Tier first", "Drop");
    blocked(&a.ns, b.both(), 80);
    blocked(&a.ns, b.both(), 82);
    first(json!({"order": 1, "defaultAction": "Pass"}));
    reaches(&a.ns, b.both(), 80);
    // A profile denies.
    for name in ["shut", "open", "other", "first.p"] {
        world.delete(Kind::GlobalNetworkPolicy, name);
    }
    reaches(&a.ns, b.both(), 81);
    let everything = json!([{"action": "Allow"}]);
    let profile = |spec: &Value| put_object(&world, "profiles", "Profile", "kns.default", spec);
    profile(&json!({"ingress": [["Allow"]], "egress": everything}));
    is_named(&node, "Profile kns.default", "found a list");
    blocked(&a.ns, b.both(), 80);
    profile(&json!({"ingress": everything, "egress": everything}));
    reaches(&a.ns, b.both(), 80);
}

/// What no list of bad input names: bytes that are hardly an object, under keys that the agent watches.
#[test]
fn netns_what_is_hardly_an_object_is_named_and_disturbs_nobody() {
    netns!(240);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let (mut node, a, b) = world.two_pods(json!({}), json!({"app": "b"}));
    for port in [80, 81] {
        echo(&b.ns, port);
    }
    let only = json!({"order": 10, "selector": "app == 'b'", "types": ["Ingress"],
        "ingress": [{"action": "Allow", "protocol": "TCP", "destination": {"ports": [80]}}]});
    world.put(Kind::GlobalNetworkPolicy, "good", only);
    node.up();
    node.programmed(&b);
    reaches(&a.ns, b.both(), 80);
    blocked(&a.ns, b.both(), 81);
    let deep = format!("{{\"spec\":{}", "[".repeat(200_000));
    // Whom they select what stands in for them would close.
    let nobody = r#"{"selector":"has(nobody)"}"#;
    let twice = format!(r#"{{"metadata":{{"name":"twice"}},"spec":{nobody},"spec":{nobody}}}"#);
    let huge = format!(
        r#"{{"metadata":{{"name":"huge"}},"spec":{{"selector":"has(nobody)","ingress":[{{"action":"{}"}}]}}}}"#,
        "x".repeat(1_000_000)
    );
    for (name, value, part) in [
        ("empty", "", "EOF"),
        ("null", "null", "a map of fields"),
        ("number", "7", "a map of fields"),
        ("deep", &deep, "sequence"),
        ("twice", &twice, "duplicate field `spec`"),
        (
            "endless",
            r#"{"metadata":{"name":"endless"},"spec":{"order":1e999}}"#,
            "number out of range",
        ),
        ("huge", &huge, "spec.ingress[0].action"),
    ] {
        put_raw(&world, "globalnetworkpolicies", name, value);
        is_named(&node, &format!("GlobalNetworkPolicy {name}"), part);
    }
    let said = invalid(&node).unwrap();
    for (object, reason) in &said {
        assert!(reason.len() < 1000, "{object}: {} bytes", reason.len());
    }
    assert_eq!(said.len(), 7);
    node.ready();
    reaches(&a.ns, b.both(), 80);
    blocked(&a.ns, b.both(), 81);
}
