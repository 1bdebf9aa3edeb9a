//! The selector as everybody else sees it.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use crate::compiled::Compiled;
use crate::error::ParseError;
use crate::intern::Interner;
use crate::lexer::{is_label, is_value};
use crate::node::{Node, Test, Values};
use crate::parser;
use crate::restrict::Restrictions;

/// A label selector: an immutable expression, cheap to clone, compared by its canonical form.
///
/// The constructors that take names and values never fail. A label that the language cannot spell
/// (see [`is_label`]) or a value that it cannot spell (see [`is_value`]) is one that Kubernetes and
/// Calico refuse on every object, so nothing carries it: [`has`](Self::has), [`eq`](Self::eq) and
/// the like then yield [`none`](Self::none), [`ne`](Self::ne) and [`not_in_set`](Self::not_in_set)
/// their opposite. Validate user input first, to tell the user.
#[derive(Clone)]
pub struct Selector {
    inner: Arc<Inner>,
}

struct Inner {
    node: Node,
    canonical: Box<str>,
}

impl Selector {
    fn from_node(node: Node) -> Self {
        let canonical = node.to_string().into_boxed_str();
        Self {
            inner: Arc::new(Inner { node, canonical }),
        }
    }

    pub(crate) fn node(&self) -> &Node {
        &self.inner.node
    }

