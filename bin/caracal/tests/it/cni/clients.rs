//! Clients and plugins that are not ours: `cnitool` of the CNI project, and the plugins of Debian's package.

use std::{
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use caracal_testkit::{CniAttachment, CniRuntime, NetNs, eventually, find_tool, needs, netns};
use serde_json::{Value, json};

use super::{Machine, conf, links};

/// Where Debian's package has the CNI project's plugins.
pub(super) const OTHERS: &str = "/usr/lib/cni";

/// Our plugin's part of a list.
fn ours(ipam: Value) -> Value {
    let mut plugin = conf();
    plugin["ipam"] = ipam;
    for field in ["name", "cniVersion"] {
        plugin.as_object_mut().unwrap().remove(field);
    }
    plugin
}

fn calico_ipam() -> Value {
    json!({"type": "calico-ipam", "assign_ipv6": "true", "ipv4_pools": ["p4"]})
}

fn first_address(result: &Value) -> IpAddr {
    let text = result["ips"][0]["address"].as_str().unwrap();
    text.split_once('/').unwrap().0.parse().unwrap()
}

/// A datagram from one namespace to an address in another one, and one back.
pub(crate) fn talks(from: &NetNs, to: &NetNs, address: IpAddr) -> Result<(), String> {
    let limit = Some(Duration::from_millis(500));
    let say = |e: std::io::Error| e.to_string();
    let bind = |ns: &NetNs, at: SocketAddr| {
        let socket = ns.run(move || UdpSocket::bind(at)).map_err(|e| e.to_string())?;
        let socket = socket.map_err(say)?;
        socket.set_read_timeout(limit).map_err(say)?;
        Ok::<_, String>(socket)
    };
    let any: IpAddr = match address {
        IpAddr::V4(_) => "0.0.0.0".parse().unwrap(),
        IpAddr::V6(_) => "::".parse().unwrap(),
    };
    let server = bind(to, (address, 0).into())?;
    let client = bind(from, (any, 0).into())?;
    let mut buffer = [0; 8];
    let there = server.local_addr().map_err(say)?;
    client.send_to(b"ping", there).map_err(say)?;
    let (_, back) = server.recv_from(&mut buffer).map_err(|e| format!("ping: {e}"))?;
    server.send_to(b"pong", back).map_err(say)?;
    client.recv_from(&mut buffer).map_err(|e| format!("pong: {e}"))?;
    Ok(())
}

/// Pods of two namespaces reach each other, both ways and in both families.
pub(super) fn each_other(a: (&NetNs, &Value), b: (&NetNs, &Value)) {
    let addresses = |v: &Value| -> Vec<IpAddr> {
        let ips = v["ips"].as_array().unwrap().iter();
        let text = ips.map(|ip| ip["address"].as_str().unwrap().to_owned());
        text.map(|t| t.split_once('/').unwrap().0.parse().unwrap())
            .collect()
    };
    for ((from, _), (to, result)) in [(a, b), (b, a)] {
        for address in addresses(result) {
            eventually(Duration::from_secs(30), || talks(from, to, address));
        }
    }
}

struct CniTool {
    net_dir: PathBuf,
    path: String,
}

impl CniTool {
    fn new(machine: &Machine, list: &Value) -> Self {
        let net_dir = machine.dir.path().join("net.d");
        fs::create_dir_all(&net_dir).unwrap();
        fs::write(net_dir.join("10-net.conflist"), list.to_string()).unwrap();
        Self {
            net_dir,
            path: format!("{}:{OTHERS}", machine.bin().display()),
        }
    }

    fn run(&self, verb: &str, pod: &str) -> Result<Value, String> {
        let output = Command::new(find_tool("cnitool").unwrap())
            .args([verb, "net", &format!("/run/netns/{pod}")])
            .env("NETCONFPATH", &self.net_dir)
            .env("CNI_PATH", &self.path)
            .env(
                "CNI_ARGS",
                format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod}"),
            )
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            return Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr)));
        }
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    fn ok(&self, verb: &str, pod: &str) -> Value {
        self.run(verb, pod)
            .unwrap_or_else(|e| panic!("cnitool {verb} {pod}: {e}"))
    }
}

