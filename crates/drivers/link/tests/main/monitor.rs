use std::time::Duration;

use caracal_link::{Event, Groups, LinkChange, Monitor, Rtnl, VethSpec};
use caracal_net::{Family, MacAddr};
use caracal_testkit::{eventually, netns};

use crate::support::{if_addr, ip};

/// Reads events until one satisfies the condition.
fn wait_for(monitor: &mut Monitor, what: &str, mut wanted: impl FnMut(&Event) -> bool) {
    eventually(Duration::from_secs(10), || {
        match monitor.next(Some(Duration::from_millis(50))).unwrap() {
            Some(event) if wanted(&event) => Ok(()),
            other => Err(format!("no {what}; last {other:?}")),
        }
    });
}

#[test]
fn netns_events_tell_of_every_change() {
    netns!();
    let mut monitor = Monitor::open(Groups::ALL).unwrap();
    let mut rtnl = Rtnl::open().unwrap();
    assert_eq!(monitor.next(Some(Duration::ZERO)).unwrap(), None);
    rtnl.create_veth(&VethSpec {
        name: "a",
        peer_name: "b",
        ..VethSpec::default()
    })
    .unwrap();
    wait_for(
        &mut monitor,
        "new link",
        |e| matches!(e, Event::Link(l) if l.name == "a" && !l.up),
    );
    rtnl.set_link("a", &LinkChange::up()).unwrap();
    wait_for(
        &mut monitor,
        "link up",
        |e| matches!(e, Event::Link(l) if l.name == "a" && l.up),
    );
    let link = rtnl.require_link("a").unwrap().index;
    for addr in ["10.0.0.1/24", "fd00::1/64"] {
        let spec = caracal_link::AddressSpec::new(if_addr(addr));
        rtnl.set_address(link, &spec).unwrap();
        wait_for(
            &mut monitor,
            "address",
            |e| matches!(e, Event::Address(a) if a.addr == spec.addr),
        );
    }
    let (addr, mac) = (ip("10.0.0.9"), MacAddr([2; 6]));
    rtnl.set_neighbour(link, addr, mac).unwrap();
    wait_for(
        &mut monitor,
        "neighbour",
        |e| matches!(e, Event::Neighbour(n) if n.addr == addr && n.mac == Some(mac)),
    );
    rtnl.delete_neighbour(link, addr).unwrap();
    rtnl.delete_address(link, if_addr("10.0.0.1/24")).unwrap();
    wait_for(
        &mut monitor,
        "address gone",
        |e| matches!(e, Event::AddressGone(a) if a.addr.addr == ip("10.0.0.1")),
    );
    wait_for(&mut monitor, "route gone", |e| matches!(e, Event::RouteGone(_)));
    rtnl.delete_link("a").unwrap();
    wait_for(
        &mut monitor,
        "link gone",
        |e| matches!(e, Event::LinkGone(l) if l.name == "a"),
    );
}

#[test]
fn netns_own_entries_can_be_ignored() {
    netns!();
    let mut rtnl = Rtnl::open().unwrap();
    let mut stranger = Rtnl::open().unwrap();
    rtnl.create_veth(&VethSpec {
        name: "a",
        peer_name: "b",
        ..VethSpec::default()
    })
    .unwrap();
    rtnl.set_link("a", &LinkChange::up()).unwrap();
    let link = rtnl.require_link("a").unwrap().index;
    let mut monitor = Monitor::open(Groups {
        neighbours: true,
        ..Groups::default()
    })
    .unwrap();
    monitor.ignore(&rtnl);
    rtnl.set_neighbour(link, ip("10.0.0.1"), MacAddr([2; 6])).unwrap();
    stranger
        .set_neighbour(link, ip("10.0.0.2"), MacAddr([2; 6]))
        .unwrap();
    wait_for(&mut monitor, "the stranger's entry", |e| match e {
        Event::Neighbour(n) => {
            assert_ne!(n.addr, ip("10.0.0.1"), "our own entry was told");
            n.addr == ip("10.0.0.2")
        }
        _ => false,
    });
}

#[test]
fn netns_lost_events_are_told() {
    netns!(120);
    let mut rtnl = Rtnl::open().unwrap();
    rtnl.create_veth(&VethSpec {
        name: "a",
        peer_name: "b",
        ..VethSpec::default()
    })
    .unwrap();
    rtnl.set_link("a", &LinkChange::up()).unwrap();
    let link = rtnl.require_link("a").unwrap().index;
    let mut monitor = Monitor::open(Groups {
        neighbours: true,
        ..Groups::default()
    })
    .unwrap();
    // Nobody reads meanwhile; two entries change for good, so the kernel's table stays small.
    let overrun = (0..100).any(|_| {
        for number in 0..2000u32 {
            let [.., low] = number.to_be_bytes();
            rtnl.set_neighbour(link, ip("10.0.0.1"), MacAddr([2, 0, 0, 0, 0, low]))
                .unwrap();
        }
        // What is read here makes room; a full buffer shows as the first thing after what it holds.
        monitor.drain().unwrap().contains(&Event::Overrun) || {
            for number in 0..60_000u32 {
                let [.., high, low] = number.to_be_bytes();
                rtnl.set_neighbour(link, ip("10.0.0.1"), MacAddr([2, 0, 0, 0, high, low]))
                    .unwrap();
            }
            monitor.drain().unwrap().contains(&Event::Overrun)
        }
    });
    assert!(overrun);
    // The socket goes on.
    rtnl.set_neighbour(link, ip("10.0.0.2"), MacAddr([2; 6])).unwrap();
    wait_for(
        &mut monitor,
        "event after the overrun",
        |e| matches!(e, Event::Neighbour(n) if n.addr == ip("10.0.0.2")),
    );
    assert_eq!(
        rtnl.neighbours(link, Family::V4)
            .unwrap()
            .iter()
            .filter(|n| n.permanent)
            .count(),
        2
    );
}
