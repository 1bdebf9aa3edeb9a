use std::time::{SystemTime, UNIX_EPOCH};

use caracal_api::{Kind, ObjectMeta, Resource, ResourceKey, Stamp};
use uuid::Uuid;

use crate::{Preconditions, StoreError};

/// The longest name or namespace that Kubernetes and Calico store.
const MAX_NAME: usize = 253;

/// Gives a new object what the store makes: `uid` and `creationTimestamp`, unless they are there.
pub fn stamp(resource: &mut Resource) {
    let meta = resource.metadata_mut();
    meta.resource_version = None;
    meta.uid
        .get_or_insert_with(|| Uuid::new_v4().hyphenated().to_string());
    meta.creation_timestamp.get_or_insert_with(now);
}

/// The clock, in whole seconds.
#[must_use]
pub fn clock() -> Stamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Stamp::from_seconds(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// The clock, as `creationTimestamp` has it: RFC 3339 in UTC, whole seconds.
#[must_use]
pub fn now() -> String {
    clock().to_string()
}

/// The UID of an object that is stored without one: the same as long as it is the same object, another when it was
/// deleted and made again. `created` says which creation it was, for example etcd's create revision.
#[must_use]
pub fn derived_uid(key: &ResourceKey, created: &str) -> String {
    let text = format!("{}/{}/{}/{created}", key.kind, key.namespace, key.name);
    Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes())
        .hyphenated()
        .to_string()
}

/// Checks that a key can be stored: a name, a namespace exactly where the kind has one, and no character that would make
/// it another key.
///
/// # Errors
/// [`StoreError::Invalid`] naming the field and what is allowed.
pub fn check_key(key: &ResourceKey) -> Result<(), StoreError> {
    let invalid = |reason: String| {
        Err(StoreError::Invalid {
            key: key.clone(),
            reason,
        })
    };
    if key.kind.namespaced() && key.namespace.is_empty() {
        return invalid(format!(
            "metadata.namespace is missing: a {} lives in a namespace",
            key.kind
        ));
    }
    if !key.kind.namespaced() && !key.namespace.is_empty() {
        return invalid(format!(
            "metadata.namespace is {:?}, but a {} has no namespace: remove it",
            key.namespace, key.kind
        ));
    }
    if key.name.is_empty() {
        return invalid("metadata.name is missing".to_owned());
    }
    for (field, text) in [("name", &key.name), ("namespace", &key.namespace)] {
        if text.len() > MAX_NAME {
            return invalid(format!("metadata.{field} is longer than {MAX_NAME} characters"));
        }
        if let Some(c) = text
            .chars()
            .find(|c| *c == '/' || c.is_control() || c.is_whitespace())
        {
            return invalid(format!(
                "metadata.{field} holds {c:?}: white space, control characters and '/' are not allowed"
            ));
        }
    }
    Ok(())
}

/// Checks the object that is stored against what a write expects.
///
/// # Errors
/// [`StoreError::Conflict`] saying what differs.
pub fn check_preconditions(
    key: &ResourceKey,
    stored: &ObjectMeta,
    expect: &Preconditions,
) -> Result<(), StoreError> {
    let conflict = |why: String| {
        Err(StoreError::Conflict {
            key: key.clone(),
            why,
        })
    };
    if let (Some(want), have) = (&expect.uid, stored.uid.as_deref().unwrap_or_default())
        && want != have
    {
        return conflict(format!(
            "it is another object now: its uid is {have:?}, not {want:?}"
        ));
    }
    if let (Some(want), have) = (
        &expect.resource_version,
        stored.resource_version.as_deref().unwrap_or_default(),
    ) && want != have
    {
        return conflict(format!(
            "it changed meanwhile: its resourceVersion is {have:?}, not {want:?}"
        ));
    }
    Ok(())
}

impl Preconditions {
    /// What an update with this object expects: its `resourceVersion` and `uid`, where they are set.
    #[must_use]
    pub fn of(resource: &Resource) -> Self {
        let meta = resource.metadata();
        Self {
            resource_version: meta.resource_version.clone().filter(|v| !v.is_empty()),
            uid: meta.uid.clone().filter(|v| !v.is_empty()),
        }
    }
}

