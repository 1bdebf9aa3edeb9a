use std::collections::BTreeMap;
use std::net::IpAddr;

use caracal_delta::Tracker;
use caracal_net::MacAddr;
use caracal_update::InSync;

use crate::claims::Claims;
use crate::neighbour::{delete_fdb, delete_neighbour, is_absent, set_fdb, set_neighbour};
use crate::{Address, AddressScope, Event, FdbEntry, Link, LinkError, Neighbour, Request, Rtnl, VxlanSpec};

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
    fdb: Tracker<MacAddr, IpAddr>,
    neighbours: Tracker<IpAddr, MacAddr>,
    /// The device's number, as far as known.
    device: Option<u32>,
    /// The device's attributes have to be looked at.
    unchecked: bool,
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
            unchecked: true,
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
            self.unchecked = true;
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
            Some(remote) => drop(self.fdb.set_desired(peer.mac, *remote)),
            None => drop(self.fdb.remove_desired(&peer.mac)),
        }
        match self.macs.winner(&peer.tunnel) {
            Some(mac) => drop(self.neighbours.set_desired(peer.tunnel, *mac)),
            None => drop(self.neighbours.remove_desired(&peer.tunnel)),
        }
    }

    /// Reads everything again at the next apply.
    pub fn resync(&mut self) {
        self.unchecked = true;
        self.unread = true;
    }

    /// Whether an apply has anything to do.
    pub fn is_pending(&self) -> bool {
        let entries = self.spec.is_some() && !(self.fdb.in_sync() && self.neighbours.in_sync());
        self.unchecked || self.unread || entries
    }

    /// Follows the kernel. Tells whether an apply has something to do now.
    pub fn on_event(&mut self, event: &Event) -> bool {
        match event {
            Event::Overrun => self.resync(),
            Event::Link(link) if link.name == self.name => self.unchecked |= !self.is_as_wanted(link),
            Event::LinkGone(link) if link.name == self.name => self.resync(),
            Event::Address(address) => self.unchecked |= self.concerns(address) && !self.wants(address),
            Event::AddressGone(address) => self.unchecked |= self.concerns(address),
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

    fn is_as_wanted(&self, link: &Link) -> bool {
        self.spec.as_ref().is_some_and(|spec| {
            self.owns(link.index) && link.up && link.mtu == spec.mtu && link.mac == Some(spec.mac)
        })
    }

    /// Whether an address is the device's, or the one it is built on.
    fn concerns(&self, address: &Address) -> bool {
        let local = self.spec.as_ref().map(|spec| spec.local);
        self.owns(address.link) || local == Some(address.addr.addr)
    }

    /// Whether the device should have this address; link-local ones are the kernel's affair.
    fn wants(&self, address: &Address) -> bool {
        let wanted = self.spec.as_ref().and_then(|spec| spec.address);
        self.owns(address.link) && (address.scope == AddressScope::Link || wanted == Some(address.addr.addr))
    }

    fn on_neighbour(&mut self, entry: &Neighbour) {
        match entry.mac {
            Some(mac) if entry.permanent && !entry.proxy => drop(self.neighbours.observe(entry.addr, mac)),
            _ => drop(self.neighbours.forget(&entry.addr)),
        }
    }

    fn on_fdb(&mut self, entry: &FdbEntry) {
        if let Some(remote) = ours(entry) {
            self.fdb.observe(entry.mac, remote);
        }
    }

    fn on_fdb_gone(&mut self, entry: &FdbEntry) {
        if entry.remote.is_some() && self.fdb.observed(&entry.mac) == entry.remote.as_ref() {
            self.fdb.forget(&entry.mac);
        }
    }

    /// Brings the kernel to what is desired. Costs what differs, plus a full read after a start, an overrun,
    /// or when the device was made anew. The token says that what is desired is complete.
    pub fn apply(&mut self, rtnl: &mut Rtnl, _complete: &InSync) -> VxlanReport {
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
            if !self.is_pending() {
                return Ok(());
            }
            report.changed += usize::from(rtnl.remove_vxlan(&self.name)?);
            self.device = None;
            (self.unchecked, self.unread) = (false, false);
            self.fdb.clear_observed();
            self.neighbours.clear_observed();
            return Ok(());
        };
        let link = match self.device {
            Some(link) if !self.unchecked => link,
            _ => {
                let (link, made) = rtnl.ensure_vxlan(spec)?;
                self.unread |= made || self.device != Some(link);
                self.device = Some(link);
                self.unchecked = false;
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
        // The kernel keeps one remote end for a unicast address.
        let entries = rtnl.fdb(link)?;
        self.fdb
            .replace_observed(entries.iter().filter_map(|entry| Some((entry.mac, ours(entry)?))));
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
            let (mac, remote) = (*update.key, *update.desired);
            steps.push(Step {
                action: "forward",
                object: format!("{mac} to {remote}"),
                request: set_fdb(link, mac, remote),
                deletes: false,
                done: Done::Fdb(mac),
            });
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
        for (mac, remote) in self.fdb.pending_deletes() {
            steps.push(Step {
                action: "delete forwarding of",
                object: format!("{mac} to {remote}"),
                request: delete_fdb(link, *mac, Some(*remote)),
                deletes: true,
                done: Done::Fdb(*mac),
            });
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

struct Step {
    action: &'static str,
    object: String,
    request: Request,
    deletes: bool,
    done: Done,
}

/// What to note when a step succeeded.
enum Done {
    Fdb(MacAddr),
    Neighbour(IpAddr),
}

impl Done {
    fn record(self, driver: &mut Vxlan) {
        match self {
            Self::Fdb(mac) => drop(driver.fdb.applied(&mac)),
            Self::Neighbour(addr) => drop(driver.neighbours.applied(&addr)),
        }
    }
}
