//! `datastore migrate`: everything out of one datastore and into another.

mod copy;

use caracal_api::{Kind, Resource, ResourceKey, to_yaml};
use caracal_store::{ListOptions, Store, StoreError, modify};

use crate::{
    cli::{Datastore, HowToRead, Migrate},
    crud,
    failure::Failure,
    manifests::{self, Check, Loaded},
    session::Session,
};

/// Runs one step of a migration.
pub(crate) async fn datastore(session: &mut Session, command: &Datastore) -> Result<(), Failure> {
    let step = match command {
        Datastore::Migrate { step } => step,
        Datastore::MigratePolicyNames => return migrate_policy_names(session).await,
    };
    match step {
        Migrate::Lock => {
            set_ready(session.raw_store()?.as_ref(), false).await?;
            session.print("Datastore locked.\n")
        }
        Migrate::Unlock => {
            set_ready(session.raw_store()?.as_ref(), true).await?;
            session.print("Datastore unlocked.\n")
        }
        Migrate::Export => export(session).await,
        Migrate::Import { filename } => {
            let how = HowToRead {
                recursive: false,
                skip_empty: false,
                namespace: None,
            };
            let files = std::slice::from_ref(filename);
            let loaded = manifests::load(&mut session.io, files, &how, Check::Name)?;
            import(session, loaded).await
        }
        Migrate::Copy(args) => copy::copy(session, args).await,
    }
}

/// Renames what old releases stored under another name than it has.
async fn migrate_policy_names(session: &mut Session) -> Result<(), Failure> {
    let (moved, taken) = session.client()?.migrate_policy_names().await?;
    session.print(&format!(
        "Policy name migration complete, migrated {moved} policies.\n"
    ))?;
    if taken.is_empty() {
        return Ok(());
    }
    let taken = taken.iter().map(|key| {
        format!(
            "{key} keeps its name: there is a policy of the name without \"default.\"; delete one of them"
        )
    });
    Err(Failure::Objects(manifests::listed(&taken.collect::<Vec<_>>())))
}

fn information() -> ResourceKey {
    ResourceKey::global(Kind::ClusterInformation, "default")
}

/// Tells all components whether they may use the datastore.
async fn set_ready(store: &dyn Store, ready: bool) -> Result<(), Failure> {
    modify(store, &information(), |r| {
        if let Resource::ClusterInformation(o) = r {
            o.spec.datastore_ready = Some(ready);
        }
    })
    .await?;
    Ok(())
}

fn locked(information: &Resource) -> bool {
    matches!(information, Resource::ClusterInformation(o) if o.spec.datastore_ready == Some(false))
}

/// Prints every object of every kind, IPAM's own included, without what only this datastore means.
async fn export(session: &mut Session) -> Result<(), Failure> {
    let store = session.raw_store()?;
    if !locked(&store.get(&information()).await?) {
        return Err(Failure::Usage(
            "the datastore is not locked: run 'calicoctl datastore migrate lock' first, so that nothing changes meanwhile"
                .to_owned(),
        ));
    }
    let mut broken = Vec::new();
    for kind in Kind::ALL {
        let page = match store.list_all(*kind, &ListOptions::default()).await {
            Err(StoreError::Unsupported { .. }) => continue,
            outcome => outcome?,
        };
        broken.extend(page.malformed.iter().map(ToString::to_string));
        for mut resource in page.items {
            let meta = resource.metadata_mut();
            meta.resource_version = None;
            session.print(&format!("---\n{}", to_yaml(&resource)))?;
        }
    }
    if broken.is_empty() {
        return Ok(());
    }
    Err(Failure::Objects(manifests::listed(&broken)))
}

/// Writes what was exported into a datastore that nobody uses yet. It stays locked until it is unlocked.
async fn import(session: &mut Session, loaded: Vec<Loaded>) -> Result<(), Failure> {
    let key = information();
    if !loaded
        .iter()
        .any(|l| l.resource.key() == key && locked(&l.resource))
    {
        return Err(Failure::Input(
            "this is no export of a locked datastore: ClusterInformation(default) is not in it, or says that the \
             datastore is ready"
                .to_owned(),
        ));
    }
    let store = session.raw_store()?;
    match store.get(&key).await {
        Ok(present) if !locked(&present) => {
            return Err(Failure::Usage(format!(
                "the cluster uses {} already: lock it first ('calicoctl datastore migrate lock')",
                store.describe()
            )));
        }
        Ok(_) | Err(StoreError::NotFound(_)) => {}
        Err(e) => return Err(e.into()),
    }
    // The lock comes first, so that no component works on a half of it.
    let (information, others): (Vec<_>, Vec<_>) = loaded.into_iter().partition(|l| l.resource.key() == key);
    for l in information {
        crud::bring(store.as_ref(), l.resource).await?;
    }
    crud::import(session, others).await
}
