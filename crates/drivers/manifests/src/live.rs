use caracal_analysis::{KINDS, State};
use caracal_api::Kind;
use caracal_store::{ListOptions, Store, StoreError};

/// What a datastore holds of policy.
#[derive(Debug)]
pub struct Live {
    /// The objects that can be read.
    pub state: State,
    /// What is wrong with those that cannot; a line each.
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

/// Reads every kind that says something about policy. Nothing is made up: what is missing there is missing on the nodes
/// too.
///
/// # Errors
/// When the datastore fails.
pub async fn live(store: &dyn Store) -> Result<Live, LiveError> {
    let mut state = State::default();
    let mut unreadable = Vec::new();
    for kind in KINDS {
        match store.list_all(*kind, &ListOptions::default()).await {
            Ok(page) => {
                page.items.into_iter().for_each(|object| state.insert(object));
                unreadable.extend(page.malformed.iter().map(ToString::to_string));
            }
            // A datastore without the kind has no objects of it.
            Err(StoreError::Unsupported { .. }) => {}
            Err(why) => return Err(LiveError { kind: *kind, why }),
        }
    }
    Ok(Live { state, unreadable })
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
            store.fail_next(1, &StoreError::Unavailable("gone".into()));
            let e = super::live(&store).await.unwrap_err().to_string();
            assert!(e.contains("gone"), "{e}");
        });
    }
}
