use super::*;

const CLUSTER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: x, labels: {app: a}}
spec: {containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: h, namespace: x}
spec: {hostNetwork: true, nodeName: n1, containers: [{name: c}]}
---
";

fn findings(policies: &str) -> Vec<(&'static str, String, Option<String>)> {
    let mut state = State::default();
    let mut problems = Vec::new();
    state.read("x.yaml", &format!("{CLUSTER}{policies}"), &mut problems);
    assert_eq!(problems, Vec::<String>::new());
    state.complete();
    crate::give_addresses(&mut [&mut state]);
    lint(&state)
        .into_iter()
        .map(|f| (f.id, f.object, f.rule))
        .collect()
}

fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: x}}\nspec: {spec}\n---\n"
    )
}

fn only(policies: &str) -> Vec<(&'static str, Option<String>)> {
    let found = findings(policies)
        .into_iter()
        .filter(|f| f.0 != "host-network-open");
    found.map(|(id, _, rule)| (id, rule)).collect()
}

fn rule(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn a_good_policy_is_not_blamed() {
    let good = policy(
        "good",
        "{selector: app == 'a', types: [Ingress], ingress: [{action: Log}, {action: Allow, protocol: TCP, destination: {ports: [http]}}, {action: Deny}]}",
    );
    assert_eq!(only(&good), []);
}

#[test]
fn shadowed_rules_are_found() {
    let text = policy(
        "p",
        "{selector: app == 'a', types: [Ingress], ingress: [\
         {action: Log}, \
         {action: Allow, protocol: TCP, source: {nets: [10.0.0.0/8]}, destination: {ports: ['80:90', 443]}}, \
         {action: Deny, protocol: TCP, source: {nets: [10.1.0.0/16]}, destination: {ports: [85]}}, \
         {action: Deny, protocol: TCP, source: {nets: [10.1.0.0/16]}, destination: {ports: [91]}}, \
         {action: Deny, protocol: UDP, source: {nets: [10.1.0.0/16]}, destination: {ports: [85]}}]}",
    );
    assert_eq!(only(&text), [("shadowed-rule", rule("ingress[2]"))]);
    let first = policy(
        "a",
        "{order: 1, selector: app == 'a', types: [Ingress], ingress: [{action: Deny}]}",
    );
    let second = policy(
        "b",
        "{order: 2, selector: app == 'a', types: [Ingress], ingress: [{action: Allow, protocol: TCP}]}",
    );
    assert_eq!(only(&(second + &first)), [("shadowed-rule", rule("ingress[0]"))]);
}

#[test]
fn selectors_without_matches_are_found() {
    let nobody = policy(
        "p",
        "{selector: app == 'z', types: [Ingress], ingress: [{action: Allow}]}",
    );
    assert_eq!(only(&nobody), [("selects-nothing", None)]);
    let peer = policy(
        "p",
        "{selector: app == 'a', types: [Ingress], ingress: [{action: Allow, source: {selector: app == 'z'}}, \
         {action: Allow, protocol: TCP, destination: {ports: [ftp]}}]}",
    );
    assert_eq!(
        only(&peer),
        [
            ("rule-matches-nothing", rule("ingress[0]")),
            ("rule-matches-nothing", rule("ingress[1]"))
        ]
    );
}

#[test]
fn what_reads_otherwise_than_it_works_is_found() {
    let logs = policy(
        "p",
        "{selector: app == 'a', types: [Ingress], ingress: [{action: Log}]}",
    );
    assert_eq!(only(&logs), [("log-only-drops", rule("ingress[0]"))]);
    let http = policy(
        "p",
        "{selector: app == 'a', types: [Ingress], ingress: [{action: Allow, http: {methods: [GET]}}]}",
    );
    assert_eq!(only(&http), [("http-not-enforced", rule("ingress[0]"))]);
    let tier = policy(
        "t.p",
        "{tier: t, selector: app == 'a', types: [Ingress], ingress: [{action: Pass}]}",
    );
    assert!(only(&tier).contains(&("missing-tier", None)), "{:?}", only(&tier));
}

#[test]
fn tiers_that_do_not_exist_come_behind_one_without_an_order() {
    let tier = |name: &str, spec: &str| {
        format!(
            "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {{name: {name}}}\nspec: {spec}\n---\n"
        )
    };
    let of = |tier: &str| {
        policy(
            &format!("{tier}.p"),
            &format!("{{tier: {tier}, selector: all()}}"),
        )
    };
    let mut text = tier("z-first", "{order: 5}") + &tier("m-last", "{}") + &tier("y-last", "{}");
    // By their names the missing ones would be before the last, or between them.
    for name in ["n-missing", "a-missing", "y-last", "z-first", "m-last"] {
        text += &of(name);
    }
    let mut state = State::default();
    state.read("x.yaml", &text, &mut Vec::new());
    state.complete();
    let tiers: Vec<String> = policies(&state).into_iter().map(|p| p.tier).collect();
    assert_eq!(tiers, ["z-first", "m-last", "y-last", "a-missing", "n-missing"]);
    let missing = findings(&text)
        .into_iter()
        .filter(|(id, ..)| *id == "missing-tier");
    assert_eq!(missing.count(), 2);
}

#[test]
fn pods_of_the_host_network_are_found_until_a_host_endpoint_is_governed() {
    let open = findings("");
    assert_eq!(open, [("host-network-open", "Pod/x/h".to_owned(), None)]);
    let host = "apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {name: n1, labels: {role: host}}\nspec: {node: n1, interfaceName: eth0, expectedIPs: [172.16.0.1]}\n---\n";
    assert_eq!(findings(host).len(), 1);
    let policy = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: g}\nspec: {selector: role == 'host', types: [Ingress], ingress: [{action: Allow}]}\n";
    assert_eq!(findings(&format!("{host}{policy}")), []);
}