/// A link that leads out: without default routes the kernel answers for no gateway.
pub(super) fn uplink() {
    for line in [
        "link add up0 type veth peer name up1",
        "link set up1 up",
        "link set up0 up",
        "addr add 172.30.0.1/24 dev up0",
        "addr add fd00:30::1/64 dev up0 nodad",
        "route add default via 172.30.0.2",
        "-6 route add default via fd00:30::2",
    ] {
        let done = Command::new("ip").args(line.split(' ')).status().unwrap();
        assert!(done.success(), "ip {line}");
    }
    // The agent does this on a real node.
    for family in ["ipv4/conf/all", "ipv6/conf/all"] {
        fs::write(format!("/proc/sys/net/{family}/forwarding"), "1").unwrap();
    }
}

fn two_pods() -> [NetNs; 2] {
    ["web", "client"].map(|name| {
        let ns = NetNs::create(name).unwrap();
        let up = || Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(ns.run(up).unwrap().unwrap().success());
        ns
    })
}

#[test]
fn netns_cnitool_and_other_plugins() {
    netns!(240);
    needs!("cnitool", "/usr/lib/cni/portmap", "iptables");
    let machine = Machine::new();
    uplink();
    let [web, client] = two_pods();
    // Alone, with every verb that the tool has.
    let list = json!({"name": "net", "cniVersion": "1.1.0", "plugins": [ours(calico_ipam())]});
    let tool = CniTool::new(&machine, &list);
    tool.ok("status", "web");
    let a = tool.ok("add", "web");
    let b = tool.ok("add", "client");
    assert!(first_address(&a).to_string().starts_with("10.65.0."), "{a}");
    assert_eq!(machine.pods(), ["client", "web"]);
    tool.ok("check", "web");
    each_other((&web, &a), (&client, &b));
    // CHECK tells what somebody broke, and ADD's result is what it is compared with.
    let broken = || {
        Command::new("ip")
            .args(["route", "flush", "dev", "eth0"])
            .status()
    };
    assert!(web.run(broken).unwrap().unwrap().success());
    let told = tool.run("check", "web").unwrap_err();
    assert!(told.contains("route"), "{told}");
    for pod in ["web", "client", "client"] {
        tool.ok("del", pod);
    }
    assert_eq!((machine.pods(), links()), (vec![], vec![]));
}

#[test]
fn netns_portmap_and_bandwidth_behind_ours() {
    netns!(240);
    needs!("/usr/lib/cni/portmap", "/usr/lib/cni/bandwidth", "iptables");
    let machine = Machine::new();
    uplink();
    for version in ["1.0.0", "0.4.0"] {
        let [web, client] = two_pods();
        let list = json!({"name": "net", "cniVersion": version, "plugins": [
            ours(calico_ipam()),
            {"type": "portmap", "capabilities": {"portMappings": true}},
            {"type": "bandwidth", "capabilities": {"bandwidth": true}},
        ]});
        let bin = machine.bin();
        let runtime = CniRuntime::new(list, &[&bin, Path::new(OTHERS)])
            .capability(
                "portMappings",
                json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]),
            )
            .capability(
                "bandwidth",
                json!({"ingressRate": 8_000_000, "ingressBurst": 8_000_000}),
            );
        let [a, b] = ["web", "client"].map(CniAttachment::of_pod);
        let first = runtime.add(&a).unwrap_or_else(|e| panic!("{version}: {e:?}"));
        // The same host's port again: the second pod has none.
        let plain = json!({"name": "net", "cniVersion": version, "plugins": [ours(calico_ipam())]});
        let plain = CniRuntime::new(plain, &[&bin]);
        let second = plain.add(&b).unwrap();
        // In the chain ours finds nothing wrong. Portmap 1.1.1 does: it looks for each address' rules in the tables of both
        // families, behind the CNI project's own `ptp` as well.
        if let Err(e) = runtime.check(&a) {
            assert_eq!(e.plugin, "portmap", "{version}: {e:?}");
        }
        plain.check(&b).unwrap_or_else(|e| panic!("{version}: {e:?}"));
        each_other((&web, &first), (&client, &second));
        let rules = Command::new(find_tool("iptables").unwrap())
            .args(["-t", "nat", "-S"])
            .output()
            .unwrap();
        let rules = String::from_utf8_lossy(&rules.stdout).into_owned();
        let wanted = format!("--to-destination {}:80", first_address(&first));
        assert!(rules.contains(&wanted), "{rules}");
        runtime.del(&a).unwrap();
        plain.del(&b).unwrap();
        assert_eq!((machine.pods(), links()), (vec![], vec![]), "{version}");
        for name in ["web", "client"] {
            NetNs::delete(name).unwrap();
        }
    }
}

