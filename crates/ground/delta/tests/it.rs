//! The trackers against a model that compares everything with everything.

use std::collections::{BTreeMap, BTreeSet};

use caracal_delta::{SetTracker, Tracker, Update};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

type State = BTreeMap<u8, u8>;

#[derive(Debug, Clone)]
enum Call {
    SetDesired(u8, u8),
    RemoveDesired(u8),
    ClearDesired,
    ReplaceDesired(State),
    ReplaceObserved(State),
    Observe(u8, u8),
    Forget(u8),
    ClearObserved,
    Applied(u8),
    AppliedAll,
}

/// Few keys and values, so that calls meet.
fn call() -> impl Strategy<Value = Call> {
    let (key, value) = (0..6u8, 0..4u8);
    let state = btree_map(0..6u8, 0..4u8, 0..6);
    prop_oneof![
        4 => (key.clone(), value.clone()).prop_map(|(k, v)| Call::SetDesired(k, v)),
        3 => key.clone().prop_map(Call::RemoveDesired),
        1 => Just(Call::ClearDesired),
        1 => state.clone().prop_map(Call::ReplaceDesired),
        1 => state.prop_map(Call::ReplaceObserved),
        4 => (key.clone(), value).prop_map(|(k, v)| Call::Observe(k, v)),
        3 => key.clone().prop_map(Call::Forget),
        1 => Just(Call::ClearObserved),
        4 => key.prop_map(Call::Applied),
        1 => Just(Call::AppliedAll),
    ]
}

#[derive(Default)]
struct Model {
    desired: State,
    observed: State,
}

impl Model {
    fn updates(&self, same: impl Fn(u8, u8) -> bool) -> Vec<(u8, u8, Option<u8>)> {
        let rows = self
            .desired
            .iter()
            .map(|(k, d)| (*k, *d, self.observed.get(k).copied()));
        rows.filter(|(_, d, o)| !o.is_some_and(|o| same(*d, o))).collect()
    }

    fn deletes(&self) -> Vec<(u8, u8)> {
        self.observed
            .iter()
            .filter(|(k, _)| !self.desired.contains_key(k))
            .map(|(k, v)| (*k, *v))
            .collect()
    }

    fn make(&mut self, call: &Call, same: impl Fn(u8, u8) -> bool) {
        match call {
            Call::SetDesired(k, v) => drop(self.desired.insert(*k, *v)),
            Call::RemoveDesired(k) => drop(self.desired.remove(k)),
            Call::ClearDesired => self.desired.clear(),
            Call::ReplaceDesired(all) => self.desired = all.clone(),
            Call::ReplaceObserved(all) => self.observed = all.clone(),
            Call::Observe(k, v) => drop(self.observed.insert(*k, *v)),
            Call::Forget(k) => drop(self.observed.remove(k)),
            Call::ClearObserved => self.observed.clear(),
            Call::Applied(key) => match (self.desired.get(key), self.observed.get(key)) {
                (Some(d), Some(o)) if same(*d, *o) => {}
                (Some(d), _) => drop(self.observed.insert(*key, *d)),
                (None, _) => drop(self.observed.remove(key)),
            },
            Call::AppliedAll => {
                for (key, value, _) in self.updates(&same) {
                    self.observed.insert(key, value);
                }
                self.observed.retain(|key, _| self.desired.contains_key(key));
            }
        }
    }
}

fn make<S: caracal_delta::Same<u8, u8>>(tracker: &mut Tracker<u8, u8, u8, S>, call: &Call) {
    match call {
        Call::SetDesired(k, v) => drop(tracker.set_desired(*k, *v)),
        Call::RemoveDesired(k) => drop(tracker.remove_desired(k)),
        Call::ClearDesired => tracker.clear_desired(),
        Call::ReplaceDesired(all) => tracker.replace_desired(all.clone()),
        Call::ReplaceObserved(all) => tracker.replace_observed(all.clone()),
        Call::Observe(k, v) => drop(tracker.observe(*k, *v)),
        Call::Forget(k) => drop(tracker.forget(k)),
        Call::ClearObserved => tracker.clear_observed(),
        Call::Applied(k) => {
            let pending = tracker.is_pending_update(k) || tracker.is_pending_delete(k);
            assert_eq!(tracker.applied(k), pending);
        }
        Call::AppliedAll => tracker.applied_all(),
    }
}

fn check<S: caracal_delta::Same<u8, u8>>(
    tracker: &Tracker<u8, u8, u8, S>,
    model: &Model,
    same: impl Fn(u8, u8) -> bool,
) {
    let updates: Vec<_> = tracker
        .pending_updates()
        .map(|u| (*u.key, *u.desired, u.observed.copied()))
        .collect();
    let deletes: Vec<_> = tracker.pending_deletes().map(|(k, v)| (*k, *v)).collect();
    assert_eq!(updates, model.updates(same));
    assert_eq!(deletes, model.deletes());
    assert_eq!(
        (tracker.updates_len(), tracker.deletes_len()),
        (updates.len(), deletes.len())
    );
    assert_eq!(tracker.in_sync(), updates.is_empty() && deletes.is_empty());
    assert!(tracker.all_desired().eq(model.desired.iter()));
    assert!(tracker.all_observed().eq(model.observed.iter()));
    assert_eq!(
        (tracker.desired_len(), tracker.observed_len()),
        (model.desired.len(), model.observed.len())
    );
}

