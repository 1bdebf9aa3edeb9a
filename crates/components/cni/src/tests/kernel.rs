use std::{
    cell::{Cell, RefCell},
    io::Write,
    process::{Command, Stdio},
    rc::Rc,
    time::Duration,
};

use caracal_api::{Kind, ResourceKey, WorkloadEndpointSpec};
use caracal_link::Rtnl;
use caracal_store::{Preconditions, Store, StoreError};
use caracal_store_memory::Op;
use caracal_sys::{NetNs, Sysctl};
use caracal_testkit::{Etcd, eventually, needs, netns};
use serde_json::json;

use super::{
    agent::FakeAgent,
    lab::{Lab, addresses, block_on, object, talks},
};
use crate::{
    call::AfterStep,
    error::{CniError, Code},
    plan::Step,
    run::{Plugin, process},
};

const VETH: &str = "cali68caf03a5f4";

#[test]
fn netns_add_check_and_del_of_a_pod_with_two_families() {
    netns!();
    let lab = Lab::new();
    let pod = NetNs::create("pod").unwrap();
    let result = lab.ok(lab.request("ADD", "c1", "pod"));
    let ips = addresses(&result);
    assert_eq!(ips.len(), 2, "{result}");
    assert!(ips[0].is_ipv4() && ips[1].is_ipv6(), "{result}");
    assert_eq!(result["interfaces"][0]["name"], VETH);
    assert_eq!(result["interfaces"][1]["sandbox"], "/run/netns/pod");

    let mut inside = Rtnl::open_in(&pod).unwrap();
    let eth0 = inside.require_link("eth0").unwrap();
    assert_eq!((eth0.up, eth0.mtu), (true, 1440));
    assert_eq!(result["interfaces"][1]["mac"], eth0.mac.unwrap().to_string());
    let outer = Rtnl::open().unwrap().require_link(VETH).unwrap();
    assert_eq!(outer.mac, Some(crate::HOST_MAC));
    assert_eq!(outer.alias.as_deref(), Some("c1/eth0/net1"));

    let endpoint: WorkloadEndpointSpec = lab.endpoints().remove(0);
    let networks: Vec<String> = ips
        .iter()
        .map(|a| caracal_net::Cidr::host(*a).to_string())
        .collect();
    assert_eq!(endpoint.ip_networks, networks);
    assert_eq!((&*endpoint.interface_name, &*endpoint.container_id), (VETH, "c1"));
    assert_eq!(lab.handles(), ["net1.c1"]);
    assert_eq!(lab.taken(), 2);

    for (ip, host) in ips.iter().zip(["172.30.0.1", "fd00:30::1"]) {
        eventually(Duration::from_secs(10), || talks(&pod, *ip, host));
    }
    lab.ok(lab
        .request("CHECK", "c1", "pod")
        .conf("prevResult", result.clone()));

    lab.ok(lab.request("DEL", "c1", "pod"));
    lab.assert_empty("after DEL");
    assert_eq!(inside.link("eth0").unwrap(), None);
    lab.ok(lab.request("DEL", "c1", "pod"));
}

