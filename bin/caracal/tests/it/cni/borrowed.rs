//! Pods with addresses of another node's block, on a network of three nodes with real agents: they are reached from
//! everywhere, in every mode that this version has.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    net::IpAddr,
    os::unix::fs::symlink,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use caracal_testkit::{NetNs, Vm, eventually, needs, netns, private_dir, vm};
use serde_json::{Value, json};

use super::clients::talks;

const LAB: &str = "borrow";
const PROGRAM: &str = env!("CARGO_BIN_EXE_caracal");
const LONG: Duration = Duration::from_secs(60);

/// A pool with modes of VXLAN and IP-in-IP.
fn pool(name: &str, cidr: &str, size: u8, [vxlan, ipip]: [&str; 2]) -> String {
    json!({"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": name},
        "spec": {"cidr": cidr, "blockSize": size, "vxlanMode": vxlan, "ipipMode": ipip, "natOutgoing": true}})
    .to_string()
}

/// One block in each family: whoever comes second borrows.
fn tight(v4: [&str; 2], v6: &str) -> String {
    [
        pool("tight4", "10.77.0.0/28", 28, v4),
        pool("tight6", "fd77::/124", 124, [v6, "Never"]),
    ]
    .join("\n---\n")
}

fn pools(vxlan: &str) -> String {
    tight([vxlan, "Never"], vxlan)
}

/// A lab that goes with the test.
struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    fn up(encap: &str) -> Self {
        let lab = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        symlink(PROGRAM, lab.calico()).unwrap();
        let flags = [
            "--nodes",
            "3",
            "--pods-per-node",
            "0",
            "--dual-stack",
            "--encap",
            encap,
        ];
        lab.ok(&[&["up"], &flags[..]].concat(), "");
        lab
    }

    fn calico(&self) -> PathBuf {
        self.dir.path().join("calico")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(["lab", "--name", LAB]).args(args);
        command.env("CARACAL_LAB_DIR", self.dir.path().join("labs"));
        command
    }

    fn ok(&self, args: &[&str], stdin: &str) -> String {
        let mut command = self.command(args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        // Whoever reads nothing may have ended.
        let _ = input.write_all(stdin.as_bytes());
        drop(input);
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {text}{said}");
        text
    }

    fn on(&self, node: &str, args: &[&str], stdin: &str) -> String {
        self.ok(&[&["node", "exec", node, "--"], args].concat(), stdin)
    }

    fn ctl(&self, args: &[&str], stdin: &str) -> String {
        self.on("node-1", &[&[PROGRAM, "ctl"], args].concat(), stdin)
    }

    /// A pod with an address of each of the narrow pools.
    fn pod(&self, node: &str, name: &'static str) -> Pod {
        let ns = NetNs::create(name).unwrap();
        let conf = json!({"cniVersion": "1.0.0", "name": "net", "type": "calico", "nodename": node,
            "ipam": {"type": "calico-ipam", "assign_ipv4": "true", "assign_ipv6": "true",
                     "ipv4_pools": ["tight4"], "ipv6_pools": ["tight6"]}});
        let vars = [
            "CNI_COMMAND=ADD".to_owned(),
            format!("CNI_CONTAINERID=container-of-{name}"),
            format!("CNI_NETNS=/run/netns/{name}"),
            "CNI_IFNAME=eth0".to_owned(),
            format!("CNI_PATH={}", self.dir.path().display()),
            format!("CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={name}"),
        ];
        let calico = self.calico().display().to_string();
        let mut args: Vec<&str> = vec!["env"];
        args.extend(vars.iter().map(String::as_str));
        args.push(&calico);
        let answer: Value = serde_json::from_str(&self.on(node, &args, &conf.to_string())).unwrap();
        let ips = answer["ips"].as_array().unwrap().iter();
        let addresses: Vec<IpAddr> = ips
            .map(|ip| {
                ip["address"]
                    .as_str()
                    .unwrap()
                    .split_once('/')
                    .unwrap()
                    .0
                    .parse()
                    .unwrap()
            })
            .collect();
        assert_eq!(addresses.len(), 2, "{answer}");
        Pod { name, ns, addresses }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // What is left is told; the namespaces and the mounts go with the test.
        let _ = self.command(&["down"]).status();
    }
}

struct Pod {
    name: &'static str,
    ns: NetNs,
    addresses: Vec<IpAddr>,
}

