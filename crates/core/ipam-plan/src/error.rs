use std::net::IpAddr;

use caracal_net::{Cidr, Family};

/// Why no plan can be made. Each says what was tried and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// No pool may be used. The text tells for each pool why not.
    #[error("no {family} pool can be used: {reasons}")]
    NoPool {
        /// The family asked for.
        family: Family,
        /// Each pool with its reason.
        reasons: String,
    },
    /// All usable pools are full for this node.
    #[error("no free {family} address: {reasons}")]
    Exhausted {
        /// The family asked for.
        family: Family,
        /// What was tried in each pool.
        reasons: String,
    },
    /// The address is held already.
    #[error("address {address} is already assigned to {holder}")]
    InUse {
        /// The address.
        address: IpAddr,
        /// Its handle and attributes.
        holder: String,
    },
    /// The address is in no pool.
    #[error("address {0} is in no IP pool that can be used; choose one inside a pool's CIDR")]
    NotInPool(IpAddr),
    /// Strict affinity forbids the address.
    #[error("address {address} is in a block of {owner}, and strictAffinity forbids borrowing")]
    Strict {
        /// The address.
        address: IpAddr,
        /// The block's owner.
        owner: String,
    },
    /// The handle may hold no more.
    #[error("handle {handle} holds {held} addresses of the family already and may hold {max}")]
    HandleFull {
        /// The handle.
        handle: String,
        /// How many it counts.
        held: u64,
        /// How many it may hold.
        max: u64,
    },
    /// The block cannot be had.
    #[error("block {block} belongs to {by}")]
    Claimed {
        /// The block.
        block: Cidr,
        /// Who has it, or what is in the way.
        by: String,
    },
    /// The block is not empty.
    #[error("block {block} has {held} addresses in use")]
    NotEmpty {
        /// The block.
        block: Cidr,
        /// How many.
        held: usize,
    },
    /// The owner is not the one that was expected.
    #[error("address {address} of handle {handle} has another owner than expected")]
    OwnerDiffers {
        /// The address.
        address: IpAddr,
        /// Its handle.
        handle: String,
    },
    /// Somebody did not finish what he began.
    #[error("{0}: another writer has not finished; `calicoctl ipam check` shows what was left half done")]
    Unfinished(String),
    /// A stored object cannot be read.
    #[error("{object}: {reason}")]
    Malformed {
        /// The object.
        object: String,
        /// What is wrong.
        reason: String,
    },
}
