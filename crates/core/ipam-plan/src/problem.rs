use std::net::IpAddr;

use caracal_net::Cidr;
use serde::Serialize;

use crate::{Holder, Owner};

/// What can be wrong in an IPAM database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// An address is allocated and nobody uses it.
    Leaked,
    /// Several use one address, or several handles hold it.
    DoubleHolder,
    /// An address is used by another than it is allocated to.
    WrongHolder,
    /// An address of a pool is used and not allocated.
    NotAllocated,
    /// An address is used that is in no pool.
    NotInPool,
    /// Two blocks overlap.
    OverlappingBlocks,
    /// Two pools overlap.
    OverlappingPools,
    /// A handle holds addresses in a block and does not say so, or does not exist.
    HandleMissing,
    /// A handle counts addresses in a block that has none of it.
    HandleLeaked,
    /// A block belongs to somebody who has no claim on it.
    AffinityMissing,
    /// A claim is of a node that is gone, or on a block of somebody else, or outside all pools.
    AffinityOrphan,
    /// An empty block is in no pool, or belongs to nobody.
    BlockOrphan,
    /// An object was marked for deletion and is still there.
    HalfDeleted,
    /// An object cannot be read.
    Unreadable,
}

impl ProblemKind {
    /// Whether an operation that is under way can look like it for a moment.
    #[must_use]
    pub fn passing(self) -> bool {
        !matches!(
            self,
            Self::OverlappingBlocks | Self::OverlappingPools | Self::Unreadable | Self::NotInPool
        )
    }
}

/// One thing that is wrong, and what repairs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What.
    pub kind: ProblemKind,
    /// The address, block, handle or object.
    pub subject: String,
    /// A sentence about it.
    pub message: String,
    /// The command that repairs it, or what a person has to do.
    pub repair: String,
    /// Whether `--fix` repairs it.
    pub fixable: bool,
    /// How.
    #[serde(skip)]
    pub fix: Option<Fix>,
}

impl Problem {
    pub(crate) fn new(kind: ProblemKind, subject: impl ToString, message: impl Into<String>) -> Self {
        Self {
            kind,
            subject: subject.to_string(),
            message: message.into(),
            repair: String::new(),
            fixable: false,
            fix: None,
        }
    }

    /// What `--fix` does about it.
    pub(crate) fn fixed_by(mut self, fix: Fix) -> Self {
        self.repair = match &fix {
            Fix::Release { addr, .. } => format!("calicoctl ipam release --ip={addr}"),
            _ => format!("calicoctl ipam check --fix --apply --only={}", self.subject),
        };
        self.fixable = true;
        self.fix = Some(fix);
        self
    }

    /// What a person has to do.
    pub(crate) fn by_hand(mut self, what: impl Into<String>) -> Self {
        self.repair = what.into();
        self
    }
}

/// One repair. Whoever does it reads again and compares and swaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fix {
    /// Give the address back, if it is still the same allocation.
    Release {
        /// Its block.
        block: Cidr,
        /// The address.
        addr: IpAddr,
        /// The handle that holds it.
        handle: Option<String>,
        /// The number it was allocated under.
        sequence: u64,
    },
    /// Put right what the handle counts in the block.
    Count {
        /// The handle.
        handle: String,
        /// The block.
        block: Cidr,
    },
    /// Let the handle say what it holds in the block.
    MakeHandle {
        /// The handle.
        handle: String,
        /// The block.
        block: Cidr,
    },
    /// Write the claim that the block's owner lacks.
    MakeAffinity {
        /// The owner.
        holder: Holder,
        /// The block.
        block: Cidr,
    },
    /// Give the claim up and, if it is its owner's, the block.
    ReleaseAffinity {
        /// The owner.
        holder: Holder,
        /// The block.
        block: Cidr,
    },
    /// Delete an empty block that belongs to nobody.
    DeleteBlock(Cidr),
    /// Move the addresses of one block to the wider one around it, and delete it.
    Merge {
        /// The narrower block.
        from: Cidr,
        /// The wider one.
        into: Cidr,
    },
    /// Allocate the address to who uses it. With `instead_of` to them instead of that handle.
    Allocate {
        /// The address.
        addr: IpAddr,
        /// The node that it is used on.
        node: String,
        /// Who uses it.
        owner: Owner,
        /// The handle that holds it now, and the number it was allocated under.
        instead_of: Option<(Option<String>, u64)>,
    },
    /// Finish the deletion of an object that is marked.
    FinishDeletion(caracal_api::ResourceKey),
    /// Delete a claim or handle that cannot be read; what blocks say makes it anew.
    Discard(caracal_api::ResourceKey),
}
