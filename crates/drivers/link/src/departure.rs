use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use netlink_packet_core::NLM_F_ACK;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};

use crate::rtnl::Request;
use crate::{Event, Groups, LinkError, Monitor, Rtnl};

/// How often the kernel's answer is looked for while no event comes.
const LOOK: Duration = Duration::from_millis(50);

/// Links on their way out of the kernel.
///
/// The kernel answers a deletion only when nobody in it can still hold a reference to the links, 20 to 50 ms after they
/// are gone: unlisted, without addresses and routes, passing nothing. It tells of that moment by an event, which is what
/// [`Departure::wait`] waits for; a thread waits for the answer. A deletion that has begun ends even if this process is
/// killed.
#[derive(Debug)]
pub struct Departure {
    monitor: Monitor,
    rtnl: Rtnl,
    waiting: BTreeSet<u32>,
    answer: Receiver<Result<(), LinkError>>,
}

impl Departure {
    /// Begins to delete links by their numbers, in the calling thread's network namespace, all in one request. Those that
    /// are gone already are no error.
    pub fn begin(links: &[u32]) -> Result<Self, LinkError> {
        let monitor = Monitor::open(Groups {
            links: true,
            ..Groups::default()
        })?;
        let mut deleting = Rtnl::open()?;
        let (send, answer) = mpsc::channel();
        let doomed = links.to_vec();
        thread::Builder::new()
            .name("delete-links".into())
            .spawn(move || {
                // Nobody listens any more when all were gone before the answer.
                let _ = send.send(deleting.delete_links(&doomed));
            })
            .map_err(|source| LinkError::Socket {
                action: "start a thread",
                source: caracal_netlink::Error::Io {
                    doing: "delete links",
                    source,
                },
            })?;
        Ok(Self {
            monitor,
            rtnl: Rtnl::open()?,
            waiting: links.iter().copied().collect(),
            answer,
        })
    }

    /// Waits until the links are gone, and returns those that are still there: because the time is up, or because the
    /// kernel does not delete them.
    pub fn wait(mut self, limit: Duration) -> Result<BTreeSet<u32>, LinkError> {
        let deadline = Instant::now() + limit;
        while !self.waiting.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.monitor.next(Some(left.min(LOOK)))? {
                Some(Event::LinkGone(link)) => {
                    self.waiting.remove(&link.index);
                }
                Some(Event::Overrun) => self.look()?,
                Some(_) => {}
                None => {
                    // One that had gone before, or that the kernel refuses to delete.
                    let answered = self.answer.try_recv();
                    self.look()?;
                    match answered {
                        Ok(Err(error)) if !self.waiting.is_empty() => return Err(error),
                        Ok(_) => break,
                        Err(_) if left.is_zero() => break,
                        Err(_) => {}
                    }
                }
            }
        }
        Ok(self.waiting)
    }

    /// Forgets those that are gone.
    fn look(&mut self) -> Result<(), LinkError> {
        for index in std::mem::take(&mut self.waiting) {
            if self.rtnl.link(index)?.is_some() {
                self.waiting.insert(index);
            }
        }
        Ok(())
    }
}

impl Rtnl {
    /// Deletes links by their numbers (of veth pairs, both ends) in one request, so that the kernel waits once for all of
    /// them. Those that are gone already are no error. Waits for the kernel's answer, see [`Departure`].
    pub fn delete_links(&mut self, links: &[u32]) -> Result<(), LinkError> {
        if let [one] = links {
            return self.delete_link(*one).map(drop);
        }
        // The only way to name many is a group. One that nobody has: whoever dies here leaves links in a group of its own.
        let group = fresh_group();
        let join = |index: &u32| {
            let mut message = LinkMessage::default();
            message.header.index = *index;
            message.attributes.push(LinkAttribute::Group(group));
            Request {
                message: RouteNetlinkMessage::SetLink(message),
                flags: NLM_F_ACK,
            }
        };
        let joins: Vec<Request> = links.iter().map(join).collect();
        for (index, verdict) in links.iter().zip(self.batch(&joins)?) {
            match verdict {
                Err(refusal) if refusal.errno != libc::ENODEV => {
                    return Err(LinkError::Refused {
                        action: "put into a group",
                        object: format!("link number {index}"),
                        refusal,
                    });
                }
                _ => {}
            }
        }
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::Group(group));
        let request = Request {
            message: RouteNetlinkMessage::DelLink(message),
            flags: NLM_F_ACK,
        };
        match self.request("delete", || format!("{} links", links.len()), request) {
            Err(e) if e.errno() == Some(libc::ENODEV) => Ok(()),
            other => other,
        }
    }
}

/// A number that no administrator chooses: large, and another one each time. 0 is everybody's group.
fn fresh_group() -> u32 {
    let random = RandomState::new().build_hasher().finish();
    (random as u32 >> 2) | 0x4000_0000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_large_and_new() {
        let groups: BTreeSet<u32> = (0..8).map(|_| fresh_group()).collect();
        assert!(groups.iter().all(|g| (0x4000_0000..0x8000_0000).contains(g)));
        assert!(groups.len() > 1);
    }
}
