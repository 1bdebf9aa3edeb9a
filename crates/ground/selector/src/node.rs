//! The expression itself: how it is written, evaluated on strings, and rewritten.

use std::fmt::{self, Write};
use std::sync::Arc;

/// A set of values, sorted and without duplicates.
#[derive(Debug, Clone)]
pub(crate) struct Values(Arc<[Arc<str>]>);

impl Values {
    pub(crate) fn new(mut values: Vec<&str>) -> Self {
        values.sort_unstable();
        values.dedup();
        Self(values.into_iter().map(Arc::from).collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter()
    }

    fn contains(&self, value: &str) -> bool {
        self.0.binary_search_by(|held| (**held).cmp(value)).is_ok()
    }
}

/// What is asked of one label.
#[derive(Debug, Clone)]
pub(crate) enum Test {
    Has,
    Equal(Arc<str>),
    NotEqual(Arc<str>),
    In(Values),
    NotIn(Values),
    Contains(Arc<str>),
    StartsWith(Arc<str>),
    EndsWith(Arc<str>),
}

impl Test {
    fn holds(&self, found: Option<&str>) -> bool {
        match (self, found) {
            (Test::NotEqual(_) | Test::NotIn(_), None) => true,
            (_, None) => false,
            (Test::Has, Some(_)) => true,
            (Test::Equal(value), Some(found)) => **value == *found,
            (Test::NotEqual(value), Some(found)) => **value != *found,
            (Test::In(values), Some(found)) => values.contains(found),
            (Test::NotIn(values), Some(found)) => !values.contains(found),
            (Test::Contains(value), Some(found)) => found.contains(&**value),
            (Test::StartsWith(value), Some(found)) => found.starts_with(&**value),
            (Test::EndsWith(value), Some(found)) => found.ends_with(&**value),
        }
    }
}

/// An expression. `And` and `Or` hold at least two operands and `Not` never holds a `Not`, so that
/// an expression and its canonical form correspond one to one.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    All,
    Global,
    Label { key: Arc<str>, test: Test },
    Not(Arc<Node>),
    And(Arc<[Node]>),
    Or(Arc<[Node]>),
}

impl Node {
    pub(crate) fn label(key: &str, test: Test) -> Self {
        Node::Label {
            key: key.into(),
            test,
        }
    }

    pub(crate) fn negate(self) -> Self {
        match self {
            Node::Not(inner) => Arc::unwrap_or_clone(inner),
            other => Node::Not(Arc::new(other)),
        }
    }

    pub(crate) fn none() -> Self {
        Node::All.negate()
    }

    /// Evaluates on labels given by name.
    pub(crate) fn matches<'l>(&self, get: &impl Fn(&str) -> Option<&'l str>) -> bool {
        match self {
            Node::All | Node::Global => true,
            Node::Label { key, test } => test.holds(get(key)),
            Node::Not(inner) => !inner.matches(get),
            Node::And(operands) => operands.iter().all(|operand| operand.matches(get)),
            Node::Or(operands) => operands.iter().any(|operand| operand.matches(get)),
        }
    }

    /// Whether some node satisfies `wanted`.
    pub(crate) fn any(&self, wanted: &impl Fn(&Node) -> bool) -> bool {
        wanted(self)
            || match self {
                Node::Not(inner) => inner.any(wanted),
                Node::And(operands) | Node::Or(operands) => {
                    operands.iter().any(|operand| operand.any(wanted))
                }
                Node::All | Node::Global | Node::Label { .. } => false,
            }
    }

    /// Puts `change(leaf)` in the place of every leaf for which it returns something.
    pub(crate) fn rewrite(&self, change: &impl Fn(&Node) -> Option<Node>) -> Node {
        match self {
            Node::Not(inner) => inner.rewrite(change).negate(),
            Node::And(operands) => {
                Node::And(operands.iter().map(|operand| operand.rewrite(change)).collect())
            }
            Node::Or(operands) => Node::Or(operands.iter().map(|operand| operand.rewrite(change)).collect()),
            leaf => change(leaf).unwrap_or_else(|| leaf.clone()),
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::All => f.write_str("all()"),
            Node::Global => f.write_str("global()"),
            Node::Label { key, test } => write_label(f, key, test),
            Node::Not(inner) => write!(f, "!{inner}"),
            Node::And(operands) => write_joined(f, operands, " && "),
            Node::Or(operands) => write_joined(f, operands, " || "),
        }
    }
}

fn write_joined(f: &mut fmt::Formatter<'_>, operands: &[Node], between: &str) -> fmt::Result {
    for (index, operand) in operands.iter().enumerate() {
        f.write_str(if index == 0 { "(" } else { between })?;
        write!(f, "{operand}")?;
    }
    f.write_char(')')
}

fn write_label(f: &mut fmt::Formatter<'_>, key: &str, test: &Test) -> fmt::Result {
    match test {
        Test::Has => write!(f, "has({key})"),
        Test::Equal(value) => write_comparison(f, key, "==", value),
        Test::NotEqual(value) => write_comparison(f, key, "!=", value),
        Test::Contains(value) => write_comparison(f, key, "contains", value),
        Test::StartsWith(value) => write_comparison(f, key, "starts with", value),
        Test::EndsWith(value) => write_comparison(f, key, "ends with", value),
        Test::In(values) => write_set(f, key, "in", values),
        Test::NotIn(values) => write_set(f, key, "not in", values),
    }
}

fn write_comparison(f: &mut fmt::Formatter<'_>, key: &str, operator: &str, value: &str) -> fmt::Result {
    write!(f, "{key} {operator} ")?;
    write_quoted(f, value)
}

fn write_set(f: &mut fmt::Formatter<'_>, key: &str, operator: &str, values: &Values) -> fmt::Result {
    write!(f, "{key} {operator} {{")?;
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        write_quoted(f, value)?;
    }
    f.write_char('}')
}

fn write_quoted(f: &mut fmt::Formatter<'_>, value: &str) -> fmt::Result {
    let quote = if value.contains('"') { '\'' } else { '"' };
    write!(f, "{quote}{value}{quote}")
}
