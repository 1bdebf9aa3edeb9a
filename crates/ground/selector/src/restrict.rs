//! What a selector demands of labels, for choosing where to look for matches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::node::{Node, Test};

/// What every match must have under one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restriction {
    /// The label is not there.
    Absent,
    /// The label is there.
    Present,
    /// The label is there with one of these values; never empty.
    OneOf(BTreeSet<Arc<str>>),
}

/// What every label set that matches a selector has in common.
///
/// It errs on the side of saying too little: a label that is not mentioned may be anything, and a
/// label set that satisfies all this need not match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restrictions {
    /// Nothing if the selector can match no label set at all.
    labels: Option<BTreeMap<Arc<str>, Restriction>>,
}

impl Restrictions {
    pub(crate) fn of(node: &Node) -> Self {
        analyse(node, false)
    }

    fn anything() -> Self {
        Self {
            labels: Some(BTreeMap::new()),
        }
    }

    fn never() -> Self {
        Self { labels: None }
    }

    fn one(key: &Arc<str>, restriction: Restriction) -> Self {
        match restriction {
            Restriction::OneOf(values) if values.is_empty() => Self::never(),
            restriction => Self {
                labels: Some(BTreeMap::from([(key.clone(), restriction)])),
            },
        }
    }

    /// Whether the selector can match nothing, as `a == "x" && !has(a)`.
    pub fn is_never(&self) -> bool {
        self.labels.is_none()
    }

    /// What is demanded of one label.
    pub fn get(&self, label: &str) -> Option<&Restriction> {
        self.labels.as_ref()?.get(label)
    }

    /// Every demand, by label name. None if [`is_never`](Self::is_never).
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Restriction)> {
        self.labels
            .iter()
            .flatten()
            .map(|(label, restriction)| (&**label, restriction))
    }

    /// Whether a label set satisfies every demand: if not, it cannot match.
    pub fn admits<'l>(&self, get: impl Fn(&str) -> Option<&'l str>) -> bool {
        self.labels.is_some()
            && self
                .iter()
                .all(|(label, restriction)| match (restriction, get(label)) {
                    (Restriction::Absent, found) => found.is_none(),
                    (_, None) => false,
                    (Restriction::Present, Some(_)) => true,
                    (Restriction::OneOf(values), Some(found)) => values.contains(found),
                })
    }

    /// Demands of both sides hold.
    fn both(self, other: Self) -> Self {
        let (Some(mut labels), Some(others)) = (self.labels, other.labels) else {
            return Self::never();
        };
        for (label, restriction) in others {
            let merged = match labels.remove(&label) {
                None => Some(restriction),
                Some(held) => narrower(held, restriction),
            };
            let Some(merged) = merged else {
                return Self::never();
            };
            labels.insert(label, merged);
        }
        Self { labels: Some(labels) }
    }

    /// Demands of one side or the other hold.
    fn either(self, other: Self) -> Self {
        let (mut labels, mut others) = match (self.labels, other.labels) {
            (Some(labels), Some(others)) => (labels, others),
            (None, labels) | (labels, None) => return Self { labels },
        };
        labels.retain(|label, held| match others.remove(label) {
            Some(restriction) => widen(held, restriction),
            None => false,
        });
        Self { labels: Some(labels) }
    }
}

/// What satisfies both; nothing if that is impossible.
fn narrower(a: Restriction, b: Restriction) -> Option<Restriction> {
    match (a, b) {
        (Restriction::Absent, Restriction::Absent) => Some(Restriction::Absent),
        (Restriction::Absent, _) | (_, Restriction::Absent) => None,
        (Restriction::Present, other) | (other, Restriction::Present) => Some(other),
        (Restriction::OneOf(mut a), Restriction::OneOf(b)) => {
            a.retain(|value| b.contains(value));
            (!a.is_empty()).then_some(Restriction::OneOf(a))
        }
    }
}

/// Makes `held` cover both; false if nothing can be said of the label any more.
fn widen(held: &mut Restriction, other: Restriction) -> bool {
    match (&mut *held, other) {
        (Restriction::Absent, Restriction::Absent) => {}
        (Restriction::Absent, _) | (_, Restriction::Absent) => return false,
        (Restriction::OneOf(values), Restriction::OneOf(more)) => values.extend(more),
        _ => *held = Restriction::Present,
    }
    true
}

fn analyse(node: &Node, negated: bool) -> Restrictions {
    match node {
        Node::All | Node::Global if negated => Restrictions::never(),
        Node::All | Node::Global => Restrictions::anything(),
        Node::Label { key, test } => analyse_label(key, test, negated),
        Node::Not(inner) => analyse(inner, !negated),
        // A negated && is an || of negated operands, and the other way round.
        Node::And(operands) if !negated => fold(operands, negated, Restrictions::both),
        Node::Or(operands) if negated => fold(operands, negated, Restrictions::both),
        Node::And(operands) | Node::Or(operands) => fold(operands, negated, Restrictions::either),
    }
}

fn fold(
    operands: &[Node],
    negated: bool,
    merge: fn(Restrictions, Restrictions) -> Restrictions,
) -> Restrictions {
    let parts = operands.iter().map(|operand| analyse(operand, negated));
    parts.reduce(merge).unwrap_or_else(Restrictions::anything)
}

fn analyse_label(key: &Arc<str>, test: &Test, negated: bool) -> Restrictions {
    let restriction = match (test, negated) {
        (Test::Has, true) => Restriction::Absent,
        (Test::Has, false) => Restriction::Present,
        (Test::Equal(value), false) | (Test::NotEqual(value), true) => {
            Restriction::OneOf(BTreeSet::from([value.clone()]))
        }
        (Test::In(values), false) | (Test::NotIn(values), true) => {
            Restriction::OneOf(values.iter().cloned().collect())
        }
        (Test::Contains(_) | Test::StartsWith(_) | Test::EndsWith(_), false) => Restriction::Present,
        // These let the label be absent as well as present.
        _ => return Restrictions::anything(),
    };
    Restrictions::one(key, restriction)
}
