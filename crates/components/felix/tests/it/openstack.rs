//! What guests of OpenStack ask of their host: DHCP, DNS, metadata.

use std::net::IpAddr;

use caracal_api::Kind;
use caracal_testkit::{eventually, needs, netns};
use serde_json::json;

use crate::{
    traffic::{Peer, blocked, echo, reaches},
    world::{LONG, Pod, World, run},
};

/// Where guests look for metadata.
const METADATA: &str = "169.254.169.254";

/// A guest that has no address yet calls for a DHCP server, until it is answered or nobody is there.
const DISCOVER: &str = r#"
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0\0")
s.bind(("0.0.0.0", 68))
s.sendto(b"discover", ("255.255.255.255", 67))
"#;

/// One question and its answer, from a port of its own each time unless one is given.
fn asks(pod: &Pod, server: &Peer, from: u16, to: IpAddr, port: u16) -> Result<(), String> {
    Peer::new(&pod.ns, from).ask(server, to, port)
}

#[test]
fn netns_guests_of_openstack_ask_their_host_whatever_policy_says() {
    netns!(240);
    needs!("root", "ip", "nft", "sh", "python3");
    let world = World::new();
    let mut node = world.node("n1");
    let host: [IpAddr; 2] = ["172.30.0.1", "fd30::1"].map(|t| t.parse().unwrap());
    node.sh("ip address add 172.30.0.1/32 dev lo; ip address add fd30::1/128 dev lo nodad");
    let a = node.pod("a", "10.65.0.1", "fd65::1");
    let b = node.pod("b", "10.65.0.2", "fd65::2");
    for pod in [&a, &b] {
        pod.announce(&world, json!({"guest": "yes"}));
    }
    // Nothing goes out of them.
    let closed = json!({"selector": "guest == 'yes'", "types": ["Egress"], "egress": [{"action": "Deny"}]});
    world.put(Kind::GlobalNetworkPolicy, "closed", closed);
    for port in [53, 80, 8775, 8776] {
        echo(&node.ns, port);
    }
    let dns = Peer::new(&node.ns, 53);
    let dhcp = [Peer::new(&node.ns, 67), Peer::new(&node.ns, 547)];
    let clients = [(68, 67), (546, 547)];
    node.up();
    for pod in [&a, &b] {
        node.programmed(pod);
    }
    let metadata: IpAddr = METADATA.parse().unwrap();
    for (n, to) in host.into_iter().enumerate() {
        let (client, server) = clients[n];
        assert!(asks(&a, &dns, 0, to, 53).is_err(), "no OpenStack here");
        assert!(asks(&a, &dhcp[n], client, to, server).is_err());
    }
    blocked(&a.ns, [metadata], 80);
    let open = |of: &str| {
        for to in host {
            eventually(LONG, || {
                asks(&a, &dns, 0, to, 53).map_err(|e| format!("{of}: {e}"))
            });
        }
    };
    let closed = |of: &str| {
        for to in host {
            eventually(LONG, || match asks(&a, &dns, 0, to, 53) {
                Ok(()) => Err(format!("{of}: still open")),
                Err(_) => Ok(()),
            });
        }
    };
    // The cluster says what it is.
    let cluster = |kinds: &str| {
        let spec = json!({"clusterGUID": "g", "clusterType": kinds, "datastoreReady": true});
        world.put(Kind::ClusterInformation, "default", spec);
    };
    cluster("k8s,OpenStack");
    open("a type of cluster");
    reaches(&a.ns, [metadata], 80);
    cluster("k8s");
    closed("another type of cluster");
    blocked(&a.ns, [metadata], 80);
    // A metadata service at an address and port of its own.
    world.configure(json!({"metadataAddr": "172.30.0.1", "metadataPort": 8776}));
    open("an address of metadata");
    reaches(&a.ns, [metadata, host[0]].into_iter().take(1), 80);
    reaches(&a.ns, [host[0]], 8776);
    for (to, port) in [(host[0], 8775), (host[0], 80), (host[0], 53), (host[1], 8776)] {
        blocked(&a.ns, [to], port);
    }
    // A name leads nowhere, and that there is one says that this is OpenStack.
    world.configure(json!({"metadataAddr": "metadata.example"}));
    blocked(&a.ns, [metadata], 80);
    open("a name of metadata");
    world.configure(json!({}));
    closed("nothing of OpenStack any more");
    // Interfaces of OpenStack's name.
    world.configure(json!({"interfacePrefix": "tap,cali"}));
    open("names of interfaces");
    reaches(&a.ns, [metadata], 80);
    for (n, to) in host.into_iter().enumerate() {
        let (client, server) = clients[n];
        eventually(LONG, || asks(&a, &dhcp[n], client, to, server));
    }
    // Before it has an address.
    let script = node.dir.join("discover.py");
    std::fs::write(&script, DISCOVER).unwrap();
    node.sh("nft -f - <<'END'
table ip heard {
    counter discover { }
    chain in {
        type filter hook input priority 100;
        ip saddr 0.0.0.0 udp dport 67 counter name discover
    }
}
END");
    eventually(LONG, || {
        b.ns.run(|| {
            run(&format!(
                "ip -4 address flush dev eth0; python3 {}",
                script.display()
            ))
        })
        .unwrap();
        let text = node.sh("nft list counter ip heard discover");
        if text.contains("packets 0 ") {
            return Err("nobody heard the guest".into());
        }
        Ok(())
    });
}
