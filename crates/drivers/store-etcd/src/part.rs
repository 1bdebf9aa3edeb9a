use caracal_api::{Resource, ResourceKey};
use caracal_store::{StoreError, unreadable};
use caracal_wire::KeyValue;

use crate::{codec::without_spec, store::decode};

/// What an update is about: the other part stays as it is stored.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    Spec,
    Status,
}

impl Part {
    /// What is stored, also where it cannot be read.
    pub(crate) fn of(self, key: &ResourceKey, kv: &KeyValue) -> Result<Resource, StoreError> {
        match self {
            Self::Spec => decode_or_bare(key, kv),
            Self::Status => decode(key, kv).or_else(|e| without_spec(key, kv).ok_or(e)),
        }
    }

    /// What was written, as a read would give it back. A status does not mend a spec that cannot be read.
    pub(crate) fn written(self, key: &ResourceKey, kv: &KeyValue) -> Result<Resource, StoreError> {
        match self {
            Self::Spec => decode(key, kv),
            Self::Status => self.of(key, kv),
        }
    }
}

/// As `decode`, but a value that cannot be read is an object with a name only, so that it can be replaced or deleted.
pub(crate) fn decode_or_bare(key: &ResourceKey, kv: &KeyValue) -> Result<Resource, StoreError> {
    decode(key, kv).or_else(|e| {
        let mut bare = unreadable(key).ok_or(e)?;
        bare.metadata_mut().resource_version = Some(kv.mod_revision.to_string());
        Ok(bare)
    })
}
