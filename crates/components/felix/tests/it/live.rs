//! `caracal watch drops` and `caracal top` ask a real agent about real packets.

use caracal_api::Kind;
use caracal_testkit::{eventually, needs, netns};
use serde_json::{Value, json};

use crate::{
    traffic::{echo, reaches, talk},
    world::{LONG, World},
};

fn read(path: &std::path::Path) -> Result<Value, String> {
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    // The programs run as tests of this program, which says so first.
    let json = text.find('{').map_or("", |at| &text[at..]);
    serde_json::from_str(json).map_err(|e| format!("{e}: {text}"))
}

#[test]
fn netns_what_is_denied_and_what_rules_decide_is_told() {
    netns!(180);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let (mut node, a, b) = world.two_pods(json!({"app": "a"}), json!({"app": "b"}));
    for port in [80, 81] {
        echo(&b.ns, port);
    }
    let policy = json!({"order": 10, "selector": "app == 'b'", "types": ["Ingress"], "ingress": [
        {"action": "Deny", "protocol": "TCP", "destination": {"ports": [81]}},
        {"action": "Allow", "protocol": "TCP"},
    ]});
    world.put(Kind::NetworkPolicy, "default/default.web", policy);
    // One of Kubernetes', which allows nothing.
    let none = json!({"order": 1000, "selector": "projectcalico.org/orchestrator == 'k8s' && app == 'a'",
                      "types": ["Ingress"]});
    world.put(Kind::NetworkPolicy, "default/knp.default.closed", none);
    node.up();
    node.programmed(&a);
    node.programmed(&b);
    let socket = node.dir.join("run/agent.sock").display().to_string();

    // The agent looks at packets only while somebody watches: one is sent until one was told.
    let denied = |from: &crate::world::Pod, to: std::net::IpAddr, port| {
        let out = world.dir.path().join(format!("drops-{to}-{port}"));
        let args = format!(
            "drops --agent {socket} --count 1 -o json --pod default/{}",
            from.name
        );
        let mut watch = world.tool("watch", &args, &out);
        eventually(LONG, || {
            let _ = talk(&from.ns, to, port);
            match watch.0.try_wait().unwrap() {
                Some(status) if status.success() => Ok(()),
                Some(status) => panic!("{status}"),
                None => Err("nothing was told".into()),
            }
        });
        read(&out).unwrap()
    };
    for to in b.both() {
        let told = denied(&a, to, 81);
        assert_eq!(told["source"]["name"], "default/a", "{told}");
        assert_eq!(told["destination"]["name"], "default/b", "{told}");
        assert_eq!(told["destination"]["port"], 81, "{told}");
        assert_eq!(
            (&told["node"], &told["endpoint"]),
            (&json!("n1"), &json!("default/b")),
            "{told}"
        );
        let by = &told["decidedBy"];
        assert_eq!(
            (&by["kind"], &by["rule"]),
            (&json!("NetworkPolicy"), &json!(0)),
            "{told}"
        );
        assert_eq!(
            (&by["direction"], &by["tier"]),
            (&json!("ingress"), &json!("default")),
            "{told}"
        );
    }
    let told = denied(&b, a.v4, 80);
    assert_eq!(
        (&told["endpoint"], &told["decidedBy"]["what"]),
        (&json!("default/a"), &json!("endOfTier")),
        "{told}"
    );

    reaches(&a.ns, b.both(), 80);
    let out = world.dir.path().join("top");
    let rules = |more: &str| {
        let code = world
            .tool("top", &format!("--agent {socket} -o json {more}"), &out)
            .wait();
        assert_eq!(code, 0);
        read(&out).unwrap()["rules"].as_array().unwrap().clone()
    };
    eventually(LONG, || {
        let all = rules("--name default.web -l 0");
        let count = |rule: u64| {
            let of = all
                .iter()
                .filter(|r| r["rule"] == rule && r["direction"] == "ingress");
            of.map(|r| r["packets"].as_u64().unwrap_or(0)).sum::<u64>()
        };
        if count(0) >= 2 && count(1) >= 2 {
            Ok(())
        } else {
            Err(format!("{all:?}"))
        }
    });
    let never = rules("--never-hit -l 0");
    assert!(never.iter().all(|r| r["packets"] == 0), "{never:?}");
    assert!(!never.iter().any(|r| r["name"] == "default.web"), "{never:?}");
}
