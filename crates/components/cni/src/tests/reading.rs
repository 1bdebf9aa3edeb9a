use std::collections::BTreeMap;

use caracal_datastore::Settings;
use serde_json::{Value, json};

use crate::{
    addresses, datastore, endpoint,
    env::{Env, Needs},
    error::{CniError, Code},
    identity::{Identity, node_name},
    logging,
    netconf::NetConf,
    plan::{AddressSource, Wait},
    policy,
    result::{AddResult, ResultRoute, read_result},
    version::Version,
};

fn env(pairs: &[(&str, &str)]) -> Result<Env, CniError> {
    Env::read(
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
    )
}

fn conf(value: &Value) -> NetConf {
    NetConf::read(value.to_string().as_bytes()).unwrap()
}

/// Code and whole text of an error.
fn told(error: &CniError) -> (u32, String) {
    (error.code, error.to_string())
}

/// Every field of Calico's (`calico-components.md` §1.6), and some that nobody knows.
const ALL: &str = r#"{
        "cniVersion": "0.3.1", "name": "k8s-pod-network", "type": "calico", "mode": "vxlan",
        "vxlan_mac_prefix": "0E-2A", "vxlan_vni": 4096,
        "ipam": {"type": "calico-ipam", "subnet": "", "assign_ipv4": "true", "assign_ipv6": true,
                 "ipv4_pools": ["p4", "10.0.0.0/16"], "ipv6_pools": ["p6"], "ranges": [[{"subnet": "usePodCidr"}]]},
        "qps": 100.5, "burst": 200, "mtu": 1440, "num_queues": 2, "nodename": "n", "nodename_file": "/f",
        "nodename_file_optional": true, "ipam_lock_file": "/l", "datastore_type": "etcdv3",
        "etcd_endpoints": "http://a:1", "etcd_discovery_srv": "", "etcd_key_file": "", "etcd_cert_file": "",
        "etcd_ca_cert_file": "", "etcd_authority": "", "etcd_scheme": "", "hostname": "", "log_level": "Debug",
        "log_file_path": "/var/log/c", "log_file_max_size": 100, "log_file_max_age": 30, "log_file_max_count": 10,
        "policy": {"type": "k8s", "k8s_api_root": "", "k8s_auth_token": "t", "k8s_client_certificate": "",
                   "k8s_client_key": "", "k8s_certificate_authority": ""},
        "kubernetes": {"k8s_api_root": "", "kubeconfig": "/k", "node_name": ""},
        "feature_control": {"ip_addrs_no_ipam": true, "floating_ips": true},
        "container_settings": {"allow_ip_forwarding": true}, "include_default_routes": false,
        "dataplane_options": {"x": 1}, "device_type": "veth", "windows_use_single_network": true,
        "windows_disable_host_subnet_nat_exclusion": true, "windows_pause_container_restart": true,
        "runtimeConfig": {"dns": {"servers": ["10.96.0.10"]}, "portMappings": []},
        "readiness_gates": ["http://localhost:9099/readiness"], "policy_setup_timeout_seconds": 3,
        "endpoint_status_dir": "/var/run/calico", "require_mtu_file": true, "calico_api_group": "projectcalico.org/v3",
        "capabilities": {"portMappings": true}, "somebody": {"else": ["s"]}
    }"#;

#[test]
fn every_field_of_calico_is_typed_and_others_are_accepted() {
    let c = NetConf::read(ALL.as_bytes()).unwrap();
    assert_eq!(
        (c.vxlan_vni, c.mtu, c.num_queues, c.qps),
        (4096, 1440, 2, Some(100.5))
    );
    assert_eq!((c.ipam.assign_ipv4, c.ipam.assign_ipv6), (Some(true), Some(true)));
    assert_eq!(c.ipam.ipv4_pools, ["p4", "10.0.0.0/16"]);
    assert_eq!(c.policy_setup_timeout_seconds, Some(3));
    assert_eq!(c.include_default_routes, Some(false));
    assert!(c.container_settings.allow_ip_forwarding && c.require_mtu_file && c.feature_control.floating_ips);
    assert!(c.check().is_ok());
}

