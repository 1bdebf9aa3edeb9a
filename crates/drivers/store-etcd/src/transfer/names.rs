//! Names of policies that old releases wrote: their key has the prefix of the tier `default`, the object itself has not.

use caracal_api::{Kind, ResourceKey};
use caracal_store::{ListOptions, StoreError};
use caracal_wire::{Bytes, KeyValue, etcdserverpb::TxnRequest};
use serde_json::Value;

use super::compare::Pages;
use crate::{
    EtcdStore, keys,
    status::{About, explain},
    store::kv,
    transport::Repeat,
    txn,
};

/// Kinds that are in tiers.
const KINDS: [Kind; 4] = [
    Kind::NetworkPolicy,
    Kind::GlobalNetworkPolicy,
    Kind::StagedNetworkPolicy,
    Kind::StagedGlobalNetworkPolicy,
];
/// The tier whose name old releases put before others, and how that looks.
const TIER: &str = "default";
const PREFIX: &str = "default.";
/// How often a policy is looked at again that somebody changes meanwhile.
const ATTEMPTS: usize = 8;

/// Where a policy belongs whose key is not its name.
fn belongs(key: &ResourceKey, value: &[u8]) -> Option<ResourceKey> {
    let name = key.name.strip_prefix(PREFIX)?;
    let stored: Value = serde_json::from_slice(value).ok()?;
    let text = |at: &str| stored.pointer(at).and_then(Value::as_str).unwrap_or_default();
    let is_old = text("/metadata/name") == name && ["", TIER].contains(&text("/spec/tier"));
    is_old.then(|| ResourceKey::of(key.kind, key.namespace(), name))
}

fn place(key: &ResourceKey) -> Bytes {
    keys::candidates(key).pop().unwrap_or_default().into()
}

impl EtcdStore {
    /// Gives each policy of the tier `default` whose key has the tier's prefix, as before Calico 3.32, the key that its
    /// name says; in one step each, so that it is in force all the time. Yields how many there were, and those that stay
    /// because a policy of that name exists. It may be called again at any time.
    ///
    /// # Errors
    /// Those of the datastore; what was done stays done.
    pub async fn migrate_policy_names(&self) -> Result<(u64, Vec<ResourceKey>), StoreError> {
        let (mut moved, mut taken) = (0, Vec::new());
        for kind in KINDS {
            let mut pages = Pages::new(self, &keys::span(kind, &ListOptions::default()));
            while let Some(page) = pages.next().await? {
                for pair in page.pairs {
                    let Some(key) = keys::parse(kind, &pair.key) else {
                        continue;
                    };
                    match self.rename(&key, pair).await? {
                        Some(true) => moved += 1,
                        Some(false) => taken.push(key),
                        None => {}
                    }
                }
            }
        }
        Ok((moved, taken))
    }

    /// Renames one policy, if it must be. Says whether its new name was free.
    async fn rename(&self, key: &ResourceKey, mut pair: KeyValue) -> Result<Option<bool>, StoreError> {
        for _ in 0..ATTEMPTS {
            let Some(wanted) = belongs(key, &pair.value) else {
                return Ok(None);
            };
            let new = place(&wanted);
            let request = TxnRequest {
                compare: vec![txn::unchanged(&pair.key, pair.mod_revision), txn::absent(&new)],
                success: vec![txn::put(&new, pair.value.clone()), txn::delete(&pair.key)],
                failure: vec![txn::get(&pair.key), txn::get(&new)],
            };
            let answer = self.transport().call(Repeat::Safe, |wire| {
                let request = request.clone();
                async move { kv(wire).txn(request).await }
            });
            let answer = answer.await.map_err(|f| explain(&f, About::Object(key)))?;
            if answer.succeeded {
                return Ok(Some(true));
            }
            let (mut old, mut there) = (None, None);
            for found in txn::pairs(answer.responses) {
                match found.key == new {
                    true => there = Some(found),
                    false => old = Some(found),
                }
            }
            match (old, there) {
                // Ours: the answer to the first try was lost.
                (None, Some(there)) if there.value == pair.value => return Ok(Some(true)),
                (None, _) => return Ok(None),
                (Some(_), Some(_)) => return Ok(Some(false)),
                (Some(changed), None) => pair = changed,
            }
        }
        Err(StoreError::Conflict {
            key: key.clone(),
            why: "somebody changes it again and again".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_policies_of_the_default_tier_whose_key_is_not_their_name_belong_elsewhere() {
        let found = |key: &str, name: &str, spec: &str| {
            let key = ResourceKey::namespaced(Kind::NetworkPolicy, "ns", key);
            let value = format!(r#"{{"metadata":{{"name":"{name}"}},"spec":{spec}}}"#);
            belongs(&key, value.as_bytes()).map(|k| k.to_string())
        };
        let moved = Some("NetworkPolicy(ns/web)".to_owned());
        assert_eq!(found("default.web", "web", "{}"), moved);
        assert_eq!(found("default.web", "web", r#"{"tier":""}"#), moved);
        assert_eq!(found("default.web", "web", r#"{"tier":"default"}"#), moved);
        // Its name has the prefix, or it is of another tier, or all is as it should be.
        assert_eq!(found("default.web", "default.web", "{}"), None);
        assert_eq!(found("default.web", "web", r#"{"tier":"t"}"#), None);
        assert_eq!(found("web", "web", "{}"), None);
        assert_eq!(found("t.web", "web", r#"{"tier":"t"}"#), None);
        let key = ResourceKey::global(Kind::GlobalNetworkPolicy, "default.x");
        assert_eq!(belongs(&key, b"no JSON"), None);
    }
}
