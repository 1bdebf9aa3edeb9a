use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use caracal_net::Cidr;

use crate::{Block, Holder, Life, Observed, Snapshot, Stamp, View, spare::spare_blocks};

/// How long an operation may be under way, in seconds.
const UNFINISHED: i64 = 60;

/// What the garbage collector wants done. Whoever does it reads again and compares and swaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chore {
    /// Give back all that a handle holds: nobody uses any of it.
    Release {
        /// The handle; none for an address without.
        handle: Option<String>,
        /// Block, address and the number it was allocated under.
        addresses: Vec<(Cidr, IpAddr, u64)>,
    },
    /// Put right what a handle counts in a block.
    Count {
        /// The handle.
        handle: String,
        /// The block.
        block: Cidr,
    },
    /// Give a claim up, and the block if it is its owner's.
    ReleaseAffinity {
        /// The owner.
        holder: Holder,
        /// The block.
        block: Cidr,
        /// Only if the block is empty.
        must_be_empty: bool,
    },
    /// Free what has rested.
    Thaw(Cidr),
}

type Suspect = (Cidr, IpAddr, Option<String>, u64);

/// The garbage collector: what it saw in earlier rounds, for nothing is collected that was seen once only.
#[derive(Debug, Clone, Default)]
pub struct Collector {
    grace: i64,
    suspects: BTreeMap<Suspect, Stamp>,
    counts: BTreeSet<(String, Cidr, Option<String>)>,
    claims: BTreeMap<(String, Option<String>), Stamp>,
    empty: BTreeSet<(Holder, Cidr, u64)>,
    orphans: BTreeSet<(Holder, Cidr)>,
}

impl Collector {
    /// A collector that waits `grace` seconds before it takes an unused address back. Where the node is gone a minute is
    /// enough: it may be about to come back, with an ADD under way.
    #[must_use]
    pub fn new(grace: i64) -> Self {
        Self {
            grace,
            ..Self::default()
        }
    }

    /// One round: remembers what it sees and says what is to be done. Blocks that cannot be read are passed over; a clock
    /// that was set back only makes it wait longer.
    pub fn round(&mut self, snapshot: &Snapshot, now: Stamp) -> Vec<Chore> {
        let view = View::new(snapshot);
        let mut chores = self.leaks(&view, now);
        chores.extend(self.handles(&view));
        chores.extend(self.unfinished(snapshot, now));
        chores.extend(self.orphans(&view));
        chores.extend(self.spares(&view, now));
        let cooldown = crate::cooldown(&snapshot.config);
        let due = |b: &&Block| (*b).clone().thaw(now, cooldown) > 0;
        chores.extend(view.blocks.iter().filter(due).map(|b| Chore::Thaw(b.cidr())));
        chores
    }

    fn leaks(&mut self, view: &View<'_>, now: Stamp) -> Vec<Chore> {
        let earlier = std::mem::take(&mut self.suspects);
        let mut keep: BTreeSet<Option<String>> = BTreeSet::new();
        let mut due: BTreeMap<Option<String>, Vec<(Cidr, IpAddr, u64)>> = BTreeMap::new();
        for b in &view.blocks {
            for a in b.allocations() {
                let handle = a.attribute.handle_id.clone();
                let suspect = (b.cidr(), a.addr, handle.clone(), a.sequence);
                match view.life(&a, now, self.grace) {
                    Life::Leaked { node_gone, .. } => {
                        let seen = earlier.get(&suspect).copied();
                        let wait = if node_gone {
                            self.grace.min(UNFINISHED)
                        } else {
                            self.grace
                        };
                        if seen.is_some_and(|s| now.since(s) >= wait) {
                            due.entry(handle)
                                .or_default()
                                .push((b.cidr(), a.addr, a.sequence));
                        } else {
                            keep.insert(handle);
                        }
                        self.suspects.insert(suspect, seen.unwrap_or(now));
                    }
                    Life::Resting => {}
                    _ => {
                        keep.insert(handle);
                    }
                }
            }
        }
        // All that a handle holds or nothing; addresses without a handle are each on their own.
        due.into_iter()
            .filter(|(handle, _)| handle.is_none() || !keep.contains(handle))
            .map(|(handle, addresses)| Chore::Release { handle, addresses })
            .collect()
    }

