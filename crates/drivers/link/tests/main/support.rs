use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use caracal_link::{AddressSpec, LinkChange, Rtnl, VethSpec};
use caracal_net::{Cidr, Family, IfAddr};
use caracal_testkit::NetNs;

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn if_addr(text: &str) -> IfAddr {
    text.parse().unwrap()
}

/// A namespace with its own socket and the loopback device up.
pub(crate) struct Node {
    pub(crate) netns: NetNs,
    pub(crate) rtnl: Rtnl,
}

impl Node {
    pub(crate) fn new(name: &str) -> Self {
        let netns = NetNs::create(name).unwrap();
        let mut rtnl = Rtnl::open_in(&netns).unwrap();
        rtnl.set_link("lo", &LinkChange::up()).unwrap();
        Self { netns, rtnl }
    }

    pub(crate) fn index(&mut self, name: &str) -> u32 {
        self.rtnl.require_link(name).unwrap().index
    }

    pub(crate) fn address(&mut self, link: &str, addr: &str) {
        let index = self.index(link);
        self.rtnl
            .set_address(index, &AddressSpec::new(if_addr(addr)))
            .unwrap();
    }

    /// Runs a command of iproute2 in the namespace, playing the stranger who changes things.
    pub(crate) fn ip(&self, line: &str) {
        let run = || {
            std::process::Command::new("ip")
                .args(line.split(' '))
                .output()
                .unwrap()
        };
        let output = self.netns.run(run).unwrap();
        assert!(
            output.status.success(),
            "ip {line}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// Two nodes with `eth0` to each other: 172.30.0.1/24 and .2, fd00:30::1/64 and ::2.
pub(crate) fn two_nodes() -> (Node, Node) {
    let (mut one, mut two) = (Node::new("one"), Node::new("two"));
    let pair = VethSpec {
        name: "eth0",
        peer_name: "eth0",
        peer_netns: Some(&two.netns),
        mtu: Some(1500),
        ..VethSpec::default()
    };
    one.rtnl.create_veth(&pair).unwrap();
    for (number, node) in [&mut one, &mut two].into_iter().enumerate() {
        node.address("eth0", &format!("172.30.0.{}/24", number + 1));
        node.address("eth0", &format!("fd00:30::{}/64", number + 1));
        node.rtnl.set_link("eth0", &LinkChange::up()).unwrap();
    }
    (one, two)
}

/// Sends one datagram from one namespace to an address of another until it arrives.
pub(crate) fn datagram_arrives(
    from: &NetNs,
    source: IpAddr,
    to: &NetNs,
    target: IpAddr,
) -> Result<(), String> {
    let receiver = to
        .run(|| UdpSocket::bind((target, 0)))
        .unwrap()
        .map_err(|e| format!("bind {target}: {e}"))?;
    receiver
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let port = receiver.local_addr().unwrap().port();
    let sender = from
        .run(|| UdpSocket::bind((source, 0)))
        .unwrap()
        .map_err(|e| format!("bind {source}: {e}"))?;
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

pub(crate) fn network(addr: IpAddr) -> Cidr {
    Cidr::new(addr, Family::of(addr).bits())
}
