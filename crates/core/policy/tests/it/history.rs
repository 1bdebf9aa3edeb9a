//! Random histories: whatever the way, the same place is reached.

use caracal_desired::Desired;
use caracal_ids::NodeName;
use caracal_policy::Engine;
use caracal_update::{SliceUpdate, Update};
use proptest::{collection::vec, prelude::*};

use crate::{
    check::fold,
    gen_objects::{NODE, slice, update},
    model::{Objects, Plain, Slices, from_scratch, spell_out},
};

pub(crate) struct Node {
    pub(crate) engine: Engine,
    pub(crate) desired: Desired,
}

impl Node {
    pub(crate) fn new() -> Self {
        Self {
            engine: Engine::new(NodeName::new(NODE).unwrap()),
            desired: Desired::default(),
        }
    }

    pub(crate) fn flush(&mut self) {
        fold(&mut self.desired, self.engine.flush());
        let again = self.engine.flush();
        assert!(again.is_empty(), "a flush after no change says {again:?}");
    }
}

fn note(objects: &mut Objects, update: &Update) {
    match &update.value {
        Some(value) => objects.insert(update.key.clone(), (**value).clone()),
        None => objects.remove(&update.key),
    };
}

fn same(got: &Plain, expected: &Plain) -> Result<(), TestCaseError> {
    prop_assert_eq!(&got.endpoints, &expected.endpoints);
    prop_assert_eq!(&got.profiles, &expected.profiles);
    prop_assert_eq!(
        got.policies.keys().collect::<Vec<_>>(),
        expected.policies.keys().collect::<Vec<_>>()
    );
    for (id, policy) in &got.policies {
        prop_assert_eq!(policy, &expected.policies[id], "{}", id);
    }
    prop_assert_eq!(&got.invalid, &expected.invalid);
    Ok(())
}

/// An update, what to do with it, and whether to flush after it.
#[derive(Debug, Clone)]
enum Step {
    Do(Update),
    /// Endpoints of a service.
    Slice(SliceUpdate),
    /// Repeat an earlier update, be it stale.
    Replay(prop::sample::Index),
    Flush,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => update().prop_map(Step::Do),
        2 => slice().prop_map(Step::Slice),
        1 => any::<prop::sample::Index>().prop_map(Step::Replay),
        2 => Just(Step::Flush),
    ];
    vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_flush_is_what_from_scratch_says(steps in steps()) {
        let (mut node, mut objects, mut slices) = (Node::new(), Objects::new(), Slices::new());
        let mut done: Vec<Update> = Vec::new();
        for step in steps {
            match step {
                Step::Flush => {
                    node.flush();
                    same(&spell_out(&node.desired), &from_scratch(&objects, &slices, NODE))?;
                    continue;
                }
                Step::Slice(update) => {
                    node.engine.apply_slice(&update);
                    match update.value {
                        Some(slice) => slices.insert(update.key, (*slice).clone()),
                        None => slices.remove(&update.key),
                    };
                    continue;
                }
                Step::Do(update) => done.push(update),
                Step::Replay(_) if done.is_empty() => continue,
                Step::Replay(index) => done.push(index.get(&done).clone()),
            }
            let update = done.last().expect("one was pushed");
            node.engine.apply(update);
            note(&mut objects, update);
        }
        node.flush();
        same(&spell_out(&node.desired), &from_scratch(&objects, &slices, NODE))?;
        // And back to nothing.
        for key in objects.keys() {
            node.engine.apply(&Update::gone(key.clone()));
        }
        for key in slices.into_keys() {
            node.engine.apply_slice(&SliceUpdate { key, value: None });
        }
        node.flush();
        prop_assert_eq!(&node.desired, &Desired::default());
        prop_assert_eq!(node.engine.counts(), caracal_policy::Counts::default());
    }

    #[test]
    fn every_way_to_a_state_leads_to_the_same_tables(
        updates in vec(update(), 1..50),
        order in any::<u64>(),
        flushes in vec(any::<bool>(), 100),
    ) {
        let mut objects = Objects::new();
        updates.iter().for_each(|u| note(&mut objects, u));
        let last: Vec<Update> = objects.values().map(|r| Update::set(r.clone())).collect();
        // As it happened.
        let mut lived = Node::new();
        for (update, flush) in updates.iter().zip(&flushes) {
            lived.engine.apply(update);
            if *flush {
                lived.flush();
            }
        }
        lived.flush();
        // Squashed to the end.
        let mut squashed = Node::new();
        last.iter().for_each(|u| squashed.engine.apply(u));
        squashed.flush();
        prop_assert_eq!(&lived.desired, &squashed.desired);
        // Stale states first, gone things deleted twice, then the end in some order, each twice.
        let mut shuffled = Node::new();
        for (update, flush) in updates.iter().rev().zip(&flushes) {
            shuffled.engine.apply(update);
            if *flush {
                shuffled.flush();
            }
        }
        for update in updates.iter().filter(|u| !objects.contains_key(&u.key)) {
            shuffled.engine.apply(&Update::gone(update.key.clone()));
        }
        let mut end: Vec<(u64, &Update)> = last.iter().enumerate().map(|(n, u)| (mix(order, n), u)).collect();
        end.sort_by_key(|(k, _)| *k);
        for ((key, update), flush) in end.iter().zip(&flushes) {
            shuffled.engine.apply(update);
            if *flush {
                shuffled.flush();
            }
            if key % 2 == 0 {
                shuffled.engine.apply(update);
            }
        }
        shuffled.flush();
        prop_assert_eq!(&lived.desired, &shuffled.desired);
    }
}

fn mix(seed: u64, n: usize) -> u64 {
    (seed ^ (n as u64 + 1))
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .rotate_left(29)
}
