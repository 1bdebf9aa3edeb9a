//! `lab apply` and `lab delete`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::bail;
use caracal_api::{FieldError, IpPoolSpec, Kind, Object, Problem, Resource, ResourceKey};
use caracal_convert::{
    LABEL_NAMESPACE, LABEL_ORCHESTRATOR, LABEL_SERVICE_ACCOUNT, ORCHESTRATOR_KUBERNETES, namespace_profile,
    service_account_profile,
};
use caracal_store::{
    Applied, Checked, ListOptions, Preconditions, Store, StoreError, apply as put, ensure, modify,
};

use super::manifests::{self, Manifest, Wish};
use super::parallel::block_on;
use super::pods;
use super::progress::Progress;
use super::services;
use super::state::{Lab, Pod};
use super::up::profiles_of;

/// Makes what files say.
pub(super) fn apply(name: &str, files: &[PathBuf]) -> anyhow::Result<i32> {
    let manifests = manifests::read(files)?;
    let mut lab = Lab::open(name)?;
    let progress = Progress::new();
    apply_documents(&mut lab, &manifests, &progress)?;
    Ok(0)
}

/// Makes what manifests say: all of them are looked at before anything is written.
pub(super) fn apply_documents(
    lab: &mut Lab,
    manifests: &[Manifest],
    progress: &Progress,
) -> anyhow::Result<()> {
    let store = lab.datastore().connect()?;
    progress.step("checking manifests");
    block_on(check(store.as_ref(), lab, manifests))?;
    progress.step("writing objects");
    let checked = Checked::new(store.clone());
    block_on(async {
        for manifest in manifests {
            if let Some(done) = write(store.as_ref(), &checked, manifest).await? {
                let how = match done {
                    Applied::Created(_) => "created",
                    Applied::Updated(_) => "configured",
                    Applied::Unchanged(_) => "unchanged",
                };
                progress.line(&format!("{} {how}", manifest.name));
            }
        }
        anyhow::Ok(())
    })?;
    progress.step("starting pods");
    apply_pods(lab, store.as_ref(), manifests, progress)?;
    services::reconcile(lab)
}

