//! `apply --confirm-within` and `confirm`: what could lock the operator out goes back by itself.

use caracal_api::{
    BadTrial, InForce, Resource, ResourceKey, Stamp, TRIAL_KINDS, Trial, begin_trial, default_resource,
    end_trial, in_force,
};
use caracal_store::{Store, StoreError, clock, merge_for_update};

use crate::{
    cli::{Confirm, Input},
    crud::{self, Item, Verb, Work},
    duration::duration,
    failure::Failure,
    manifests::{self, Check, listed},
    session::Session,
    target,
};

/// How often a write starts again because another writer was faster.
const ATTEMPTS: usize = 32;

/// The longest trial: a week. Whoever wants more than a weekend has no emergency.
const LONGEST: i64 = 7 * 86_400;

/// `apply --confirm-within`.
pub(crate) async fn apply(session: &mut Session, input: &Input, time: &str) -> Result<(), Failure> {
    let seconds = duration("--confirm-within", time)?.as_secs_f64().ceil();
    // Up to a week a float holds every second exactly.
    let seconds = if seconds <= LONGEST as f64 {
        seconds as i64
    } else {
        0
    };
    if seconds < 1 {
        return Err(Failure::Usage(format!(
            "--confirm-within={time}: from 1s to {}h can be waited",
            LONGEST / 3_600
        )));
    }
    let loaded = manifests::load(&mut session.io, &input.filename, &input.how, Check::Whole)?;
    let wrong: Vec<String> = loaded
        .iter()
        .filter(|l| !TRIAL_KINDS.contains(&l.resource.kind()))
        .map(|l| {
            format!(
                "{}: {}: --confirm-within is for HostEndpoints and GlobalNetworkPolicies; apply it by itself",
                l.origin,
                l.resource.key()
            )
        })
        .collect();
    if !wrong.is_empty() {
        return Err(Failure::Input(listed(&wrong)));
    }
    let store = session.store()?;
    let any = !loaded.is_empty();
    let until = Stamp::from_seconds(clock().seconds().saturating_add(seconds));
    let items = crud::writes(loaded);
    let done = crud::all(
        session,
        store.as_ref(),
        Verb::Try { seconds },
        items,
        input.how.skip_empty,
    )
    .await;
    if any {
        session.io.complain(&format!(
            "Until 'calicoctl confirm' this is on trial: past {until} nodes go back to what was before"
        ));
    }
    done
}

/// Writes an object on trial. One that the datastore has like this already, and not on trial, is left as it is.
pub(crate) async fn begin(store: &dyn Store, wanted: Resource, seconds: i64) -> Result<(), StoreError> {
    let key = wanted.key();
    let own_revision = wanted.metadata().resource_version.clone();
    for _ in 0..ATTEMPTS {
        let mut tried = wanted.clone();
        default_resource(&mut tried);
        end_trial(&mut tried);
        let stored = match store.get(&key).await {
            Ok(stored) => Some(stored),
            Err(StoreError::NotFound(_)) => None,
            Err(e) => return Err(e),
        };
        if let Some(stored) = &stored
            && own_revision.is_none()
            && merge_for_update(tried.clone(), stored) == *stored
        {
            return Ok(());
        }
        begin_trial(&mut tried, stored.as_ref(), clock(), seconds).map_err(|e| unreadable(&key, &e))?;
        let outcome = match stored {
            None => store.create(tried).await,
            Some(stored) => {
                let revision = own_revision
                    .clone()
                    .or(stored.metadata().resource_version.clone());
                tried.metadata_mut().resource_version = revision;
                store.update(tried).await
            }
        };
        match outcome {
            Err(StoreError::AlreadyExists(_) | StoreError::NotFound(_)) => {}
            Err(StoreError::Conflict { .. }) if own_revision.is_none() => {}
            outcome => return outcome.map(drop),
        }
    }
    Err(busy(key))
}

/// `confirm`.
pub(crate) async fn confirm(session: &mut Session, args: &Confirm) -> Result<(), Failure> {
    let item = |key, origin| Item {
        key,
        work: Work::Confirm,
        origin,
    };
    let items = match &args.kind {
        Some(word) => {
            let kind = crud::written_by_hand(target::kind(word)?)?;
            let key = |name: &String| target::key(kind, args.how.namespace.as_deref(), name);
            args.names.iter().map(|n| item(key(n), None)).collect()
        }
        None => manifests::load(&mut session.io, &args.filename, &args.how, Check::Name)?
            .into_iter()
            .map(|l| item(l.resource.key(), Some(l.origin)))
            .collect(),
    };
    let store = session.store()?;
    crud::all(session, store.as_ref(), Verb::Confirm, items, args.how.skip_empty).await
}

/// Makes an object on trial stay, unless its time is up.
pub(crate) async fn end(store: &dyn Store, key: &ResourceKey) -> Result<(), StoreError> {
    let refuse = |reason: String| {
        Err(StoreError::Invalid {
            key: key.clone(),
            reason,
        })
    };
    for _ in 0..ATTEMPTS {
        let mut stored = store.get(key).await?;
        let trial = Trial::of(&stored).map_err(|e| unreadable(key, &e))?;
        let Some(trial) = trial else {
            return refuse("it does not wait for confirmation: what is written is in force".to_owned());
        };
        if clock() > trial.until {
            return refuse(format!(
                "it was to be confirmed before {}: nodes went back to what was before; apply it again",
                trial.until
            ));
        }
        end_trial(&mut stored);
        match store.update(stored).await {
            Err(StoreError::Conflict { .. }) => {}
            outcome => return outcome.map(drop),
        }
    }
    Err(busy(key.clone()))
}

fn unreadable(key: &ResourceKey, e: &BadTrial) -> StoreError {
    StoreError::Invalid {
        key: key.clone(),
        reason: format!("{e}; 'apply' without --confirm-within makes an end of it"),
    }
}

fn busy(key: ResourceKey) -> StoreError {
    StoreError::Conflict {
        key,
        why: format!("other writers were faster {ATTEMPTS} times in a row"),
    }
}

/// What a reader should know of an object that is not, or not for ever, what nodes do.
pub(crate) fn remark(resource: &Resource) -> Option<String> {
    let key = resource.key();
    match Trial::of(resource) {
        Ok(None) => None,
        Err(e) => Some(format!("{key}: {e}; nodes take the object as it is written")),
        Ok(Some(trial)) => Some(match in_force(resource, clock()) {
            InForce::AsWritten => format!("{key} is on trial until {}", trial.until),
            InForce::Before(_) => format!(
                "{key} was not confirmed before {}: nodes use what was before",
                trial.until
            ),
            InForce::Nothing => format!(
                "{key} was not confirmed before {}: for nodes it does not exist",
                trial.until
            ),
        }),
    }
}
