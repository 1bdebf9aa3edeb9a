//! What a workload asks for: addresses, pools, a MAC address, several interfaces, chains, old versions.

use caracal_api::IpPoolSpec;
use caracal_link::Rtnl;
use caracal_net::{Family, MacAddr};
use caracal_sys::NetNs;
use caracal_testkit::netns;
use serde_json::{Value, json};

use super::lab::{Lab, Request, addresses, object};
use crate::{annotations::Annotations, netconf::NetConf, result::read_previous};

const PREFIX: &str = "cni.projectcalico.org/";

fn annotated(mut request: Request, pairs: &[(&str, &str)]) -> Request {
    for (key, value) in pairs {
        request.conf["args"]["cni"]["annotations"][format!("{PREFIX}{key}")] = json!(value);
    }
    request
}

fn texts(result: &Value) -> Vec<String> {
    addresses(result).iter().map(ToString::to_string).collect()
}

#[test]
fn netns_addresses_and_pools_by_annotation() {
    netns!();
    let lab = Lab::new();
    NetNs::create("pod").unwrap();
    lab.put(object::<IpPoolSpec>("named", json!({"cidr": "10.99.0.0/24"})));
    let add = |pairs: &[(&str, &str)]| annotated(lab.request("ADD", "c1", "pod"), pairs);
    let del = || lab.ok(lab.request("DEL", "c1", "pod"));

    let both = lab.ok(add(&[("ipAddrs", r#"["10.65.0.9", "fd65::9"]"#)]));
    assert_eq!(texts(&both), ["10.65.0.9", "fd65::9"]);
    assert_eq!(lab.taken(), 2);
    del();
    let named = lab.ok(add(&[("ipv4pools", r#"["named"]"#)]));
    assert!(texts(&named)[0].starts_with("10.99.0."), "{named}");
    del();
    // By the range instead of the name, and for one family.
    let by_range = lab.request("ADD", "c1", "pod").conf(
        "ipam",
        json!({"type": "calico-ipam", "ipv4_pools": ["10.99.0.0/24"], "assign_ipv6": "false"}),
    );
    assert!(texts(&lab.ok(by_range))[0].starts_with("10.99.0."));
    del();
    // Without IPAM only where it is allowed.
    let own = [("ipAddrsNoIpam", r#"["192.0.2.7"]"#)];
    let (code, text) = lab.fails(add(&own));
    assert!(code == 2 && text.contains("ip_addrs_no_ipam"), "{text}");
    let allowed = |r: Request| r.conf("feature_control", json!({"ip_addrs_no_ipam": true}));
    let result = lab.ok(allowed(add(&own)));
    assert_eq!((texts(&result), lab.taken()), (vec!["192.0.2.7".to_owned()], 0));
    assert_eq!(lab.endpoints()[0].ip_networks, ["192.0.2.7/32"]);
    let check = annotated(lab.request("CHECK", "c1", "pod"), &own);
    lab.ok(allowed(check).conf("prevResult", result));
    let two = [own[0], ("ipAddrs", r#"["10.65.0.9"]"#)];
    assert_eq!(lab.fails(allowed(add(&two))).0, 7);
    del();
    lab.assert_empty("all");
}

#[test]
fn netns_a_mac_address_floating_addresses_and_limits() {
    netns!();
    let lab = Lab::new();
    let pod = NetNs::create("pod").unwrap();
    let asked = [
        ("hwAddr", "02:11:22:33:44:55"),
        ("floatingIPs", r#"["198.51.100.1"]"#),
        ("allowedSourcePrefixes", r#"["203.0.113.0/24"]"#),
    ];
    let request = || annotated(lab.request("ADD", "c1", "pod"), &asked);
    let (code, text) = lab.fails(request());
    assert!(code == 2 && text.contains("floating_ips"), "{text}");
    lab.assert_empty("refused");
    let allowed = |r: Request| r.conf("feature_control", json!({"floating_ips": true}));
    let result = lab.ok(allowed(request()));
    assert_eq!(result["interfaces"][1]["mac"], asked[0].1);
    let mac: MacAddr = asked[0].1.parse().unwrap();
    let eth0 = Rtnl::open_in(&pod).unwrap().require_link("eth0").unwrap();
    assert_eq!(eth0.mac, Some(mac));
    let endpoint = lab.endpoints().remove(0);
    assert_eq!(endpoint.mac, asked[0].1);
    assert_eq!(endpoint.ip_nats[0].external_ip, "198.51.100.1");
    assert_eq!(endpoint.ip_nats[0].internal_ip, texts(&result)[0]);
    assert_eq!(endpoint.allow_spoofed_source_prefixes, ["203.0.113.0/24"]);
    lab.ok(lab.request("DEL", "c1", "pod"));
    // The runtime's ways to say it.
    let capability = lab.request("ADD", "c1", "pod");
    let capability = lab.ok(capability.conf("runtimeConfig", json!({"mac": "02:00:00:00:00:07"})));
    assert_eq!(capability["interfaces"][1]["mac"], "02:00:00:00:00:07");
    lab.ok(lab.request("DEL", "c1", "pod"));
    let argument = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;MAC=02:00:00:00:00:08";
    let argument = lab.ok(lab.request("ADD", "c1", "pod").env("CNI_ARGS", argument));
    assert_eq!(argument["interfaces"][1]["mac"], "02:00:00:00:00:08");
}

#[test]
fn netns_two_interfaces_of_one_pod() {
    netns!();
    let lab = Lab::new();
    let pod = NetNs::create("pod").unwrap();
    let first = lab.ok(lab.request("ADD", "c1", "pod"));
    let second = |command: &str| lab.request(command, "c1", "pod").env("CNI_IFNAME", "net1");
    // The second one leaves the default routes to the first.
    let made = lab.ok(second("ADD").conf("include_default_routes", json!(false)));
    assert!(addresses(&made).iter().all(|a| !addresses(&first).contains(a)));
    assert_eq!(
        (lab.host_links().len(), lab.endpoints().len(), lab.taken()),
        (2, 2, 4)
    );
    let mut inside = Rtnl::open_in(&pod).unwrap();
    assert!(inside.link("eth0").unwrap().is_some() && inside.link("net1").unwrap().is_some());
    // GC with a list that has one of them.
    let gc = lab.request("GC", "", "").conf("cniVersion", json!("1.1.0"));
    let valid = json!([{"containerID": "c1", "ifname": "eth0"}]);
    lab.ok(gc.conf("cni.dev/valid-attachments", valid));
    assert_eq!(
        (lab.host_links().len(), lab.endpoints().len(), lab.taken()),
        (1, 1, 2)
    );
    lab.ok(lab.request("CHECK", "c1", "pod").conf("prevResult", first));
    lab.ok(second("ADD").conf("include_default_routes", json!(false)));
    lab.ok(lab.request("DEL", "c1", "pod"));
    assert_eq!((lab.handles(), lab.taken()), (vec!["net1.c1.net1".to_owned()], 2));
    lab.ok(second("DEL"));
    lab.assert_empty("both");
}

#[test]
fn netns_ipv6_only_and_old_versions() {
    netns!();
    let lab = Lab::new();
    NetNs::create("pod").unwrap();
    let only6 = json!({"type": "calico-ipam", "assign_ipv4": "false", "assign_ipv6": "true"});
    let result = lab.ok(lab.request("ADD", "c1", "pod").conf("ipam", only6));
    assert!(matches!(&addresses(&result)[..], [a] if a.is_ipv6()), "{result}");
    lab.ok(lab.request("DEL", "c1", "pod"));
    for version in ["0.1.0", "0.2.0"] {
        let add = lab.request("ADD", "c1", "pod").conf("cniVersion", json!(version));
        let result = lab.ok(add);
        assert_eq!(result["cniVersion"], version);
        assert!(result["ip4"]["ip"].as_str().unwrap().ends_with("/32"), "{result}");
        assert!(
            result["ip6"]["ip"].as_str().unwrap().ends_with("/128"),
            "{result}"
        );
        assert_eq!(
            result["ip4"]["routes"][1],
            json!({"dst": "0.0.0.0/0", "gw": "169.254.1.1"})
        );
        assert!(
            result.get("interfaces").is_none() && result.get("ips").is_none(),
            "{result}"
        );
        lab.ok(lab.request("DEL", "c1", "pod").conf("cniVersion", json!(version)));
        lab.assert_empty(version);
    }
    let newest = lab.request("ADD", "c1", "pod").conf("cniVersion", json!("1.1.0"));
    assert_eq!(lab.ok(newest)["interfaces"][1]["mtu"], 1440);
}

#[test]
fn netns_after_another_plugin_in_a_chain() {
    netns!();
    let lab = Lab::new();
    NetNs::create("pod").unwrap();
    let before = json!({
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "dummy0", "sandbox": "/run/netns/pod"}],
        "ips": [{"address": "192.0.2.1/24", "interface": 0}],
        "routes": [{"dst": "198.51.100.0/24"}],
        "dns": {"nameservers": ["192.0.2.53"]},
    });
    let result = lab.ok(lab.request("ADD", "c1", "pod").conf("prevResult", before));
    assert_eq!(result["interfaces"][0]["name"], "dummy0");
    assert_eq!(result["interfaces"][2]["name"], "eth0");
    assert_eq!(result["ips"][0]["address"], "192.0.2.1/24");
    assert_eq!(result["ips"][1]["interface"], 2);
    assert_eq!(result["routes"][0]["dst"], "198.51.100.0/24");
    assert_eq!(result["dns"]["nameservers"][0], "192.0.2.53");
    assert_eq!(lab.endpoints()[0].ip_networks.len(), 2, "only our own");
    assert_eq!(read_previous(&result, "eth0").unwrap().addresses.len(), 2);
    lab.ok(lab.request("CHECK", "c1", "pod").conf("prevResult", result));
}

fn conf(annotations: Value) -> NetConf {
    let all = json!({
        "name": "n", "args": {"cni": {"annotations": annotations}},
        "feature_control": {"floating_ips": true, "ip_addrs_no_ipam": true},
    });
    NetConf::read(all.to_string().as_bytes()).unwrap()
}

#[test]
fn annotations_that_are_wrong_are_named() {
    let key = |name: &str| format!("{PREFIX}{name}");
    for (name, value, hint) in [
        ("ipAddrs", "10.0.0.1", "JSON"),
        ("ipAddrs", r#"["x"]"#, "\"x\""),
        ("ipAddrs", "[]", "empty"),
        ("ipAddrs", r#"["10.0.0.1", "10.0.0.2"]"#, "at most one"),
        ("hwAddr", "nonsense", "hwAddr"),
        ("hwAddr", "01:00:5e:00:00:01", "group address"),
        ("hwAddr", "00:00:00:00:00:00", "group address"),
        ("ipv4pools", "pool", "JSON"),
        ("floatingIPs", r#"["x"]"#, "\"x\""),
        ("allowedSourcePrefixes", r#"["x/99"]"#, "allowedSourcePrefixes"),
    ] {
        let c = conf(json!({ key(name): value }));
        let all = Annotations::of(&c);
        let address = ["10.0.0.1".parse().unwrap()];
        let error = all
            .ip_addrs()
            .map(drop)
            .and(all.hardware_address().map(drop))
            .and(all.pools(Family::V4).map(drop))
            .and(all.extras(&c, &address).map(drop))
            .unwrap_err();
        assert_eq!(error.code, 7, "{error}");
        assert!(
            error.to_string().contains(hint) && error.to_string().contains(name),
            "{error}"
        );
    }
}

#[test]
fn annotations_of_the_runtime_count_after_the_arguments() {
    let text = json!({
        "name": "n",
        "args": {"cni": {"annotations": {"cni.projectcalico.org/ipAddrs": r#"["10.0.0.1"]"#}}},
        "runtimeConfig": {"io.kubernetes.cri.pod-annotations": {
            "cni.projectcalico.org/ipAddrs": r#"["10.0.0.2"]"#, "cni.projectcalico.org/hwAddr": "02:00:00:00:00:01",
        }},
    });
    let c = NetConf::read(text.to_string().as_bytes()).unwrap();
    let all = Annotations::of(&c);
    assert_eq!(all.ip_addrs().unwrap().unwrap()[0].to_string(), "10.0.0.1");
    assert!(all.hardware_address().unwrap().is_some());
}
