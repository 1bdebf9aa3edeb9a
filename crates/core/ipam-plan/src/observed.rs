use std::collections::{BTreeMap, BTreeSet};

use caracal_api::{
    BlockAffinitySpec, IpPoolAllowedUse, IpPoolSpec, IpamBlockSpec, IpamConfigurationSpec, IpamHandleSpec,
    Object,
};
use caracal_net::{Cidr, Family, IfAddr};

use crate::{Block, Holder, HostReserved, Owner, Stamp};

/// What an executor read before it plans. Everything is as stored, revisions included.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// All pools.
    pub pools: Vec<Object<IpPoolSpec>>,
    /// The configuration.
    pub config: IpamConfigurationSpec,
    /// Ranges that are never assigned by themselves.
    pub reserved: Vec<Cidr>,
    /// Labels of the node.
    pub node_labels: BTreeMap<String, String>,
    /// Affinities of the one who asks, of either family; with `all` those of everybody.
    pub affinities: Vec<Object<BlockAffinitySpec>>,
    /// Blocks that were read; at least those of the asker's affinities.
    pub blocks: Vec<Object<IpamBlockSpec>>,
    /// Ranges of blocks that exist and cannot be read.
    pub unreadable: BTreeSet<Cidr>,
    /// Whether `blocks` and `affinities` hold all that there are: needed before a new block is used or an address
    /// borrowed.
    pub all: bool,
    /// The handles of those who want addresses, as far as they exist.
    pub handles: BTreeMap<String, Object<IpamHandleSpec>>,
}

impl Observed {
    /// Seconds an address rests after its release.
    #[must_use]
    pub fn cooldown(&self) -> i64 {
        cooldown(&self.config)
    }

    /// The blocks that can be read, without those on their way out. Addresses that have rested are free in them. A block
    /// that cannot be read is never written to; the check of the whole database names it.
    pub(crate) fn readable(&self, now: Stamp) -> Vec<Block> {
        let mut blocks: Vec<Block> = self
            .blocks
            .iter()
            .filter(|b| !b.spec.deleted)
            .filter_map(|b| Block::read(b.clone()).ok())
            .collect();
        for b in &mut blocks {
            b.thaw(now, self.cooldown());
        }
        blocks.sort_by_key(Block::cidr);
        blocks
    }

    /// The stored claim of `holder` on `cidr`.
    pub(crate) fn affinity(&self, holder: &Holder, cidr: &Cidr) -> Option<&Object<BlockAffinitySpec>> {
        let text = cidr.to_string();
        self.affinities
            .iter()
            .find(|a| a.spec.cidr == text && Holder::of_affinity(&a.spec) == *holder)
    }
}

/// Seconds an address rests after its release.
#[must_use]
pub fn cooldown(config: &IpamConfigurationSpec) -> i64 {
    config.ip_cooldown_seconds.unwrap_or(0).into()
}

/// Who asks, and when: what all requests of a group share.
#[derive(Debug, Clone)]
pub struct Asker {
    /// Whose blocks are used first.
    pub holder: Holder,
    /// The most blocks it may have, if the request limits it beyond the configuration.
    pub max_blocks: Option<usize>,
    /// What the host keeps of each new block.
    pub host_reserved: Option<HostReserved>,
    /// The time now.
    pub now: Stamp,
}

/// What one of the group wants.
#[derive(Debug, Clone)]
pub struct Want {
    /// The family.
    pub family: Family,
    /// How many addresses.
    pub count: usize,
    /// For whom.
    pub owner: Owner,
    /// Pools asked for, by name or CIDR; empty means any automatic one.
    pub pools: Vec<String>,
    /// What the address is for.
    pub usage: IpPoolAllowedUse,
    /// Labels of the namespace.
    pub namespace_labels: BTreeMap<String, String>,
    /// The most addresses of a family that the handle may hold (one, for a virtual machine).
    pub max_per_handle: Option<u64>,
}

/// One write. An executor does it and, on a conflict, observes and plans again.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Create or, when it has a revision, update the affinity.
    PutAffinity(Object<BlockAffinitySpec>),
    /// Delete the affinity.
    DeleteAffinity(Object<BlockAffinitySpec>),
    /// Create or, when it has a revision, update the block.
    PutBlock(Object<IpamBlockSpec>),
    /// Delete the block.
    DeleteBlock(Object<IpamBlockSpec>),
    /// Create or, when it has a revision, update the handle.
    PutHandle(Object<IpamHandleSpec>),
    /// Delete the handle.
    DeleteHandle(Object<IpamHandleSpec>),
}

impl Step {
    /// Whether it is about a handle. Steps about different handles that follow each other may be done at once.
    #[must_use]
    pub fn is_handle(&self) -> bool {
        matches!(self, Self::PutHandle(_) | Self::DeleteHandle(_))
    }
}

/// For dry runs.
impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let put = |revision: &Option<String>| if revision.is_some() { "update" } else { "create" };
        match self {
            Self::PutAffinity(o) => write!(
                f,
                "{} the affinity {} ({})",
                put(&o.metadata.resource_version),
                o.metadata.name,
                o.spec.state
            ),
            Self::DeleteAffinity(o) => write!(f, "delete the affinity {}", o.metadata.name),
            Self::PutBlock(o) => {
                write!(
                    f,
                    "{} the block {}",
                    put(&o.metadata.resource_version),
                    o.spec.cidr
                )
            }
            Self::DeleteBlock(o) => write!(f, "delete the block {}", o.spec.cidr),
            Self::PutHandle(o) => write!(
                f,
                "{} the handle {}",
                put(&o.metadata.resource_version),
                o.metadata.name
            ),
            Self::DeleteHandle(o) => write!(f, "delete the handle {}", o.metadata.name),
        }
    }
}

/// A block's write, and what is assigned once it is done.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockWrite {
    /// The write.
    pub step: Step,
    /// Who of the group gets which addresses, with the block's prefix length.
    pub assigned: Vec<(usize, Vec<IfAddr>)>,
}

/// The way to addresses.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// Do the steps (a block is claimed), then observe and plan again.
    Prepare(Vec<Step>),
    /// Read all blocks and affinities, then plan again.
    NeedAll,
    /// Somebody else is about to finish something: wait a little, then observe and plan again.
    Wait(String),
    /// First all of `handles`, in any order; then each of `blocks`, of which one may fail without the others. Whoever got
    /// fewer addresses than wanted plans again for the rest.
    Write {
        /// Writes of handles.
        handles: Vec<Step>,
        /// Writes of blocks.
        blocks: Vec<BlockWrite>,
    },
}