/// Everybody reaches every pod: the pods each other, and the nodes all of them.
fn all_reach_all(mode: &str, pods: &[Pod], nodes: &[(&str, NetNs)]) {
    for to in pods {
        let of_pods = pods.iter().filter(|p| p.name != to.name).map(|p| (p.name, &p.ns));
        let from = of_pods.chain(nodes.iter().map(|(name, ns)| (*name, ns)));
        for (name, ns) in from {
            for address in &to.addresses {
                eventually(LONG, || {
                    talks(ns, &to.ns, *address)
                        .map_err(|e| format!("{mode}: {name} to {} ({address}): {e}", to.name))
                });
            }
        }
    }
}

/// The pods' addresses are of blocks of the first node, and others hold them.
fn all_borrowed(lab: &Lab, pods: &[Pod]) {
    let shown = lab.ctl(&["ipam", "show", "--show-borrowed"], "");
    for pod in pods {
        for address in &pod.addresses {
            let row = shown.lines().find(|l| l.contains(&format!("| {address} ")));
            assert!(row.is_some_and(|l| l.contains("| node-1 ")), "{address}: {shown}");
        }
    }
}

/// The node's routes to the addresses are like that.
fn goes(lab: &Lab, node: &str, to: &[IpAddr], via: &str) {
    eventually(LONG, || {
        let routes = routes(lab, node);
        let there = to.iter().all(|a| {
            let how = routes.get(&a.to_string()).map_or("", String::as_str);
            how.contains(via)
        });
        if there {
            Ok(())
        } else {
            Err(format!("{node}, {to:?} {via:?}: {routes:?}"))
        }
    });
}

/// How a node reaches what others borrow from it, and it from others.
fn routes(lab: &Lab, node: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for family in ["-4", "-6"] {
        let text = lab.on(node, &["ip", family, "route", "show"], "");
        for line in text
            .lines()
            .filter(|l| l.contains("10.77.") || l.contains("fd77:"))
        {
            let (dst, how) = line.split_once(' ').unwrap();
            // `blackhole 10.77.0.0/28`: the kind of route comes first.
            let (dst, how) = match how.split_once(' ') {
                Some((real, rest)) if dst == "blackhole" => (real, format!("blackhole {rest}")),
                _ => (dst, how.to_owned()),
            };
            found.insert(dst.to_owned(), how);
        }
    }
    found
}

#[test]
fn netns_borrowed_addresses_are_reached_in_every_mode() {
    netns!(420);
    needs!("root", "ip", "nft", "env", "link:vxlan", "link:bridge");
    private_dir(std::path::Path::new("/var/lib")).unwrap();
    let lab = Lab::up("vxlan");
    lab.ctl(&["create", "-f", "-"], &pools("Always"));
    let nodes = ["node-1", "node-2", "node-3"].map(|n| (n, NetNs::named(&format!("{LAB}.{n}")).unwrap()));
    // The first one makes the block of node-1, the others borrow from it; two on one node as well.
    let pods = [
        lab.pod("node-1", "owner"),
        lab.pod("node-2", "guest-2"),
        lab.pod("node-2", "other-2"),
        lab.pod("node-3", "guest-3"),
    ];
    all_borrowed(&lab, &pods[1..]);

    all_reach_all("VXLAN", &pods, &nodes);
    // Each of them has a route of its own, more specific than its block's.
    let far = routes(&lab, "node-3");
    for address in &pods[1].addresses {
        let how = &far[&address.to_string()];
        assert!(how.contains("vxlan"), "{address} {how}");
    }
    assert!(far["10.77.0.0/28"].contains("vxlan"), "{far:?}");
    let own = routes(&lab, "node-1");
    assert!(own["10.77.0.0/28"].contains("blackhole"), "{own:?}");
    for pod in &pods[1..] {
        for address in &pod.addresses {
            assert!(own[&address.to_string()].contains("via"), "{own:?}");
        }
    }

    // Nobody encapsulates; the agents tell each other's blocks, for there is no BGP.
    lab.ctl(&["apply", "-f", "-"], &pools("Never"));
    let felix = json!({"apiVersion": "projectcalico.org/v3", "kind": "FelixConfiguration",
        "metadata": {"name": "default"}, "spec": {"programClusterRoutes": "Enabled"}});
    lab.ctl(&["apply", "-f", "-"], &felix.to_string());
    let direct = |node: &str, pod: &Pod, via: &str| goes(&lab, node, &pod.addresses, via);
    for node in ["node-1", "node-3"] {
        direct(node, &pods[1], "dev eth0");
    }
    all_reach_all("none", &pods, &nodes);

    // Across a router, VXLAN goes only where it must: node-3 moves to a subnet of its own.
    move_to_another_subnet(&lab);
    lab.ctl(&["apply", "-f", "-"], &pools("CrossSubnet"));
    direct("node-1", &pods[1], "dev eth0");
    direct("node-1", &pods[3], "vxlan");
    direct("node-3", &pods[1], "vxlan");
    all_reach_all("CrossSubnet", &pods, &nodes);

    // The owner of the block goes; what others have of it stays where it is.
    lab.on("node-1", &[PROGRAM, "ctl", "delete", "node", "node-1"], "");
    let collect = [
        PROGRAM, "ipam", "collect", "--rounds", "2", "--every", "1", "-o", "json",
    ];
    let done = lab.on("node-2", &collect, "");
    assert!(done.contains("10.77.0.0/28"), "{done}");
    all_reach_all("without the block's owner", &pods[1..], &nodes[1..]);
    for pod in &pods[1..] {
        for address in &pod.addresses {
            let text = lab.on(
                "node-2",
                &[PROGRAM, "ctl", "ipam", "show", &format!("--ip={address}")],
                "",
            );
            assert!(text.contains("is in use"), "{text}");
        }
    }
}