proptest! {
    #[test]
    fn tracker_is_the_model(calls in vec(call(), 0..60)) {
        let (mut tracker, mut model) = (Tracker::new(), Model::default());
        for call in &calls {
            make(&mut tracker, call);
            model.make(call, |d, o| d == o);
            check(&tracker, &model, |d, o| d == o);
        }
    }

    #[test]
    fn own_equality_is_respected(calls in vec(call(), 0..60)) {
        // The kernel adds a bit of its own to what was written.
        let same = |d: u8, o: u8| d & 2 == o & 2;
        let mut tracker = Tracker::with_same(|d: &u8, o: &u8| same(*d, *o));
        let mut model = Model::default();
        for call in &calls {
            make(&mut tracker, call);
            model.make(call, same);
            check(&tracker, &model, same);
        }
    }

    #[test]
    fn set_is_the_model(calls in vec(call(), 0..60)) {
        let (mut set, mut model) = (SetTracker::new(), Model::default());
        for call in &calls {
            match call {
                Call::SetDesired(k, _) => assert_eq!(set.set_desired(*k), !model.desired.contains_key(k)),
                Call::RemoveDesired(k) => assert_eq!(set.remove_desired(k), model.desired.contains_key(k)),
                Call::ClearDesired => set.clear_desired(),
                Call::ReplaceDesired(all) => set.replace_desired(all.keys().copied()),
                Call::ReplaceObserved(all) => set.replace_observed(all.keys().copied()),
                Call::Observe(k, _) => assert_eq!(set.observe(*k), !model.observed.contains_key(k)),
                Call::Forget(k) => assert_eq!(set.forget(k), model.observed.contains_key(k)),
                Call::ClearObserved => set.clear_observed(),
                Call::Applied(k) => drop(set.applied(k)),
                Call::AppliedAll => set.applied_all(),
            }
            model.make(call, |_, _| true);
            let (desired, observed): (BTreeSet<u8>, BTreeSet<u8>) =
                (model.desired.keys().copied().collect(), model.observed.keys().copied().collect());
            prop_assert!(set.pending_updates().eq(desired.difference(&observed)));
            prop_assert!(set.pending_deletes().eq(observed.difference(&desired)));
            prop_assert!(set.all_desired().eq(&desired) && set.all_observed().eq(&observed));
            prop_assert_eq!(set.updates_len(), set.pending_updates().count());
            prop_assert_eq!(set.deletes_len(), set.pending_deletes().count());
            prop_assert_eq!(set.in_sync(), desired == observed);
            prop_assert_eq!((set.desired_len(), set.observed_len()), (desired.len(), observed.len()));
            prop_assert!((0..6).all(|k| set.is_desired(&k) == desired.contains(&k)));
            prop_assert!((0..6).all(|k| set.is_observed(&k) == observed.contains(&k)));
        }
    }

    /// Doing what is pending, one by one and with failures in between, ends in sync.
    #[test]
    fn retrying_converges(desired in btree_map(0..20u8, 0..4u8, 0..20), observed in btree_map(0..20u8, 0..4u8, 0..20),
                          fails in vec(any::<bool>(), 0..40)) {
        let mut tracker = Tracker::new();
        tracker.replace_observed(observed);
        tracker.replace_desired(desired.clone());
        let mut fails = fails.into_iter();
        let mut writes = 0;
        while !tracker.in_sync() {
            let todo: Vec<u8> = tracker.pending_updates().map(|u| *u.key)
                .chain(tracker.pending_deletes().map(|(k, _)| *k)).collect();
            for key in todo {
                writes += 1;
                if !fails.next().unwrap_or(false) {
                    prop_assert!(tracker.applied(&key));
                }
            }
        }
        prop_assert!(writes <= 80, "nothing is written that is right already");
        prop_assert!(tracker.all_observed().eq(desired.iter()));
    }
}

/// Observed values of a type of their own, as read from a kernel.
#[test]
fn kernel_values_may_be_of_another_type() {
    struct Route {
        metric: u32,
        flags: u32,
    }
    let mut tracker = Tracker::with_same(|wanted: &u32, found: &Route| *wanted == found.metric);
    tracker.set_desired("10.0.0.0/24", 100);
    tracker.observe(
        "10.0.0.0/24",
        Route {
            metric: 100,
            flags: 7,
        },
    );
    assert!(tracker.in_sync());
    tracker.observe(
        "10.0.0.0/24",
        Route {
            metric: 200,
            flags: 7,
        },
    );
    let update = tracker.pending_updates().next().expect("the metric is wrong");
    assert_eq!((*update.key, *update.desired), ("10.0.0.0/24", 100));
    assert_eq!(
        update.observed.map(|route| (route.metric, route.flags)),
        Some((200, 7))
    );
    assert!(!tracker.is_pending_delete(&"10.0.0.0/24"));
    tracker.remove_desired(&"10.0.0.0/24");
    assert!(!tracker.is_pending_update(&"10.0.0.0/24") && tracker.is_pending_delete(&"10.0.0.0/24"));
    tracker.forget(&"10.0.0.0/24");
    assert!(tracker.in_sync() && tracker.observed(&"10.0.0.0/24").is_none());
}

#[test]
fn a_newer_wish_survives_the_end_of_an_older_write() {
    let mut tracker = Tracker::new();
    tracker.set_desired("a", 1);
    let in_flight = *tracker
        .pending_updates()
        .next()
        .expect("a is to be written")
        .desired;
    tracker.set_desired("a", 2);
    tracker.observe("a", in_flight);
    let left: Vec<_> = tracker.pending_updates().collect();
    assert_eq!(
        left,
        [Update {
            key: &"a",
            desired: &2,
            observed: Some(&1)
        }]
    );
    assert_eq!(tracker.desired(&"a"), Some(&2));
}
