//! Policies, rules, tiers, sets.

use caracal_api::Kind;
use serde_json::{Value, json};

use crate::{accept, errors, refuse};

const POLICIES: [Kind; 4] = [
    Kind::NetworkPolicy,
    Kind::GlobalNetworkPolicy,
    Kind::StagedNetworkPolicy,
    Kind::StagedGlobalNetworkPolicy,
];

/// Checks an ingress rule in every kind of policy.
fn refuse_rules(cases: &[(Value, &str, &str)]) {
    let cases: Vec<(Value, String, &str)> = cases
        .iter()
        .map(|(rule, place, word)| {
            (
                json!({"ingress": [rule]}),
                format!("spec.ingress[0]{place}"),
                *word,
            )
        })
        .collect();
    let cases: Vec<(Value, &str, &str)> = cases
        .iter()
        .map(|(v, p, w)| (v.clone(), p.as_str(), *w))
        .collect();
    for kind in POLICIES {
        refuse(kind, "p", &cases);
    }
}

fn accept_rules(rules: &[Value]) {
    let specs: Vec<Value> = rules.iter().map(|r| json!({"ingress": [r]})).collect();
    for kind in POLICIES {
        accept(kind, "p", &specs);
    }
}

#[test]
fn names() {
    let long = "a".repeat(254);
    for (name, np, gnp) in [
        ("web", true, true),
        ("default.web", true, true),
        ("a.b.c", false, false),
        ("knp.default.a.b.c", true, false),
        ("ossg.default.x.y", true, false),
        ("knp.default.", false, false),
        ("Web", false, false),
        ("web_1", false, false),
        ("-web", false, false),
        ("web.", false, false),
        ("ünï", false, false),
        (long.as_str(), false, false),
    ] {
        for (kind, good) in [
            (Kind::NetworkPolicy, np),
            (Kind::StagedNetworkPolicy, np),
            (Kind::GlobalNetworkPolicy, gnp),
            (Kind::StagedGlobalNetworkPolicy, gnp),
        ] {
            let e = errors(kind, name, json!({}));
            assert_eq!(e.is_empty(), good, "{kind} {name}: {e:?}");
            assert!(good || e[0].starts_with("metadata.name: "), "{e:?}");
        }
    }
}

#[test]
fn selectors() {
    let long = format!("a == '{}'", "x".repeat(1020));
    for kind in POLICIES {
        accept(
            kind,
            "p",
            &[
                json!({"selector": "a == 'b' && !has(c)", "serviceAccountSelector": "x in {'y'}"}),
                json!({"selector": ""}),
            ],
        );
        refuse(
            kind,
            "p",
            &[
                (json!({"selector": "a = 'b'"}), "spec.selector", "=="),
                (json!({"selector": "global()"}), "spec.selector", "global()"),
                (
                    json!({"selector": "has(a) || global()"}),
                    "spec.selector",
                    "global()",
                ),
                (
                    json!({"serviceAccountSelector": "has("}),
                    "spec.serviceAccountSelector",
                    "",
                ),
                (
                    json!({"serviceAccountSelector": "global()"}),
                    "spec.serviceAccountSelector",
                    "global()",
                ),
                (json!({"selector": long}), "spec.selector", "1024"),
            ],
        );
    }
    refuse(
        Kind::GlobalNetworkPolicy,
        "p",
        &[
            (
                json!({"namespaceSelector": "global()"}),
                "spec.namespaceSelector",
                "global()",
            ),
            (json!({"namespaceSelector": "!"}), "spec.namespaceSelector", ""),
        ],
    );
    accept_rules(&[
        json!({"action": "Allow", "source": {"namespaceSelector": "global()"}}),
        json!({"action": "Allow", "source": {"namespaceSelector": " global() ", "selector": "all()"}}),
    ]);
    refuse_rules(&[
        (
            json!({"action": "Allow", "source": {"namespaceSelector": "global() || has(a)"}}),
            ".source.namespaceSelector",
            "alone",
        ),
        (
            json!({"action": "Allow", "source": {"selector": "global()"}}),
            ".source.selector",
            "global()",
        ),
        (
            json!({"action": "Allow", "destination": {"notSelector": "a =="}}),
            ".destination.notSelector",
            "",
        ),
        (
            json!({"action": "Allow", "source": {"serviceAccounts": {"selector": "("}}}),
            ".source.serviceAccounts.selector",
            "",
        ),
        (
            json!({"action": "Allow", "source": {"serviceAccounts": {"names": ["a", "B"]}}}),
            ".source.serviceAccounts.names[1]",
            "name",
        ),
        (
            json!({"action": "Allow", "source": {"serviceAccounts": {"names": ["a", "a"]}}}),
            ".source.serviceAccounts.names[1]",
            "twice",
        ),
    ]);
}

