use caracal_analysis::{KINDS, State};
use caracal_api::{Kind, Resource, StandIn, Trial, refusals, stand_in};
use caracal_store::{ListOptions, Store, StoreError};

/// What a datastore holds of policy.
#[derive(Debug)]
pub struct Live {
    /// The objects that can be read.
    pub state: State,
    /// What is wrong with those that cannot, or that agents refuse; a line each. What stands in for them is in the state.
    pub unreadable: Vec<String>,
}

/// Why a datastore cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {kind} objects: {why}")]
pub struct LiveError {
    /// The kind that was asked for.
    pub kind: Kind,
    /// What the datastore answered.
    pub why: StoreError,
}

/// Reads every kind that says something about policy, as agents do: what they refuse is refused. Nothing is made up: what
/// is missing there is missing on the nodes too.
///
/// # Errors
/// When the datastore fails.
pub async fn live(store: &dyn Store) -> Result<Live, LiveError> {
    let mut state = State::default();
    let mut unreadable = Vec::new();
    for kind in KINDS {
        match store.list_all(*kind, &ListOptions::default()).await {
            Ok(page) => {
                for object in page.items {
                    take(object, &mut state, &mut unreadable);
                }
                for bad in page.malformed {
                    unreadable.push(bad.to_string());
                    if let StoreError::Malformed { reason, .. } = bad
                        && let Some(rest) = reason.stand_in
                    {
                        state.insert(Resource::clone(&rest));
                    }
                }
            }
            // A datastore without the kind has no objects of it.
            Err(StoreError::Unsupported { .. }) => {}
            Err(why) => return Err(LiveError { kind: *kind, why }),
        }
    }
    Ok(Live { state, unreadable })
}

/// Takes an object, or what is in force of it. One on trial is judged with what was before, by whoever asks.
fn take(object: Resource, state: &mut State, refused: &mut Vec<String>) {
    let wrong = refusals(&object);
    let on_trial = !matches!(Trial::of(&object), Ok(None));
    let Some(first) = wrong.first().filter(|_| !on_trial) else {
        state.insert(object);
        return;
    };
    refused.push(format!("{} is refused by the agents: {first}", object.key()));
    match stand_in(&object) {
        StandIn::Itself => state.insert(object),
        StandIn::Other(other) => state.insert(*other),
        StandIn::Nothing => {}
    }
}

#[cfg(test)]
mod tests {
    use caracal_api::{Object, ResourceKey, TierSpec};
    use caracal_store_memory::MemoryStore;

    use super::*;

    #[test]
    fn what_cannot_be_read_comes_beside_what_can() {
        let store = MemoryStore::etcd();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let tier = Object::<TierSpec>::new("t", TierSpec::default());
            store.create(tier.into()).await.unwrap();
            store.put_malformed(&ResourceKey::global(Kind::Tier, "broken"), "no JSON");
            let live = live(&store).await.unwrap();
            assert_eq!(live.state.objects().count(), 1);
            assert!(
                live.unreadable.len() == 1 && live.unreadable[0].contains("Tier(broken)"),
                "{live:?}"
            );
            // What agents refuse is here what it is there.
            let text = r#"{"metadata":{"name":"p"},"spec":{"types":["Ingress","Ingress"],"ingress":[{"action":"Deny","protocol":"TCP"}]}}"#;
            let policy = Resource::from_slice(Kind::GlobalNetworkPolicy, text.as_bytes()).unwrap();
            store.create(policy).await.unwrap();
            let refusing = super::live(&store).await.unwrap();
            assert!(refusing.unreadable.iter().any(|l| l.contains("GlobalNetworkPolicy(p) is refused")), "{refusing:?}");
            let policy = refusing.state.objects().find(|o| o.kind() == Kind::GlobalNetworkPolicy).unwrap();
            assert!(matches!(policy, Resource::GlobalNetworkPolicy(p) if p.spec.ingress[0].protocol.is_none()));
            store.fail_next(1, &StoreError::Unavailable("gone".into()));
            let e = super::live(&store).await.unwrap_err().to_string();
            assert!(e.contains("gone"), "{e}");
        });
    }
}