/// Packets that came out of the node's tunnel.
fn tunnelled(lab: &Lab, node: &str) -> u64 {
    let args = ["ip", "-j", "-s", "link", "show", "dev", "tunl0"];
    let shown: Value = serde_json::from_str(&lab.on(node, &args, "")).unwrap();
    shown[0]["stats64"]["rx"]["packets"].as_u64().unwrap()
}

/// Whether a tunnel is as the kernel made it.
fn idle(shown: &str) -> bool {
    !["inet ", "UP", "caracal"].iter().any(|text| shown.contains(text))
}

#[test]
fn vm_borrowed_addresses_are_reached_by_ip_in_ip() {
    needs!("ip");
    let home = std::path::Path::new(PROGRAM);
    vm!(Vm::new()
        .tools(&["ip"])
        .program(home, home)
        .memory(1536)
        .limit(Duration::from_secs(420)));
    fs::create_dir_all("/var/lib").unwrap();
    let lab = Lab::up("ipip");
    lab.ctl(&["create", "-f", "-"], &tight(["Never", "Always"], "Always"));
    let nodes = ["node-1", "node-2", "node-3"].map(|n| (n, NetNs::named(&format!("{LAB}.{n}")).unwrap()));
    let pods = [
        lab.pod("node-1", "owner"),
        lab.pod("node-2", "guest-2"),
        lab.pod("node-3", "guest-3"),
    ];
    all_borrowed(&lab, &pods[1..]);
    // Every node's end has an address of the default pool, with an owner that the proof knows.
    for (number, (node, _)) in (1..).zip(&nodes) {
        let shown = lab.on(node, &["ip", "-4", "addr", "show", "dev", "tunl0"], "");
        assert!(
            shown.contains("inet 10.65.") && shown.contains("mtu 1480"),
            "{shown}"
        );
        let said = lab.ctl(&["get", "node", node, "-o", "json"], "");
        let said: Value = serde_json::from_str(&said).unwrap();
        let own = said["spec"]["bgp"]["ipv4IPIPTunnelAddr"].as_str().unwrap();
        assert!(
            shown.contains(&format!("inet {own}/32 ")),
            "{number}: {shown} {own}"
        );
    }
    lab.ctl(&["ipam", "check"], "");

    all_reach_all("IP-in-IP", &pods, &nodes);
    let v4 = |pod: &Pod| {
        pod.addresses
            .iter()
            .copied()
            .filter(IpAddr::is_ipv4)
            .collect::<Vec<_>>()
    };
    for node in ["node-1", "node-3"] {
        goes(
            &lab,
            node,
            &v4(&pods[1]),
            "via 172.30.0.2 dev tunl0 proto 80 onlink",
        );
    }
    let far = routes(&lab, "node-2");
    assert!(
        far["10.77.0.0/28"].contains("via 172.30.0.1 dev tunl0"),
        "{far:?}"
    );
    assert!(routes(&lab, "node-1")["10.77.0.0/28"].contains("blackhole"));
    for (node, _) in &nodes {
        assert!(tunnelled(&lab, node) > 0, "{node}");
    }

    // Across a router only.
    move_to_another_subnet(&lab);
    lab.ctl(
        &["apply", "-f", "-"],
        &tight(["Never", "CrossSubnet"], "CrossSubnet"),
    );
    goes(&lab, "node-1", &v4(&pods[1]), "via 172.30.0.2 dev eth0");
    goes(&lab, "node-1", &v4(&pods[2]), "via 172.30.1.3 dev tunl0");
    goes(&lab, "node-3", &v4(&pods[1]), "via 172.30.0.2 dev tunl0");
    let before = tunnelled(&lab, "node-3");
    all_reach_all("IP-in-IP across subnets", &pods, &nodes);
    assert!(tunnelled(&lab, "node-3") > before);

    // What somebody breaks of it comes back.
    for broken in [
        "ip addr flush dev tunl0",
        "ip link set tunl0 down",
        "ip route flush dev tunl0",
    ] {
        let words: Vec<&str> = broken.split(' ').collect();
        lab.on("node-3", &words, "");
        goes(&lab, "node-3", &v4(&pods[1]), "via 172.30.0.2 dev tunl0");
        all_reach_all(broken, &pods[1..], &nodes[2..]);
    }

    // The agent's own cleanup, and back.
    lab.ok(&["node", "kill", "node-3"], "");
    lab.on("node-3", &[PROGRAM, "felix", "--cleanup"], "");
    assert!(idle(&lab.on(
        "node-3",
        &["ip", "addr", "show", "dev", "tunl0"],
        ""
    )));
    lab.ok(&["node", "start", "node-3"], "");
    all_reach_all("after cleanup", &pods[2..], &nodes[..1]);

    // No pool asks for it any more: the addresses are given back, the device is as it was.
    let plain = [
        tight(["Always", "Never"], "Always"),
        pool("default-ipv4-ippool", "10.65.0.0/16", 26, ["Always", "Never"]),
    ];
    lab.ctl(&["apply", "-f", "-"], &plain.join("\n---\n"));
    for (node, _) in &nodes {
        lab.on(
            node,
            &[PROGRAM, "node", "allocate-tunnel-addrs", "--run-once"],
            "",
        );
        eventually(LONG, || {
            let shown = lab.on(node, &["ip", "addr", "show", "dev", "tunl0"], "");
            if idle(&shown) { Ok(()) } else { Err(shown) }
        });
    }
    all_reach_all("VXLAN in place of IP-in-IP", &pods, &nodes);
    lab.ctl(&["ipam", "check"], "");
}