/// The places of a value's parts, with what is there.
fn places(value: &Value, path: &mut Vec<String>, into: &mut Vec<(Vec<String>, Value)>) {
    for (key, part) in value.as_object().into_iter().flatten() {
        path.push(key.clone());
        into.push((path.clone(), part.clone()));
        places(part, path, into);
        path.pop();
    }
}

#[test]
fn each_field_of_the_wrong_type_is_named() {
    let mut all: Value = serde_json::from_str(ALL).unwrap();
    all["args"] = json!({"cni": {"labels": [{"key": "a"}], "ports": [], "serviceAccount": "", "ips": [],
        "annotations": {"a": "b"}}});
    all["dns"] = json!({"nameservers": []});
    all["cni.dev/valid-attachments"] = json!([{"containerID": "c", "ifname": "eth0"}]);
    NetConf::read(all.to_string().as_bytes()).unwrap();
    let mut fields = Vec::new();
    places(&all, &mut Vec::new(), &mut fields);
    // What nobody knows may be anything, and what is passed on is read by others.
    let free = |name: &str| {
        let tops = [
            "somebody",
            "capabilities",
            "dataplane_options.",
            "runtimeConfig.portMappings",
            "dns.",
            "runtimeConfig.dns.",
        ];
        tops.iter().any(|t| name.starts_with(t))
    };
    let mut tried = 0;
    for (path, value) in fields {
        let name = path.join(".");
        let wrong = match &value {
            _ if free(&name) => continue,
            Value::String(text) if text == "true" => vec![json!("perhaps"), json!(["true"])],
            Value::String(_) => vec![json!(7), json!({"a": 1}), json!(["a"])],
            Value::Number(_) => vec![json!("1"), json!([1]), json!(true)],
            Value::Bool(_) => vec![json!("perhaps"), json!(7), json!([true])],
            Value::Array(_) => vec![json!("a"), json!({"a": 1}), json!([[7]])],
            Value::Object(_) => vec![json!("a"), json!([]), json!(["a"]), json!(7)],
            Value::Null => vec![],
        };
        for bad in wrong {
            let mut changed = all.clone();
            let mut at = &mut changed;
            for key in &path {
                at = &mut at[key.as_str()];
            }
            *at = bad.clone();
            let e = match NetConf::read(changed.to_string().as_bytes()) {
                Err(e) => e,
                Ok(_) => panic!("{name}: {bad} is accepted"),
            };
            assert_eq!(e.code, Code::InvalidConfig as u32, "{name}: {bad}: {e}");
            assert!(e.to_string().contains(&name), "{name}: {bad}: {e}");
            tried += 1;
        }
    }
    assert!(tried > 200, "{tried}");
}

#[test]
fn fields_of_the_wrong_type_are_named() {
    for (field, value) in [
        ("mtu", json!("big")),
        ("mtu", json!(-1)),
        ("name", json!(7)),
        ("nodename_file_optional", json!("yes")),
        ("policy_setup_timeout_seconds", json!(1.5)),
        ("ipam.assign_ipv4", json!("maybe")),
        ("ipam.assign_ipv6", json!(4)),
        ("ipam.ipv4_pools", json!("p")),
        (
            "args.cni.ports[0].port",
            json!([{"name": "a", "protocol": "TCP", "port": 70000}]),
        ),
        ("args.cni.labels[0].key", json!([{"key": 1}])),
        ("container_settings", json!(true)),
    ] {
        let mut all = json!({"name": "n"});
        let path: Vec<&str> = field.split('[').next().unwrap().split('.').collect();
        let mut at = &mut all;
        for key in &path {
            at = &mut at[*key];
        }
        *at = value;
        let e = NetConf::read(all.to_string().as_bytes()).unwrap_err();
        assert_eq!(e.code, Code::InvalidConfig as u32, "{e}");
        assert!(e.to_string().contains(field), "{e}");
    }
}

