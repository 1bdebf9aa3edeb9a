use serde_json::json;

use super::*;

const CLUSTER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: x, labels: {app: a}}
spec: {containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: x, labels: {app: b}}
spec: {containers: [{name: c}]}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: p, namespace: x}
spec:
  selector: app == 'a'
  types: [Ingress]
  ingress:
    - action: Log
    - {action: Allow, protocol: TCP, source: {selector: app == 'b'}, destination: {ports: [http]}}
    - {action: Allow, protocol: UDP, destination: {ports: [53]}}
";

fn judge(tests: serde_json::Value) -> Verdicts {
    let mut state = State::default();
    let mut problems = Vec::new();
    state.read("x.yaml", CLUSTER, &mut problems);
    state.complete();
    crate::give_addresses(&mut [&mut state]);
    let mut suite = Suite::default();
    suite.read("t.yaml", &json!({"tests": tests}), &mut problems);
    assert_eq!(problems, Vec::<String>::new());
    suite.judge(&state)
}

#[test]
fn assertions_are_judged_and_rules_counted() {
    let verdicts = judge(json!([
        {"from": "x/b", "to": "x/a", "port": "http", "expect": "allow"},
        {"from": "x/b", "to": {"selector": "app == 'a'"}, "port": 81, "expect": "deny"},
        {"from": "192.0.2.1", "to": "x/a", "port": "TCP/8080", "expect": "allow"},
        {"from": "x/a", "to": "192.0.2.1", "port": "ICMP", "expect": "allow"},
        {"from": "x/a", "to": "x/nobody", "port": 1, "expect": "deny"},
    ]));
    let passed: Vec<bool> = verdicts.outcomes.iter().map(|o| o.passed).collect();
    assert_eq!(passed, [true, true, false, true, false]);
    assert!(
        verdicts.outcomes[2].failures[0].contains("end of tier default"),
        "{verdicts:?}"
    );
    assert!(
        verdicts.outcomes[4].failures[0].contains("there is no x/nobody"),
        "{verdicts:?}"
    );
    let coverage = &verdicts.coverage;
    assert_eq!((coverage.rules, coverage.covered), (2, 1));
    assert_eq!(
        coverage.uncovered,
        [("NetworkPolicy/x/p".to_owned(), "ingress[2]".to_owned())]
    );
}

#[test]
fn mistakes_are_named() {
    for (test, part) in [
        (
            json!({"from": "b", "to": "x/a", "port": 1, "expect": "deny"}),
            "from: \"b\" is neither",
        ),
        (
            json!({"from": "x/b", "to": "x/a", "port": "TCP", "expect": "deny"}),
            "port: \"TCP\" needs a port",
        ),
        (
            json!({"from": "x/b", "to": "x/a", "port": 1, "expect": "maybe"}),
            "allow or deny",
        ),
        (
            json!({"from": "x/b", "to": {"selector": "a ="}, "port": 1, "expect": "deny"}),
            "to: selector",
        ),
        (
            json!({"from": "x/b", "to": "x/a", "port": 1, "expect": "deny", "x": 1}),
            "unknown field `x`",
        ),
    ] {
        let (mut suite, mut problems) = (Suite::default(), Vec::new());
        suite.read("t.yaml", &json!({"tests": [test]}), &mut problems);
        assert!(problems.len() == 1 && problems[0].contains(part), "{problems:?}");
        assert!(problems[0].starts_with("t.yaml, tests[0]: "), "{problems:?}");
    }
}
