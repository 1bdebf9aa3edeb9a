use std::collections::BTreeMap;

use caracal_link::{LinkError, Refusal, Request, Rtnl};
use caracal_net::Family;
use caracal_update::InSync;
use netlink_packet_route::RouteNetlinkMessage;

use super::{LinkState, RouteError, RouteReport, Routes};
use crate::codec::{self, Installed, Kind};
use crate::model::RouteKey;

/// How often a write that failed for lack of another route is tried in one apply: that route may have been
/// written after it.
const ROUNDS: usize = 2;

impl Routes {
    /// Brings the kernel to what is wanted: writes first, then deletions, in few system calls. Costs what
    /// differs, plus a full read after a start or lost events. Best called when all events that have come
    /// were followed: an old one about a link makes its routes be written again.
    pub fn apply(&mut self, rtnl: &mut Rtnl, _complete: &InSync) -> RouteReport {
        let mut report = RouteReport::default();
        if let Err(error) = self.apply_inner(rtnl, &mut report) {
            // What the kernel has done of it is unknown.
            self.unread = true;
            report.errors.push(error.into());
        }
        report.waiting = self.wanted.len() - self.tracker.desired_len();
        report
    }

    fn apply_inner(&mut self, rtnl: &mut Rtnl, report: &mut RouteReport) -> Result<(), LinkError> {
        if self.unread {
            // The kernel's list leaves out a route that stands between the hops of an IPv6 multipath route.
            self.unread = self.read(rtnl)?;
        }
        self.delete_strays(rtnl, report)?;
        let mut failed = Vec::new();
        for _ in 0..ROUNDS {
            let before = report.written;
            failed = self.write(rtnl, report)?;
            if failed.is_empty() || report.written == before {
                break;
            }
        }
        report.errors.extend(failed);
        self.delete_surplus(rtnl, report)
    }

    /// Reads links and routes. Tells whether there may be more, to be seen once this apply is done.
    fn read(&mut self, rtnl: &mut Rtnl) -> Result<bool, LinkError> {
        self.links.clear();
        self.names.clear();
        for link in rtnl.links()? {
            self.names.insert(link.index, link.name.clone());
            self.links.insert(
                link.name,
                LinkState {
                    index: link.index,
                    up: link.up,
                },
            );
        }
        let keys: Vec<RouteKey> = self.wanted.keys().copied().collect();
        for key in &keys {
            self.resolve(key);
        }
        let mut found: BTreeMap<RouteKey, Vec<Installed>> = BTreeMap::new();
        for family in Family::BOTH {
            let routes = rtnl.dump("list routes", codec::list(family), |message| match message {
                RouteNetlinkMessage::NewRoute(message) => codec::read(&message)
                    .filter(|(key, route)| self.wanted.contains_key(key) || self.is_ours(key, route)),
                _ => None,
            })?;
            for (key, route) in routes {
                found.entry(key).or_default().push(route);
            }
        }
        self.tracker.clear_observed();
        self.through.clear();
        self.sourced.clear();
        self.strays.clear();
        let mut more = false;
        for (key, routes) in found {
            more |= routes
                .iter()
                .any(|route| route.kind == Kind::Other && self.is_ours(&key, route));
            self.take_in(key, routes);
        }
        Ok(more)
    }

    /// Takes in what is there at a key: nearly always one route. Of several, ours go, except the right one;
    /// that is written again, since a deletion may have hit it, and it takes the place of the first left.
    fn take_in(&mut self, key: RouteKey, routes: Vec<Installed>) {
        let ours = routes.iter().filter(|route| self.is_ours(&key, route)).count();
        let alone = routes.len() == 1;
        // Behind strangers' routes ours would have no effect, before them it has.
        let leads = ours == 1 && self.tracker.desired(&key) == routes.first();
        for route in routes {
            if !self.is_ours(&key, &route) {
                continue;
            }
            let right = self.tracker.desired(&key) == Some(&route);
            if alone || (leads && right) {
                self.observe(key, route);
            } else if !right {
                self.strays.push((key, route));
            }
        }
    }

