//! What the agent says of itself and its endpoints in the datastore.

use caracal_api::Kind;
use caracal_store::Subject;
use caracal_testkit::{eventually, needs, netns};
use serde_json::{Value, json};

use crate::world::{LONG, World};

fn workload(name: &str) -> Subject {
    Subject::Workload {
        orchestrator: "k8s".into(),
        workload: format!("default/{name}"),
        endpoint: "eth0".into(),
    }
}

fn of(world: &World, subject: &Subject) -> Option<Value> {
    world
        .reports()
        .into_iter()
        .find(|(s, _)| s == subject)
        .map(|(_, v)| v)
}

fn becomes(world: &World, subject: &Subject, want: Option<Value>) {
    eventually(LONG, || {
        let now = of(world, subject);
        if now == want {
            Ok(())
        } else {
            Err(format!("{subject:?}: {now:?}"))
        }
    });
}

fn host(name: &str) -> Subject {
    Subject::Host {
        endpoint: name.into(),
    }
}

fn state(text: &str) -> Option<Value> {
    Some(json!({ "status": text }))
}

#[test]
fn netns_reports_follow_the_endpoints_and_go_with_the_agent() {
    netns!(240);
    needs!("root", "ip", "nft", "sh");
    let mut world = World::new();
    let (mut node, a, b) = world.two_pods(json!({}), json!({}));
    node.up();
    node.programmed(&b);
    assert_eq!(world.reports(), [], "nobody asked for reports");

    world.configure(json!({
        "endpointReportingEnabled": true, "endpointReportingDelay": "10ms", "reportingInterval": "1s", "reportingTTL": "4s",
    }));
    becomes(&world, &workload("a"), state("up"));
    becomes(&world, &workload("b"), state("up"));
    let first = of(&world, &Subject::LastSeen).unwrap();
    assert!(
        first["time"].is_string() && first["uptime"].is_number(),
        "{first}"
    );
    eventually(LONG, || match of(&world, &Subject::Agent) {
        Some(v) if v["first_update"] == json!(false) && v["uptime"].as_f64() > first["uptime"].as_f64() => {
            Ok(())
        }
        other => Err(format!("{other:?}")),
    });

    node.sh(&format!("ip link set {} down", a.interface));
    becomes(&world, &workload("a"), state("down"));
    node.sh(&format!("ip link set {} up", a.interface));
    becomes(&world, &workload("a"), state("up"));
    b.withdraw(&world);
    becomes(&world, &workload("b"), None);

    // Host endpoints: by name, by address, for all interfaces, on one that is not there, and those of other nodes.
    for name in ["h0", "h1"] {
        node.sh(&format!(
            "ip link add {name} type veth peer name {name}p; ip link set {name} up; ip link set {name}p up"
        ));
    }
    node.sh("ip address add 192.0.2.7/32 dev h1");
    for (name, spec) in [
        ("by-name", json!({ "node": "n1", "interfaceName": "h0" })),
        (
            "by-address",
            json!({ "node": "n1", "expectedIPs": ["192.0.2.7"] }),
        ),
        ("all", json!({ "node": "n1", "interfaceName": "*" })),
        ("missing", json!({ "node": "n1", "interfaceName": "h9" })),
        ("elsewhere", json!({ "node": "n2", "interfaceName": "h0" })),
    ] {
        world.put(Kind::HostEndpoint, name, spec);
    }
    for (name, word) in [
        ("by-name", "up"),
        ("by-address", "up"),
        ("all", "up"),
        ("missing", "error"),
    ] {
        becomes(&world, &host(name), state(word));
    }
    assert_eq!(of(&world, &host("elsewhere")), None);
    node.sh("ip link set h0 down");
    becomes(&world, &host("by-name"), state("down"));
    node.sh("ip link set h0 up; ip address delete 192.0.2.7/32 dev h1; ip link add h9 type veth peer name h9p; ip link set h9p up; ip link set h9 up");
    becomes(&world, &host("by-name"), state("up"));
    becomes(&world, &host("by-address"), state("error"));
    becomes(&world, &host("missing"), state("up"));
    for name in ["by-name", "by-address", "all", "missing"] {
        world.delete(Kind::HostEndpoint, name);
        becomes(&world, &host(name), None);
    }

    // The datastore dies and comes back: reports do, too.
    world.kill_store();
    world.start_store();
    b.announce(&world, json!({}));
    becomes(&world, &workload("b"), state("up"));

    // The agent dies: what it said of the living goes, when it was last seen stays.
    node.kill();
    eventually(LONG, || match world.reports().as_slice() {
        [(Subject::LastSeen, _)] => Ok(()),
        other => Err(format!("{other:?}")),
    });
    // What went away meanwhile is not reported by the next one.
    b.withdraw(&world);
    node.up();
    becomes(&world, &workload("a"), state("up"));
    becomes(&world, &workload("b"), None);
}
