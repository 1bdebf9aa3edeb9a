use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use caracal_link::{AddressSpec, LinkChange, VethSpec, Vxlan, VxlanPeer, VxlanSpec};
use caracal_net::{Family, MacAddr};
use caracal_route::{Route, Target};
use caracal_sys::Sysctl;
use caracal_testkit::{eventually, netns};
use caracal_update::InSync;

use crate::support::{Node, dev, ip, key, onlink, route};

const HOST_MAC: MacAddr = MacAddr([0xee; 6]);

fn addresses(family: Family, number: usize) -> [IpAddr; 3] {
    let texts = match family {
        Family::V4 => [
            format!("172.30.0.{number}"),
            format!("10.65.{number}.1"),
            format!("10.65.{number}.2"),
        ],
        Family::V6 => [
            format!("fd30::{number}"),
            format!("fd65:{number}::1"),
            format!("fd65:{number}::2"),
        ],
    };
    texts.map(|text| ip(&text))
}

fn device(family: Family) -> &'static str {
    match family {
        Family::V4 => "vxlan.calico",
        Family::V6 => "vxlan-v6.calico",
    }
}

fn mac(number: usize) -> MacAddr {
    MacAddr([0x66, 0, 0, 0, 0, u8::try_from(number).unwrap()])
}

fn block(family: Family, number: usize) -> String {
    match family {
        Family::V4 => format!("10.65.{number}.0/26"),
        Family::V6 => format!("fd65:{number}::/122"),
    }
}

/// A pod behind a node: its link, the gateways as permanent neighbours, a default route.
fn pod(node: &mut Node, number: usize) -> Node {
    let mut pod = Node::new(&format!("pod{number}"));
    let spec = VethSpec {
        name: "cali1",
        mac: Some(HOST_MAC),
        peer_name: "eth0",
        peer_netns: Some(&pod.netns),
        mtu: Some(1430),
        ..VethSpec::default()
    };
    node.rtnl.create_veth(&spec).unwrap();
    node.rtnl.set_link("cali1", &LinkChange::up()).unwrap();
    pod.rtnl.set_link("eth0", &LinkChange::up()).unwrap();
    let link = pod.rtnl.require_link("eth0").unwrap().index;
    for (family, gateway) in [
        (Family::V4, "169.254.1.1"),
        (Family::V6, "fe80::ecee:eeff:feee:eeee"),
    ] {
        let [_, _, addr] = addresses(family, number);
        pod.rtnl.set_address(link, &AddressSpec::host(addr)).unwrap();
        pod.rtnl.set_neighbour(link, ip(gateway), HOST_MAC).unwrap();
        let default = if family == Family::V4 { "0.0.0.0/0" } else { "::/0" };
        pod.routes.set(key(default), route(onlink("eth0", gateway)));
        // The pod's end is found at once, as the CNI plugin's ARP announcement would have it.
        let host_link = node.rtnl.require_link("cali1").unwrap().index;
        let pod_mac = pod.rtnl.require_link(link).unwrap().mac.unwrap();
        node.rtnl.set_neighbour(host_link, addr, pod_mac).unwrap();
    }
    pod.apply_clean();
    pod
}

fn forward(node: &Node) {
    let switch_on = || {
        Sysctl::new(&["net", "ipv4", "ip_forward"])
            .unwrap()
            .write("1")
            .unwrap();
        Sysctl::conf(Family::V6, "all", "forwarding")
            .unwrap()
            .write("1")
            .unwrap();
    };
    node.netns.run(switch_on).unwrap();
}

fn datagram(from: &Node, source: IpAddr, to: &Node, target: IpAddr) -> Result<(), String> {
    let bind = |node: &Node, addr| {
        node.netns
            .run(|| UdpSocket::bind((addr, 0)))
            .unwrap()
            .map_err(|e| format!("bind {addr}: {e}"))
    };
    let receiver = bind(to, target)?;
    receiver
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let port = receiver.local_addr().unwrap().port();
    let sender = bind(from, source)?;
    sender
        .send_to(b"hello", SocketAddr::from((target, port)))
        .map_err(|e| format!("send: {e}"))?;
    let mut buffer = [0; 16];
    let (length, origin) = receiver
        .recv_from(&mut buffer)
        .map_err(|e| format!("receive: {e}"))?;
    assert_eq!((&buffer[..length], origin.ip()), (&b"hello"[..], source));
    Ok(())
}

