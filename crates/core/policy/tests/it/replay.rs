//! What is fed to the engine can be written down and played again.

use caracal_update::Update;
use proptest::prelude::*;

use crate::{gen_objects::update, history::Node};

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    #[test]
    fn a_recording_plays_back_to_the_same_deltas(updates in proptest::collection::vec(update(), 1..20)) {
        let record: Vec<String> = updates.iter().map(|u| serde_json::to_string(u).unwrap()).collect();
        let (mut first, mut second) = (Node::new(), Node::new());
        for (update, line) in updates.iter().zip(&record) {
            first.engine.apply(update);
            second.engine.apply(&serde_json::from_str::<Update>(line).unwrap());
        }
        prop_assert_eq!(first.engine.flush(), second.engine.flush());
    }
}
