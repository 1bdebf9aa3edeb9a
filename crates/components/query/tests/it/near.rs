//! Near misses: for every criterion that a rule can have, a rule that this criterion alone keeps from matching.

use caracal_query::why_with;
use serde_json::Value;

use crate::rig::run;

/// A pod that sends, one that receives, and the service in front of it; one policy with the rule, of the one or the other.
fn world(direction: &str, rule: &str) -> String {
    let pod = |name: &str, last: u8| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: d, labels: {{app: {name}}}}}\n\
             spec: {{nodeName: n1, containers: [{{name: c, ports: [{{name: web, containerPort: 80}}]}}]}}\n\
             status: {{podIPs: [{{ip: 10.0.0.{last}}}, {{ip: 'fd00::{last}'}}]}}\n"
        )
    };
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: other, namespace: d}\n\
                   spec: {clusterIP: 10.96.0.1, selector: {app: nobody}, ports: [{port: 80}]}\n";
    let (app, policy_type) = if direction == "egress" {
        ("a", "Egress")
    } else {
        ("b", "Ingress")
    };
    let policy = format!(
        "---\napiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: d}}\n\
         spec: {{selector: app == '{app}', types: [{policy_type}], {direction}: [{{action: Allow, {rule}}}]}}\n"
    );
    [pod("a", 1), pod("b", 2), service.to_owned(), policy].concat()
}

/// The criterion, the rule that has it, what is sent, and why it fails. Only rules of egress have services to go to.
const CRITERIA: &[(&str, &str, &str, &str)] = &[
    (
        "protocol",
        "protocol: UDP, destination: {selector: app == 'b'}",
        "80/tcp",
        "TCP is not UDP",
    ),
    ("notProtocol", "notProtocol: TCP", "80/tcp", "TCP is excluded"),
    (
        "icmp",
        "protocol: ICMP, icmp: {type: 3}",
        "icmp/8/0",
        "type 8 code 0 is not type 3",
    ),
    (
        "notICMP",
        "protocol: ICMP, notICMP: {type: 8}",
        "icmp/8/0",
        "type 8 code 0 is excluded",
    ),
    (
        "source.nets",
        "source: {nets: [10.9.0.0/16]}",
        "80/tcp",
        "10.0.0.1 is not in 10.9.0.0/16",
    ),
    (
        "source.notNets",
        "source: {notNets: [10.0.0.0/16]}",
        "80/tcp",
        "10.0.0.1 is in 10.0.0.0/16",
    ),
    (
        "source.selector",
        "source: {selector: app == 'c'}",
        "80/tcp",
        "d/a is not (app == 'c')",
    ),
    (
        "source.selector",
        "source: {namespaceSelector: team == 'x'}",
        "80/tcp",
        "d/a is not",
    ),
    (
        "source.selector",
        "source: {serviceAccounts: {names: [robot]}}",
        "80/tcp",
        "d/a is not",
    ),
    (
        "source.notSelector",
        "source: {notSelector: app == 'a'}",
        "80/tcp",
        "d/a is (app == 'a')",
    ),
    (
        "source.ports",
        "protocol: TCP, source: {ports: [1000]}",
        "80/tcp",
        "40000 is not 1000",
    ),
    (
        "source.notPorts",
        "protocol: TCP, source: {notPorts: ['40000:40001']}",
        "80/tcp",
        "40000 is excluded by",
    ),
    (
        "source.services",
        "source: {services: {name: other, namespace: d}}",
        "80/tcp",
        "10.0.0.1 is no endpoint of the service d/other",
    ),
    (
        "destination.nets",
        "destination: {nets: [10.9.0.0/16]}",
        "80/tcp",
        "10.0.0.2 is not in 10.9.0.0/16",
    ),
    (
        "destination.notNets",
        "destination: {notNets: [10.0.0.2/32]}",
        "80/tcp",
        "10.0.0.2 is in 10.0.0.2/32",
    ),
    (
        "destination.selector",
        "destination: {selector: app == 'c'}",
        "80/tcp",
        "d/b is not (app == 'c')",
    ),
    (
        "destination.notSelector",
        "destination: {notSelector: app == 'b'}",
        "80/tcp",
        "d/b is (app == 'b')",
    ),
    (
        "destination.ports",
        "protocol: TCP, destination: {ports: [81, web2]}",
        "80/tcp",
        "80 is not",
    ),
    (
        "destination.notPorts",
        "protocol: TCP, destination: {notPorts: [web]}",
        "80/tcp",
        "80 is excluded by web",
    ),
    (
        "destination.services",
        "destination: {services: {name: other, namespace: d}}",
        "80/tcp",
        "10.0.0.2 is no endpoint of the service d/other",
    ),
];

fn direction_of(criterion: &str) -> &'static str {
    if criterion == "destination.services" {
        "egress"
    } else {
        "ingress"
    }
}

fn rule_of(direction: &str, rule: &str, sent: &str) -> Value {
    let args = ["d/a", "d/b", sent, "-4", "-o", "json", "-f", "-"];
    let done = run(why_with, &args, &world(direction, rule));
    assert_eq!(
        (done.code, done.errors.as_str()),
        (1, ""),
        "{rule}: {}",
        done.output
    );
    let answers: Value = serde_json::from_str(&done.output).expect("JSON");
    let places = answers[0]["places"].as_array().expect("places");
    let place = places
        .iter()
        .find(|p| p["direction"] == direction)
        .expect("one of the direction");
    place["tiers"][0]["policies"][0]["rules"][0].clone()
}

#[test]
fn every_criterion_has_its_near_miss() {
    for (criterion, rule, sent, because) in CRITERIA {
        let direction = direction_of(criterion);
        let shown = rule_of(direction, rule, sent);
        assert_eq!(shown["failed"], *criterion, "{rule}: {shown}");
        assert_eq!(shown["nearMiss"], true, "{rule}: {shown}");
        let why = shown["because"].as_str().unwrap_or_default();
        assert!(why.contains(because), "{rule}: {why:?}");
        let args = ["d/a", "d/b", sent, "-4", "-f", "-"];
        let text = run(why_with, &args, &world(direction, rule)).output;
        assert!(
            text.contains(&format!("near miss, only {criterion}: ")),
            "{rule}: {text}"
        );
    }
}

#[test]
fn what_two_criteria_keep_from_matching_is_no_near_miss() {
    let far = rule_of(
        "ingress",
        "protocol: UDP, source: {nets: [10.9.0.0/16]}",
        "80/tcp",
    );
    assert_eq!(
        (&far["failed"], &far["nearMiss"]),
        (&"protocol".into(), &false.into())
    );
    // Nor is a rule of the other family.
    let other = rule_of(
        "ingress",
        "ipVersion: 6, source: {selector: app == 'a'}",
        "80/tcp",
    );
    assert_eq!(
        (&other["failed"], &other["nearMiss"]),
        (&"IP version".into(), &false.into())
    );
}