    fn handles(&mut self, view: &View<'_>) -> Vec<Chore> {
        let readable: BTreeMap<Cidr, &Block> = view.blocks.iter().map(|b| (b.cidr(), b)).collect();
        let stored: BTreeSet<Cidr> = view
            .snapshot
            .blocks
            .iter()
            .filter_map(|b| b.spec.cidr.parse().ok())
            .collect();
        let unreadable: BTreeSet<Cidr> = view
            .snapshot
            .malformed
            .iter()
            .filter_map(|(k, _)| crate::cidr_of_block_name(&k.name))
            .collect();
        let mut now = BTreeSet::new();
        for h in &view.snapshot.handles {
            for cidr in h.spec.block.keys().filter_map(|c| c.parse::<Cidr>().ok()) {
                let nothing = match readable.get(&cidr) {
                    Some(b) => b.held_by(&h.metadata.name).is_empty(),
                    None => !stored.contains(&cidr) && !unreadable.contains(&cidr),
                };
                if nothing {
                    now.insert((h.metadata.name.clone(), cidr, h.metadata.resource_version.clone()));
                }
            }
        }
        let twice = now.intersection(&self.counts).cloned().collect::<Vec<_>>();
        self.counts = now;
        twice
            .into_iter()
            .map(|(handle, block, _)| Chore::Count { handle, block })
            .collect()
    }

    fn unfinished(&mut self, snapshot: &Snapshot, now: Stamp) -> Vec<Chore> {
        let earlier = std::mem::take(&mut self.claims);
        let mut chores = Vec::new();
        for a in snapshot.affinities.iter().filter(|a| a.spec.state != "confirmed") {
            let Ok(block) = a.spec.cidr.parse::<Cidr>() else {
                continue;
            };
            let key = (a.metadata.name.clone(), a.metadata.resource_version.clone());
            let since = earlier.get(&key).copied().unwrap_or(now);
            self.claims.insert(key, since);
            if now.since(since) >= UNFINISHED {
                chores.push(Chore::ReleaseAffinity {
                    holder: Holder::of_affinity(&a.spec),
                    block,
                    must_be_empty: true,
                });
            }
        }
        chores
    }

    /// Claims of nodes that are gone, on blocks of others, and on nothing: seen in two rounds.
    fn orphans(&mut self, view: &View<'_>) -> Vec<Chore> {
        let pools: Vec<Cidr> = view
            .snapshot
            .pools
            .iter()
            .filter_map(|p| p.spec.cidr.parse().ok())
            .collect();
        let orphan = |h: &Holder, c: &Cidr| {
            let gone = matches!(h, Holder::Host(n) if view.node_gone(n));
            gone || match view.block(c) {
                Some(b) => !b.belongs_to(h),
                None => !pools.iter().any(|p| p.covers(c)),
            }
        };
        let orphans: BTreeSet<(Holder, Cidr)> = view
            .snapshot
            .affinities
            .iter()
            .map(|a| (Holder::of_affinity(&a.spec), a.spec.cidr.parse::<Cidr>()))
            .filter_map(|(h, c)| Some((h, c.ok()?)))
            .filter(|(h, c)| orphan(h, c))
            .collect();
        let twice: Vec<_> = orphans.intersection(&self.orphans).cloned().collect();
        self.orphans = orphans;
        twice
            .into_iter()
            .map(|(holder, block)| Chore::ReleaseAffinity {
                holder,
                block,
                must_be_empty: false,
            })
            .collect()
    }

    /// Empty blocks that their hosts do not need, and fresh ones without a claim, seen unchanged in two rounds.
    fn spares(&mut self, view: &View<'_>, now: Stamp) -> Vec<Chore> {
        let s = view.snapshot;
        let mut held: BTreeMap<Holder, Vec<_>> = BTreeMap::new();
        for b in &view.blocks {
            if let Some(h @ Holder::Host(_)) = b.holder() {
                held.entry(h).or_default().push(b.object().clone());
            }
        }
        let sequence: BTreeMap<Cidr, u64> = view
            .blocks
            .iter()
            .map(|b| (b.cidr(), b.object().spec.sequence_number))
            .collect();
        let mut empty = BTreeSet::new();
        let mut seen = Observed {
            pools: s.pools.clone(),
            config: s.config.clone(),
            ..Observed::default()
        };
        let claims: BTreeSet<(Holder, String)> = s
            .affinities
            .iter()
            .map(|a| (Holder::of_affinity(&a.spec), a.spec.cidr.clone()))
            .collect();
        for b in view.blocks.iter().filter(|b| b.is_fresh()) {
            let cidr = b.cidr();
            empty.extend(
                b.holder()
                    .filter(|h| !claims.contains(&(h.clone(), cidr.to_string())))
                    .map(|h| (h, cidr, 0)),
            );
        }
        for (h, blocks) in held {
            if matches!(&h, Holder::Host(n) if view.node_gone(n)) {
                continue;
            }
            seen.blocks = blocks;
            for c in spare_blocks(&seen, &h, now) {
                empty.insert((h.clone(), c, sequence.get(&c).copied().unwrap_or_default()));
            }
        }
        let twice: Vec<_> = empty.intersection(&self.empty).cloned().collect();
        self.empty = empty;
        twice
            .into_iter()
            .map(|(holder, block, _)| Chore::ReleaseAffinity {
                holder,
                block,
                must_be_empty: true,
            })
            .collect()
    }
}