#[test]
fn nets() {
    accept_rules(&[
        json!({"action": "Allow", "source": {"nets": ["10.0.0.0/8", "0.0.0.0/0", "192.0.2.1/32"], "notNets": ["10.1.0.0/16"]}}),
        json!({"action": "Allow", "source": {"nets": ["fd00::/8"]}, "destination": {"nets": ["::/0"]}, "ipVersion": 6}),
    ]);
    let many: Vec<String> = (0..257)
        .map(|i| format!("10.{}.{}.0/24", i / 256, i % 256))
        .collect();
    refuse_rules(&[
        (
            json!({"action": "Allow", "source": {"nets": ["10.0.0.0/33"]}}),
            ".source.nets[0]",
            "33",
        ),
        (
            json!({"action": "Allow", "source": {"nets": ["10.0.0.0/8", "what"]}}),
            ".source.nets[1]",
            "what",
        ),
        (
            json!({"action": "Allow", "source": {"nets": ["10.0.0.1/8"]}}),
            ".source.nets[0]",
            "10.0.0.0/8",
        ),
        (
            json!({"action": "Allow", "destination": {"notNets": ["fd00::1/8"]}}),
            ".destination.notNets[0]",
            "fd00::/8",
        ),
        (
            json!({"action": "Allow", "source": {"nets": ["10.0.0.1"]}}),
            ".source.nets[0]",
            "10.0.0.1/32",
        ),
        (
            json!({"action": "Allow", "source": {"nets": ["10.0.0.0/8", "fd00::/8"]}}),
            ".source.nets[1]",
            "family",
        ),
        (
            json!({"action": "Allow", "source": {"nets": ["10.0.0.0/8"]}, "destination": {"notNets": ["fd00::/8"]}}),
            ".destination.notNets[0]",
            "family",
        ),
        (
            json!({"action": "Allow", "ipVersion": 6, "source": {"nets": ["10.0.0.0/8"]}}),
            ".source.nets[0]",
            "ipVersion 6",
        ),
        (
            json!({"action": "Allow", "ipVersion": 4, "source": {"notNets": ["fd00::/8"]}}),
            ".source.notNets[0]",
            "ipVersion 4",
        ),
        (
            json!({"action": "Allow", "source": {"nets": ["10.0.0.0/8", "10.0.0.0/8"]}}),
            ".source.nets[1]",
            "twice",
        ),
        (
            json!({"action": "Allow", "source": {"nets": many}}),
            ".source.nets",
            "256",
        ),
        (json!({"action": "Allow", "ipVersion": 5}), ".ipVersion", "4 or 6"),
    ]);
}

