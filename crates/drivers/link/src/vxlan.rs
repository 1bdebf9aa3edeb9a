use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use caracal_delta::Tracker;
use caracal_net::MacAddr;

use crate::claims::Claims;
use crate::neighbour::{delete_fdb, delete_neighbour, is_absent, set_fdb, set_neighbour};
use crate::{Event, FdbEntry, LinkError, Neighbour, Request, Rtnl, VxlanSpec};

/// Another node's end of a tunnel, in one underlay family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VxlanPeer {
    /// The Ethernet address of its device.
    pub mac: MacAddr,
    /// The address of its device, which routes lead via.
    pub tunnel: IpAddr,
    /// The node's address, where outer packets go.
    pub underlay: IpAddr,
}

/// What an apply did and what went wrong.
#[derive(Debug, Default)]
pub struct VxlanReport {
    /// The device's number, if it exists now.
    pub link: Option<u32>,
    /// Entries written or deleted.
    pub changed: usize,
    /// What failed, each naming its object. All of it is tried again at the next apply.
    pub errors: Vec<LinkError>,
}

/// Where an Ethernet address is forwarded to; more than one place if somebody else added one.
type Remotes = BTreeSet<IpAddr>;

/// Keeps one VXLAN device, with a permanent neighbour and a forwarding entry per peer, as desired.
///
/// Ours on the device are the permanent neighbours and the permanent unicast forwarding entries; what
/// the kernel or somebody else keeps there besides (dynamic entries, the all-zero default) stays.
#[derive(Debug)]
pub struct Vxlan {
    name: String,
    spec: Option<VxlanSpec>,
    peers: BTreeMap<String, VxlanPeer>,
    remotes: Claims<MacAddr, IpAddr>,
    macs: Claims<IpAddr, MacAddr>,
    fdb: Tracker<MacAddr, Remotes>,
    neighbours: Tracker<IpAddr, MacAddr>,
    /// The device as of the last apply; `None` if it has to be looked at again.
    device: Option<u32>,
    /// The entries have to be read again.
    unread: bool,
}

