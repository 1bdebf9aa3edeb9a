use serde_json::Value;
use tempfile::tempdir;

use crate::rig::{changed, example, file, run};

#[test]
fn the_example_is_clean() {
    let ran = run(&["lint", &example("lab")]);
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (0, "Nothing was found.\n"),
        "{}",
        ran.err
    );
}

#[test]
fn findings_say_where_and_what_to_do() {
    let dir = tempdir().unwrap();
    let new = changed(
        dir.path(),
        &[(
            "selector: app == 'orders'\n  types",
            "selector: app == 'order'\n  types",
        )],
    );
    let ran = run(&["lint", &new]);
    let expected =
        "warning[selects-nothing] NetworkPolicy/shop/orders: no workload or host endpoint is selected by it
  fix: correct the selectors (labels, namespace, service account), or delete the policy
1 finding.
";
    assert_eq!((ran.code, ran.out.as_str()), (1, expected));
    let ran = run(&["lint", &new, "-o", "json"]);
    let value: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(value["findings"][0]["id"], "selects-nothing");
    assert_eq!(ran.code, 1);
}

#[test]
fn several_paths_are_one_state() {
    let dir = tempdir().unwrap();
    let extra = file(
        dir.path(),
        "extra.yaml",
        "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: nowhere.p, namespace: shop}\nspec: {tier: nowhere, selector: app == 'cart', types: [Ingress], ingress: [{action: Log}]}\n",
    );
    let ran = run(&["lint", &example("lab"), &extra]);
    assert_eq!(ran.code, 1);
    for part in [
        "error[missing-tier] NetworkPolicy/shop/nowhere.p",
        "error[log-only-drops] NetworkPolicy/shop/nowhere.p ingress[0]",
    ] {
        assert!(ran.out.contains(part), "{}", ran.out);
    }
}

/// A pod, and a host endpoint of its node that a policy governs.
const CLUSTER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: x, labels: {app: a}}
spec: {nodeName: n1, containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}
";

/// A finding, what it is found in, its line and what the line begins with.
const FINDINGS: &[(&str, &str, &str)] = &[
    (
        "shadowed-rule",
        "{selector: app == 'a', types: [Ingress], ingress: [{action: Deny, protocol: TCP}, {action: Allow, protocol: TCP}]}",
        "warning[shadowed-rule] NetworkPolicy/x/p ingress[1]: ",
    ),
    (
        "selects-nothing",
        "{selector: app == 'z', types: [Ingress], ingress: [{action: Allow}]}",
        "warning[selects-nothing] NetworkPolicy/x/p: ",
    ),
    (
        "rule-matches-nothing",
        "{selector: app == 'a', types: [Ingress], ingress: [{action: Allow, source: {selector: app == 'z'}}]}",
        "warning[rule-matches-nothing] NetworkPolicy/x/p ingress[0]: ",
    ),
    (
        "log-only-drops",
        "{selector: app == 'a', types: [Ingress], ingress: [{action: Log}]}",
        "error[log-only-drops] NetworkPolicy/x/p ingress[0]: ",
    ),
    (
        "http-not-enforced",
        "{selector: app == 'a', types: [Ingress], ingress: [{action: Allow, http: {methods: [GET]}}]}",
        "error[http-not-enforced] NetworkPolicy/x/p ingress[0]: ",
    ),
    (
        "missing-tier",
        "{tier: nowhere, selector: app == 'a', types: [Ingress], ingress: [{action: Allow}]}",
        "error[missing-tier] NetworkPolicy/x/p: ",
    ),
    (
        "host-network-open",
        "{selector: app == 'a', types: [Ingress], ingress: [{action: Allow}]}\n---\napiVersion: v1\nkind: Pod\n\
         metadata: {name: h, namespace: x}\nspec: {hostNetwork: true, nodeName: n1, containers: [{name: c}]}",
        "warning[host-network-open] Pod/x/h: ",
    ),
];

#[test]
fn each_finding_is_told_with_its_object_and_what_to_do() {
    let dir = tempdir().unwrap();
    for (id, spec, line) in FINDINGS {
        let policy = format!(
            "---\napiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: x}}\nspec: {spec}\n"
        );
        let manifest = file(dir.path(), "p.yaml", &format!("{CLUSTER}{policy}"));
        let ran = run(&["lint", &manifest]);
        assert_eq!(ran.code, 1, "{id}: {}{}", ran.out, ran.err);
        let told: Vec<&str> = ran.out.lines().collect();
        assert!(told[0].starts_with(line), "{id}: {}", ran.out);
        assert!(
            told[1].starts_with("  fix: ") && told[1].len() > 20,
            "{id}: {}",
            ran.out
        );
        assert_eq!(told[2..], ["1 finding."], "{id}: {}", ran.out);
        let ran = run(&["lint", &manifest, "-o", "yaml"]);
        assert!(
            ran.code == 1 && ran.out.contains(&format!("id: {id}\n")),
            "{id}: {}",
            ran.out
        );
    }
}