/// A router in the fabric, and node-3 behind it.
fn move_to_another_subnet(lab: &Lab) {
    let fabric = NetNs::named(&format!("{LAB}.fabric")).unwrap();
    let inside = |lines: &[&str]| {
        for line in lines {
            let run = || Command::new("ip").args(line.split(' ')).output();
            let output = fabric.run(run).unwrap().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "ip {line}: {said}");
        }
    };
    inside(&[
        "addr add 172.30.1.254/24 dev fabric",
        "addr add fd00:31::254/64 dev fabric nodad",
    ]);
    let forward = || {
        for family in ["ipv4/conf/all", "ipv6/conf/all"] {
            fs::write(format!("/proc/sys/net/{family}/forwarding"), "1").unwrap();
        }
        // A router on a stick would tell hosts to talk to each other directly.
        for link in ["all", "fabric"] {
            fs::write(format!("/proc/sys/net/ipv4/conf/{link}/send_redirects"), "0").unwrap();
        }
    };
    fabric.run(forward).unwrap();
    for line in [
        "ip addr add 172.30.1.3/24 dev eth0",
        "ip addr del 172.30.0.3/24 dev eth0",
        "ip addr add fd00:31::3/64 dev eth0 nodad",
        "ip addr del fd00:30::3/64 dev eth0",
        "ip route replace default via 172.30.1.254",
        "ip -6 route replace default via fd00:31::254",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        lab.on("node-3", &words, "");
    }
    let moved = json!({"spec": {"bgp": {"ipv4Address": "172.30.1.3/24", "ipv6Address": "fd00:31::3/64"}}});
    lab.ctl(&["patch", "node", "node-3", "-p", &moved.to_string()], "");
}