    /// Reads a selector. An empty text is `all()`.
    ///
    /// # Errors
    /// Says where the text leaves the language and, for common mistakes, what to write instead.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parser::parse(text).map(Self::from_node)
    }

    /// `all()`: matches everything.
    pub fn all() -> Self {
        Self::from_node(Node::All)
    }

    /// `!all()`: matches nothing.
    pub fn none() -> Self {
        Self::from_node(Node::none())
    }

    /// `global()`: in a namespace selector, what belongs to no namespace. Evaluated as it stands it
    /// matches everything; whoever gives it its meaning calls [`replace_global_with`](Self::replace_global_with).
    pub fn global() -> Self {
        Self::from_node(Node::Global)
    }

    /// `has(label)`
    pub fn has(label: &str) -> Self {
        Self::test(label, Test::Has)
    }

    /// `label == "value"`
    pub fn eq(label: &str, value: &str) -> Self {
        if is_value(value) {
            Self::test(label, Test::Equal(value.into()))
        } else {
            Self::none()
        }
    }

    /// `label != "value"`; also true where the label is absent.
    pub fn ne(label: &str, value: &str) -> Self {
        if is_label(label) && is_value(value) {
            Self::from_node(Node::label(label, Test::NotEqual(value.into())))
        } else {
            Self::all()
        }
    }

    /// `label in {"…", …}`; matches nothing if there are no values.
    pub fn in_set<V: AsRef<str>>(label: &str, values: impl IntoIterator<Item = V>) -> Self {
        Self::test(label, Test::In(expressible(values)))
    }

    /// `label not in {"…", …}`; also true where the label is absent.
    pub fn not_in_set<V: AsRef<str>>(label: &str, values: impl IntoIterator<Item = V>) -> Self {
        if is_label(label) {
            Self::from_node(Node::label(label, Test::NotIn(expressible(values))))
        } else {
            Self::all()
        }
    }

    /// `label contains "value"`
    pub fn contains(label: &str, value: &str) -> Self {
        if is_value(value) {
            Self::test(label, Test::Contains(value.into()))
        } else {
            Self::none()
        }
    }

    /// `label starts with "value"`
    pub fn starts_with(label: &str, value: &str) -> Self {
        if is_value(value) {
            Self::test(label, Test::StartsWith(value.into()))
        } else {
            Self::none()
        }
    }

    /// `label ends with "value"`
    pub fn ends_with(label: &str, value: &str) -> Self {
        if is_value(value) {
            Self::test(label, Test::EndsWith(value.into()))
        } else {
            Self::none()
        }
    }

    /// A test that no absent label passes.
    fn test(label: &str, test: Test) -> Self {
        if is_label(label) {
            Self::from_node(Node::label(label, test))
        } else {
            Self::none()
        }
    }

    /// `(self && other)`, even where one of them is `all()`: [`replace_all_with`](Self::replace_all_with)
    /// may still give that `all()` another meaning.
    pub fn and(&self, other: &Self) -> Self {
        Self::from_node(Node::And([self.node().clone(), other.node().clone()].into()))
    }

    /// `(self || other)`
    pub fn or(&self, other: &Self) -> Self {
        Self::from_node(Node::Or([self.node().clone(), other.node().clone()].into()))
    }

    /// `!self`; a double negation cancels out.
    pub fn not(&self) -> Self {
        Self::from_node(self.node().clone().negate())
    }

    /// `(a && b && …)`: one part is itself, no parts are `all()`.
    pub fn all_of(parts: impl IntoIterator<Item = Self>) -> Self {
        Self::join(parts, Node::And, Node::All)
    }

    /// `(a || b || …)`: one part is itself, no parts are `!all()`.
    pub fn any_of(parts: impl IntoIterator<Item = Self>) -> Self {
        Self::join(parts, Node::Or, Node::none())
    }

    fn join(parts: impl IntoIterator<Item = Self>, combine: fn(Arc<[Node]>) -> Node, empty: Node) -> Self {
        let parts: Vec<Self> = parts.into_iter().collect();
        match parts.as_slice() {
            [] => Self::from_node(empty),
            [only] => only.clone(),
            _ => Self::from_node(combine(parts.iter().map(|part| part.node().clone()).collect())),
        }
    }

    /// Whether this is exactly `all()`.
    pub fn is_all(&self) -> bool {
        matches!(self.node(), Node::All)
    }

    /// Whether this is exactly `global()`.
    pub fn is_global(&self) -> bool {
        matches!(self.node(), Node::Global)
    }

    /// Whether `global()` occurs anywhere inside.
    pub fn contains_global(&self) -> bool {
        self.node().any(&|node| matches!(node, Node::Global))
    }

    /// Puts `prefix` before every label name: `role == "a"` becomes `pcns.role == "a"`.
    pub fn map_labels(&self, prefix: &str) -> Self {
        self.rewrite(|leaf| match leaf {
            Node::Label { key, test } => {
                let name = format!("{prefix}{key}");
                Some(if is_label(&name) {
                    Node::label(&name, test.clone())
                } else {
                    unlabelled(test)
                })
            }
            _ => None,
        })
    }

    /// Puts `with` in the place of every `all()` inside.
    pub fn replace_all_with(&self, with: &Self) -> Self {
        self.rewrite(|leaf| matches!(leaf, Node::All).then(|| with.node().clone()))
    }

    /// Puts `with` in the place of every `global()` inside.
    pub fn replace_global_with(&self, with: &Self) -> Self {
        self.rewrite(|leaf| matches!(leaf, Node::Global).then(|| with.node().clone()))
    }

    fn rewrite(&self, change: impl Fn(&Node) -> Option<Node>) -> Self {
        Self::from_node(self.node().rewrite(&change))
    }

    /// The canonical form, as Calico renders it; parses back to an equal selector.
    pub fn canonical(&self) -> &str {
        &self.inner.canonical
    }

    /// Evaluates on labels by name. For many evaluations see [`compile`](Self::compile).
    pub fn matches_map(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_with(|key| labels.get(key).map(String::as_str))
    }

    /// Evaluates on labels looked up by a function.
    pub fn matches_with<'l>(&self, get: impl Fn(&str) -> Option<&'l str>) -> bool {
        self.node().matches(&get)
    }

    /// Readies the selector for evaluation on labels of `interner`.
    pub fn compile(&self, interner: &mut Interner) -> Compiled {
        Compiled::new(self.node(), interner)
    }

    /// What every label set that matches has in common.
    pub fn restrictions(&self) -> Restrictions {
        Restrictions::of(self.node())
    }
}

/// The values that some label can have.
fn expressible<V: AsRef<str>>(values: impl IntoIterator<Item = V>) -> Values {
    let values: Vec<V> = values.into_iter().collect();
    Values::new(
        values
            .iter()
            .map(AsRef::as_ref)
            .filter(|value| is_value(value))
            .collect(),
    )
}

/// What remains of a test on a label that no object can carry.
fn unlabelled(test: &Test) -> Node {
    match test {
        Test::NotEqual(_) | Test::NotIn(_) => Node::All,
        _ => Node::none(),
    }
}

impl Default for Selector {
    /// `all()`, as an empty text.
    fn default() -> Self {
        Self::all()
    }
}

impl FromStr for Selector {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.canonical())
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Selector({})", self.canonical())
    }
}

impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner) || self.canonical() == other.canonical()
    }
}

impl Eq for Selector {}

impl Hash for Selector {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.canonical().hash(state);
    }
}

impl PartialOrd for Selector {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Selector {
    fn cmp(&self, other: &Self) -> Ordering {
        self.canonical().cmp(other.canonical())
    }
}
