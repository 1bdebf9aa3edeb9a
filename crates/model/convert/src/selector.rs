use caracal_api::{FieldPath, LabelOperator, LabelSelector, Problem};
use caracal_selector::{Selector, is_label, is_value};

use crate::{LABEL_ORCHESTRATOR, ORCHESTRATOR_KUBERNETES, error::problem};

/// The selector of the pods that a Kubernetes selector means: other endpoints may carry the same labels.
///
/// # Errors
/// With each requirement that is wrong.
pub fn pod_selector(selector: &LabelSelector, at: &FieldPath) -> Result<Selector, Vec<Problem>> {
    let mut parts = vec![Selector::eq(LABEL_ORCHESTRATOR, ORCHESTRATOR_KUBERNETES)];
    parts.extend(requirements(selector, at)?);
    Ok(Selector::all_of(parts))
}

/// The selector on namespaces that a Kubernetes selector means; the empty one is `all()`.
///
/// # Errors
/// With each requirement that is wrong.
pub fn namespace_selector(selector: &LabelSelector, at: &FieldPath) -> Result<Selector, Vec<Problem>> {
    requirements(selector, at).map(Selector::all_of)
}

fn requirements(selector: &LabelSelector, at: &FieldPath) -> Result<Vec<Selector>, Vec<Problem>> {
    let mut parts = Vec::new();
    let mut problems = Vec::new();
    for (key, value) in &selector.match_labels {
        let at = at.key("matchLabels").key(key);
        if check_key(key, &at, &mut problems) && check_value(value, &at, &mut problems) {
            parts.push(Selector::eq(key, value));
        }
    }
    for (i, r) in selector.match_expressions.iter().enumerate() {
        let at = at.key("matchExpressions").index(i);
        let values_at = at.key("values");
        let good = check_key(&r.key, &at.key("key"), &mut problems)
            & r.values.iter().enumerate().fold(true, |ok, (n, v)| {
                ok & check_value(v, &values_at.index(n), &mut problems)
            });
        let wants_values = matches!(r.operator, LabelOperator::In | LabelOperator::NotIn);
        if wants_values && r.values.is_empty() {
            problems.push(problem(&values_at, "In and NotIn need at least one value"));
        } else if !wants_values && !r.values.is_empty() {
            problems.push(problem(&values_at, "Exists and DoesNotExist take no values"));
        } else if good {
            parts.push(match r.operator {
                LabelOperator::In => Selector::in_set(&r.key, &r.values),
                LabelOperator::NotIn => Selector::not_in_set(&r.key, &r.values),
                LabelOperator::Exists => Selector::has(&r.key),
                LabelOperator::DoesNotExist => Selector::has(&r.key).not(),
            });
        }
    }
    if problems.is_empty() {
        Ok(parts)
    } else {
        Err(problems)
    }
}

fn check_key(key: &str, at: &FieldPath, problems: &mut Vec<Problem>) -> bool {
    let good = is_label(key);
    if !good {
        problems.push(problem(
            at,
            format!("{key:?} is no label name: letters, digits, '-', '_', '.', '/' are allowed, 512 at most"),
        ));
    }
    good
}

fn check_value(value: &str, at: &FieldPath, problems: &mut Vec<Problem>) -> bool {
    let good = is_value(value);
    if !good {
        problems.push(problem(at, format!("{value:?} cannot be a label value")));
    }
    good
}