#[test]
fn netns_settings_of_both_sides() {
    netns!();
    let lab = Lab::new();
    let pod = NetNs::create("pod").unwrap();
    // What some runtimes do to a new namespace.
    let set = || {
        Sysctl::conf(caracal_net::Family::V6, "all", "disable_ipv6")
            .unwrap()
            .write("1")
            .unwrap()
    };
    pod.run(set).unwrap();
    let forwarding = json!({"allow_ip_forwarding": true});
    lab.ok(lab
        .request("ADD", "c1", "pod")
        .conf("container_settings", forwarding));
    let read = |key: &str| {
        Sysctl::new(&key.split('/').collect::<Vec<_>>())
            .unwrap()
            .read()
            .unwrap()
    };
    for (key, value) in [
        ("ipv4/conf/@/proxy_arp", "1"),
        ("ipv4/conf/@/forwarding", "1"),
        ("ipv4/conf/@/route_localnet", "1"),
        ("ipv4/neigh/@/proxy_delay", "0"),
        ("ipv6/conf/@/proxy_ndp", "1"),
        ("ipv6/conf/@/forwarding", "1"),
        ("ipv6/conf/@/accept_ra", "0"),
        ("ipv6/conf/@/disable_ipv6", "0"),
    ] {
        assert_eq!(read(&format!("net/{}", key.replace('@', VETH))), value, "{key}");
    }
    let inside = |key: &'static str| {
        pod.run(move || {
            Sysctl::new(&key.split('/').collect::<Vec<_>>())
                .unwrap()
                .read()
                .unwrap()
        })
        .unwrap()
    };
    assert_eq!(inside("net/ipv6/conf/all/disable_ipv6"), "0");
    assert_eq!(inside("net/ipv4/ip_forward"), "1");
    assert_eq!(inside("net/ipv6/conf/all/forwarding"), "1");
    lab.ok(lab.request("ADD", "c1", "pod"));
    assert_eq!(inside("net/ipv4/ip_forward"), "0", "not asked for any more");
    let queues = |name: &'static str| {
        let show = std::process::Command::new("ip")
            .args(["-j", "-d", "link", "show", name])
            .output()
            .unwrap();
        let links: serde_json::Value = serde_json::from_slice(&show.stdout).unwrap();
        (
            links[0]["num_tx_queues"].clone(),
            links[0]["num_rx_queues"].clone(),
        )
    };
    assert_eq!(queues(VETH), (json!(1), json!(1)));
    assert_eq!(pod.run(|| queues("eth0")).unwrap(), (json!(1), json!(1)));
    lab.ok(lab.request("DEL", "c1", "pod"));
    lab.ok(lab.request("ADD", "c1", "pod").conf("num_queues", json!(3)));
    assert_eq!(queues(VETH), (json!(3), json!(3)));
    assert_eq!(pod.run(|| queues("eth0")).unwrap(), (json!(3), json!(3)));
}

#[test]
fn netns_add_again_gives_the_same_and_repairs() {
    netns!();
    let lab = Lab::new();
    let pod = NetNs::create("pod").unwrap();
    let first = lab.ok(lab.request("ADD", "c1", "pod"));
    assert_eq!(lab.ok(lab.request("ADD", "c1", "pod")), first);
    assert_eq!(lab.taken(), 2);
    // The link is lost, the rest is there.
    Rtnl::open().unwrap().delete_link(VETH).unwrap();
    let check = lab
        .request("CHECK", "c1", "pod")
        .conf("prevResult", first.clone());
    assert_eq!(lab.fails(check).0, 110);
    assert_eq!(lab.ok(lab.request("ADD", "c1", "pod")), first);
    // The endpoint is lost.
    let key = ResourceKey::namespaced(Kind::WorkloadEndpoint, "default", "node--1-k8s-web-eth0");
    block_on(lab.store.delete(&key, &Preconditions::default())).unwrap();
    assert_eq!(lab.ok(lab.request("ADD", "c1", "pod")), first);
    lab.ok(lab
        .request("CHECK", "c1", "pod")
        .conf("prevResult", first.clone()));
    eventually(Duration::from_secs(10), || {
        talks(&pod, addresses(&first)[0], "172.30.0.1")
    });
}

#[test]
fn netns_a_newer_container_of_the_pod_replaces_the_older() {
    netns!();
    let lab = Lab::new();
    for name in ["old", "new"] {
        NetNs::create(name).unwrap();
    }
    let old = lab.ok(lab.request("ADD", "c-old", "old"));
    let new = lab.ok(lab.request("ADD", "c-new", "new"));
    assert!(addresses(&old).iter().all(|a| !addresses(&new).contains(a)));
    assert_eq!(lab.endpoints()[0].container_id, "c-new");
    // In any order, and with the namespace gone or not.
    NetNs::delete("old").unwrap();
    lab.ok(lab.request("DEL", "c-old", "old"));
    assert_eq!(lab.endpoints()[0].container_id, "c-new");
    assert_eq!(lab.handles(), ["net1.c-new"]);
    assert_eq!(lab.taken(), 2);
    lab.ok(lab
        .request("CHECK", "c-new", "new")
        .conf("prevResult", new.clone()));
    let ns = NetNs::named("new").unwrap();
    eventually(Duration::from_secs(10), || {
        talks(&ns, addresses(&new)[0], "172.30.0.1")
    });
    lab.ok(lab.request("DEL", "c-new", "new"));
    lab.assert_empty("after both");
}

