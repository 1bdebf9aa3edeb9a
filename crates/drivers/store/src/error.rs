use caracal_api::{Kind, ResourceKey, Unreadable};

/// Why a request to the datastore failed. Every variant names the object or kind and what a user can do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The object does not exist.
    #[error("resource does not exist: {0}")]
    NotFound(ResourceKey),
    /// The object exists already.
    #[error("resource already exists: {0}")]
    AlreadyExists(ResourceKey),
    /// The object changed since it was read, or is not the one that was meant.
    #[error("update conflict: {key}: {why}; read it again and repeat the change")]
    Conflict {
        /// The object.
        key: ResourceKey,
        /// What differs.
        why: String,
    },
    /// The object breaks a rule.
    #[error("{key} is not valid: {reason}")]
    Invalid {
        /// The object.
        key: ResourceKey,
        /// Field, value and what is allowed.
        reason: String,
    },
    /// What the datastore holds under the key cannot be read.
    #[error("{key} cannot be read from the datastore: {reason}; replace it or delete it")]
    Malformed {
        /// The object.
        key: ResourceKey,
        /// What is wrong with the stored value, and what stands in for it.
        reason: Unreadable,
    },
    /// The credentials do not allow it.
    #[error("the datastore refused access: {0}")]
    Unauthorised(String),
    /// The datastore cannot be reached or cannot answer now; trying again may help.
    #[error("the datastore is not available: {0}")]
    Unavailable(String),
    /// The backend has no such operation or the kind is read-only there.
    #[error("{operation} of {kind} is not supported by this datastore: {why}")]
    Unsupported {
        /// The operation.
        operation: &'static str,
        /// The kind.
        kind: Kind,
        /// Why not.
        why: String,
    },
    /// The revision to watch or to continue from is too old: list again.
    #[error("the revision to continue from is too old for {0}: list again")]
    Expired(Kind),
    /// The datastore takes no more data: disk full, or over its quota.
    #[error("the datastore has no space: {0}")]
    NoSpace(String),
}

impl StoreError {
    /// Whether repeating the same request later may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::NoSpace(_))
    }
}
