use caracal_api::Object;
use caracal_net::{IfAddr, PerFamily};
use serde_json::json;

use crate::{
    endpoint,
    env::Env,
    identity::Identity,
    netconf::NetConf,
    plan::{
        AddressSource, Observed, SeenLink, Step, Wait, Wanted, inner_routes, plan_addresses, plan_attach,
    },
    result::ResultRoute,
};

fn given() -> (Identity, NetConf) {
    let conf = json!({
        "name": "net",
        "args": {"cni": {
            "labels": [{"key": "app", "value": "web"}, {"key": "projectcalico.org/namespace", "value": "stolen"}],
            "ports": [{"name": "http", "protocol": "TCP", "port": 80}], "serviceAccount": "sa"}},
    });
    let conf = NetConf::read(conf.to_string().as_bytes()).unwrap();
    let env = [
        ("CNI_CONTAINERID", "c1"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", "K8S_POD_NAME=web;K8S_POD_NAMESPACE=default"),
    ];
    let env = Env::read(env.map(|(k, v)| (k.to_owned(), v.to_owned())).into()).unwrap();
    (Identity::new(&env, &conf, "n1".parse().unwrap()).unwrap(), conf)
}

fn wanted<'a>(id: &'a Identity, conf: &'a NetConf) -> Wanted<'a> {
    Wanted {
        id,
        conf,
        addresses: AddressSource::Calico {
            families: PerFamily { v4: true, v6: true },
            requested: Vec::new(),
        },
        mtu: 1450,
        wait: Wait::OrFail(std::time::Duration::from_secs(10)),
    }
}

fn addr(text: &str) -> IfAddr {
    text.parse().unwrap()
}

fn link(index: u32, alias: Option<&str>, peer: Option<u32>) -> SeenLink {
    SeenLink {
        index,
        kind: Some("veth".into()),
        alias: alias.map(str::to_owned),
        peer,
    }
}

fn texts(steps: &[Step]) -> Vec<String> {
    steps.iter().map(ToString::to_string).collect()
}

#[test]
fn a_plan_reads_like_what_is_done() {
    let (id, conf) = given();
    let wanted = wanted(&id, &conf);
    let (kept, steps) = plan_addresses(&Observed::default(), &wanted);
    assert!(kept.is_empty());
    assert_eq!(
        texts(&steps),
        ["assign an IPv4 address", "assign an IPv6 address"]
    );
    let both = [addr("10.0.0.1/26"), addr("fd00::1/122")];
    let steps = plan_attach(&Observed::default(), &wanted, &both, &[]).unwrap();
    let mac = id.mac();
    assert_eq!(
        texts(&steps),
        [
            format!("create veth cali68caf03a5f4 - eth0 ({mac}), MTU 1450"),
            "configure cali68caf03a5f4 and switch it on".into(),
            "configure eth0 inside with 10.0.0.1, fd00::1".into(),
            format!("write {}", id.endpoint_key()),
            "wait for policy, at most 10s".into(),
            "route 10.0.0.1, fd00::1 to cali68caf03a5f4".into(),
        ]
    );
}

#[test]
fn what_the_handle_holds_is_kept() {
    let (id, conf) = given();
    let mut wanted = wanted(&id, &conf);
    let observed = Observed {
        held: vec![addr("10.0.0.7/26")],
        ..Observed::default()
    };
    let (kept, steps) = plan_addresses(&observed, &wanted);
    assert_eq!(kept, observed.held);
    assert_eq!(texts(&steps), ["assign an IPv6 address"]);
    let requested = vec!["10.0.0.9".parse().unwrap(), "10.0.0.7".parse().unwrap()];
    wanted.addresses = AddressSource::Calico {
        families: PerFamily { v4: true, v6: true },
        requested,
    };
    let (kept, steps) = plan_addresses(&observed, &wanted);
    assert_eq!(
        (kept, texts(&steps)),
        (observed.held.clone(), vec!["assign 10.0.0.9".into()])
    );
    wanted.addresses = AddressSource::Delegate("host-local".into());
    assert_eq!(
        texts(&plan_addresses(&observed, &wanted).1),
        ["let host-local assign addresses"]
    );
}

#[test]
fn a_second_add_only_configures_again() {
    let (id, conf) = given();
    let wanted = wanted(&id, &conf);
    let addresses = [addr("10.0.0.1/26")];
    let observed = Observed {
        endpoint: Some(endpoint::endpoint(&id, &conf, &addresses, Some("5".into())).unwrap()),
        host_link: Some(link(4, Some("c1/eth0/net"), Some(2))),
        inner_link: Some(link(2, None, Some(4))),
        ..Observed::default()
    };
    let steps = plan_attach(&observed, &wanted, &addresses, &[]).unwrap();
    assert!(
        steps.iter().all(|s| !matches!(
            s,
            Step::CreateVeth { .. } | Step::WriteEndpoint(_) | Step::DropHostLink { .. }
        )),
        "{:?}",
        texts(&steps)
    );
}

#[test]
fn what_is_in_the_way_is_cleared_only_if_it_is_ours() {
    let (id, conf) = given();
    let wanted = wanted(&id, &conf);
    let plan = |host: Option<SeenLink>, inner: Option<SeenLink>| {
        let observed = Observed {
            host_link: host,
            inner_link: inner,
            ..Observed::default()
        };
        plan_attach(&observed, &wanted, &[addr("10.0.0.1/26")], &[]).map(|s| s[0].to_string())
    };
    let older = plan(Some(link(4, Some("old/eth0"), Some(2))), None).unwrap();
    assert_eq!(older, "delete link cali68caf03a5f4 (of old/eth0)");
    let nobodys = plan(Some(link(4, None, Some(2))), None).unwrap();
    assert_eq!(nobodys, "delete link cali68caf03a5f4 (nobody's)");
    let bridge = SeenLink {
        kind: Some("bridge".into()),
        ..link(4, None, None)
    };
    assert!(
        plan(Some(bridge), None)
            .unwrap_err()
            .to_string()
            .contains("no veth")
    );
    for host in [None, Some(link(4, Some("c1/eth0/net"), Some(9)))] {
        let taken = plan(host, Some(link(2, None, Some(77)))).unwrap_err();
        assert!(
            taken.code == 4 && taken.to_string().contains("already"),
            "{taken}"
        );
    }
}

#[test]
fn containers_that_are_no_pods_do_not_replace_each_other() {
    let (mut id, conf) = given();
    id.pod = None;
    let observed = Observed {
        host_link: Some(link(4, Some("c2/eth0/net"), Some(2))),
        ..Observed::default()
    };
    let refused = plan_attach(&observed, &wanted(&id, &conf), &[addr("10.0.0.1/26")], &[]).unwrap_err();
    assert!(refused.to_string().contains("c2/eth0/net"), "{refused}");
}

#[test]
fn interfaces_of_one_container_have_names_and_handles_of_their_own() {
    let (first, _) = given();
    let mut second = first.clone();
    second.ifname = "net1".into();
    assert_eq!(
        (first.handle(), second.handle()),
        ("net.c1".into(), "net.c1.net1".into())
    );
    assert_ne!(first.host_interface(), second.host_interface());
    assert_ne!(first.endpoint_name(), second.endpoint_name());
    assert_ne!(first.mac(), second.mac());
    assert_eq!(second.attributes(String::new())["interface"], "net1");
    // A pod whose name looks like a pod and an interface is not taken for it.
    let mut other = first.clone();
    other.pod = Some(("default".into(), "web.net1".into()));
    assert_ne!(other.host_interface(), second.host_interface());
    // Without pods: as Calico where that is unambiguous, else a digest of all of the id.
    let named = |container: &str, ifname: &str| {
        let mut id = first.clone();
        id.pod = None;
        id.container_id = container.into();
        id.ifname = ifname.into();
        id.host_interface()
    };
    assert_eq!(named("0123456789abcdef", "eth0"), "cali0123456789a");
    assert_eq!(named("short", "eth0"), "calishort");
    assert_ne!(
        named("container-number-1", "eth0"),
        named("container-number-2", "eth0")
    );
    assert_ne!(
        named("0123456789abcdef", "eth0"),
        named("0123456789abcdef", "eth1")
    );
    for name in [named("container-number-1", "eth0"), named("short", "net1")] {
        assert!(name.len() == 15 && name.starts_with("cali"), "{name}");
    }
}

#[test]
fn the_endpoint_carries_what_policy_needs() {
    let (id, conf) = given();
    let e = endpoint::endpoint(&id, &conf, &[addr("10.0.0.1/26"), addr("fd00::1/122")], None).unwrap();
    assert_eq!(e.spec.ip_networks, ["10.0.0.1/32", "fd00::1/128"]);
    assert_eq!(
        (&*e.spec.pod, &*e.spec.container_id, &*e.spec.endpoint),
        ("web", "c1", "eth0")
    );
    assert_eq!(e.spec.profiles, ["kns.default", "ksa.default.sa"]);
    assert_eq!((e.spec.ports[0].port, &*e.spec.ports[0].name), (80, "http"));
    assert_eq!(e.metadata.labels["app"], "web");
    assert_eq!(
        e.metadata.labels["projectcalico.org/namespace"], "default",
        "not to be chosen"
    );
    assert_eq!(e.metadata.labels["projectcalico.org/orchestrator"], "k8s");
}

#[test]
fn a_container_of_no_pod_gets_its_networks_profile() {
    let (mut id, conf) = given();
    id.pod = None;
    let wanted = wanted(&id, &conf);
    let made = |profile: bool| {
        let observed = Observed {
            profile,
            ..Observed::default()
        };
        let steps = plan_attach(&observed, &wanted, &[addr("10.0.0.1/26")], &[]).unwrap();
        steps.into_iter().find_map(|s| match s {
            Step::WriteProfile(p) => Some(*p),
            _ => None,
        })
    };
    let profile: Object<_> = made(false).unwrap();
    assert_eq!(profile.metadata.name, "net");
    assert_eq!(profile.spec.ingress[0].source.selector, "has(net)");
    assert!(profile.spec.labels_to_apply.contains_key("net"));
    assert_eq!(made(true), None);
}

#[test]
fn routes_inside_lead_through_the_gateway() {
    let conf = |text: &str| NetConf::read(text.as_bytes()).unwrap();
    let list = |conf: &NetConf, asked: &[ResultRoute]| {
        let both = [addr("10.0.0.1/26"), addr("fd00::1/122")];
        let routes = inner_routes(conf, &both, asked);
        let show = |r: &ResultRoute| format!("{} {}", r.dst, r.gw.map(|g| g.to_string()).unwrap_or_default());
        routes.iter().map(show).collect::<Vec<_>>()
    };
    let v6 = "fe80::ecee:eeff:feee:eeee";
    assert_eq!(
        list(&conf("{}"), &[]),
        [
            "169.254.1.1/32 ".to_owned(),
            "0.0.0.0/0 169.254.1.1".into(),
            format!("::/0 {v6}")
        ]
    );
    let asked = [ResultRoute {
        dst: "10.1.0.0/16".parse().unwrap(),
        gw: Some("10.0.0.254".parse().unwrap()),
    }];
    let without = conf(r#"{"include_default_routes": false}"#);
    assert_eq!(
        list(&without, &asked),
        ["169.254.1.1/32 ", "10.1.0.0/16 169.254.1.1"]
    );
}
