use std::path::Path;
use std::time::Duration;

use caracal_testkit::{NetNs, eventually, missing, needs};
use serde_json::Value;

use crate::world::{as_expected, down, good, lab, lab_command, labs, machine, probe, status};

/// The manifests that `make lab` uses.
const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../examples/lab");

fn write(name: &str, text: &str) -> String {
    let path = format!("/run/{name}.yaml");
    std::fs::write(&path, text).unwrap();
    path
}

/// The agents' process numbers by node, 0 for none.
fn agents() -> Vec<u64> {
    let status = status();
    let nodes = status["nodes"].as_array().unwrap().iter();
    nodes.map(|n| n["pid"].as_u64().unwrap_or_default()).collect()
}

#[test]
fn netns_the_shop_from_up_to_down() {
    machine!(180);
    good(&["up", "--pods-per-node", "0", "-f", EXAMPLES]);
    let (allowed, blocked) = as_expected();
    assert!(
        allowed >= 10 && blocked >= 10,
        "{allowed} allowed, {blocked} blocked"
    );
    // Nothing changes when it is said again.
    let again = good(&["apply", "-f", EXAMPLES]);
    assert!(again.lines().all(|l| l.ends_with(" unchanged")), "{again}");
    good(&["up", "--pods-per-node", "0"]);

    // A label that changes changes what the pod may do.
    let visitor = "apiVersion: v1\nkind: Pod\nmetadata: {name: visitor, labels: {app: visitor, quarantine: 'yes'}}\n\
                   spec: {containers: [{name: shell}]}\n";
    let visitor = write("visitor", visitor);
    assert!(good(&["apply", "-f", &visitor]).contains("visitor configured"));
    let (probes, differences) = probe();
    assert_eq!(differences, 0);
    let of_visitor: Vec<_> = probes.iter().filter(|p| p.0 == "default/visitor").collect();
    assert!(
        !of_visitor.is_empty() && of_visitor.iter().all(|p| p.5 == "blocked"),
        "{of_visitor:?}"
    );

    // What a killed agent put into the kernel stays in force.
    let node = status()["pods"]
        .as_array()
        .unwrap()
        .iter()
        .find(|p| p["name"] == "cart")
        .unwrap()["node"]
        .clone();
    let node = node.as_str().unwrap();
    let before = agents();
    good(&["node", "kill", node]);
    as_expected();
    good(&["node", "start", node]);
    assert!(agents().iter().all(|pid| *pid > 0) && agents() != before);
    as_expected();

    let whereami = lab(&["exec", "shop/cart", "--", "sh", "-c", "cat /proc/net/dev; exit 3"]);
    assert_eq!(whereami.code, Some(3), "{}", whereami.err);
    assert!(whereami.out.contains("eth0"), "{}", whereami.out);

    let gone = good(&["delete", "-f", EXAMPLES]);
    assert!(gone.lines().all(|l| l.ends_with(" deleted")), "{gone}");
    assert_eq!(status()["pods"], Value::Array(Vec::new()));
    down();
    assert!(good(&["down"]).contains("does not exist"));
}

#[test]
fn netns_etcd_two_families_and_no_encapsulation() {
    machine!(120);
    needs!("etcd");
    good(&[
        "up",
        "--nodes",
        "2",
        "--pods-per-node",
        "2",
        "--encap",
        "none",
        "--datastore",
        "etcd",
        "--dual-stack",
    ]);
    let (allowed, blocked) = as_expected();
    // Four pods with a port each, in both families.
    assert_eq!((allowed, blocked), (24, 0));
    let deny = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: deny}\n\
                spec: {podSelector: {matchLabels: {app: pod-1}}, policyTypes: [Ingress]}\n";
    let deny = write("deny", deny);
    good(&["apply", "-f", &deny]);
    assert_eq!(as_expected(), (18, 6));
    good(&["delete", "-f", &deny]);
    assert_eq!(as_expected(), (24, 0));
    let links = lab(&["node", "exec", "node-1", "--", "cat", "/proc/net/dev"]);
    assert!(
        links.out.contains("eth0") && !links.out.contains("vxlan"),
        "{}",
        links.out
    );
    down();
}