#[test]
fn ports_and_protocols() {
    accept_rules(&[
        json!({"action": "Allow", "protocol": "TCP", "destination": {"ports": [1, 65535, "80:90", "http", "a_b.c"]}}),
        json!({"action": "Allow", "protocol": 17, "source": {"notPorts": [53]}}),
        json!({"action": "Allow", "protocol": "SCTP", "source": {"ports": ["132"]}}),
        json!({"action": "Allow", "notProtocol": "UDPLite"}),
        json!({"action": "Allow", "protocol": 255}),
        json!({"action": "Allow", "protocol": "TCP", "destination": {"ports": (1..=50).collect::<Vec<u16>>()}}),
    ]);
    let many: Vec<u16> = (1..=51).collect();
    refuse_rules(&[
        (
            json!({"action": "Allow", "destination": {"ports": [80]}}),
            ".destination.ports",
            "TCP, UDP or SCTP",
        ),
        (
            json!({"action": "Allow", "notProtocol": "TCP", "destination": {"ports": [80]}}),
            ".destination.ports",
            "TCP, UDP or SCTP",
        ),
        (
            json!({"action": "Allow", "protocol": "ICMP", "source": {"notPorts": ["http"]}}),
            ".source.notPorts",
            "TCP, UDP or SCTP",
        ),
        (
            json!({"action": "Allow", "protocol": "UDPLite", "source": {"ports": [1]}}),
            ".source.ports",
            "TCP, UDP or SCTP",
        ),
        (
            json!({"action": "Allow", "protocol": 50, "destination": {"notPorts": [1]}}),
            ".destination.notPorts",
            "TCP, UDP or SCTP",
        ),
        (
            json!({"action": "Allow", "protocol": "TCP", "destination": {"ports": [0]}}),
            ".destination.ports[0]",
            "1 to 65535",
        ),
        (
            json!({"action": "Allow", "protocol": "TCP", "destination": {"ports": ["0:80"]}}),
            ".destination.ports[0]",
            "1 to 65535",
        ),
        (
            json!({"action": "Allow", "protocol": "TCP", "destination": {"ports": [80, "a b"]}}),
            ".destination.ports[1]",
            "name",
        ),
        (
            json!({"action": "Allow", "protocol": "TCP", "destination": {"ports": [""]}}),
            ".destination.ports[0]",
            "name",
        ),
        (
            json!({"action": "Allow", "protocol": "TCP", "destination": {"ports": many}}),
            ".destination.ports",
            "50",
        ),
        (json!({"action": "Allow", "protocol": 0}), ".protocol", "1 to 255"),
        (
            json!({"action": "Allow", "protocol": "tcpp"}),
            ".protocol",
            "UDPLite",
        ),
        (
            json!({"action": "Allow", "notProtocol": "IGMP"}),
            ".notProtocol",
            "UDPLite",
        ),
    ]);
}

#[test]
fn icmp() {
    accept_rules(&[
        json!({"action": "Allow", "protocol": "ICMP", "icmp": {"type": 8}}),
        json!({"action": "Allow", "protocol": 58, "ipVersion": 6, "icmp": {"type": 254, "code": 255}}),
        json!({"action": "Allow", "protocol": "ICMP", "notICMP": {"type": 0, "code": 0}}),
        json!({"action": "Allow", "notICMP": {"type": 0}}),
    ]);
    refuse_rules(&[
        (json!({"action": "Allow", "icmp": {"type": 8}}), ".icmp", "ICMPv6"),
        (
            json!({"action": "Allow", "protocol": "TCP", "icmp": {"type": 8}}),
            ".icmp",
            "ICMPv6",
        ),
        (
            json!({"action": "Allow", "protocol": "ICMP", "icmp": {"code": 8}}),
            ".icmp.code",
            "type",
        ),
        (
            json!({"action": "Allow", "protocol": "ICMP", "notICMP": {"code": 8}}),
            ".notICMP.code",
            "type",
        ),
        (
            json!({"action": "Allow", "protocol": "ICMP", "icmp": {"type": 255}}),
            ".icmp.type",
            "254",
        ),
        (
            json!({"action": "Allow", "protocol": "ICMP", "icmp": {"type": -1}}),
            ".icmp.type",
            "0 to 254",
        ),
        (
            json!({"action": "Allow", "protocol": "ICMP", "icmp": {"type": 1, "code": 256}}),
            ".icmp.code",
            "255",
        ),
        (
            json!({"action": "Allow", "protocol": "ICMP", "ipVersion": 6}),
            ".ipVersion",
            "4",
        ),
        (
            json!({"action": "Allow", "protocol": 58, "ipVersion": 4}),
            ".ipVersion",
            "6",
        ),
        (
            json!({"action": "Allow", "notProtocol": "ICMP", "ipVersion": 6}),
            ".ipVersion",
            "4",
        ),
        (
            json!({"action": "Allow", "notProtocol": "ICMPv6", "ipVersion": 4}),
            ".ipVersion",
            "6",
        ),
    ]);
}