/// What a document needs and other objects must provide.
async fn check(store: &dyn Store, lab: &Lab, manifests: &[Manifest]) -> anyhow::Result<()> {
    let mut known = Known::read(store).await?;
    manifests.iter().for_each(|m| known.add(&m.wish));
    let mut errors = Vec::new();
    for manifest in manifests {
        let mut refuse = |field: &str, why: String| errors.push(manifest.refuse(field, why));
        match &manifest.wish {
            Wish::Namespace(_) => {}
            Wish::ServiceAccount(_, namespace)
            | Wish::KubePolicy(_, namespace)
            | Wish::Service(_, namespace) => {
                known.namespace(namespace, &mut refuse);
            }
            Wish::Pod(pod) => {
                known.namespace(&pod.namespace, &mut refuse);
                known.account(pod, &mut refuse);
                if !pod.node.is_empty()
                    && let Err(e) = lab.node(&pod.node)
                {
                    refuse("spec.nodeName", e.to_string());
                }
            }
            Wish::Calico(resource) => {
                let problems: Vec<Problem> = known.faults(resource).into_iter().map(Problem::from).collect();
                if !problems.is_empty() {
                    errors.push(manifest.document.refuse(problems).to_string());
                }
            }
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    bail!("{}", errors.join("\n"))
}

/// What there will be that others refer to.
struct Known {
    tiers: BTreeSet<String>,
    profiles: BTreeSet<String>,
    pools: BTreeMap<String, Object<IpPoolSpec>>,
}

impl Known {
    async fn read(store: &dyn Store) -> anyhow::Result<Self> {
        let mut known = Self {
            tiers: BTreeSet::new(),
            profiles: BTreeSet::new(),
            pools: BTreeMap::new(),
        };
        for kind in [Kind::Tier, Kind::Profile, Kind::IpPool] {
            let all = store.list_all(kind, &ListOptions::default()).await?;
            all.items.into_iter().for_each(|r| known.add_object(&r));
        }
        Ok(known)
    }

    fn add_object(&mut self, resource: &Resource) {
        let name = resource.metadata().name.clone();
        match resource {
            Resource::Tier(_) => {
                self.tiers.insert(name);
            }
            Resource::Profile(_) => {
                self.profiles.insert(name);
            }
            Resource::IpPool(pool) => {
                self.pools.insert(name, (**pool).clone());
            }
            _ => {}
        }
    }

    fn add(&mut self, wish: &Wish) {
        match wish {
            Wish::Namespace(n) => profiles_of(n).iter().for_each(|p| self.add_object(p)),
            Wish::ServiceAccount(r, _) | Wish::Calico(r) => self.add_object(r),
            Wish::KubePolicy(..) | Wish::Service(..) | Wish::Pod(_) => {}
        }
    }

    fn namespace(&self, name: &str, refuse: &mut dyn FnMut(&str, String)) {
        if !self.profiles.contains(&namespace_profile(name)) {
            let why = format!("there is no namespace {name:?}: add a Namespace object");
            refuse("metadata.namespace", why);
        }
    }

    fn account(&self, pod: &Pod, refuse: &mut dyn FnMut(&str, String)) {
        let (namespace, name) = (&pod.namespace, &pod.service_account);
        if !self.profiles.contains(&service_account_profile(namespace, name)) {
            let why = format!(
                "there is no service account {name:?} in namespace {namespace:?}: add a ServiceAccount object"
            );
            refuse("spec.serviceAccountName", why);
        }
    }

    fn faults(&self, resource: &Resource) -> Vec<FieldError> {
        if let Resource::IpPool(pool) = resource {
            return caracal_api::validate_pool_among(pool, self.pools.values());
        }
        caracal_api::validate_tier_exists(resource, self.tiers.iter().map(String::as_str))
    }
}

async fn write(
    store: &dyn Store,
    checked: &dyn Store,
    manifest: &Manifest,
) -> anyhow::Result<Option<Applied>> {
    Ok(match &manifest.wish {
        Wish::Namespace(namespace) => {
            let [profile, account] = profiles_of(namespace);
            let done = put(store, profile).await?;
            ensure(store, account).await?;
            Some(done)
        }
        Wish::ServiceAccount(resource, _) | Wish::KubePolicy(resource, _) | Wish::Service(resource, _) => {
            Some(put(store, resource.clone()).await?)
        }
        Wish::Calico(resource) => Some(put(checked, resource.clone()).await?),
        Wish::Pod(_) => None,
    })
}

/// What becomes of a pod that there is already.
enum Change {
    Nothing,
    Labels,
    Replace,
}

fn change(old: &Pod, new: &Pod) -> Change {
    let node = new.node.is_empty() || new.node == old.node;
    if !node || old.service_account != new.service_account || old.ports != new.ports {
        Change::Replace
    } else if old.labels != new.labels {
        Change::Labels
    } else {
        Change::Nothing
    }
}

fn apply_pods(
    lab: &mut Lab,
    store: &dyn Store,
    manifests: &[Manifest],
    progress: &Progress,
) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    let mut ids = Vec::new();
    for manifest in manifests {
        let Wish::Pod(new) = &manifest.wish else { continue };
        let id = new.id();
        let how = match lab.state.pods.get(&id).map(|old| change(old, new)) {
            Some(Change::Nothing) => "unchanged",
            Some(Change::Labels) => {
                relabel(lab, store, &id, new)?;
                "configured"
            }
            Some(Change::Replace) => {
                pods::remove(lab, std::slice::from_ref(&id))?;
                insert(lab, new);
                "replaced"
            }
            None => {
                insert(lab, new);
                "created"
            }
        };
        lines.push(format!("{} {how}", manifest.name));
        ids.push(id);
    }
    lab.save()?;
    pods::ensure(lab, &ids)?;
    for line in lines {
        progress.line(&line);
    }
    Ok(())
}

fn insert(lab: &mut Lab, new: &Pod) {
    let mut pod = new.clone();
    if pod.node.is_empty() {
        let load = |node: &str| lab.state.pods.values().filter(|p| p.node == node).count();
        let least = lab.state.nodes.iter().min_by_key(|n| load(&n.name));
        pod.node = least.map(|n| n.name.clone()).unwrap_or_default();
    }
    pod.new_container();
    lab.state.pods.insert(pod.id(), pod);
}

/// New labels of a pod reach its endpoint as the CNI plugin would have written them.
fn relabel(lab: &mut Lab, store: &dyn Store, id: &str, new: &Pod) -> anyhow::Result<()> {
    let Some(pod) = lab.state.pods.get_mut(id) else {
        return Ok(());
    };
    pod.labels.clone_from(&new.labels);
    let mut labels = pod.labels.clone();
    labels.insert(LABEL_NAMESPACE.to_owned(), pod.namespace.clone());
    labels.insert(LABEL_ORCHESTRATOR.to_owned(), ORCHESTRATOR_KUBERNETES.to_owned());
    labels.insert(LABEL_SERVICE_ACCOUNT.to_owned(), pod.service_account.clone());
    let key = pods::endpoint_key(pod);
    block_on(async {
        let changed = modify(store, &key, |r| r.metadata_mut().labels.clone_from(&labels)).await;
        match changed {
            // A pod that did not come to its end gets them from the plugin.
            Ok(_) | Err(StoreError::NotFound(_)) => Ok(()),
            Err(e) => Err(e.into()),
        }
    })?;
    lab.save()
}

/// Removes what files name.
pub(super) fn delete(name: &str, files: &[PathBuf]) -> anyhow::Result<i32> {
    let manifests = manifests::read(files)?;
    let mut lab = Lab::open(name)?;
    let store = lab.datastore().connect()?;
    let progress = Progress::new();
    for manifest in manifests.iter().rev() {
        progress.step(format!("deleting {}", manifest.name));
        let was_there = match &manifest.wish {
            Wish::Pod(pod) => {
                let id = pod.id();
                let known = lab.state.pods.contains_key(&id);
                pods::remove(&mut lab, &[id])?;
                known
            }
            Wish::Namespace(namespace) => {
                delete_namespace(&mut lab, store.as_ref(), &namespace.metadata.name)?
            }
            Wish::ServiceAccount(r, _) | Wish::KubePolicy(r, _) | Wish::Service(r, _) => {
                block_on(remove(store.as_ref(), &r.key()))?
            }
            Wish::Calico(r) => block_on(remove(&Checked::new(store.clone()), &r.key()))?,
        };
        let how = if was_there { "deleted" } else { "is not there" };
        progress.line(&format!("{} {how}", manifest.name));
    }
    services::reconcile(&lab)?;
    Ok(0)
}

async fn remove(store: &dyn Store, key: &ResourceKey) -> anyhow::Result<bool> {
    match store.delete(key, &Preconditions::default()).await {
        Ok(_) => Ok(true),
        Err(StoreError::NotFound(_)) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// A namespace goes with all that is in it.
fn delete_namespace(lab: &mut Lab, store: &dyn Store, namespace: &str) -> anyhow::Result<bool> {
    let inside: Vec<String> = lab
        .state
        .pods
        .values()
        .filter(|p| p.namespace == namespace)
        .map(Pod::id)
        .collect();
    pods::remove(lab, &inside)?;
    block_on(async {
        let options = ListOptions {
            namespace: Some(namespace.to_owned()),
            ..ListOptions::default()
        };
        for kind in [
            Kind::NetworkPolicy,
            Kind::NetworkSet,
            Kind::KubernetesService,
            Kind::KubernetesEndpointSlice,
        ] {
            for object in store.list_all(kind, &options).await?.items {
                remove(store, &object.key()).await?;
            }
        }
        let accounts = service_account_profile(namespace, "");
        let options = ListOptions {
            name_prefix: Some(accounts),
            ..ListOptions::default()
        };
        for profile in store.list_all(Kind::Profile, &options).await?.items {
            remove(store, &profile.key()).await?;
        }
        remove(
            store,
            &ResourceKey::global(Kind::Profile, &namespace_profile(namespace)),
        )
        .await
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_labels_can_change_under_a_pod_that_stays() {
        let old = Pod::new("n", "p", "node-1");
        let mut new = Pod::new("n", "p", "");
        assert!(matches!(change(&old, &new), Change::Nothing));
        new.labels.insert("a".to_owned(), "b".to_owned());
        assert!(matches!(change(&old, &new), Change::Labels));
        new.node = "node-2".to_owned();
        assert!(matches!(change(&old, &new), Change::Replace));
        let mut account = Pod::new("n", "p", "node-1");
        account.service_account = "other".to_owned();
        assert!(matches!(change(&old, &account), Change::Replace));
    }
}
