use std::collections::BTreeMap;

use caracal_link::{LinkError, Request, Rtnl};
use caracal_net::Family;
use caracal_update::InSync;
use netlink_packet_route::RouteNetlinkMessage;

use super::{LinkState, RouteError, RouteReport, Routes};
use crate::codec::{self, Installed};
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
        let mut strays = Vec::new();
        if self.unread {
            strays = self.read(rtnl)?;
            self.unread = false;
        }
        let mut failed = Vec::new();
        for _ in 0..ROUNDS {
            let before = report.written;
            failed = self.write(rtnl, report)?;
            if failed.is_empty() || report.written == before {
                break;
            }
        }
        report.errors.extend(failed);
        self.delete(rtnl, strays, report)
    }

    /// Reads links and routes. Returns routes of ours beyond the first with the same key.
    fn read(&mut self, rtnl: &mut Rtnl) -> Result<Vec<(RouteKey, Installed)>, LinkError> {
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
        let mut found = BTreeMap::new();
        let mut strays = Vec::new();
        for family in Family::BOTH {
            let routes = rtnl.dump("list routes", codec::list(family), |message| match message {
                RouteNetlinkMessage::NewRoute(message) => codec::read(&message),
                _ => None,
            })?;
            for (key, route) in routes.into_iter().filter(|(key, route)| self.is_ours(key, route)) {
                if let Some(first) = found.insert(key, route) {
                    strays.push((key, first));
                }
            }
        }
        self.tracker.clear_observed();
        self.through.clear();
        self.sourced.clear();
        for (key, route) in found {
            self.observe(key, route);
        }
        Ok(strays)
    }

    fn write(&mut self, rtnl: &mut Rtnl, report: &mut RouteReport) -> Result<Vec<RouteError>, LinkError> {
        let updates: Vec<(RouteKey, Installed)> = self
            .tracker
            .pending_updates()
            .map(|update| (*update.key, update.desired.clone()))
            .collect();
        let requests: Vec<Request> = updates
            .iter()
            .map(|(key, route)| codec::write(key, route))
            .collect();
        let mut failed = Vec::new();
        for ((key, route), verdict) in updates.into_iter().zip(rtnl.batch(&requests)?) {
            match verdict {
                Ok(()) => {
                    report.written += 1;
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
        Ok(failed)
    }

    fn delete(
        &mut self,
        rtnl: &mut Rtnl,
        strays: Vec<(RouteKey, Installed)>,
        report: &mut RouteReport,
    ) -> Result<(), LinkError> {
        // Ours are deleted, but a route that waits for its link is not there anyway.
        let surplus = self
            .tracker
            .pending_deletes()
            .map(|(key, route)| (*key, route.clone()));
        let mut doomed: Vec<(RouteKey, Installed, bool)> =
            surplus.map(|(key, route)| (key, route, true)).collect();
        doomed.extend(strays.into_iter().map(|(key, route)| (key, route, false)));
        let requests: Vec<Request> = doomed
            .iter()
            .map(|(key, route, _)| codec::delete(key, route))
            .collect();
        for ((key, _, tracked), verdict) in doomed.into_iter().zip(rtnl.batch(&requests)?) {
            match verdict {
                Err(refusal) if !is_absent(refusal.errno) => {
                    report.errors.push(RouteError::Delete { key, refusal });
                }
                verdict => {
                    report.deleted += usize::from(verdict.is_ok());
                    if tracked {
                        self.forget(&key);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether a refusal to delete means that there was nothing to delete.
fn is_absent(errno: i32) -> bool {
    matches!(errno, libc::ESRCH | libc::ENODEV | libc::ENOENT)
}
