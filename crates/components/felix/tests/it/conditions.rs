//! What the agents write into the status of pools and tiers that they refuse.

use caracal_api::Kind;
use caracal_testkit::{eventually, needs, netns};
use caracal_wire::etcdserverpb::{RangeRequest, kv_client::KvClient};
use serde_json::{Value, json};

use crate::{
    bad_input::{is_named, put_raw},
    world::{LONG, World, block_on, channel},
};

/// An object as it is stored, and how often it was written.
fn stored(world: &World, plural: &str, name: &str) -> (Value, i64) {
    let socket = world.dir.path().join("store.sock");
    let request = RangeRequest {
        key: format!("/calico/resources/v3/projectcalico.org/{plural}/{name}").into(),
        ..RangeRequest::default()
    };
    let pairs = block_on(async {
        let mut client = KvClient::new(channel(socket).await?);
        let answer = client.range(request).await.map_err(|e| e.to_string())?;
        Ok::<_, String>(answer.into_inner().kvs)
    });
    let pair = pairs.unwrap().pop().unwrap();
    (serde_json::from_slice(&pair.value).unwrap(), pair.version)
}

/// What the agents wrote, and the object without it.
fn taken_apart(mut object: Value) -> (Option<Value>, Value) {
    let conditions = object["status"]["conditions"].as_array_mut();
    let ours = conditions.and_then(|all| {
        let at = all.iter().position(|c| c["type"] == "Accepted")?;
        Some(all.remove(at))
    });
    (ours, object)
}

/// Waits until the status names a part of the object, or nothing; what it says, and the rest of the object.
fn says(world: &World, plural: &str, name: &str, part: Option<&str>) -> (Value, Value) {
    eventually(LONG, || {
        let (ours, rest) = taken_apart(stored(world, plural, name).0);
        let message = ours.as_ref().and_then(|c| c["message"].as_str());
        match (message, part) {
            (None, None) => Ok((Value::Null, rest)),
            (Some(message), Some(part)) if message.contains(part) => Ok((ours.unwrap(), rest)),
            other => Err(format!("{plural}/{name}: {other:?}")),
        }
    })
}

#[test]
fn netns_the_status_of_what_is_refused_says_so_and_one_agent_writes_it() {
    netns!(300);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let mut nodes = ["n1", "n2"].map(|n| world.node(n));
    for node in &mut nodes {
        node.up();
    }
    let object = |kind: &str, name: &str, spec: Value| {
        json!({"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": {"name": name, "later": 1},
            "spec": spec, "later": [2], "status": {"later": 3, "conditions": [{"type": "Ready", "status": "True",
            "reason": "OK", "message": "", "lastTransitionTime": "2026-01-02T03:04:05Z", "later": 4}]}})
    };
    // Two whose rules are broken, one that cannot be read, and three of which nothing can stand in force.
    let bad = [
        (
            "IPPool",
            "ippools",
            "lawless",
            json!({"cidr": "10.70.0.1/16", "later": 5}),
            "spec.cidr",
        ),
        (
            "Tier",
            "tiers",
            "kube-admin",
            json!({"order": 5, "defaultAction": "Pass"}),
            "spec.order",
        ),
        (
            "IPPool",
            "ippools",
            "odd",
            json!({"cidr": "10.71.0.0/16", "vxlanMode": "always"}),
            "spec.vxlanMode: \"always\" is not allowed here; allowed are Never, Always, CrossSubnet",
        ),
        (
            "IPPool",
            "ippools",
            "nowhere",
            json!({"cidr": 10}),
            "spec.cidr: found integer `10`, expected a string",
        ),
        (
            "IPPool",
            "ippools",
            "listed",
            json!(["10.72.0.0/16"]),
            "spec: found a list, expected a map of fields",
        ),
        (
            "Tier",
            "tiers",
            "unplaced",
            json!({"order": "first", "defaultAction": "Deny"}),
            "spec.order: found string \"first\", expected f64",
        ),
    ];
    for (kind, plural, name, spec, part) in &bad {
        let written = object(kind, name, spec.clone());
        put_raw(&world, plural, name, &written.to_string());
        let (ours, rest) = says(&world, plural, name, Some(part));
        assert_eq!(
            (&ours["status"], &ours["reason"]),
            (&json!("False"), &json!("Invalid"))
        );
        // All else is as it was written.
        assert_eq!(rest, written);
    }
    let shown = world.dir.path().join("shown");
    world
        .tool("calicoctl", "get ippool lawless -o yaml", &shown)
        .wait();
    let shown = std::fs::read_to_string(&shown).unwrap();
    assert!(
        shown.contains("type: Accepted") && shown.contains("spec.cidr"),
        "{shown}"
    );
    // Another fault: since when it is refused stays.
    let since = says(&world, "ippools", "lawless", Some("spec.cidr")).0["lastTransitionTime"].clone();
    world.put(
        Kind::IpPool,
        "lawless",
        json!({"cidr": "10.70.0.0/16", "blockSize": 99}),
    );
    let (ours, _) = says(&world, "ippools", "lawless", Some("spec.blockSize"));
    assert_eq!(ours["lastTransitionTime"], since);
    // An agent that starts finds what the others wrote.
    nodes[0].kill();
    nodes[0].up();
    is_named(&nodes[0], "IPPool lawless", "spec.blockSize");
    is_named(&nodes[0], "IPPool odd", "spec.vxlanMode");
    is_named(&nodes[0], "IPPool nowhere", "spec.cidr");
    is_named(&nodes[0], "Tier unplaced", "spec.order");
    // Mended, it is said no longer; what others say stays.
    for (kind, plural, name, spec) in [
        (
            Kind::IpPool,
            "ippools",
            "lawless",
            json!({"cidr": "10.70.0.0/16", "blockSize": 26}),
        ),
        (
            Kind::Tier,
            "tiers",
            "kube-admin",
            json!({"order": 1000, "defaultAction": "Pass"}),
        ),
        (
            Kind::IpPool,
            "ippools",
            "odd",
            json!({"cidr": "10.71.0.0/16", "vxlanMode": "Always"}),
        ),
        (
            Kind::IpPool,
            "ippools",
            "nowhere",
            json!({"cidr": "10.73.0.0/16"}),
        ),
        (Kind::IpPool, "ippools", "listed", json!({"cidr": "10.72.0.0/16"})),
        (
            Kind::Tier,
            "tiers",
            "unplaced",
            json!({"order": 5, "defaultAction": "Deny"}),
        ),
    ] {
        world.put(kind, name, spec);
        let (_, rest) = says(&world, plural, name, None);
        assert_eq!(rest["status"], object("", "", json!({}))["status"]);
    }
    // Nothing was written twice: each change of ours, and one answer of the agents to each.
    for ((_, plural, name, ..), times) in bad.iter().zip([6, 4, 4, 4, 4, 4]) {
        assert_eq!(stored(&world, plural, name).1, times, "{plural}/{name}");
    }
}