#[test]
fn what_is_no_json_object_is_told_so() {
    for text in ["", "{", "not json", "[]", "7", "{} x", "\u{0}"] {
        let e = NetConf::read(text.as_bytes()).unwrap_err();
        assert_eq!(e.code, Code::Decode as u32, "{text}: {e}");
    }
    let json: Value = serde_json::from_str(&NetConf::read(b"{").unwrap_err().to_json("1.0.0")).unwrap();
    assert_eq!((&json["code"], &json["cniVersion"]), (&json!(6), &json!("1.0.0")));
    assert!(json["msg"].is_string() && json["details"].is_string(), "{json}");
}

#[test]
fn names_and_unsupported_values_are_refused() {
    let bad = |value: Value| told(&conf(&value).check().unwrap_err());
    assert!(matches!(bad(json!({})), (7, t) if t.contains("name")));
    assert!(matches!(bad(json!({"name": "a b"})), (7, t) if t.contains("a b")));
    let netkit = bad(json!({"name": "a", "device_type": "netkit"}));
    assert!(matches!(netkit, (2, t) if t.contains("device_type") && t.contains("netkit")));
}

#[test]
fn versions() {
    assert_eq!(Version::parse("0.3.1"), Ok(Version::V0_3_1));
    for bad in ["", "0.2.1", "2.0.0", "x"] {
        let (code, text) = told(&Version::parse(bad).unwrap_err());
        assert_eq!(code, 1);
        assert!(
            text.contains("0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"),
            "{text}"
        );
    }
}

#[test]
fn the_environment_is_checked() {
    let good = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c-1"),
        ("CNI_NETNS", "/run/netns/x"),
        ("CNI_IFNAME", "eth0"),
    ];
    assert!(env(&good).unwrap().check(Needs::Namespace).is_ok());
    for (name, _) in &good[1..] {
        let without: Vec<_> = good.iter().filter(|(n, _)| n != name).copied().collect();
        let e = env(&without).unwrap().check(Needs::Namespace).unwrap_err();
        assert!(e.code == 4 && e.to_string().contains(name), "{e}");
    }
    let long = "x".repeat(300);
    for (name, value) in [
        ("CNI_CONTAINERID", "-c"),
        ("CNI_CONTAINERID", "a/b"),
        ("CNI_CONTAINERID", long.as_str()),
        ("CNI_IFNAME", "sixteen-letters-"),
        ("CNI_IFNAME", "a/b"),
        ("CNI_IFNAME", ".."),
    ] {
        let with = good.map(|(n, v)| (n, if n == name { value } else { v }));
        let e = env(&with).unwrap().check(Needs::Namespace).unwrap_err();
        assert!(e.code == 4 && e.to_string().contains(name), "{e}");
    }
    // DEL comes when the namespace may be gone.
    let del = [good[1], good[3]];
    assert!(env(&del).unwrap().check(Needs::Container).is_ok());
    assert!(env(&[]).unwrap().check(Needs::Nothing).is_ok());
}

#[test]
fn cni_args_are_read_leniently() {
    let args = "IgnoreUnknown=1;K8S_POD_NAME=web-0; K8S_POD_NAMESPACE = shop ;K8S_POD_UID=1=2;;MORE=";
    let e = env(&[("CNI_ARGS", args)]).unwrap();
    assert_eq!(e.arg("K8S_POD_NAME"), Some("web-0"));
    assert_eq!(e.arg("K8S_POD_NAMESPACE"), Some("shop"));
    assert_eq!(
        (e.arg("K8S_POD_UID"), e.arg("MORE"), e.arg("NONE")),
        (Some("1=2"), None, None)
    );
    let bad = env(&[("CNI_ARGS", "A=1;broken")]).unwrap_err();
    assert!(bad.code == 4 && bad.to_string().contains("broken"), "{bad}");
    let ips = env(&[("CNI_ARGS", "IP=10.0.0.5,fd00::5/64")])
        .unwrap()
        .requested_ips()
        .unwrap();
    assert_eq!(
        ips.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.0.0.5", "fd00::5"]
    );
    assert!(
        env(&[("CNI_ARGS", "IP=nonsense")])
            .unwrap()
            .requested_ips()
            .is_err()
    );
    let long = format!("A={}", "x".repeat(65_000));
    assert!(env(&[("CNI_ARGS", &long)]).is_ok());
}

