//! What can be wrong with a history.

/// A proof that the store is not what it says. Calls are named by their place in the list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// There is no watch that could be the witness.
    #[error(
        "no watch over all keys begins at revision 2 and goes on without a compaction: nothing can be judged"
    )]
    NoWitness,
    /// A change that was acknowledged is not there.
    #[error("call {call}: acknowledged at revision {revision}, which {}: {what}", found(.last, .revision))]
    Lost {
        /// The call.
        call: usize,
        /// What it was told.
        revision: i64,
        /// The last revision there is.
        last: i64,
        /// Expected and found.
        what: String,
    },
    /// Some of a change is there, and some is not.
    #[error("revision {revision}: half applied: {what}")]
    Half {
        /// The revision.
        revision: i64,
        /// Expected and found.
        what: String,
    },
    /// Two calls were told that one revision is theirs.
    #[error("revision {revision} was acknowledged to call {first} and to call {second}")]
    Shared {
        /// The revision.
        revision: i64,
        /// A call.
        first: usize,
        /// Another.
        second: usize,
    },
    /// A change that nobody made.
    #[error("revision {revision} has no cause: {what}")]
    NoCause {
        /// The revision.
        revision: i64,
        /// What is in it.
        what: String,
    },
    /// A change that was refused is there all the same.
    #[error("call {call} was refused, and yet is revision {revision}")]
    RefusedButDone {
        /// The call.
        call: usize,
        /// The revision.
        revision: i64,
    },
    /// An answer is older than what was known before the call was made.
    #[error(
        "call {call}: answered from revision {revision}, when {known} had been acknowledged before it was made"
    )]
    Stale {
        /// The call.
        call: usize,
        /// Its revision.
        revision: i64,
        /// The one that was known.
        known: i64,
    },
    /// An answer that the changes do not lead to.
    #[error("call {call} at revision {revision}: {what}")]
    WrongAnswer {
        /// The call.
        call: usize,
        /// Its revision.
        revision: i64,
        /// Expected and found.
        what: String,
    },
    /// History was refused, or a watch ended, though nobody had compacted it.
    #[error("{who}: told that revision {revision} is compacted, but nobody compacted so far")]
    NotCompacted {
        /// Call or watch.
        who: String,
        /// The revision.
        revision: i64,
    },
    /// History was shown that had been compacted before.
    #[error("call {call}: read revision {revision}, compacted away before the call was made")]
    Resurrected {
        /// The call.
        call: usize,
        /// The revision.
        revision: i64,
    },
    /// A key was put on a lease that had ended.
    #[error("revision {revision}: key {key} was put on lease {lease}, which ended at revision {ended}")]
    EndedLease {
        /// The revision.
        revision: i64,
        /// The key.
        key: String,
        /// The lease.
        lease: i64,
        /// When it ended.
        ended: i64,
    },
    /// A watch was not told of a revision.
    #[error("watch {watch}: nothing of revision {missing}, though revision {next} was shown")]
    Gap {
        /// The watch.
        watch: String,
        /// What is missing.
        missing: i64,
        /// What was shown.
        next: i64,
    },
    /// A watch was told twice.
    #[error("watch {watch}: key {key} at revision {revision} was shown twice")]
    Twice {
        /// The watch.
        watch: String,
        /// The revision.
        revision: i64,
        /// The key.
        key: String,
    },
    /// A watch was told of a revision after a later one.
    #[error("watch {watch}: revision {revision} after {after}")]
    OutOfOrder {
        /// The watch.
        watch: String,
        /// The revision.
        revision: i64,
        /// What came before it.
        after: i64,
    },
    /// A watch was told something else than the others.
    #[error("watch {watch}: revision {revision} differs: {what}")]
    Differs {
        /// The watch.
        watch: String,
        /// The revision.
        revision: i64,
        /// Expected and found.
        what: String,
    },
}

fn found(last: &i64, revision: &i64) -> &'static str {
    if revision > last {
        "never came"
    } else {
        "is another change"
    }
}