#[test]
fn netns_host_local_gives_the_addresses() {
    netns!(240);
    needs!("/usr/lib/cni/host-local");
    let machine = Machine::new();
    uplink();
    for version in ["1.0.0", "0.4.0", "0.3.1"] {
        let [web, client] = two_pods();
        let data = machine.dir.path().join(format!("host-local-{version}"));
        let ipam = json!({"type": "host-local", "dataDir": data, "ranges":
            [[{"subnet": "10.77.0.0/24"}], [{"subnet": "fd77::/112"}]]});
        let list = json!({"name": "net", "cniVersion": version, "plugins": [ours(ipam)]});
        let runtime = CniRuntime::new(list, &[&machine.bin(), Path::new(OTHERS)]);
        let [a, b] = ["web", "client"].map(CniAttachment::of_pod);
        let first = runtime.add(&a).unwrap_or_else(|e| panic!("{version}: {e:?}"));
        let second = runtime.add(&b).unwrap();
        assert_eq!(first["ips"].as_array().unwrap().len(), 2, "{first}");
        assert!(
            first_address(&first).to_string().starts_with("10.77.0."),
            "{first}"
        );
        if version != "0.3.1" {
            runtime.check(&a).unwrap_or_else(|e| panic!("{version}: {e:?}"));
        }
        each_other((&web, &first), (&client, &second));
        for attachment in [&a, &b] {
            runtime.del(attachment).unwrap();
        }
        let kept = fs::read_dir(data.join("net")).unwrap().flatten();
        let kept: Vec<_> = kept.map(|e| e.file_name().into_string().unwrap()).collect();
        let addresses: Vec<_> = kept.iter().filter(|n| n.contains("77")).collect();
        assert!(addresses.is_empty(), "{kept:?}");
        assert_eq!((machine.pods(), links()), (vec![], vec![]), "{version}");
        for name in ["web", "client"] {
            NetNs::delete(name).unwrap();
        }
    }
}

#[test]
fn netns_a_runtime_of_the_newest_specification() {
    netns!(240);
    let machine = Machine::new();
    uplink();
    let spaces = two_pods();
    let list = json!({"name": "net", "cniVersion": "1.1.0", "plugins": [ours(calico_ipam())]});
    let runtime = CniRuntime::new(list, &[&machine.bin()]);
    runtime.status().unwrap();
    let [a, b] = ["web", "client"].map(CniAttachment::of_pod);
    let results = [&a, &b].map(|at| runtime.add(at).unwrap());
    each_other((&spaces[0], &results[0]), (&spaces[1], &results[1]));
    runtime.check(&a).unwrap();
    // A runtime that lost its state tells who lives; the other goes, and what it left as well.
    runtime.forget(&a);
    runtime.gc(std::slice::from_ref(&b)).unwrap();
    assert_eq!((machine.pods(), links().len()), (vec!["client".to_owned()], 1));
    runtime.check(&b).unwrap();
    runtime.gc(&[]).unwrap();
    assert_eq!((machine.pods(), links()), (vec![], vec![]));
    let gone = runtime.check(&b).unwrap_err();
    assert_eq!(gone.code, Some(7), "no prevResult: {gone:?}");
}