#[test]
fn netns_an_interrupted_up_or_down_is_finished() {
    machine!(240);
    let dir = Path::new(&labs()).join("lab");
    let at = |path: &str| {
        let path = dir.join(path);
        move || path.exists()
    };
    let pod = || NetNs::list().unwrap().iter().any(|n| n.contains(".default."));
    type Moment = Box<dyn Fn() -> bool>;
    let moments: [(&str, Moment); 5] = [
        ("the state", Box::new(at("state.json"))),
        ("the datastore's log", Box::new(at("logs/datastore.log"))),
        ("a node's name", Box::new(at("nodes/node-2/lib/nodename"))),
        ("an agent", Box::new(at("nodes/node-1/run/agent.sock"))),
        ("a pod", Box::new(pod)),
    ];
    for (name, moment) in moments {
        let mut up = lab_command(&["up", "--nodes", "2"]).spawn().unwrap();
        eventually(Duration::from_secs(60), || {
            if moment() { Ok(()) } else { Err(name.to_owned()) }
        });
        up.kill().unwrap();
        up.wait().unwrap();
        // Too early for anything else.
        let early = lab(&["probe"]);
        if early.code != Some(0) {
            assert!(early.err.contains("lab up"), "{name}: {}", early.err);
        }
        good(&["up", "--nodes", "2"]);
        assert_eq!(as_expected(), (12, 0), "{name}");
        let mut ending = lab_command(&["down"]).spawn().unwrap();
        eventually(Duration::from_secs(60), || {
            match std::fs::read_to_string(dir.join("state.json")) {
                Ok(text) if !text.contains("\"ending\"") => Err("not ending".to_owned()),
                _ => Ok(()),
            }
        });
        // It may have come to its end.
        let _ = ending.kill();
        ending.wait().unwrap();
        down();
    }
}

#[test]
fn netns_ip_in_ip_is_refused_by_a_kernel_without_it_before_anything_is_made() {
    machine!(60);
    needs!(if missing(&["link:ipip"]).is_some(), "a kernel without ipip");
    let refused = lab(&["up", "--encap", "ipip"]);
    assert_eq!(refused.code, Some(1), "{}", refused.out);
    for word in ["IP-in-IP", "modprobe ipip", "--encap vxlan"] {
        assert!(refused.err.contains(word), "{}", refused.err);
    }
    let nothing = lab(&["status"]);
    assert!(
        nothing.code == Some(1) && nothing.err.contains("lab up"),
        "{}",
        nothing.err
    );
    assert_eq!(NetNs::list().unwrap(), [] as [&str; 0]);
}

#[test]
fn netns_bad_input_is_told_and_changes_nothing() {
    machine!(120);
    let none = lab(&["probe"]);
    assert!(
        none.code == Some(1) && none.err.contains("lab up"),
        "{}",
        none.err
    );
    good(&["up", "--nodes", "1", "--pods-per-node", "2"]);
    let before = (status(), probe());
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c}]}\n---\n";
    let policy = |spec: &str| {
        format!(
            "{pod}apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{name: p}}\nspec: {spec}\n"
        )
    };
    let cases = [
        ("a: [", "document 1"),
        (
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: p}\n",
            "Deployment",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: p}\nspec: {ports: [{port: 80, protocol: ICMP}]}\n",
            "ICMP",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: p, namespace: void}\n",
            "void",
        ),
        (&policy("{selector: 'app =='}"), "selector"),
        (&policy("{selecter: all()}"), "spec.selecter"),
        (&policy("{tier: nowhere}"), "nowhere"),
        (
            &policy("{ingress: [{action: Allow, source: {nets: [10.0.0.0/99]}}]}"),
            "10.0.0.0/99",
        ),
        (
            &policy("{ingress: [{action: Allow, destination: {ports: [80]}}]}"),
            "protocol",
        ),
        (&format!("{pod}{pod}"), "twice"),
        (
            &format!("{pod}apiVersion: v1\nkind: Pod\nmetadata: {{name: q, namespace: void}}\n"),
            "void",
        ),
        (
            &format!("{pod}apiVersion: v1\nkind: Pod\nmetadata: {{name: q}}\nspec: {{nodeName: node-9}}\n"),
            "node-9",
        ),
        (
            &format!("{pod}apiVersion: v1\nkind: Pod\nmetadata: {{name: Q}}\n"),
            "metadata.name",
        ),
        (
            &format!(
                "{pod}apiVersion: v1\nkind: Pod\nmetadata: {{name: q}}\nspec: {{containers: [{{ports: [{{containerPort: 0}}]}}]}}\n"
            ),
            "containerPort",
        ),
        (
            &format!(
                "{pod}apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {{name: q}}\nspec: {{cidr: 10.65.1.0/24}}\n"
            ),
            "overlaps",
        ),
    ];
    for (text, said) in cases {
        let file = write("bad", text);
        let refused = lab(&["apply", "-f", &file]);
        assert_eq!(refused.code, Some(1), "{text}");
        assert!(
            refused.err.contains("bad.yaml") && refused.err.contains(said),
            "{text}: {}",
            refused.err
        );
    }
    for (args, said) in [
        (&["apply", "-f", "/run/nowhere.yaml"][..], "/run/nowhere.yaml"),
        (&["exec", "nobody", "--", "true"], "nobody"),
        (&["node", "kill", "node-7"], "node-7"),
        (&["up", "--nodes", "2"], "--nodes 1"),
    ] {
        let refused = lab(args);
        assert_eq!(refused.code, Some(1), "{args:?}");
        assert!(refused.err.contains(said), "{args:?}: {}", refused.err);
    }
    assert_eq!(lab(&["exec", "pod-1", "--", "/no/such/program"]).code, Some(127));
    assert_eq!((status(), probe()), before);
    down();
}