    fn write(&mut self, rtnl: &mut Rtnl, report: &mut RouteReport) -> Result<Vec<RouteError>, LinkError> {
        let updates: Vec<(RouteKey, Installed, Option<Installed>)> = self
            .tracker
            .pending_updates()
            .map(|update| (*update.key, update.desired.clone(), update.observed.cloned()))
            .collect();
        let requests: Vec<Request> = updates
            .iter()
            .map(|(key, route, _)| codec::write(key, route))
            .collect();
        let mut failed = Vec::new();
        for ((key, route, old), verdict) in updates.into_iter().zip(rtnl.batch(&requests)?) {
            let verdict = match verdict {
                Err(refusal) if refusal.errno == libc::EEXIST => move_to_front(rtnl, &key, &route)?,
                verdict => verdict,
            };
            match verdict {
                Ok(()) => {
                    report.written += 1;
                    // What the kernel replaced was the first with this key: a stranger's, if he put one before
                    // the old one of ours.
                    let stray = old.filter(|old| codec::delete_spares(&key, old, &route));
                    self.strays.extend(stray.map(|old| (key, old)));
                    self.observe(key, route);
                }
                Err(refusal) => {
                    // Resolved, therefore wanted.
                    if let Some(route) = self.wanted.get(&key).cloned().map(Box::new) {
                        failed.push(RouteError::Write { key, route, refusal });
                    }
                }
            }
        }
        self.delete_strays(rtnl, report)?;
        Ok(failed)
    }

    /// Strays that resemble the right one go before that is written: it then takes the place of whatever is left.
    fn delete_strays(&mut self, rtnl: &mut Rtnl, report: &mut RouteReport) -> Result<(), LinkError> {
        let strays = std::mem::take(&mut self.strays);
        for (key, route) in delete(rtnl, strays, report)?.failed {
            self.strays.push((key, route));
        }
        Ok(())
    }

    fn delete_surplus(&mut self, rtnl: &mut Rtnl, report: &mut RouteReport) -> Result<(), LinkError> {
        let surplus = self
            .tracker
            .pending_deletes()
            .map(|(key, route)| (*key, route.clone()))
            .collect();
        for key in delete(rtnl, surplus, report)?.gone {
            self.forget(&key);
        }
        Ok(())
    }
}

/// The right route is there, but behind another with its key. Without it, writing replaces that other.
fn move_to_front(
    rtnl: &mut Rtnl,
    key: &RouteKey,
    route: &Installed,
) -> Result<Result<(), Refusal>, LinkError> {
    let mut verdicts = rtnl.batch(&[codec::delete(key, route), codec::write(key, route)])?;
    Ok(verdicts.pop().unwrap_or(Ok(())))
}

#[derive(Default)]
struct Deletions {
    gone: Vec<RouteKey>,
    failed: Vec<(RouteKey, Installed)>,
}

fn delete(
    rtnl: &mut Rtnl,
    doomed: Vec<(RouteKey, Installed)>,
    report: &mut RouteReport,
) -> Result<Deletions, LinkError> {
    let requests: Vec<Request> = doomed
        .iter()
        .map(|(key, route)| codec::delete(key, route))
        .collect();
    let mut deletions = Deletions::default();
    for ((key, route), verdict) in doomed.into_iter().zip(rtnl.batch(&requests)?) {
        match verdict {
            Err(refusal) if !is_absent(refusal.errno) => {
                report.errors.push(RouteError::Delete { key, refusal });
                deletions.failed.push((key, route));
            }
            verdict => {
                report.deleted += usize::from(verdict.is_ok());
                deletions.gone.push(key);
            }
        }
    }
    Ok(deletions)
}

/// Whether a refusal to delete means that there was nothing to delete.
fn is_absent(errno: i32) -> bool {
    matches!(errno, libc::ESRCH | libc::ENODEV | libc::ENOENT)
}
