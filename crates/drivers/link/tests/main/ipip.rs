use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use caracal_link::{Event, Groups, Ipip, IpipSpec, LinkError, Monitor, Rtnl};
use caracal_net::Family;
use caracal_testkit::{Vm, eventually, missing, needs, netns, vm};
use caracal_update::InSync;

use crate::support::{Node, datagram_arrives, ip, two_nodes};

const NAME: &str = "tunl0";

fn tunnel(node: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 65, node, 1)
}

fn spec(node: u8) -> IpipSpec {
    IpipSpec {
        name: NAME.to_owned(),
        mtu: 1480,
        address: tunnel(node),
    }
}

fn driver(node: u8) -> Ipip {
    let mut driver = Ipip::new(NAME);
    driver.set_device(Some(spec(node)));
    driver
}

fn complete() -> InSync {
    InSync::after_complete_snapshot()
}

/// The IPv4 addresses of a link.
fn addresses(rtnl: &mut Rtnl, name: &str) -> Vec<IpAddr> {
    let link = rtnl.require_link(name).unwrap().index;
    let found = rtnl.addresses_of(link).unwrap().into_iter();
    found.map(|a| a.addr.addr).filter(IpAddr::is_ipv4).collect()
}

#[test]
fn netns_a_kernel_without_ip_in_ip_is_named_and_what_is_in_the_way_stays() {
    netns!();
    let mut node = Node::new("plain");
    let mut ipip = driver(1);
    // Whoever never needed it asks the kernel for nothing.
    Ipip::new(NAME).apply(&mut node.rtnl, &complete()).unwrap();
    node.rtnl.create_bridge("other0").unwrap();
    let other = IpipSpec {
        name: "other0".into(),
        ..spec(1)
    };
    let refused = node.rtnl.ensure_ipip(&other).unwrap_err();
    assert!(matches!(refused, LinkError::InTheWay { .. }), "{refused}");
    assert!(!node.rtnl.release_ipip("other0").unwrap(), "a bridge");
    assert!(node.rtnl.link("other0").unwrap().is_some());
    needs!(if missing(&["link:ipip"]).is_some(), "a kernel without ipip");
    let refused = ipip.apply(&mut node.rtnl, &complete()).unwrap_err();
    let text = refused.to_string();
    for word in ["tunl0", "IP-in-IP", "modprobe ipip", "vxlanMode"] {
        assert!(text.contains(word), "{text}");
    }
    assert!(!ipip.is_pending(), "trying again changes nothing");
    // Once the module is there, so is its device.
    let mut link = node.rtnl.require_link("lo").unwrap();
    link.name = NAME.to_owned();
    assert!(ipip.on_event(&Event::Link(link)));
    ipip.set_device(None);
    ipip.apply(&mut node.rtnl, &complete()).unwrap();
    assert!(!ipip.is_pending());
}

#[test]
fn vm_nodes_reach_each_other_by_ip_in_ip() {
    needs!("ip");
    vm!(Vm::new().tools(&["ip"]));
    let (mut one, mut two) = two_nodes();
    for (number, node) in [(1, &mut one), (2, &mut two)] {
        let mut ipip = driver(number);
        ipip.apply(&mut node.rtnl, &complete()).unwrap();
        assert!(!ipip.is_pending());
        let link = node.rtnl.require_link(NAME).unwrap();
        assert_eq!(
            (link.kind.as_deref(), link.mtu, link.up),
            (Some("ipip"), 1480, true)
        );
        assert_eq!(addresses(&mut node.rtnl, NAME), [IpAddr::V4(tunnel(number))]);
        let other = 3 - number;
        node.ip(&format!(
            "route add 10.65.{other}.0/26 via 172.30.0.{other} dev {NAME} onlink proto 80"
        ));
    }
    for (from, to, numbers) in [(&one, &two, (1, 2)), (&two, &one, (2, 1))] {
        eventually(Duration::from_secs(30), || {
            let (source, target) = (tunnel(numbers.0).into(), tunnel(numbers.1).into());
            datagram_arrives(&from.netns, source, &to.netns, target)
        });
    }
    // It went through the tunnel, and nowhere else.
    let counted = one
        .netns
        .run(|| std::fs::read_to_string("/proc/thread-self/net/dev"))
        .unwrap()
        .unwrap();
    let line = counted
        .lines()
        .find(|l| l.trim_start().starts_with("tunl0:"))
        .unwrap();
    let received = line.split_once(':').unwrap().1.split_whitespace().nth(1).unwrap();
    assert_ne!(received, "0", "{counted}");
}