impl Vxlan {
    /// A driver for the device of that name. Until a specification is set it wants no such device.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            spec: None,
            peers: BTreeMap::new(),
            remotes: Claims::new(),
            macs: Claims::new(),
            fdb: Tracker::new(),
            neighbours: Tracker::new(),
            device: None,
            unread: true,
        }
    }

    /// What the device should be; `None` for no device. The specification's name is the driver's.
    pub fn set_device(&mut self, spec: Option<VxlanSpec>) {
        let spec = spec.map(|spec| VxlanSpec {
            name: self.name.clone(),
            ..spec
        });
        if spec != self.spec {
            self.spec = spec;
            self.device = None;
        }
    }

    /// Wants a peer, or changes it.
    pub fn set_peer(&mut self, node: &str, peer: VxlanPeer) {
        if self.peers.get(node) == Some(&peer) {
            return;
        }
        self.remove_peer(node);
        self.remotes.set(peer.mac, node, peer.underlay);
        self.macs.set(peer.tunnel, node, peer.mac);
        self.peers.insert(node.to_owned(), peer);
        self.refile(peer);
    }

    /// Does not want a peer any more.
    pub fn remove_peer(&mut self, node: &str) {
        if let Some(peer) = self.peers.remove(node) {
            self.remotes.remove(&peer.mac, node);
            self.macs.remove(&peer.tunnel, node);
            self.refile(peer);
        }
    }

    /// The peers wanted now.
    pub fn peers(&self) -> &BTreeMap<String, VxlanPeer> {
        &self.peers
    }

    fn refile(&mut self, peer: VxlanPeer) {
        match self.remotes.winner(&peer.mac) {
            Some(remote) => drop(self.fdb.set_desired(peer.mac, Remotes::from([*remote]))),
            None => drop(self.fdb.remove_desired(&peer.mac)),
        }
        match self.macs.winner(&peer.tunnel) {
            Some(mac) => drop(self.neighbours.set_desired(peer.tunnel, *mac)),
            None => drop(self.neighbours.remove_desired(&peer.tunnel)),
        }
    }

    /// Reads everything again at the next apply.
    pub fn resync(&mut self) {
        self.device = None;
        self.unread = true;
    }

    /// Whether an apply has anything to do.
    pub fn is_pending(&self) -> bool {
        let device = self.spec.is_some() && (self.device.is_none() || self.unread);
        let gone = self.spec.is_none() && (self.device.is_some() || self.unread);
        device || gone || (self.spec.is_some() && !(self.fdb.in_sync() && self.neighbours.in_sync()))
    }

    /// Follows the kernel. Tells whether an apply has something to do now.
    pub fn on_event(&mut self, event: &Event) -> bool {
        match event {
            Event::Overrun => self.resync(),
            Event::Link(link) if link.name == self.name => {
                let as_wanted = self.spec.as_ref().is_some_and(|spec| {
                    self.device == Some(link.index)
                        && link.up
                        && link.mtu == spec.mtu
                        && link.mac == Some(spec.mac)
                });
                if !as_wanted {
                    self.device = None;
                }
            }
            Event::LinkGone(link) if link.name == self.name => self.resync(),
            Event::Address(address) | Event::AddressGone(address) => self.on_address(address),
            Event::Neighbour(entry) if self.owns(entry.link) => self.on_neighbour(entry),
            Event::NeighbourGone(entry) if self.owns(entry.link) => drop(self.neighbours.forget(&entry.addr)),
            Event::Fdb(entry) if self.owns(entry.link) => self.on_fdb(entry),
            Event::FdbGone(entry) if self.owns(entry.link) => self.on_fdb_gone(entry),
            _ => {}
        }
        self.is_pending()
    }

    fn owns(&self, link: u32) -> bool {
        self.device == Some(link)
    }

    /// The device's own addresses, and the address it is built on, may have become wrong.
    fn on_address(&mut self, address: &crate::Address) {
        let Some(spec) = &self.spec else { return };
        if self.owns(address.link) || address.addr.addr == spec.local {
            self.device = None;
        }
    }

    fn on_neighbour(&mut self, entry: &Neighbour) {
        match entry.mac {
            Some(mac) if entry.permanent && !entry.proxy => drop(self.neighbours.observe(entry.addr, mac)),
            _ => drop(self.neighbours.forget(&entry.addr)),
        }
    }

    /// The kernel does not tell whether an entry was added beside others or in their place. Believing in
    /// the new one alone makes the next write right either way.
    fn on_fdb(&mut self, entry: &FdbEntry) {
        if let Some(remote) = ours(entry) {
            self.fdb.observe(entry.mac, Remotes::from([remote]));
        }
    }

    fn on_fdb_gone(&mut self, entry: &FdbEntry) {
        let Some(mut remotes) = self.fdb.observed(&entry.mac).cloned() else {
            return;
        };
        if let Some(remote) = entry.remote {
            remotes.remove(&remote);
        }
        if remotes.is_empty() {
            self.fdb.forget(&entry.mac);
        } else {
            self.fdb.observe(entry.mac, remotes);
        }
    }

    /// Brings the kernel to what is desired. Costs what differs, plus a full read after a start, an overrun,
    /// or when the device was made anew.
    pub fn apply(&mut self, rtnl: &mut Rtnl) -> VxlanReport {
        let mut report = VxlanReport::default();
        if let Err(error) = self.apply_inner(rtnl, &mut report) {
            report.errors.push(error);
        }
        report.link = self.device;
        self.report_conflicts(&mut report.errors);
        report
    }

    fn apply_inner(&mut self, rtnl: &mut Rtnl, report: &mut VxlanReport) -> Result<(), LinkError> {
        let Some(spec) = &self.spec else {
            if self.device.is_some() || self.unread {
                report.changed += usize::from(rtnl.remove_vxlan(&self.name)?);
                self.device = None;
                self.unread = false;
            }
            self.fdb.clear_observed();
            self.neighbours.clear_observed();
            return Ok(());
        };
        let link = match self.device {
            Some(link) => link,
            None => {
                let (link, made) = rtnl.ensure_vxlan(spec)?;
                self.unread |= made;
                self.device = Some(link);
                link
            }
        };
        if self.unread {
            self.read(rtnl, link)?;
            self.unread = false;
        }
        self.write(rtnl, link, report)
    }

    fn read(&mut self, rtnl: &mut Rtnl, link: u32) -> Result<(), LinkError> {
        let mut found: BTreeMap<MacAddr, Remotes> = BTreeMap::new();
        for entry in rtnl.fdb(link)? {
            if let Some(remote) = ours(&entry) {
                found.entry(entry.mac).or_default().insert(remote);
            }
        }
        self.fdb.replace_observed(found);
        let family = self
            .spec
            .as_ref()
            .map_or(caracal_net::Family::V4, VxlanSpec::family);
        let neighbours = rtnl
            .neighbours(link, family)?
            .into_iter()
            .filter(|entry| entry.permanent);
        self.neighbours
            .replace_observed(neighbours.filter_map(|entry| Some((entry.addr, entry.mac?))));
        Ok(())
    }

    fn write(&mut self, rtnl: &mut Rtnl, link: u32, report: &mut VxlanReport) -> Result<(), LinkError> {
        let steps = self.plan(link);
        let requests: Vec<Request> = steps.iter().map(|step| step.request.clone()).collect();
        let verdicts = rtnl.batch(&requests).inspect_err(|_| self.unread = true)?;
        for (step, verdict) in steps.into_iter().zip(verdicts) {
            match verdict {
                Err(refusal) if !(step.deletes && is_absent(Some(refusal.errno))) => {
                    // The device itself may have gone meanwhile: look at all of it again.
                    self.resync();
                    let object = format!("{} on {}", step.object, self.name);
                    report.errors.push(LinkError::Refused {
                        action: step.action,
                        object,
                        refusal,
                    });
                }
                _ => {
                    report.changed += 1;
                    step.done.record(self);
                }
            }
        }
        Ok(())
    }

    /// New entries come before deletions: an address that moves to another node is never without one.
    fn plan(&self, link: u32) -> Vec<Step> {
        let mut steps = Vec::new();
        for update in self.fdb.pending_updates() {
            let mac = *update.key;
            let wrong = update
                .observed
                .into_iter()
                .flatten()
                .filter(|remote| !update.desired.contains(remote));
            for remote in update.desired {
                steps.push(Step {
                    action: "forward",
                    object: format!("{mac} to {remote}"),
                    request: set_fdb(link, mac, *remote),
                    deletes: false,
                    done: Done::Fdb(mac),
                });
            }
            steps.extend(wrong.map(|remote| forget_remote(link, mac, *remote, Done::Nothing)));
        }
        for update in self.neighbours.pending_updates() {
            let (addr, mac) = (*update.key, *update.desired);
            steps.push(Step {
                action: "set neighbour",
                object: format!("{addr} at {mac}"),
                request: set_neighbour(link, addr, mac),
                deletes: false,
                done: Done::Neighbour(addr),
            });
        }
        for (addr, mac) in self.neighbours.pending_deletes() {
            steps.push(Step {
                action: "delete neighbour",
                object: format!("{addr} at {mac}"),
                request: delete_neighbour(link, *addr),
                deletes: true,
                done: Done::Neighbour(*addr),
            });
        }
        for (mac, remotes) in self.fdb.pending_deletes() {
            let last = remotes.iter().next_back();
            for remote in remotes {
                let done = if Some(remote) == last {
                    Done::Fdb(*mac)
                } else {
                    Done::Nothing
                };
                steps.push(forget_remote(link, *mac, *remote, done));
            }
        }
        steps
    }

    fn report_conflicts(&self, errors: &mut Vec<LinkError>) {
        let macs = self
            .remotes
            .conflicts()
            .map(|(mac, claimants)| (format!("Ethernet address {mac}"), claimants));
        let tunnels = self
            .macs
            .conflicts()
            .map(|(addr, claimants)| (format!("tunnel address {addr}"), claimants));
        errors.extend(macs.chain(tunnels).map(|(what, claimants)| LinkError::Conflict {
            what: format!("{what} on {}", self.name),
            claimants,
        }));
    }
}

/// The remote end of an entry that is ours to manage.
fn ours(entry: &FdbEntry) -> Option<IpAddr> {
    let unicast = entry.mac.0[0] & 1 == 0 && entry.mac != MacAddr([0; 6]);
    entry.remote.filter(|_| entry.permanent && entry.own && unicast)
}

fn forget_remote(link: u32, mac: MacAddr, remote: IpAddr, done: Done) -> Step {
    Step {
        action: "delete forwarding of",
        object: format!("{mac} to {remote}"),
        request: delete_fdb(link, mac, Some(remote)),
        deletes: true,
        done,
    }
}

struct Step {
    action: &'static str,
    object: String,
    request: Request,
    deletes: bool,
    done: Done,
}

/// What to note when a step succeeded.
enum Done {
    Nothing,
    Fdb(MacAddr),
    Neighbour(IpAddr),
}

impl Done {
    fn record(self, driver: &mut Vxlan) {
        match self {
            Self::Nothing => {}
            Self::Fdb(mac) => drop(driver.fdb.applied(&mac)),
            Self::Neighbour(addr) => drop(driver.neighbours.applied(&addr)),
        }
    }
}