#[test]
fn services() {
    let db = json!({"name": "db", "namespace": "prod"});
    let with =
        |field: &str, value: Value| json!({"action": "Allow", "source": {"services": db, field: value}});
    accept_rules(&[json!({"action": "Allow", "source": {"services": db}})]);
    accept(
        Kind::NetworkPolicy,
        "p",
        &[json!({"egress": [{"action": "Allow", "destination": {"services": {"name": "db"}}}]})],
    );
    refuse_rules(&[
        (
            with("namespaceSelector", json!("all()")),
            ".source.namespaceSelector",
            "services",
        ),
        (with("selector", json!("has(a)")), ".source.selector", "services"),
        (
            with("notSelector", json!("has(a)")),
            ".source.notSelector",
            "services",
        ),
        (
            with("serviceAccounts", json!({})),
            ".source.serviceAccounts",
            "services",
        ),
        (with("nets", json!(["10.0.0.0/8"])), ".source.nets", "services"),
        (
            with("notNets", json!(["10.0.0.0/8"])),
            ".source.notNets",
            "services",
        ),
        (
            json!({"action": "Allow", "source": {"services": {"namespace": "x"}}}),
            ".source.services.name",
            "name",
        ),
        (
            json!({"action": "Allow", "destination": {"services": db}}),
            ".destination.services",
            "source",
        ),
    ]);
    let e = |destination: Value, source: Value| json!({"egress": [{"action": "Allow", "protocol": "TCP", "destination": destination, "source": source}]});
    refuse(
        Kind::GlobalNetworkPolicy,
        "p",
        &[
            (
                e(json!({"services": {"name": "db"}}), json!({})),
                "spec.egress[0].destination.services.namespace",
                "given",
            ),
            (
                e(json!({"services": db, "ports": [80]}), json!({})),
                "spec.egress[0].destination.ports",
                "services",
            ),
            (
                e(json!({"services": db, "notPorts": [80]}), json!({})),
                "spec.egress[0].destination.notPorts",
                "services",
            ),
            (
                e(json!({}), json!({"services": db})),
                "spec.egress[0].source.services",
                "destination",
            ),
        ],
    );
}

#[test]
fn http() {
    accept_rules(&[
        json!({"action": "Allow", "http": {"methods": ["GET", "PUT"], "paths": [{"exact": "/a"}, {"prefix": "/b"}]}}),
        json!({"action": "Allow", "protocol": "TCP", "http": {}}),
        json!({"action": "Allow", "protocol": 6, "http": {}}),
    ]);
    let http = |h: Value| json!({"action": "Allow", "http": h});
    let methods: Vec<String> = (0..21).map(|i| format!("M{i}")).collect();
    let paths: Vec<Value> = (0..21).map(|i| json!({"exact": format!("/{i}")})).collect();
    refuse_rules(&[
        (json!({"action": "Deny", "http": {}}), ".http", "Allow"),
        (
            json!({"action": "Allow", "protocol": "UDP", "http": {}}),
            ".protocol",
            "TCP",
        ),
        (
            http(json!({"methods": ["GET", "GET"]})),
            ".http.methods[1]",
            "twice",
        ),
        (http(json!({"methods": methods})), ".http.methods", "20"),
        (http(json!({"paths": paths})), ".http.paths", "20"),
        (
            http(json!({"paths": [{"exact": "/a", "prefix": "/b"}]})),
            ".http.paths[0]",
            "exactly one",
        ),
        (http(json!({"paths": [{}]})), ".http.paths[0]", "exactly one"),
        (
            http(json!({"paths": [{"exact": "a"}]})),
            ".http.paths[0].exact",
            "start",
        ),
        (
            http(json!({"paths": [{"prefix": "/a?b"}]})),
            ".http.paths[0].prefix",
            "'?'",
        ),
        (
            http(json!({"paths": [{"prefix": format!("/{}", "a".repeat(1024))}]})),
            ".http.paths[0].prefix",
            "1024",
        ),
    ]);
    refuse(
        Kind::NetworkPolicy,
        "p",
        &[(
            json!({"egress": [http(json!({}))]}),
            "spec.egress[0].http",
            "ingress",
        )],
    );
}