fn identity(args: &str, conf_value: &Value) -> Result<Identity, CniError> {
    let e = env(&[
        ("CNI_CONTAINERID", "0123456789abcdef"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", args),
    ])?;
    Identity::new(&e, &conf(conf_value), "node-1".parse().unwrap())
}

#[test]
fn a_pod_is_known_by_its_name_and_a_container_by_its_id() {
    let c = json!({"name": "net", "args": {"cni": {"serviceAccount": "sa"}}});
    let pod = identity("K8S_POD_NAME=web;K8S_POD_NAMESPACE=default", &c).unwrap();
    assert_eq!(pod.handle(), "net.0123456789abcdef");
    assert_eq!(pod.host_interface(), "cali68caf03a5f4");
    assert_eq!(&*pod.endpoint_key().namespace, "default");
    assert_eq!(pod.endpoint_name(), "node--1-k8s-web-eth0");
    assert_eq!(pod.profiles(), ["kns.default", "ksa.default.sa"]);
    assert_eq!(pod.labels()["projectcalico.org/serviceaccount"], "sa");
    assert_eq!(pod.old_handle().as_deref(), Some("default.web"));
    let other = identity("", &json!({"name": "net"})).unwrap();
    assert_eq!(other.host_interface(), "cali0123456789a");
    assert_eq!(other.endpoint_name(), "node--1-cni-0123456789abcdef-eth0");
    assert_eq!(
        (other.namespace(), other.profiles()),
        ("default", vec!["net".to_owned()])
    );
    assert_eq!(other.mac().0[0] & 3, 2, "locally administered, one station");
    assert_eq!(other.mac(), pod.mac(), "it follows the container");
    for half in ["K8S_POD_NAME=web", "K8S_POD_NAMESPACE=default"] {
        assert_eq!(identity(half, &json!({"name": "net"})).unwrap_err().code, 4);
    }
    for bad in ["Web", "a/b", "-a", "a-", "ä"] {
        let e = identity(&format!("K8S_POD_NAME={bad};K8S_POD_NAMESPACE=d"), &json!({})).unwrap_err();
        assert!(e.to_string().contains(bad), "{e}");
    }
}

#[test]
fn the_node_is_named_by_configuration_file_or_host() {
    let name = |value: Value, file: Option<&str>| {
        let file = file.map(str::to_owned);
        node_name(&conf(&value), |_| Ok(file), || Ok("Host.Example\n".into())).map(|n| n.to_string())
    };
    assert_eq!(name(json!({"nodename": "a"}), Some("b")).unwrap(), "a");
    assert_eq!(name(json!({}), Some(" b\n")).unwrap(), "b");
    assert_eq!(
        name(json!({"nodename_file_optional": true}), None).unwrap(),
        "host.example"
    );
    let missing = name(json!({}), None).unwrap_err();
    assert!(
        missing.code == 11 && missing.to_string().contains("/var/lib/calico/nodename"),
        "{missing}"
    );
    assert!(name(json!({"nodename": "a b"}), None).is_err());
    let asked = node_name(
        &conf(&json!({"nodename_file": "/x"})),
        |path| {
            assert_eq!(path, "/x");
            Ok(Some("n".into()))
        },
        || unreachable!("the file names it"),
    );
    assert_eq!(asked.unwrap().as_str(), "n");
}

#[test]
fn the_datastore_is_the_configurations_or_the_environments() {
    let of = |value: Value, pairs: &[(&str, &str)], socket: bool| {
        let e: BTreeMap<String, String> = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        datastore::settings(&conf(&value), &e, |_| socket)
    };
    let etcd = |e: &str| Settings::Etcd(caracal_datastore::EtcdSettings::new([e]));
    let c = json!({"datastore_type": "etcdv3", "etcd_endpoints": "http://conf:1"});
    let outside = [
        ("CALICO_ETCD_ENDPOINTS", "http://env:1"),
        ("DATASTORE_TYPE", "kubernetes"),
    ];
    assert_eq!(of(c, &outside, false).unwrap(), etcd("http://conf:1"));
    assert_eq!(
        of(json!({}), &[("ETCD_ENDPOINTS", "http://env:1")], true).unwrap(),
        etcd("http://env:1")
    );
    assert_eq!(
        of(json!({"etcd_authority": "h:2"}), &[], true).unwrap(),
        etcd("http://h:2")
    );
    assert!(matches!(
        of(json!({}), &[], true).unwrap(),
        Settings::Embedded { .. }
    ));
    assert_eq!(of(json!({}), &[], false).unwrap_err().code, 11);
    assert_eq!(
        of(json!({"datastore_type": "consul"}), &[], true)
            .unwrap_err()
            .code,
        7
    );
    assert_eq!(
        of(json!({"datastore_type": "kubernetes"}), &[], true)
            .unwrap_err()
            .code,
        2
    );
    let tls = json!({"etcd_endpoints": "http://a:1", "etcd_key_file": "/k"});
    assert_eq!(of(tls, &[], true).unwrap_err().code, 7);
}

#[test]
fn addresses_come_from_pools_requests_or_another_plugin() {
    let of =
        |value: Value, args: &str| addresses::source(&conf(&value), &env(&[("CNI_ARGS", args)]).unwrap());
    let families = |value: Value| match of(json!({"ipam": value}), "").unwrap() {
        AddressSource::Calico { families, .. } => (families.v4, families.v6),
        AddressSource::Delegate(_) | AddressSource::Given(_) => unreachable!("it is ours"),
    };
    assert_eq!(families(json!({"type": "calico-ipam"})), (true, false));
    assert_eq!(
        families(json!({"type": "calico-ipam", "assign_ipv6": "true"})),
        (true, true)
    );
    let only6 = json!({"type": "calico-ipam", "assign_ipv4": "false", "assign_ipv6": "true"});
    assert_eq!(families(only6), (false, true));
    let none = of(
        json!({"ipam": {"type": "calico-ipam", "assign_ipv4": "false"}}),
        "",
    );
    assert!(none.unwrap_err().to_string().contains("assign_ipv4"));
    assert_eq!(
        of(json!({"ipam": {"type": "host-local"}}), "").unwrap(),
        AddressSource::Delegate("host-local".into())
    );
    let requested = |value: Value, args: &str| match of(value, args).unwrap() {
        AddressSource::Calico { requested, .. } => requested,
        AddressSource::Delegate(_) | AddressSource::Given(_) => unreachable!("it is ours"),
    };
    let both = json!({"ipam": {"type": "calico-ipam"}, "args": {"cni": {"ips": ["10.0.0.1/24"]}}});
    assert_eq!(requested(both.clone(), "IP=10.0.0.9")[0].to_string(), "10.0.0.9");
    assert_eq!(requested(both, "")[0].to_string(), "10.0.0.1");
    let bad = json!({"ipam": {"type": "calico-ipam"}, "runtimeConfig": {"ips": ["x"]}});
    assert!(of(bad, "").unwrap_err().to_string().contains("runtimeConfig.ips"));
    for (value, code) in [(json!({}), 7), (json!({"type": "../../bin/sh"}), 7)] {
        assert_eq!(of(json!({"ipam": value}), "").unwrap_err().code, code);
    }
}

#[test]
fn ports_and_labels_are_checked() {
    let check = |args: Value| endpoint::check_args(&conf(&json!({"args": {"cni": args}})));
    let port = |name: &str, protocol: Value, port: u16| {
        check(json!({"ports": [{"name": name, "protocol": protocol, "port": port}]}))
    };
    assert!(port("web", json!("TCP"), 80).is_ok() && port("dns", json!("udp"), 53).is_ok());
    assert!(
        port("web", json!("ICMP"), 80)
            .unwrap_err()
            .to_string()
            .contains("ports[0].protocol")
    );
    assert!(
        port("web", json!("TCP"), 0)
            .unwrap_err()
            .to_string()
            .contains("ports[0].port")
    );
    assert!(
        port("", json!("TCP"), 80)
            .unwrap_err()
            .to_string()
            .contains("ports[0].name")
    );
    assert!(check(json!({"labels": [{"key": ""}]})).is_err());
}

#[test]
fn waiting_is_as_configured() {
    assert!(matches!(policy::wait(None), Wait::OrFail(t) if t.as_secs() == 10));
    assert_eq!(policy::wait(Some(0)), Wait::No);
    assert!(matches!(policy::wait(Some(7)), Wait::AtMost(t) if t.as_secs() == 7));
}

#[test]
fn log_levels() {
    for good in ["", "debug", "INFO", "Warning", "error", "none"] {
        assert!(logging::level(good).is_ok(), "{good}");
    }
    assert!(logging::level("loud").unwrap_err().to_string().contains("loud"));
}

#[test]
fn results_have_the_shape_of_their_version() {
    let result = AddResult {
        host: Some(("cali1".into(), crate::HOST_MAC)),
        container: Some((
            "eth0".into(),
            "02:00:00:00:00:01".parse().unwrap(),
            "/run/netns/x".into(),
        )),
        addresses: vec!["10.0.0.1/32".parse().unwrap(), "fd00::1/128".parse().unwrap()],
        routes: vec![ResultRoute {
            dst: "0.0.0.0/0".parse().unwrap(),
            gw: Some("169.254.1.1".parse().unwrap()),
        }],
        ..AddResult::default()
    };
    let json = |v| serde_json::from_str::<Value>(&result.to_json(v)).unwrap();
    assert_eq!(
        json(Version::V0_3_1),
        json!({
            "cniVersion": "0.3.1",
            "interfaces": [
                {"name": "cali1", "mac": "ee:ee:ee:ee:ee:ee"},
                {"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/x"},
            ],
            "ips": [
                {"version": "4", "address": "10.0.0.1/32", "interface": 1},
                {"version": "6", "address": "fd00::1/128", "interface": 1},
            ],
            "routes": [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}],
            "dns": {},
        })
    );
    assert_eq!(
        json(Version::V1_0_0)["ips"][0],
        json!({"address": "10.0.0.1/32", "interface": 1})
    );
    let back = read_result(&json(Version::V1_1_0)).unwrap();
    assert_eq!((back.addresses, back.routes), (result.addresses, result.routes));
    assert!(read_result(&json!({"ips": [{"address": "x"}]})).is_err());
}

#[test]
fn null_is_the_same_as_nothing() {
    let text = br#"{"name": "n", "cniVersion": "1.0.0", "mtu": null, "ipam": {"type": "calico-ipam", "ipv4_pools": null},
        "runtimeConfig": {"io.kubernetes.cri.pod-annotations": null, "ips": null}, "args": null, "prevResult": null}"#;
    let conf = NetConf::read(text).unwrap();
    assert_eq!((conf.mtu, conf.runtime_config.pod_annotations.len()), (0, 0));
    assert!(conf.prev_result.is_none());
    let wrong = NetConf::read(br#"{"name": "n", "runtimeConfig": {"ips": [null, 5]}}"#).unwrap_err();
    assert!(wrong.to_string().contains("runtimeConfig.ips"), "{wrong}");
}
