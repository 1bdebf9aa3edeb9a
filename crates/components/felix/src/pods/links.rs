//! Deleting the links of containers that have ended.

use std::{collections::BTreeMap, time::Duration};

use caracal_link::{Departure, Link, Rtnl};
use caracal_sys::NetNs;

use super::Done;

/// How long the kernel may take until the links are gone. It takes a millisecond.
const LIMIT: Duration = Duration::from_millis(1500);

/// A link that is to be deleted, if it is the one that is meant.
#[derive(Debug, Clone)]
pub(super) struct Doomed {
    /// Device and inode of the network namespace that the number counts in.
    pub(super) netns: (u64, u64),
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) alias: String,
}

impl Doomed {
    fn is(&self, link: &Link) -> bool {
        let veth = link.kind.as_deref() == Some("veth");
        // Who has no alias may be anybody's.
        let own = !self.alias.is_empty() && link.alias.as_deref() == Some(self.alias.as_str());
        veth && own && link.name == self.name
    }
}

/// Deletes the links of this network namespace; the answers come when they are gone, not only when the kernel has cleaned up
/// after them.
pub(super) async fn delete(batch: Vec<Doomed>) -> Vec<Done> {
    let count = batch.len();
    let work = tokio::task::spawn_blocking(move || delete_now(&batch));
    work.await.unwrap_or_else(|e| vec![Err(e.to_string()); count])
}

fn delete_now(batch: &[Doomed]) -> Vec<Done> {
    let mut answers: Vec<Done> = batch.iter().map(|_| Ok(())).collect();
    let mut doomed = BTreeMap::new();
    let all_fail = |why: String| batch.iter().map(|_| Err(why.clone())).collect();
    let here = match NetNs::current() {
        Ok(netns) => (netns.id().device, netns.id().inode),
        Err(e) => return all_fail(e.to_string()),
    };
    let mut rtnl = match Rtnl::open() {
        Ok(rtnl) => rtnl,
        Err(e) => return all_fail(e.to_string()),
    };
    for (wish, answer) in batch.iter().zip(&mut answers) {
        if wish.netns != here {
            *answer = Err("this agent is in another network namespace".to_owned());
            continue;
        }
        match rtnl.link(wish.index) {
            Ok(None) => {}
            Ok(Some(link)) if wish.is(&link) => {
                doomed.insert(wish.index, answer);
            }
            Ok(Some(link)) => {
                let (number, found) = (wish.index, link.name);
                *answer = Err(format!("link number {number} is {found}, not {}", wish.name));
            }
            Err(e) => *answer = Err(e.to_string()),
        }
    }
    if doomed.is_empty() {
        return answers;
    }
    let numbers: Vec<u32> = doomed.keys().copied().collect();
    match Departure::begin(&numbers).and_then(|d| d.wait(LIMIT)) {
        Ok(left) => {
            for index in left {
                if let Some(answer) = doomed.get_mut(&index) {
                    **answer = Err(format!("it is still there after {LIMIT:?}"));
                }
            }
        }
        Err(e) => doomed.into_values().for_each(|a| *a = Err(e.to_string())),
    }
    answers
}