/// What can be said of an object whose stored value cannot be read: its name. A delete or an unconditional update that
/// repairs such an object works on this.
#[must_use]
pub fn unreadable(key: &ResourceKey) -> Option<Resource> {
    let mut meta = serde_json::Map::from_iter([("name".to_owned(), key.name.as_ref().into())]);
    if let Some(ns) = key.namespace() {
        meta.insert("namespace".to_owned(), ns.into());
    }
    Resource::from_value(key.kind, serde_json::json!({ "metadata": meta })).ok()
}

/// Whether the kind has a status of its own, which `update` keeps and `update_status` writes.
#[must_use]
pub fn has_status(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Tier | Kind::IpPool | Kind::Node | Kind::KubeControllersConfiguration | Kind::CalicoNodeStatus
    )
}

/// What an update stores: the new object with what the store keeps from the old one (`uid`, `creationTimestamp`, status).
#[must_use]
pub fn merge_for_update(mut new: Resource, stored: &Resource) -> Resource {
    keep_identity(new.metadata_mut(), stored.metadata());
    new.copy_status_from(stored);
    new
}

/// What an update of the status stores: the old object with the new one's status.
#[must_use]
pub fn merge_for_status(new: &Resource, stored: &Resource) -> Resource {
    let mut merged = stored.clone();
    merged.copy_status_from(new);
    merged
}

fn keep_identity(new: &mut ObjectMeta, stored: &ObjectMeta) {
    new.uid.clone_from(&stored.uid);
    new.creation_timestamp.clone_from(&stored.creation_timestamp);
    new.resource_version.clone_from(&stored.resource_version);
}

#[cfg(test)]
mod tests {
    use caracal_api::{NetworkSetSpec, Object};

    use super::*;

    #[test]
    fn keys_are_checked_with_a_reason() {
        let bad = |key: ResourceKey| check_key(&key).unwrap_err().to_string();
        assert!(bad(ResourceKey::global(Kind::NetworkPolicy, "a")).contains("namespace is missing"));
        assert!(bad(ResourceKey::namespaced(Kind::Tier, "n", "a")).contains("has no namespace"));
        assert!(bad(ResourceKey::global(Kind::Tier, "")).contains("name is missing"));
        assert!(bad(ResourceKey::global(Kind::Tier, "a/b")).contains("'/'"));
        assert!(bad(ResourceKey::global(Kind::Tier, &"x".repeat(254))).contains("253"));
        assert!(check_key(&ResourceKey::namespaced(Kind::NetworkSet, "n", "a.b-c:d%2F")).is_ok());
    }

    #[test]
    fn stamps_once_and_never_keeps_a_revision() {
        let mut r = Resource::from(Object::namespaced("n", "a", NetworkSetSpec::default()));
        r.metadata_mut().resource_version = Some("7".into());
        stamp(&mut r);
        let first = r.metadata().clone();
        assert!(first.resource_version.is_none());
        assert_eq!(first.uid.as_deref().map(str::len), Some(36));
        let created = first.creation_timestamp.clone().unwrap();
        assert!(created.ends_with('Z') && created.len() == 20, "{created}");
        stamp(&mut r);
        assert_eq!(r.metadata(), &first);
    }

    #[test]
    fn every_kind_has_a_bare_object() {
        for kind in Kind::ALL {
            let key = ResourceKey::of(*kind, kind.namespaced().then_some("n"), "a");
            assert_eq!(unreadable(&key).map(|r| r.key()), Some(key));
        }
    }

    #[test]
    fn derived_uids_follow_the_creation() {
        let key = ResourceKey::global(Kind::IpamHandle, "h");
        assert_eq!(derived_uid(&key, "5"), derived_uid(&key, "5"));
        assert_ne!(derived_uid(&key, "5"), derived_uid(&key, "6"));
    }
}