/// A client whose only way out is a service, and pods that are behind it or not.
const SERVICES: &str = "apiVersion: v1
kind: Pod
metadata: {name: client, labels: {app: client}}
spec: {containers: [{name: c, ports: [{containerPort: 9}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db-1, labels: {app: db}}
spec: {containers: [{name: c, ports: [{name: sql, containerPort: 5432}, {containerPort: 99}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec: {containers: [{name: c, ports: [{name: sql, containerPort: 5432}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: 10.96.0.10, selector: {app: db}, ports: [{port: 3306, targetPort: sql}]}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: client, namespace: default}
spec:
  selector: app == 'client'
  types: [Egress]
  egress: [{action: Allow, destination: {services: {name: db}}}]
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: client-in, namespace: default}
spec:
  selector: app == 'client'
  types: [Ingress]
  ingress: [{action: Allow, source: {services: {name: db}}}]
";

/// What was measured from one pod to another's port.
fn measured(from: &str, to: &str, port: u64) -> Vec<String> {
    let (probes, differences) = probe();
    assert_eq!(differences, 0, "{probes:#?}");
    let fits = |p: &&crate::world::Probe| p.0 == from && p.1 == to && p.3 == port;
    probes.iter().filter(fits).map(|p| p.5.clone()).collect()
}

#[test]
fn netns_services_are_matched_as_their_pods_come_and_go() {
    machine!(180);
    good(&["up", "--nodes", "2", "--pods-per-node", "0", "--dual-stack"]);
    let all = write("services", SERVICES);
    good(&["apply", "-f", &all]);
    let (allowed, blocked) = (vec!["allowed".to_owned(); 2], vec!["blocked".to_owned(); 2]);
    // Out: to the pods behind the service, at the port that it leads to. In: from them, whatever the port.
    assert_eq!(measured("default/client", "default/db-1", 5432), allowed);
    assert_eq!(measured("default/client", "default/db-1", 99), blocked);
    assert_eq!(measured("default/client", "default/web", 5432), blocked);
    assert_eq!(measured("default/db-1", "default/client", 9), allowed);
    assert_eq!(measured("default/web", "default/client", 9), blocked);
    // A new pod is behind it, with a port of its own under the name.
    let second = SERVICES.split("---").nth(1).unwrap();
    let second = second.replace("db-1", "db-2").replace("5432", "6000");
    let second = write("second", &second);
    good(&["apply", "-f", &second]);
    assert_eq!(measured("default/client", "default/db-2", 6000), allowed);
    assert_eq!(measured("default/client", "default/db-1", 5432), allowed);
    // A new label takes one in, or out; why knows it too, from the datastore and the kernel.
    let relabelled = SERVICES
        .split("---")
        .nth(2)
        .unwrap()
        .replace("app: web", "app: db");
    good(&["apply", "-f", &write("relabelled", &relabelled)]);
    assert_eq!(measured("default/client", "default/web", 5432), allowed);
    let why = |to: &str, port: &str| {
        let program = crate::world::program().display().to_string();
        let words = ["node", "exec", "1", "--", &program, "why", "client", to, port];
        let said = lab(&words);
        (said.code, said.out + &said.err)
    };
    let (code, said) = why("web", "5432/tcp");
    assert!(
        code == Some(0) && said.contains("NetworkPolicy default/client egress[0]"),
        "{said}"
    );
    let (code, said) = why("web", "99/tcp");
    assert_eq!(code, Some(1), "{said}");
    let (code, said) = why("svc:db", "3306/tcp");
    assert!(
        code == Some(0) && said.contains("10.96.0.10:3306 (TCP) is translated to"),
        "{said}"
    );
    // A pod that goes, a service that goes.
    good(&["delete", "-f", &second]);
    assert_eq!(measured("default/client", "default/db-1", 5432), allowed);
    let service = write("service", SERVICES.split("---").nth(3).unwrap());
    good(&["delete", "-f", &service]);
    assert_eq!(measured("default/client", "default/db-1", 5432), blocked);
    assert_eq!(measured("default/db-1", "default/client", 9), blocked);
    down();
}