#[test]
fn vm_what_a_stranger_breaks_of_ip_in_ip_is_repaired_and_it_is_given_back() {
    needs!("ip");
    vm!(Vm::new().tools(&["ip"]).modules(&["ipip"]));
    let node = Node::new("one");
    let mut monitor = node.netns.run(|| Monitor::open(Groups::ALL)).unwrap().unwrap();
    let mut rtnl = Rtnl::open_in(&node.netns).unwrap();
    let mut probe = Rtnl::open_in(&node.netns).unwrap();
    monitor.ignore(&rtnl);
    // What others use it for is not taken from them as long as we need nothing of it.
    node.ip("addr add 192.0.2.7/32 dev tunl0");
    let mut ipip = Ipip::new(NAME);
    ipip.apply(&mut rtnl, &complete()).unwrap();
    assert_eq!(addresses(&mut probe, NAME), [ip("192.0.2.7")]);
    ipip.set_device(Some(spec(1)));
    ipip.apply(&mut rtnl, &complete()).unwrap();
    let good = |probe: &mut Rtnl| {
        let link = probe.require_link(NAME).unwrap();
        assert_eq!((link.mtu, link.up), (1480, true));
        assert_eq!(addresses(probe, NAME), [IpAddr::V4(tunnel(1))]);
    };
    good(&mut probe);
    for event in monitor.drain().unwrap() {
        ipip.on_event(&event);
    }
    ipip.apply(&mut rtnl, &complete()).unwrap();
    for broken in [
        "link set tunl0 down",
        "link set tunl0 mtu 1300",
        "link set tunl0 alias mine",
        "addr del 10.65.1.1/32 dev tunl0",
        "addr add 10.65.1.9/32 dev tunl0",
    ] {
        node.ip(broken);
        eventually(Duration::from_secs(30), || {
            match monitor.next(Some(Duration::from_millis(100))).unwrap() {
                Some(event) if ipip.on_event(&event) => Ok(()),
                other => Err(format!("{broken}: not noticed; last {other:?}")),
            }
        });
        for event in monitor.drain().unwrap() {
            ipip.on_event(&event);
        }
        ipip.apply(&mut rtnl, &complete()).unwrap();
        good(&mut probe);
        assert!(!ipip.is_pending(), "{broken}");
    }
    // Its address moves; then nobody needs it, and another driver, as after a restart, gives it back.
    ipip.set_device(Some(spec(2)));
    ipip.apply(&mut rtnl, &complete()).unwrap();
    assert_eq!(addresses(&mut probe, NAME), [IpAddr::V4(tunnel(2))]);
    Ipip::new(NAME).apply(&mut rtnl, &complete()).unwrap();
    let link = probe.require_link(NAME).unwrap();
    assert!(!link.up && link.alias.is_none(), "{link:?}");
    assert_eq!(addresses(&mut probe, NAME), [] as [IpAddr; 0]);
    assert!(!rtnl.release_ipip(NAME).unwrap(), "nothing is left to do");
    // One that the module did not make goes altogether.
    let own = IpipSpec {
        name: "ours0".into(),
        ..spec(1)
    };
    node.ip("link add ours0 type ipip local 192.0.2.1 remote 192.0.2.2");
    assert!(!rtnl.release_ipip("ours0").unwrap(), "somebody else's");
    rtnl.ensure_ipip(&own).unwrap();
    assert!(rtnl.release_ipip("ours0").unwrap());
    assert!(probe.link("ours0").unwrap().is_none());
    assert!(
        probe
            .addresses()
            .unwrap()
            .iter()
            .all(|a| Family::of(a.addr.addr) != Family::V4 || a.addr.addr.is_loopback())
    );
}
