use caracal_query::why_with;

use crate::rig::{Done, data, golden, run};

fn why(args: &[&str]) -> Done {
    let shop = data("shop.yaml");
    let all: Vec<&str> = ["-f", &shop].into_iter().chain(args.iter().copied()).collect();
    run(why_with, &all, "")
}

fn shows(name: &str, code: i32, args: &[&str]) {
    let done = why(args);
    assert_eq!(done.errors, "", "{args:?}");
    assert_eq!(done.code, code, "{args:?}\n{}", done.output);
    golden(name, &done.output);
}

#[test]
fn an_allowed_packet_names_the_rule_and_the_file() {
    shows("allowed.txt", 0, &["shop/web", "shop/cart", "http/tcp"]);
}

#[test]
fn a_blocked_packet_names_the_near_miss() {
    shows("near-miss.txt", 1, &["shop/web", "shop/cart", "9100/tcp"]);
    shows("stranger.txt", 1, &["visitor", "shop/cart", "8081/tcp", "--all"]);
}

/// Two endpoints that no node but theirs is between, or none at all: the second answer is the one to mend next.
#[test]
fn what_a_blocked_packet_does_not_reach_is_answered_too() {
    let endpoint = |name: &str, node: &str, address: &str| {
        format!(
            "---\napiVersion: projectcalico.org/v3\nkind: WorkloadEndpoint\nmetadata: {{name: {node}-k8s-{name}-eth0, \
             namespace: d, labels: {{app: {name}}}}}\nspec: {{orchestrator: k8s, node: {node}, workload: '', pod: {name}, \
             endpoint: eth0, interfaceName: cali{name}, ipNetworks: [{address}/32]}}\n"
        )
    };
    let policy = |name: &str, kind: &str| {
        format!(
            "---\napiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: d}}\n\
             spec: {{selector: app == '{name}', types: [{kind}]}}\n"
        )
    };
    for node in ["n1", "n2"] {
        let world = [
            endpoint("a", "n1", "10.0.0.1"),
            endpoint("b", node, "10.0.0.2"),
            policy("a", "Egress"),
            policy("b", "Ingress"),
        ]
        .concat();
        let args = ["d/a", "d/b", "80/tcp", "-o", "json", "-f", "-"];
        let done = run(why_with, &args, &world);
        assert_eq!((done.code, done.errors.as_str()), (1, ""));
        let read: serde_json::Value = serde_json::from_str(&done.output).unwrap();
        let at = |list: &str| {
            let places = read[0][list].as_array().unwrap();
            places
                .iter()
                .map(|p| format!("{} {} {}", p["direction"], p["at"], p["verdict"]))
                .collect::<Vec<_>>()
        };
        assert_eq!(at("places"), [r#""egress" "d/a" "blocked""#], "b is on {node}");
        assert_eq!(
            at("notReached"),
            [r#""ingress" "d/b" "blocked""#],
            "b is on {node}"
        );
        let text = run(why_with, &["d/a", "d/b", "80/tcp", "-f", "-"], &world).output;
        assert!(
            text.contains("\nnot reached: ingress of d/b: BLOCKED by end of tier default\n"),
            "{text}"
        );
    }
}

#[test]
fn both_families_are_answered_and_staged_policies_stand_beside() {
    shows(
        "staged.txt",
        0,
        &["visitor", "web", "-n", "shop", "8080/tcp"]
            .map(|a| if a == "visitor" { "default/visitor" } else { a }),
    );
    shows(
        "staged-v6.json",
        0,
        &["default/visitor", "shop/web", "8080/tcp", "-6", "-o", "json"],
    );
}

#[test]
fn hosts_have_failsafe_ports_and_policies() {
    shows("host-failsafe.txt", 0, &["198.51.100.7", "n1-eth0", "22/tcp"]);
    shows("host-allowed.txt", 0, &["198.51.100.7", "192.0.2.1", "9100/tcp"]);
    shows("host-blocked.txt", 1, &["203.0.113.9", "n1-eth0", "9100/tcp"]);
    shows("outside.txt", 1, &["shop/web", "203.0.113.9", "icmp"]);
    shows("to-own-host.txt", 1, &["shop/web", "n1-eth0", "9100/tcp"]);
}

#[test]
fn yaml_and_json_say_the_same() {
    let yaml = why(&["shop/web", "shop/cart", "http/tcp", "-o", "yaml"]);
    let json = why(&["shop/web", "shop/cart", "http/tcp", "-o", "json"]);
    let read: serde_json::Value = serde_json::from_str(&json.output).unwrap();
    assert_eq!(yaml.output, caracal_api::value_to_yaml(&read));
    assert_eq!(read[0]["verdict"], "allowed");
    assert_eq!(
        read[0]["places"][1]["decidedBy"],
        "NetworkPolicy shop/knp.default.cart ingress[0]"
    );
}

#[test]
fn what_cannot_be_answered_is_code_2_with_a_hint() {
    for (args, says) in [
        (&["shop/wbe", "shop/cart", "80/tcp"][..], "there is shop/web"),
        (&["cart", "shop/web", "80/tcp"], "there is shop/cart"),
        (&["shop/web", "shop/cart", "http2/tcp"], "http (8081/TCP)"),
        (&["shop/web", "shop/cart", "80/tpc"], "examples: 8080/tcp"),
        (
            &["shop/web", "shop/cart", "80/tcp", "-6"],
            "no addresses of one family",
        ),
        (&["192.0.2.77", "192.0.2.78", "80/tcp"], "no policy is about them"),
        (&["shop/web", "10.0.0.0/8", "80/tcp"], "range"),
        (&["shop/web", "shop/cart"], "Usage"),
        (
            &["shop/web", "shop/cart", "80/tcp", "-f", "/nonexistent.yaml"],
            "/nonexistent.yaml",
        ),
    ] {
        let done = why(args);
        assert_eq!((done.code, done.output.as_str()), (2, ""), "{args:?}");
        assert!(done.errors.contains(says), "{args:?}: {}", done.errors);
    }
}

#[test]
fn stdin_is_read_and_bad_objects_are_named() {
    let bad = "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: x}\nspec: {selector: 'a =='}\n";
    let done = run(why_with, &["a", "b", "80/tcp", "-f", "-"], bad);
    assert_eq!(done.code, 2);
    assert!(
        done.errors.contains("stdin") && done.errors.contains("selector"),
        "{}",
        done.errors
    );
}

/// An address of a service that nobody translates, and the question of a guest of OpenStack.
#[test]
fn what_is_not_policy_and_decides_all_the_same_is_named() {
    let endpoint = "---\napiVersion: projectcalico.org/v3\nkind: WorkloadEndpoint\nmetadata: {name: n1-k8s-a-eth0, namespace: d}\n\
                    spec: {orchestrator: k8s, node: n1, workload: '', pod: a, endpoint: eth0, interfaceName: calia, \
                    ipNetworks: [10.0.0.1/32], profiles: [kns.d]}\n";
    let profile = "---\napiVersion: projectcalico.org/v3\nkind: Profile\nmetadata: {name: kns.d}\n\
                   spec: {egress: [{action: Allow}]}\n";
    let node = "---\napiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {name: n1}\n\
                spec: {bgp: {ipv4Address: 172.16.0.1/24}}\n";
    let services = "---\napiVersion: projectcalico.org/v3\nkind: BGPConfiguration\nmetadata: {name: default}\n\
                    spec: {serviceClusterIPs: [{cidr: 10.96.0.0/12}]}\n";
    let parameters = |text: &str| {
        format!(
            "---\napiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {{name: default}}\nspec: {{{text}}}\n"
        )
    };
    let cluster = |kind: &str| {
        format!(
            "---\napiVersion: projectcalico.org/v3\nkind: ClusterInformation\nmetadata: {{name: default}}\n\
             spec: {{clusterType: {kind}}}\n"
        )
    };
    let ask = |more: &[&str], to: &str, port: &str| {
        let world = [endpoint, profile, node].into_iter().chain(more.iter().copied());
        let done = run(
            why_with,
            &["d/a", to, port, "-f", "-"],
            &world.collect::<String>(),
        );
        assert_eq!(done.errors, "");
        (done.code, done.output)
    };
    assert_eq!(ask(&[], "10.96.0.19", "80/tcp").0, 0);
    let (code, text) = ask(&[services], "10.96.0.19", "80/tcp");
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("service-loop prevention"), "{text}");
    assert_eq!(ask(&[services], "192.0.2.1", "80/tcp").0, 0);
    let off = parameters("serviceLoopPrevention: Disabled");
    assert_eq!(ask(&[services, &off], "10.96.0.19", "80/tcp").0, 0);
    assert_eq!(ask(&[], "172.16.0.1", "53/udp").0, 1, "to the host: dropped");
    for more in [
        cluster("'k8s,openstack'"),
        parameters("interfacePrefix: 'cali,tap'"),
    ] {
        let (code, text) = ask(&[&more], "172.16.0.1", "53/udp");
        assert_eq!(code, 0, "{text}");
        assert!(text.contains("OpenStack"), "{text}");
    }
    assert_eq!(ask(&[&cluster("k8s")], "172.16.0.1", "53/udp").0, 1);
}

/// A host endpoint of the tunnel's device is on the way of those packets that go through that tunnel, and of no others.
#[test]
fn packets_to_other_nodes_pass_the_device_of_their_pool() {
    let endpoint = |name: &str, address: &str, device: &str| {
        format!(
            "---\napiVersion: projectcalico.org/v3\nkind: WorkloadEndpoint\nmetadata: {{name: n{name}-k8s-{name}-eth0, \
             namespace: d}}\nspec: {{orchestrator: k8s, node: n{name}, workload: '', pod: '{name}', endpoint: eth0, \
             interfaceName: cali{name}, ipNetworks: ['{address}'], profiles: [kns.d]}}\n\
             ---\napiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {{name: n{name}-tunnel}}\n\
             spec: {{node: n{name}, interfaceName: {device}}}\n"
        )
    };
    let rest = "---\napiVersion: projectcalico.org/v3\nkind: Profile\nmetadata: {name: kns.d}\n\
                spec: {ingress: [{action: Allow}], egress: [{action: Allow}]}\n\
                ---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: closed}\n\
                spec: {selector: '!has(projectcalico.org/namespace)', applyOnForward: true, types: [Egress]}\n";
    let cases = [
        ("10.0.0.0/16", "10.0.1.1/32", "10.0.2.1/32", "ipipMode", "tunl0"),
        (
            "10.0.0.0/16",
            "10.0.1.1/32",
            "10.0.2.1/32",
            "vxlanMode",
            "vxlan.calico",
        ),
        (
            "fd00::/48",
            "fd00::1:1/128",
            "fd00::2:1/128",
            "vxlanMode",
            "vxlan-v6.calico",
        ),
    ];
    for (cidr, from, to, mode, tunnel) in cases {
        for device in ["tunl0", "vxlan.calico", "vxlan-v6.calico"] {
            let pool = format!(
                "---\napiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {{name: pool}}\n\
                 spec: {{cidr: '{cidr}', {mode}: Always}}\n"
            );
            let world = [
                &endpoint("1", from, device),
                &endpoint("2", to, "eth9"),
                rest,
                &pool,
            ]
            .concat();
            let done = run(why_with, &["d/1", "d/2", "80/tcp", "-f", "-"], &world);
            assert_eq!(done.errors, "");
            assert_eq!(
                done.code,
                i32::from(device == tunnel),
                "{mode} {device}: {}",
                done.output
            );
        }
    }
}
