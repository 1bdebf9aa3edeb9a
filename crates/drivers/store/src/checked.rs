use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use caracal_api::{FieldError, IpPoolSpec, Kind, Object, Resource, ResourceKey};

use crate::{ListOptions, Page, Preconditions, Reports, Store, StoreError, WatchFrom, WatchStream};

/// A tier that was seen is taken to exist for so long.
const TIER_SEEN: Duration = Duration::from_secs(5);

/// Kinds with a tier.
const POLICIES: &[Kind] = &[
    Kind::NetworkPolicy,
    Kind::GlobalNetworkPolicy,
    Kind::StagedNetworkPolicy,
    Kind::StagedGlobalNetworkPolicy,
];

/// A store that fills in defaults and refuses what breaks a rule, before anything is written: what one object shows,
/// and what needs others (pools that overlap, tiers that do not exist or are not empty). For all who write what users
/// say. What others write meanwhile can still break a rule between two objects: no transaction spans them.
#[derive(Debug)]
pub struct Checked {
    inner: Arc<dyn Store>,
    tiers: Mutex<HashMap<String, Instant>>,
}

impl Checked {
    /// Checks what is written to `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self {
            inner,
            tiers: Mutex::default(),
        }
    }

    /// Fills in defaults and looks at the object alone.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] with every field that is wrong.
    pub fn check_alone(resource: &mut Resource) -> Result<(), StoreError> {
        Self::check_change(resource, None)
    }

    /// As [`Checked::check_alone`]. A field that this version does not know, or knows as wrong, may stay as it is stored:
    /// a newer one wrote it.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] with every field that is wrong and was not so before.
    pub fn check_change(resource: &mut Resource, stored: Option<&Resource>) -> Result<(), StoreError> {
        caracal_api::default_resource(resource);
        let mut reasons: Vec<String> = caracal_api::validate(resource)
            .iter()
            .map(FieldError::to_string)
            .collect();
        if let Resource::FelixConfiguration(o) = resource {
            let problems = caracal_config::validate_spec(&o.spec.fields);
            let was = |field: &str| match stored {
                Some(Resource::FelixConfiguration(old)) => old.spec.fields.get(field),
                _ => None,
            };
            let refused = problems
                .iter()
                .filter(|p| p.severity == caracal_config::Severity::Error)
                .filter(|p| was(&p.field).is_none_or(|old| Some(old) != o.spec.fields.get(&p.field)));
            reasons.extend(refused.map(ToString::to_string));
        }
        refuse(&resource.key(), reasons)
    }

    async fn check_with_others(&self, resource: &Resource) -> Result<(), StoreError> {
        if let Resource::IpPool(pool) = resource {
            let others = self.pools().await?;
            return refuse_fields(&resource.key(), &caracal_api::validate_pool_among(pool, &others));
        }
        match caracal_api::policy_tier(resource) {
            Some(tier) => self.check_tier(resource, tier).await,
            None => Ok(()),
        }
    }

    async fn pools(&self) -> Result<Vec<Object<IpPoolSpec>>, StoreError> {
        let all = self.inner.list_all(Kind::IpPool, &ListOptions::default()).await?;
        Ok(all.items.into_iter().filter_map(|r| r.try_into().ok()).collect())
    }

    async fn check_tier(&self, policy: &Resource, tier: &str) -> Result<(), StoreError> {
        let known = self.seen().get(tier).is_some_and(|at| at.elapsed() < TIER_SEEN);
        // The tiers that always exist are made by whoever comes first: a policy may come before them.
        if known || caracal_api::fixed_tier(tier).is_some() {
            return Ok(());
        }
        match self.inner.get(&ResourceKey::global(Kind::Tier, tier)).await {
            Ok(_) => {
                self.seen().insert(tier.to_owned(), Instant::now());
                Ok(())
            }
            Err(StoreError::NotFound(_)) => {
                let all = self.inner.list_all(Kind::Tier, &ListOptions::default()).await?;
                let names = all.items.iter().map(|t| t.metadata().name.as_str());
                refuse_fields(&policy.key(), &caracal_api::validate_tier_exists(policy, names))
            }
            Err(e) => Err(e),
        }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, HashMap<String, Instant>> {
        self.tiers.lock().unwrap_or_else(|e| e.into_inner())
    }

    async fn check_tier_deletion(&self, key: &ResourceKey) -> Result<(), StoreError> {
        let Ok(Resource::Tier(tier)) = self.inner.get(key).await else {
            // The store says what is wrong with it.
            return Ok(());
        };
        let mut policies = Vec::new();
        for kind in POLICIES {
            match self.inner.list_all(*kind, &ListOptions::default()).await {
                Ok(page) => policies.extend(page.items),
                Err(StoreError::Unsupported { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        self.seen().remove(&tier.metadata.name);
        refuse_fields(key, &caracal_api::validate_tier_deletion(&tier, &policies))
    }
}

fn refuse_fields(key: &ResourceKey, errors: &[FieldError]) -> Result<(), StoreError> {
    refuse(key, errors.iter().map(FieldError::to_string).collect())
}

fn refuse(key: &ResourceKey, reasons: Vec<String>) -> Result<(), StoreError> {
    if reasons.is_empty() {
        return Ok(());
    }
    Err(StoreError::Invalid {
        key: key.clone(),
        reason: reasons.join("; "),
    })
}

#[async_trait]
impl Store for Checked {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    async fn get(&self, key: &ResourceKey) -> Result<Resource, StoreError> {
        self.inner.get(key).await
    }

    async fn list(&self, kind: Kind, options: &ListOptions) -> Result<Page, StoreError> {
        self.inner.list(kind, options).await
    }

    async fn create(&self, mut resource: Resource) -> Result<Resource, StoreError> {
        Self::check_alone(&mut resource)?;
        self.check_with_others(&resource).await?;
        self.inner.create(resource).await
    }

    async fn update(&self, mut resource: Resource) -> Result<Resource, StoreError> {
        let mut stored = None;
        if matches!(resource.kind(), Kind::IpPool | Kind::FelixConfiguration) {
            stored = match self.inner.get(&resource.key()).await {
                Ok(old) => Some(old),
                // It may be repaired.
                Err(StoreError::Malformed { .. }) => None,
                Err(e) => return Err(e),
            };
        }
        Self::check_change(&mut resource, stored.as_ref())?;
        if let Some(old) = &stored {
            let errors = caracal_api::validate_update(old, &resource);
            refuse_fields(&resource.key(), &errors)?;
        }
        self.check_with_others(&resource).await?;
        self.inner.update(resource).await
    }

    async fn update_status(&self, resource: Resource) -> Result<Resource, StoreError> {
        self.inner.update_status(resource).await
    }

    async fn delete(&self, key: &ResourceKey, expect: &Preconditions) -> Result<Resource, StoreError> {
        if key.kind == Kind::Tier {
            self.check_tier_deletion(key).await?;
        }
        self.inner.delete(key, expect).await
    }

    async fn watch(&self, kind: Kind, from: &WatchFrom) -> Result<WatchStream, StoreError> {
        self.inner.watch(kind, from).await
    }

    async fn watch_part(
        &self,
        kind: Kind,
        from: &WatchFrom,
        part: &ListOptions,
    ) -> Result<WatchStream, StoreError> {
        self.inner.watch_part(kind, from, part).await
    }

    fn reports(&self) -> Option<&dyn Reports> {
        self.inner.reports()
    }
}
