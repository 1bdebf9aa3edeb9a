use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use caracal_link::{AddressSpec, Groups, LinkChange, Monitor, Rtnl, VethSpec};
use caracal_net::Family;
use caracal_route::{Ownership, PROTOCOL_CLUSTER, Route, RouteKey, RouteReport, Routes, Target};
use caracal_testkit::{NetNs, eventually};
use caracal_update::InSync;

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn key(dst: &str) -> RouteKey {
    RouteKey::main(dst.parse().unwrap(), 1024)
}

pub(crate) fn dev(link: &str) -> Target {
    Target::Link(link.to_owned())
}

pub(crate) fn onlink(link: &str, gateway: &str) -> Target {
    Target::Via {
        link: link.to_owned(),
        gateway: ip(gateway),
        onlink: true,
    }
}

pub(crate) fn route(target: Target) -> Route {
    Route::new(target, PROTOCOL_CLUSTER)
}

pub(crate) fn complete() -> InSync {
    InSync::after_complete_snapshot()
}

/// A namespace with a route driver that follows its events.
pub(crate) struct Node {
    pub(crate) netns: NetNs,
    pub(crate) rtnl: Rtnl,
    pub(crate) routes: Routes,
    pub(crate) monitor: Monitor,
}

impl Node {
    pub(crate) fn new(name: &str) -> Self {
        Self::owning(name, Ownership::default())
    }

    pub(crate) fn owning(name: &str, ownership: Ownership) -> Self {
        let netns = NetNs::create(name).unwrap();
        let mut rtnl = Rtnl::open_in(&netns).unwrap();
        let mut monitor = netns.run(|| Monitor::open(Groups::ALL)).unwrap().unwrap();
        monitor.ignore(&rtnl);
        rtnl.set_link("lo", &LinkChange::up()).unwrap();
        Self {
            netns,
            rtnl,
            routes: Routes::new(ownership),
            monitor,
        }
    }

    /// Makes a veth pair whose both ends are in this namespace, the first up, with an address of each family.
    pub(crate) fn veth(&mut self, name: &str) {
        let peer = format!("{name}p");
        let spec = VethSpec {
            name,
            peer_name: &peer,
            ..VethSpec::default()
        };
        self.rtnl.create_veth(&spec).unwrap();
        self.rtnl.set_link(peer.as_str(), &LinkChange::up()).unwrap();
        self.rtnl.set_link(name, &LinkChange::up()).unwrap();
    }

    pub(crate) fn address(&mut self, link: &str, addr: &str) {
        let index = self.rtnl.require_link(link).unwrap().index;
        self.rtnl
            .set_address(index, &AddressSpec::new(addr.parse().unwrap()))
            .unwrap();
    }

    /// As an agent does it: first what has happened, then what to do about it.
    pub(crate) fn apply(&mut self) -> RouteReport {
        self.follow();
        self.routes
            .apply(&mut self.rtnl, &InSync::after_complete_snapshot())
    }

    #[track_caller]
    pub(crate) fn apply_clean(&mut self) -> RouteReport {
        let report = self.apply();
        assert!(report.errors.is_empty(), "{:?}", report.errors);
        assert!(!self.routes.is_pending());
        report
    }

    /// Handles all events that have come.
    pub(crate) fn follow(&mut self) {
        for event in self.monitor.drain().unwrap() {
            self.routes.on_event(&event);
        }
    }

    /// Handles events until one gives the driver work.
    #[track_caller]
    pub(crate) fn follow_until_pending(&mut self, what: &str) {
        eventually(Duration::from_secs(10), || {
            match self.monitor.next(Some(Duration::from_millis(50))).unwrap() {
                Some(event) if self.routes.on_event(&event) => Ok(()),
                other => Err(format!("{what}: no work; last event {other:?}")),
            }
        });
        self.follow();
    }

    /// What iproute2 says, one line a route, without what it adds for show.
    pub(crate) fn show(&self, family: Family, arguments: &str) -> BTreeSet<String> {
        let text = self.ip(&format!("-{} route show {arguments}", family.number()));
        text.lines()
            .map(|line| line.replace(" pref medium", "").trim().to_owned())
            .collect()
    }

    /// Runs a command of iproute2 in the namespace, playing the stranger.
    #[track_caller]
    pub(crate) fn ip(&self, line: &str) -> String {
        self.try_ip(line).unwrap_or_else(|| panic!("ip {line} failed"))
    }

    /// The same, for a command that may fail.
    pub(crate) fn try_ip(&self, line: &str) -> Option<String> {
        let words = line.split(' ').filter(|word| !word.is_empty());
        let output = self
            .netns
            .run(|| Command::new("ip").args(words).output().unwrap())
            .unwrap();
        output
            .status
            .success()
            .then(|| String::from_utf8(output.stdout).unwrap())
    }
}
