use std::collections::BTreeMap;

use caracal_api::Kind;
use caracal_store::StoreError;

/// Why a transfer did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The source may change.
    #[error(
        "{0} is not locked: run 'calicoctl datastore migrate lock' there first, so that nothing changes meanwhile"
    )]
    NotLocked(String),
    /// The destination is used by a cluster.
    #[error(
        "a cluster uses {0}: lock it first ('calicoctl datastore migrate lock'), or choose another destination"
    )]
    InUse(String),
    /// The destination holds something else.
    #[error(
        "{at} holds {keys} other keys: choose an empty destination, or replace what is there with --overwrite"
    )]
    NotEmpty {
        /// The destination.
        at: String,
        /// How many keys it holds.
        keys: i64,
    },
    /// A transfer from elsewhere was begun there.
    #[error(
        "{at} holds a part of what was at {from}: finish that migration, or replace what is there with --overwrite"
    )]
    Other {
        /// The destination.
        at: String,
        /// Where the part comes from.
        from: String,
    },
    /// Both are one.
    #[error("source and destination are the same: {0}")]
    Same(String),
    /// What was read again is not what was written.
    #[error("{0}; run the same command again")]
    Differs(String),
    /// One of the two failed.
    #[error("{doing}: {source}; nothing is lost: run the same command again to go on")]
    Store {
        /// What was being done.
        doing: String,
        /// Why it failed.
        source: StoreError,
    },
}

/// What a transfer did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transferred {
    /// Objects of each kind that both hold now, compared one by one.
    pub objects: BTreeMap<Kind, u64>,
    /// Other keys, which are no objects.
    pub others: u64,
    /// Keys that had to be written.
    pub written: u64,
    /// Keys that were deleted because the source does not have them.
    pub deleted: u64,
}

/// How far a transfer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// So many keys are to be copied and then compared.
    Begun(u64),
    /// So many more are done.
    Copied(u64),
    /// So many more are compared.
    Compared(u64),
}
