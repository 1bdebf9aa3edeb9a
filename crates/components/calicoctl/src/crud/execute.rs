//! Many requests at once, in an order that the datastore's rules allow.

use std::{cell::Cell, collections::HashSet};

use caracal_api::{Kind, Origin, Resource, ResourceKey};
use caracal_store::{Preconditions, Store, StoreError, apply};
use futures::{StreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};

use super::Verb;
use crate::trial;

/// Requests on their way at one time: enough to keep a datastore busy that syncs a log, few enough to stay polite.
const IN_FLIGHT: usize = 128;

/// From how many objects on a person wants to see that something happens.
const WORTH_A_BAR: usize = 500;

/// One object and what is to be done with it.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) key: ResourceKey,
    pub(crate) work: Work,
    pub(crate) origin: Option<Origin>,
}

#[derive(Debug)]
pub(crate) enum Work {
    Write(Box<Resource>),
    /// Of an object that is there already.
    Confirm,
    Delete(Preconditions),
}

/// How it ended for one object.
#[derive(Debug)]
pub(super) enum End {
    Done,
    /// It existed already, or did not exist, and the user said that this is no error.
    Skipped,
    Failed(StoreError),
    /// The datastore had gone away before.
    NotTried,
}

/// Does all items and yields their ends in the items' order. What fails does not keep the others from being done, unless
/// the datastore is gone.
pub(super) async fn execute(store: &dyn Store, verb: Verb, items: Vec<Item>, terminal: bool) -> Vec<End> {
    let bar = bar(items.len(), terminal);
    let gone = Cell::new(false);
    let mut ends: Vec<End> = items.iter().map(|_| End::NotTried).collect();
    let plan = plan(verb, &items);
    let mut items: Vec<Option<Item>> = items.into_iter().map(Some).collect();
    for batch in plan {
        let tasks: Vec<(usize, Item)> = batch
            .items
            .iter()
            .filter_map(|&i| Some((i, items[i].take()?)))
            .collect();
        let gone = &gone;
        let mut running = stream::iter(tasks)
            .map(|(i, item)| async move {
                if gone.get() {
                    return (i, End::NotTried);
                }
                let end = one(store, verb, item).await;
                if matches!(&end, End::Failed(e) if e.is_transient()) {
                    gone.set(true);
                }
                (i, end)
            })
            .buffer_unordered(batch.at_once);
        while let Some((i, end)) = running.next().await {
            ends[i] = end;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    ends
}

async fn one(store: &dyn Store, verb: Verb, item: Item) -> End {
    let outcome = match (verb, item.work) {
        (Verb::Create { .. }, Work::Write(r)) => store.create(*r).await.map(drop),
        (Verb::Replace, Work::Write(r)) => store.update(*r).await.map(drop),
        (Verb::Try { seconds }, Work::Write(r)) => trial::begin(store, *r, seconds).await,
        (_, Work::Confirm) => trial::end(store, &item.key).await,
        (Verb::Import, Work::Write(r)) => bring(store, *r).await,
        (_, Work::Write(r)) => apply(store, *r).await.map(drop),
        (_, Work::Delete(expect)) => store.delete(&item.key, &expect).await.map(drop),
    };
    match (outcome, verb) {
        (Ok(()), _) => End::Done,
        (Err(StoreError::AlreadyExists(_)), Verb::Create { skip_exists: true })
        | (
            Err(StoreError::NotFound(_)),
            Verb::Delete {
                skip_not_exists: true,
            },
        ) => End::Skipped,
        (Err(e), _) => End::Failed(e),
    }
}

/// Writes an object of another datastore. One that is there already, such as a tier that always exists, keeps its own
/// identity.
pub(crate) async fn bring(store: &dyn Store, mut resource: Resource) -> Result<(), StoreError> {
    match store.create(resource.clone()).await {
        Err(StoreError::AlreadyExists(_)) => {
            resource.metadata_mut().uid = None;
            apply(store, resource).await.map(drop)
        }
        outcome => outcome.map(drop),
    }
}

fn bar(count: usize, terminal: bool) -> ProgressBar {
    if !terminal || count < WORTH_A_BAR {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec} {eta}");
    ProgressBar::new(count as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Items that may be under way together.
#[derive(Debug, PartialEq, Eq)]
struct Batch {
    items: Vec<usize>,
    at_once: usize,
}

/// Tiers come before what may be in them, and go after it. Pools are done one by one: each is checked against those that
/// exist. Of one object that is named twice, the first is done before the second.
fn plan(verb: Verb, items: &[Item]) -> Vec<Batch> {
    let tier = |i: &usize| items[*i].key.kind == Kind::Tier;
    let (tiers, others): (Vec<usize>, Vec<usize>) = (0..items.len()).partition(tier);
    let order = match verb {
        Verb::Delete { .. } => [others, tiers],
        _ => [tiers, others],
    };
    let mut batches = Vec::new();
    for group in order {
        let mut open = Batch {
            items: Vec::new(),
            at_once: IN_FLIGHT,
        };
        let mut keys: HashSet<&ResourceKey> = HashSet::new();
        for i in group {
            let key = &items[i].key;
            let at_once = if key.kind == Kind::IpPool { 1 } else { IN_FLIGHT };
            if (open.at_once != at_once || keys.contains(key)) && !open.items.is_empty() {
                let items = std::mem::take(&mut open.items);
                batches.push(Batch {
                    items,
                    at_once: open.at_once,
                });
                keys.clear();
            }
            open.at_once = at_once;
            open.items.push(i);
            keys.insert(key);
        }
        if !open.items.is_empty() {
            batches.push(open);
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(keys: &[(Kind, &str)]) -> Vec<Item> {
        keys.iter()
            .map(|(kind, name)| Item {
                key: ResourceKey::global(*kind, name),
                work: Work::Delete(Preconditions::default()),
                origin: None,
            })
            .collect()
    }

    fn shape(verb: Verb, keys: &[(Kind, &str)]) -> Vec<(Vec<usize>, bool)> {
        let plan = plan(verb, &items(keys));
        plan.into_iter().map(|b| (b.items, b.at_once > 1)).collect()
    }

    const DELETE: Verb = Verb::Delete {
        skip_not_exists: false,
    };

    #[test]
    fn tiers_come_first_and_go_last() {
        let keys = [
            (Kind::GlobalNetworkPolicy, "a"),
            (Kind::Tier, "t"),
            (Kind::GlobalNetworkPolicy, "b"),
        ];
        assert_eq!(shape(Verb::Apply, &keys), [(vec![1], true), (vec![0, 2], true)]);
        assert_eq!(shape(DELETE, &keys), [(vec![0, 2], true), (vec![1], true)]);
    }

    #[test]
    fn pools_are_alone_and_an_object_waits_for_itself() {
        let keys = [
            (Kind::GlobalNetworkSet, "a"),
            (Kind::GlobalNetworkSet, "b"),
            (Kind::GlobalNetworkSet, "a"),
            (Kind::IpPool, "p"),
            (Kind::IpPool, "q"),
            (Kind::GlobalNetworkSet, "a"),
        ];
        assert_eq!(
            shape(Verb::Apply, &keys),
            [
                (vec![0, 1], true),
                (vec![2], true),
                (vec![3, 4], false),
                (vec![5], true)
            ]
        );
        assert_eq!(shape(Verb::Apply, &[]), []);
    }
}