#[test]
fn early_policies_of_hosts() {
    let early = |field: &str| json!({"applyOnForward": true, field: true, "types": ["Ingress"]});
    for kind in [Kind::GlobalNetworkPolicy, Kind::StagedGlobalNetworkPolicy] {
        accept(
            kind,
            "p",
            &[
                early("preDNAT"),
                early("doNotTrack"),
                json!({"applyOnForward": true}),
            ],
        );
        refuse(
            kind,
            "p",
            &[
                (
                    json!({"applyOnForward": true, "preDNAT": true, "doNotTrack": true}),
                    "spec.preDNAT",
                    "doNotTrack",
                ),
                (
                    json!({"applyOnForward": true, "preDNAT": true, "egress": [{"action": "Allow"}]}),
                    "spec.egress",
                    "preDNAT",
                ),
                (
                    json!({"applyOnForward": true, "preDNAT": true, "types": ["Ingress", "Egress"]}),
                    "spec.types",
                    "preDNAT",
                ),
                (json!({"preDNAT": true}), "spec.applyOnForward", "true"),
                (json!({"doNotTrack": true}), "spec.applyOnForward", "true"),
            ],
        );
    }
}

#[test]
fn the_rest_of_a_policy() {
    let rules = |n: usize| json!({"ingress": vec![json!({"action": "Allow"}); n]});
    let big = "x".repeat(257 << 10);
    for kind in POLICIES {
        accept(
            kind,
            "p",
            &[
                rules(1024),
                json!({"performanceHints": ["AssumeNeededOnEveryNode"]}),
                json!({"order": -1.5}),
            ],
        );
        refuse(
            kind,
            "p",
            &[
                (rules(1025), "spec.ingress", "1024"),
                (json!({"types": ["Ingress", "Ingress"]}), "spec.types", "twice"),
                (
                    json!({"performanceHints": ["Hurry"]}),
                    "spec.performanceHints",
                    "AssumeNeededOnEveryNode",
                ),
                (json!({"tier": "No"}), "spec.tier", "name"),
                (
                    json!({"ingress": [{"action": "Allow", "metadata": {"annotations": {"a": big}}}]}),
                    "spec.ingress[0].metadata.annotations",
                    "262144",
                ),
                (
                    json!({"ingress": [{"action": "Allow", "metadata": {"annotations": {"a b": ""}}}]}),
                    "spec.ingress[0].metadata.annotations[\"a b\"]",
                    "label",
                ),
            ],
        );
    }
}

