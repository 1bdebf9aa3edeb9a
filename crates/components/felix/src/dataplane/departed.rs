//! Addresses that no endpoint of this node has any more, and whose connections are to be forgotten.
//!
//! To find connections the kernel walks all that it could have: milliseconds of CPU, however few there are. So addresses
//! are gathered for a moment.
//!
//! **Invariant:** an address that an endpoint has is forgotten before that endpoint is said to be up.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    time::{Duration, Instant},
};

/// How long addresses are gathered.
const MOMENT: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Departed {
    addresses: BTreeSet<IpAddr>,
    due: Option<Instant>,
}

impl Departed {
    /// Notes addresses that were left; at once if somebody has one of them.
    pub(crate) fn add(&mut self, address: IpAddr, taken: bool, now: Instant) {
        self.addresses.insert(address);
        let due = if taken { now } else { now + MOMENT };
        self.due = Some(self.due.map_or(due, |d| d.min(due)));
    }

    /// An endpoint has an address: if it was left before, that cannot wait.
    pub(crate) fn taken(&mut self, address: IpAddr, now: Instant) {
        if self.addresses.contains(&address) {
            self.due = Some(now);
        }
    }

    /// When there is something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What is due.
    pub(crate) fn take(&mut self, now: Instant) -> BTreeSet<IpAddr> {
        if self.due.is_none_or(|due| due > now) {
            return BTreeSet::new();
        }
        self.due = None;
        std::mem::take(&mut self.addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_gathered_unless_somebody_has_them() {
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap());
        let now = Instant::now();
        let later = now + MOMENT;
        let mut departed = Departed::default();
        assert!(departed.take(later).is_empty() && departed.due().is_none());
        departed.add(a, false, now);
        departed.add(b, false, now + MOMENT / 2);
        assert!(departed.take(now + MOMENT / 2).is_empty());
        assert_eq!(departed.due(), Some(later), "the first one counts");
        assert_eq!(departed.take(later), BTreeSet::from([a, b]));
        assert!(departed.due().is_none());

        departed.add(a, false, now);
        departed.taken(b, now);
        assert!(departed.take(now).is_empty(), "b was not left");
        departed.taken(a, now);
        assert_eq!(departed.take(now), BTreeSet::from([a]));

        departed.add(a, false, now);
        departed.add(b, true, now);
        assert_eq!(departed.take(now), BTreeSet::from([a, b]), "all in one walk");
    }
}
