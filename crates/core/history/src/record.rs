//! What is recorded.

/// A key's value with all that the store says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The value.
    pub value: String,
    /// Revision at which the key came to be.
    pub created: i64,
    /// Revision of this value.
    pub modified: i64,
    /// How often it was put since it came to be.
    pub version: i64,
    /// The lease it hangs on; 0 is none.
    pub lease: i64,
}

/// One key, or the keys from one up to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// First key.
    pub from: String,
    /// The key after the last; none for the one key alone.
    pub to: Option<String>,
}

impl Span {
    /// One key.
    pub fn one(key: impl Into<String>) -> Self {
        Self {
            from: key.into(),
            to: None,
        }
    }

    /// The keys from one up to, and without, another.
    pub fn between(from: impl Into<String>, to: impl Into<String>) -> Self {
        Self {
            from: from.into(),
            to: Some(to.into()),
        }
    }

    /// Whether a key is in it.
    pub fn contains(&self, key: &str) -> bool {
        match &self.to {
            None => key == self.from,
            Some(to) => key >= self.from.as_str() && key < to.as_str(),
        }
    }
}

/// What a condition looks at; of a key that does not exist the numbers are 0, and no value is equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// The value.
    Value(String),
    /// Revision of the last change.
    Modified(i64),
    /// Revision at which the key came to be.
    Created(i64),
    /// How often it was put.
    Version(i64),
}

/// A condition of a transaction: equality.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    /// Of which key.
    pub key: String,
    /// What must be equal.
    pub field: Field,
}

/// An operation that can stand alone or in a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Writes a key. Values should be unlike all others, so that a trace of a call can be told from another's.
    Put {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// The lease to hang it on; 0 is none.
        lease: i64,
    },
    /// Deletes keys.
    Delete(Span),
    /// Reads keys: now at revision 0, else as they were.
    Range(Span, i64),
}

/// A transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Txn {
    /// All must hold for `success`.
    pub compares: Vec<Compare>,
    /// What is then done.
    pub success: Vec<Step>,
    /// What is done otherwise.
    pub failure: Vec<Step>,
}

/// What a client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// A single operation.
    Step(Step),
    /// A transaction.
    Txn(Txn),
    /// A new lease, under an id never used before or after.
    Grant {
        /// Its id.
        lease: i64,
        /// Its time may run out during the history.
        short: bool,
    },
    /// The end of a lease.
    Revoke {
        /// Its id.
        lease: i64,
    },
    /// No history before a revision is needed.
    Compact {
        /// The oldest that can still be read.
        revision: i64,
    },
}

/// What an operation was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nothing but that it is done.
    Done,
    /// How many keys were deleted.
    Deleted(i64),
    /// What was read.
    Found(Vec<(String, Version)>),
    /// Of a transaction: whether the conditions held, and the answers of its operations.
    Txn(bool, Vec<Answer>),
}

/// Why a call was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The revision asked for was compacted away.
    Compacted,
    /// Anything else.
    Other,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is done; the store was at this revision.
    Done(i64, Answer),
    /// It was refused: nothing happened, nor will.
    Refused(Refusal),
    /// Nobody knows: it happened once, before `returned` of its call, or never.
    Unknown,
}

/// A client's call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// When it was made.
    pub invoked: u64,
    /// When the answer was there; of an unknown outcome: since when it can have no more effect (the server is dead).
    pub returned: u64,
    /// What was asked for.
    pub op: Op,
    /// How it ended.
    pub outcome: Outcome,
}

/// A change of one key as a watch shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The revision.
    pub revision: i64,
    /// The key.
    pub key: String,
    /// Its new version; none when it was deleted.
    pub put: Option<Version>,
}

/// What a watch was told, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// It began, or went on after an interruption, and asked for all from this revision on.
    Start(i64),
    /// A change; the second is the version before, where the watch was told.
    Event(Event, Option<Version>),
    /// All up to this revision has been shown.
    Progress(i64),
    /// It was ended because its next revision is before this one, the oldest there is.
    Compacted(i64),
}

/// All that one watcher was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// For messages.
    pub name: String,
    /// The keys it watches; none is all.
    pub span: Option<Span>,
    /// What it was told.
    pub items: Vec<Item>,
}

/// All that is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// In any order.
    pub calls: Vec<Call>,
    /// At least one over all keys, from revision 2 on (1 is the empty store) and without a compaction.
    pub watches: Vec<Watch>,
    /// The store compacts itself, but keeps at least so many revisions.
    pub keeps: Option<i64>,
}