#[test]
fn a_staged_deletion_says_nothing_else() {
    for kind in [Kind::StagedNetworkPolicy, Kind::StagedGlobalNetworkPolicy] {
        accept(
            kind,
            "p",
            &[
                json!({"stagedAction": "Delete"}),
                json!({"stagedAction": "Delete", "tier": "t"}),
            ],
        );
        refuse(
            kind,
            "p",
            &[
                (
                    json!({"stagedAction": "Delete", "selector": "all()"}),
                    "spec",
                    "Delete",
                ),
                (
                    json!({"stagedAction": "Delete", "ingress": [{"action": "Allow"}]}),
                    "spec",
                    "Delete",
                ),
            ],
        );
    }
    let kind = Kind::StagedKubernetesNetworkPolicy;
    accept(
        kind,
        "p",
        &[json!({"stagedAction": "Delete"}), json!({"podSelector": {}})],
    );
    refuse(
        kind,
        "p",
        &[
            (
                json!({"stagedAction": "Delete", "podSelector": {"matchLabels": {"a": "b"}}}),
                "spec",
                "Delete",
            ),
            (
                json!({"podSelector": {"matchLabels": {"a b": "c"}}}),
                "spec.podSelector.matchLabels[\"a b\"]",
                "label",
            ),
            (
                json!({"ingress": [{"from": [{}]}]}),
                "spec.ingress[0].from[0]",
                "ipBlock",
            ),
            (
                json!({"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/8"]}}]}]}),
                "spec.ingress[0].from[0].ipBlock.except[0]",
                "inside",
            ),
            (
                json!({"egress": [{"ports": [{"port": 90, "endPort": 80}]}]}),
                "spec.egress[0].ports[0].endPort",
                "90",
            ),
            (
                json!({"egress": [{"ports": [{"protocol": "ICMP"}]}]}),
                "spec.egress[0].ports[0].protocol",
                "TCP",
            ),
            (
                json!({"podSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}),
                "spec.podSelector.matchExpressions[0].values",
                "In",
            ),
        ],
    );
}

#[test]
fn tiers() {
    accept(
        Kind::Tier,
        "sec",
        &[json!({}), json!({"order": 1, "defaultAction": "Pass"})],
    );
    for name in ["a.b", "A", &"a".repeat(64)] {
        assert!(
            errors(Kind::Tier, name, json!({}))[0].starts_with("metadata.name: "),
            "{name}"
        );
    }
    for (name, order, action, other) in [
        ("default", 1_000_000.0, "Deny", "Pass"),
        ("kube-admin", 1_000.0, "Pass", "Deny"),
        ("kube-baseline", 10_000_000.0, "Pass", "Deny"),
    ] {
        accept(
            Kind::Tier,
            name,
            &[json!({}), json!({"order": order, "defaultAction": action})],
        );
        refuse(
            Kind::Tier,
            name,
            &[
                (json!({"order": 5}), "spec.order", name),
                (
                    json!({"order": order, "defaultAction": other}),
                    "spec.defaultAction",
                    action,
                ),
            ],
        );
    }
}

#[test]
fn sets_and_profiles() {
    for kind in [Kind::NetworkSet, Kind::GlobalNetworkSet] {
        accept(
            kind,
            "s",
            &[json!({"nets": ["10.0.0.1", "10.0.0.1/8", "fd00::/8", "0.0.0.0/0", "::/0"]})],
        );
        refuse(
            kind,
            "s",
            &[
                (json!({"nets": ["10.0.0.0/8", "x"]}), "spec.nets[1]", "x"),
                (
                    json!({"nets": ["10.0.0.0/8", "10.0.0.0/8"]}),
                    "spec.nets[1]",
                    "twice",
                ),
            ],
        );
    }
    accept(
        Kind::Profile,
        "kns.a",
        &[
            json!({"labelsToApply": {"pcns.kubernetes.io/metadata.name": "a"}, "ingress": [{"action": "Allow"}]}),
        ],
    );
    refuse(
        Kind::Profile,
        "p",
        &[
            (
                json!({"labelsToApply": {"a b": "c"}}),
                "spec.labelsToApply[\"a b\"]",
                "label",
            ),
            (
                json!({"labelsToApply": {"a": "c d"}}),
                "spec.labelsToApply.a",
                "value",
            ),
            (
                json!({"egress": [{"action": "Allow", "destination": {"ports": [1]}}]}),
                "spec.egress[0].destination.ports",
                "TCP",
            ),
        ],
    );
}
