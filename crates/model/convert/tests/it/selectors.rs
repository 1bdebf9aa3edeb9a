//! A converted selector matches what Kubernetes' selector matches.

use std::collections::BTreeMap;

use caracal_api::{FieldPath, LabelOperator, LabelRequirement, LabelSelector};
use caracal_convert::{namespace_selector, pod_selector};
use proptest::{collection, prelude::*};

/// Kubernetes' own definition.
fn matches(s: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    s.match_labels.iter().all(|(k, v)| labels.get(k) == Some(v))
        && s.match_expressions.iter().all(|r| {
            let value = labels.get(&r.key);
            match r.operator {
                LabelOperator::In => value.is_some_and(|v| r.values.contains(v)),
                LabelOperator::NotIn => value.is_none_or(|v| !r.values.contains(v)),
                LabelOperator::Exists => value.is_some(),
                LabelOperator::DoesNotExist => value.is_none(),
            }
        })
}

fn requirement() -> impl Strategy<Value = LabelRequirement> {
    ("[ab]", 0..4u8, collection::vec("[xy]?", 1..3)).prop_map(|(key, op, values)| match op {
        0 => LabelRequirement {
            key,
            operator: LabelOperator::In,
            values,
        },
        1 => LabelRequirement {
            key,
            operator: LabelOperator::NotIn,
            values,
        },
        2 => LabelRequirement {
            key,
            operator: LabelOperator::Exists,
            values: vec![],
        },
        _ => LabelRequirement {
            key,
            operator: LabelOperator::DoesNotExist,
            values: vec![],
        },
    })
}

proptest! {
    #[test]
    fn selectors_mean_what_kubernetes_means(
        match_labels in collection::btree_map("[ab]", "[xy]?", 0..2),
        match_expressions in collection::vec(requirement(), 0..3),
        mut labels in collection::btree_map("[ab]", "[xy]?", 0..3),
    ) {
        let s = LabelSelector { match_labels, match_expressions };
        let at = FieldPath::root();
        let namespaces = namespace_selector(&s, &at).expect("valid");
        prop_assert_eq!(namespaces.matches_map(&labels), matches(&s, &labels), "{}", namespaces);
        let pods = pod_selector(&s, &at).expect("valid");
        prop_assert!(!pods.matches_map(&labels), "no pod: {}", pods);
        labels.insert("projectcalico.org/orchestrator".into(), "k8s".into());
        prop_assert_eq!(pods.matches_map(&labels), matches(&s, &labels), "{}", pods);
    }
}

#[test]
fn the_empty_selector_is_everything() {
    let at = FieldPath::root();
    assert_eq!(
        namespace_selector(&LabelSelector::default(), &at)
            .expect("valid")
            .canonical(),
        "all()"
    );
    assert_eq!(
        pod_selector(&LabelSelector::default(), &at)
            .expect("valid")
            .canonical(),
        "projectcalico.org/orchestrator == \"k8s\""
    );
}

#[test]
fn wrong_requirements_are_all_named() {
    let r = |key: &str, operator, values: &[&str]| LabelRequirement {
        key: key.into(),
        operator,
        values: values.iter().map(|v| (*v).to_owned()).collect(),
    };
    let s = LabelSelector {
        match_labels: [
            ("a b".to_owned(), "x".to_owned()),
            ("q".to_owned(), "a\"'b".to_owned()),
        ]
        .into(),
        match_expressions: vec![
            r("a", LabelOperator::In, &[]),
            r("a", LabelOperator::NotIn, &[]),
            r("a", LabelOperator::Exists, &["x"]),
            r("", LabelOperator::DoesNotExist, &[]),
        ],
    };
    let problems = namespace_selector(&s, &FieldPath::of("spec.podSelector")).expect_err("wrong");
    let paths: Vec<String> = problems.iter().map(|p| p.path.to_string()).collect();
    assert_eq!(
        paths,
        [
            "spec.podSelector.matchLabels[\"a b\"]",
            "spec.podSelector.matchLabels.q",
            "spec.podSelector.matchExpressions[0].values",
            "spec.podSelector.matchExpressions[1].values",
            "spec.podSelector.matchExpressions[2].values",
            "spec.podSelector.matchExpressions[3].key",
        ]
    );
}