#[test]
fn netns_del_succeeds_whatever_is_gone_already() {
    netns!();
    let lab = Lab::new();
    lab.ok(lab.request("DEL", "never", "nowhere"));
    let key = ResourceKey::namespaced(Kind::WorkloadEndpoint, "default", "node--1-k8s-web-eth0");
    for (i, what) in ["netns", "link", "endpoint", "CNI_NETNS"].into_iter().enumerate() {
        let name = format!("pod{i}");
        NetNs::create(&name).unwrap();
        lab.ok(lab.request("ADD", "c1", &name));
        let mut del = lab.request("DEL", "c1", &name);
        match what {
            "netns" => assert!(NetNs::delete(&name).unwrap()),
            "link" => assert!(Rtnl::open().unwrap().delete_link(VETH).unwrap()),
            "endpoint" => drop(block_on(lab.store.delete(&key, &Preconditions::default())).unwrap()),
            _ => del = del.env("CNI_NETNS", ""),
        }
        lab.ok(del);
        eventually(Duration::from_secs(5), || {
            // The kernel ends a namespace without a name, and what is in it, in its own time.
            if lab.host_links().is_empty() {
                Ok(())
            } else {
                Err("the link is still there".into())
            }
        });
        lab.assert_empty(what);
    }
}

#[test]
fn netns_a_failure_after_any_step_undoes_all() {
    netns!();
    let lab = Lab::new();
    let pod = NetNs::create("pod").unwrap();
    let steps = Rc::new(RefCell::new(Vec::new()));
    let all = Rc::clone(&steps);
    let mut first = lab.request("ADD", "c1", "pod");
    first.after_step = Some(AfterStep(Box::new(move |step: &Step| {
        all.borrow_mut().push(step.to_string());
        Ok(())
    })));
    lab.ok(first);
    lab.ok(lab.request("DEL", "c1", "pod"));
    let steps = steps.borrow().clone();
    assert!(steps.len() >= 7, "{steps:?}");
    for (number, step) in steps.iter().enumerate() {
        let done = Cell::new(0);
        let mut request = lab.request("ADD", "c1", "pod");
        request.after_step = Some(AfterStep(Box::new(move |_: &Step| {
            let now = done.replace(done.get() + 1);
            if now == number {
                return Err(CniError::new(Code::Io, "injected", "by the test"));
            }
            Ok(())
        })));
        let (code, text) = lab.fails(request);
        assert!(code == 5 && text.contains("injected"), "{text}");
        lab.assert_empty(step);
        assert_eq!(Rtnl::open_in(&pod).unwrap().link("eth0").unwrap(), None, "{step}");
    }
    lab.ok(lab.request("ADD", "c1", "pod"));
    // A repeated ADD that fails takes nothing from the running container.
    for number in 0..3 {
        let done = Cell::new(0);
        let mut again = lab.request("ADD", "c1", "pod");
        again.after_step = Some(AfterStep(Box::new(move |_: &Step| {
            let now = done.replace(done.get() + 1);
            if now == number {
                Err(CniError::new(Code::Io, "injected", ""))
            } else {
                Ok(())
            }
        })));
        lab.fails(again);
        assert_eq!(
            (lab.taken(), lab.endpoints().len(), lab.host_links().len()),
            (2, 1, 1)
        );
    }
}