#[test]
fn netns_pods_of_two_nodes_talk_through_the_tunnel_and_straight() {
    netns!();
    let token = InSync::after_complete_snapshot();
    let mut nodes = [Node::new("node1"), Node::new("node2")];
    let [one, two] = &mut nodes;
    let spec = VethSpec {
        name: "eth0",
        peer_name: "eth0",
        peer_netns: Some(&two.netns),
        ..VethSpec::default()
    };
    one.rtnl.create_veth(&spec).unwrap();
    let mut pods = Vec::new();
    for (number, node) in (1..).zip(&mut nodes) {
        let other = 3 - number;
        forward(node);
        node.rtnl.set_link("eth0", &LinkChange::up()).unwrap();
        pods.push(pod(node, number));
        for family in Family::BOTH {
            let [own, tunnel, pod_addr] = addresses(family, number);
            let [far, far_tunnel, _] = addresses(family, other);
            let len = if family == Family::V4 { 24 } else { 64 };
            node.address("eth0", &format!("{own}/{len}"));
            let mut vxlan = Vxlan::new(device(family));
            vxlan.set_device(Some(VxlanSpec {
                name: String::new(),
                vni: 4096,
                port: 4789,
                local: own,
                mac: mac(number),
                mtu: 1430,
                address: Some(tunnel),
            }));
            let peer = VxlanPeer {
                mac: mac(other),
                tunnel: far_tunnel,
                underlay: far,
            };
            vxlan.set_peer("other", peer);
            assert!(vxlan.apply(&mut node.rtnl, &token).errors.is_empty());
            let host = key(&pod_addr.to_string());
            node.routes.set(
                host,
                Route {
                    protocol: 3,
                    ..route(dev("cali1"))
                },
            );
            node.routes
                .set(key(&block(family, number)), route(Target::Blackhole));
            let via = onlink(device(family), &far_tunnel.to_string());
            node.routes.set(key(&block(family, other)), route(via));
        }
        assert_eq!(node.apply_clean().written, 6);
    }
    let check = |what: &str| {
        for family in Family::BOTH {
            let ([_, _, first], [_, _, second]) = (addresses(family, 1), addresses(family, 2));
            for (from, source, to, target) in [(0, first, 1, second), (1, second, 0, first)] {
                eventually(Duration::from_secs(10), || {
                    datagram(&pods[from], source, &pods[to], target)
                        .map_err(|e| format!("{what} {target}: {e}"))
                });
            }
        }
    };
    check("through the tunnel");
    // The same without encapsulation; the tunnels go.
    for (number, node) in (1..).zip(&mut nodes) {
        let other = 3 - number;
        for family in Family::BOTH {
            let [far, ..] = addresses(family, other);
            node.routes.set(
                key(&block(family, other)),
                route(onlink("eth0", &far.to_string())),
            );
        }
        assert_eq!(node.apply_clean().written, 2);
        for family in Family::BOTH {
            assert!(node.rtnl.remove_vxlan(device(family)).unwrap());
        }
    }
    check("straight");
    // A free address of the own block goes nowhere.
    let stray = pods[0].netns.run(|| {
        let socket = UdpSocket::bind(("10.65.1.2", 0)).unwrap();
        nodes[0]
            .netns
            .run(|| {
                UdpSocket::bind(("172.30.0.1", 0))
                    .unwrap()
                    .send_to(b"x", "10.65.1.9:9")
            })
            .unwrap()
            .err()
            .map(|error| (error, socket))
    });
    let (error, _) = stray.unwrap().expect("the blackhole lets nothing through");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{error}");
}