#[test]
fn netns_add_waits_for_the_policy_of_this_container() {
    netns!();
    let lab = Lab::new();
    NetNs::create("pod").unwrap();
    let socket = "/run/agent.sock";
    let request = |container: &str| {
        let mut r = lab
            .request("ADD", container, "pod")
            .env("CARACAL_AGENT_SOCKET", socket);
        r.conf["policy_setup_timeout_seconds"] = json!(1);
        r
    };
    let agent = FakeAgent::start(socket.as_ref(), "c1");
    lab.ok(request("c1"));
    let asked = agent.asked.try_recv().unwrap();
    assert_eq!(
        (&*asked.namespace, &*asked.name, &*asked.container_id),
        ("default", "node--1-k8s-web-eth0", "c1")
    );
    assert!(asked.timeout_ms <= 1000, "{}", asked.timeout_ms);
    lab.ok(lab.request("DEL", "c1", "pod"));
    // An explicit time that runs out is no failure; the pod is routed then all the same.
    let started = std::time::Instant::now();
    let result = lab.ok(request("c2"));
    assert!(
        started.elapsed() >= Duration::from_millis(900),
        "{:?}",
        started.elapsed()
    );
    lab.ok(lab.request("CHECK", "c2", "pod").conf("prevResult", result));
    lab.ok(lab.request("DEL", "c2", "pod"));
    // Without it, running out is a failure, and nothing is left.
    let mut must = request("c3");
    must.conf
        .as_object_mut()
        .unwrap()
        .remove("policy_setup_timeout_seconds");
    let (code, text) = lab.fails(must);
    assert!(code == 11 && text.contains("the interface is missing"), "{text}");
    lab.assert_empty("policy never came");
    // Zero does not ask.
    assert!(agent.asked.try_iter().count() > 0);
    lab.ok(request("c4").conf("policy_setup_timeout_seconds", json!(0)));
    assert!(agent.asked.try_recv().is_err());
    lab.ok(lab.request("DEL", "c4", "pod"));
    drop(agent);
    // The socket of a dead agent: it may come back in time.
    let plugins = caracal_agent_api::pods::socket(socket);
    assert!(std::path::Path::new(&plugins).exists());
    let late = std::thread::spawn(move || {
        std::fs::remove_file(plugins).unwrap();
        FakeAgent::start(socket.as_ref(), "c5")
    });
    let mut must = request("c5");
    must.conf["policy_setup_timeout_seconds"] = json!(9);
    lab.ok(must);
    assert!(
        late.join()
            .unwrap()
            .asked
            .recv_timeout(Duration::from_secs(5))
            .is_ok()
    );
}

#[test]
fn netns_requested_addresses_and_the_ipam_plugin_alone() {
    netns!();
    let lab = Lab::new();
    NetNs::create("pod").unwrap();
    let args = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;IP=10.65.0.77";
    let result = lab.ok(lab.request("ADD", "c1", "pod").env("CNI_ARGS", args));
    assert_eq!(addresses(&result)[0].to_string(), "10.65.0.77");
    assert_eq!(addresses(&result).len(), 1);
    let ipam = |command: &str, container: &str| {
        let mut r = lab.request(command, container, "pod");
        r.plugin = Plugin::Ipam;
        r
    };
    let (code, text) = lab.fails(ipam("ADD", "c2").env("CNI_ARGS", "IP=10.65.0.77"));
    assert!(code == 101 && text.contains("net1.c1"), "{text}");
    let alone = lab.ok(ipam("ADD", "c2"));
    assert_eq!(alone["ips"].as_array().unwrap().len(), 2);
    assert!(
        alone["ips"][0]["address"].as_str().unwrap().ends_with("/26"),
        "{alone}"
    );
    assert!(alone.get("interfaces").is_none(), "{alone}");
    assert_eq!(lab.ok(ipam("ADD", "c2")), alone);
    lab.ok(ipam("CHECK", "c2").conf("prevResult", alone.clone()));
    lab.ok(ipam("DEL", "c2"));
    assert_eq!(lab.fails(ipam("CHECK", "c2").conf("prevResult", alone)).0, 110);
    lab.ok(ipam("DEL", "c2"));
    assert_eq!((lab.handles(), lab.taken()), (vec!["net1.c1".to_owned()], 1));
}

#[test]
fn netns_another_ipam_plugin_is_run_as_the_specification_says() {
    netns!();
    let lab = Lab::new();
    let pod = NetNs::create("pod").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("fixed");
    let text = format!(
        "#!/bin/sh\necho $CNI_COMMAND >> {0}/log\ncat > {0}/stdin\n[ $CNI_CONTAINERID = bad ] && {{ echo \
         '{{\"code\":999,\"msg\":\"no luck\"}}'; exit 1; }}\necho \
         '{{\"cniVersion\":\"1.0.0\",\"ips\":[{{\"address\":\"10.9.0.5/24\"}}],\"routes\":[{{\"dst\":\"10.8.0.0/16\"}}]}}'\n",
        dir.path().display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let request = |command: &str, container: &str| {
        lab.request(command, container, "pod")
            .env("CNI_PATH", &format!("/nonexistent:{}", dir.path().display()))
            .conf("ipam", json!({"type": "fixed", "any": 1}))
    };
    let result = lab.ok(request("ADD", "c1"));
    assert_eq!(result["ips"][0]["address"], "10.9.0.5/32");
    let routes = caracal_route::routes_to(&mut Rtnl::open_in(&pod).unwrap(), "10.8.0.0/16".parse().unwrap());
    assert_eq!(routes.unwrap().len(), 1);
    lab.ok(request("CHECK", "c1").conf("prevResult", result));
    lab.ok(request("DEL", "c1"));
    let stdin = std::fs::read_to_string(dir.path().join("stdin")).unwrap();
    assert!(stdin.contains("\"any\":1"), "{stdin}");
    let (code, text) = lab.fails(request("ADD", "bad"));
    assert!(code == 999 && text.contains("no luck"), "{text}");
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
    assert_eq!(
        log.split_whitespace().collect::<Vec<_>>(),
        ["ADD", "CHECK", "DEL", "ADD", "DEL"]
    );
    let (code, text) = lab.fails(request("ADD", "c1").conf("ipam", json!({"type": "absent"})));
    assert!(code == 4 && text.contains("CNI_PATH"), "{text}");
}

#[test]
fn netns_status_and_garbage_collection() {
    netns!();
    let lab = Lab::new();
    for name in ["a", "b"] {
        NetNs::create(name).unwrap();
    }
    let pod = |r: super::lab::Request, name: &str| {
        r.env(
            "CNI_ARGS",
            &format!("K8S_POD_NAMESPACE=default;K8S_POD_NAME={name}"),
        )
    };
    lab.ok(pod(lab.request("ADD", "c-a", "a"), "a"));
    let b = lab.ok(pod(lab.request("ADD", "c-b", "b"), "b"));
    let late = |command: &str| lab.request(command, "", "").conf("cniVersion", json!("1.1.0"));
    lab.ok(late("STATUS"));
    assert_eq!(lab.fails(lab.request("STATUS", "", "")).0, 1, "not in 1.0.0");
    assert_eq!(lab.fails(late("GC")).0, 7, "no list");
    let living = json!([{"containerID": "c-b", "ifname": "eth0"}]);
    // Neither another network's nor another node's.
    for (field, other) in [("name", "net2"), ("nodename", "node-2")] {
        lab.ok(late("GC")
            .conf("cni.dev/valid-attachments", json!([]))
            .conf(field, json!(other)));
        assert_eq!(lab.endpoints().len(), 2);
    }
    lab.ok(late("GC").conf("cni.dev/valid-attachments", living));
    assert_eq!(lab.handles(), ["net1.c-b"]);
    assert_eq!((lab.endpoints().len(), lab.host_links().len()), (1, 1));
    lab.ok(pod(lab.request("CHECK", "c-b", "b"), "b").conf("prevResult", b));
    lab.store.fail_next(1, &StoreError::Unavailable("gone".into()));
    assert_eq!(lab.fails(late("STATUS")).0, 50);
}

#[test]
fn netns_the_store_goes_away() {
    netns!();
    let lab = Lab::new();
    let pod = NetNs::create("pod").unwrap();
    let gone = StoreError::Unavailable("connection refused".into());
    lab.store.fail_next(20, &gone);
    let (code, text) = lab.fails(lab.request("ADD", "c1", "pod"));
    assert!(code == 11 && text.contains("connection refused"), "{text}");
    lab.store.clear_faults();
    lab.assert_empty("before anything was done");
    // In the middle: the write of the endpoint (after affinities, blocks and handles).
    let hook_store = lab.store.clone();
    let mut request = lab.request("ADD", "c1", "pod");
    request.after_step = Some(AfterStep(Box::new(move |step: &Step| {
        if matches!(step, Step::ConfigureInner(_)) {
            hook_store.fail_next_on(Op::Create, 1, &StoreError::Unavailable("lost".into()));
        }
        Ok(())
    })));
    let (code, text) = lab.fails(request);
    assert!(code == 11 && text.contains("lost"), "{text}");
    lab.assert_empty("undone");
    assert_eq!(Rtnl::open_in(&pod).unwrap().link("eth0").unwrap(), None);
    // DEL goes on trying; the link goes at once.
    lab.ok(lab.request("ADD", "c1", "pod"));
    lab.store.fail_next(6, &gone);
    lab.ok(lab.request("DEL", "c1", "pod"));
    lab.assert_empty("after the store came back");
}

/// The whole program, with a real etcd: this test started again is the plugin.
#[test]
fn netns_as_a_process_with_a_real_etcd() {
    const CHILD: &str = "CARACAL_CNI_TEST_IS_PLUGIN";
    if std::env::var_os(CHILD).is_some() {
        std::process::exit(process(Plugin::Calico, &[]));
    }
    netns!();
    needs!("etcd");
    drop(Lab::new());
    let etcd = Etcd::start();
    let store = caracal_datastore::connect(&caracal_datastore::Settings::Etcd(
        caracal_datastore::EtcdSettings::new([etcd.endpoint()]),
    ))
    .unwrap();
    let pool = object::<caracal_api::IpPoolSpec>("p4", json!({"cidr": "10.66.0.0/24", "blockSize": 26}));
    block_on(store.create(pool)).unwrap();
    let pod = NetNs::create("pod").unwrap();
    let conf = json!({
        "cniVersion": "0.3.1", "name": "net1", "type": "calico", "log_level": "warning", "datastore_type": "etcdv3",
        "etcd_endpoints": etcd.endpoint(), "nodename": "node-1", "ipam": {"type": "calico-ipam"},
    });
    let call = |command: &str| {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "tests::kernel::netns_as_a_process_with_a_real_etcd",
                "--exact",
                "--nocapture",
            ])
            .env(CHILD, "1")
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", "0123456789abcdef")
            .env("CNI_NETNS", "/run/netns/pod")
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", "/nonexistent")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(conf.to_string().as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        // The test program prints a line of its own first.
        let json = text
            .find('{')
            .map(|at| serde_json::from_str(&text[at..]).unwrap());
        (output.status.code(), json.unwrap_or(serde_json::Value::Null))
    };
    let (code, version) = call("VERSION");
    assert_eq!((code, &version["cniVersion"]), (Some(0), &json!("0.3.1")));
    let (code, result) = call("ADD");
    assert_eq!(code, Some(0), "{result}");
    assert_eq!(result["ips"][0]["version"], "4");
    eventually(Duration::from_secs(10), || {
        talks(&pod, addresses(&result)[0], "172.30.0.1")
    });
    let all = |kind| {
        block_on(store.list_all(kind, &Default::default()))
            .unwrap()
            .items
            .len()
    };
    assert_eq!(
        (
            all(Kind::WorkloadEndpoint),
            all(Kind::IpamHandle),
            all(Kind::Profile)
        ),
        (1, 1, 1)
    );
    let (code, nothing) = call("DEL");
    assert_eq!((code, nothing), (Some(0), serde_json::Value::Null));
    assert_eq!((all(Kind::WorkloadEndpoint), all(Kind::IpamHandle)), (0, 0));
    let (code, error) = call("FETCH");
    assert_eq!((code, &error["code"]), (Some(1), &json!(4)), "{error}");
}
