//! Selectors as flat programs over symbols.

use crate::intern::{Interner, Symbol};
use crate::labels::Labels;
use crate::node::{Node, Test};

/// A selector ready for evaluation on interned labels: no recursion, no string comparison but for
/// `contains`, `starts with` and `ends with`.
#[derive(Debug, Clone)]
pub struct Compiled {
    steps: Box<[Step]>,
}

/// One step of the program, which works on a single truth value. Jumps go forward only.
#[derive(Debug, Clone)]
enum Step {
    Set(bool),
    Test {
        key: Symbol,
        check: Check,
    },
    Flip,
    /// Ends an `&&` early: goes to the step if the value is false.
    UnlessSkipTo(usize),
    /// Ends an `||` early: goes to the step if the value is true.
    IfSkipTo(usize),
}

#[derive(Debug, Clone)]
enum Check {
    Present,
    Equal(Symbol),
    NotEqual(Symbol),
    /// Sorted.
    In(Box<[Symbol]>),
    NotIn(Box<[Symbol]>),
    Contains(Symbol),
    StartsWith(Symbol),
    EndsWith(Symbol),
}

impl Compiled {
    pub(crate) fn new(node: &Node, interner: &mut Interner) -> Self {
        let mut steps = Vec::new();
        emit(node, interner, &mut steps);
        Self {
            steps: steps.into_boxed_slice(),
        }
    }

    /// Evaluates on labels whose symbols are of the interner that this was compiled with, which is
    /// needed to look into values.
    pub fn matches(&self, labels: &(impl Labels + ?Sized), interner: &Interner) -> bool {
        let mut value = true;
        let mut at = 0;
        while let Some(step) = self.steps.get(at) {
            at += 1;
            match step {
                Step::Set(to) => value = *to,
                Step::Test { key, check } => value = check.holds(labels.get(*key), interner),
                Step::Flip => value = !value,
                Step::UnlessSkipTo(end) if !value => at = *end,
                Step::IfSkipTo(end) if value => at = *end,
                Step::UnlessSkipTo(_) | Step::IfSkipTo(_) => {}
            }
        }
        value
    }

    /// The label names that the selector asks for; one may come several times.
    pub fn keys(&self) -> impl Iterator<Item = Symbol> {
        self.steps.iter().filter_map(|step| match step {
            Step::Test { key, .. } => Some(*key),
            _ => None,
        })
    }

    /// Every symbol in use, for [`Interner::retain`].
    pub fn symbols(&self) -> impl Iterator<Item = Symbol> {
        self.steps.iter().flat_map(|step| {
            let (key, values): (Option<Symbol>, &[Symbol]) = match step {
                Step::Test { key, check } => (Some(*key), check.values()),
                _ => (None, &[]),
            };
            key.into_iter().chain(values.iter().copied())
        })
    }
}

impl Check {
    fn new(test: &Test, interner: &mut Interner) -> Self {
        match test {
            Test::Has => Check::Present,
            Test::Equal(value) => Check::Equal(interner.intern(value)),
            Test::NotEqual(value) => Check::NotEqual(interner.intern(value)),
            Test::In(values) => Check::In(sorted(values.iter().map(|value| interner.intern(value)))),
            Test::NotIn(values) => Check::NotIn(sorted(values.iter().map(|value| interner.intern(value)))),
            Test::Contains(value) => Check::Contains(interner.intern(value)),
            Test::StartsWith(value) => Check::StartsWith(interner.intern(value)),
            Test::EndsWith(value) => Check::EndsWith(interner.intern(value)),
        }
    }

    fn holds(&self, found: Option<Symbol>, interner: &Interner) -> bool {
        let Some(found) = found else {
            return matches!(self, Check::NotEqual(_) | Check::NotIn(_));
        };
        let text = |symbol: Symbol| interner.resolve(symbol);
        match self {
            Check::Present => true,
            Check::Equal(value) => *value == found,
            Check::NotEqual(value) => *value != found,
            Check::In(values) => values.binary_search(&found).is_ok(),
            Check::NotIn(values) => values.binary_search(&found).is_err(),
            Check::Contains(value) => text(found).contains(text(*value)),
            Check::StartsWith(value) => text(found).starts_with(text(*value)),
            Check::EndsWith(value) => text(found).ends_with(text(*value)),
        }
    }

    fn values(&self) -> &[Symbol] {
        match self {
            Check::Present => &[],
            Check::In(values) | Check::NotIn(values) => values,
            Check::Equal(value)
            | Check::NotEqual(value)
            | Check::Contains(value)
            | Check::StartsWith(value)
            | Check::EndsWith(value) => std::slice::from_ref(value),
        }
    }
}

fn sorted(symbols: impl Iterator<Item = Symbol>) -> Box<[Symbol]> {
    let mut symbols: Vec<Symbol> = symbols.collect();
    symbols.sort_unstable();
    symbols.into_boxed_slice()
}

fn emit(node: &Node, interner: &mut Interner, steps: &mut Vec<Step>) {
    match node {
        Node::All | Node::Global => steps.push(Step::Set(true)),
        Node::Label { key, test } => {
            let key = interner.intern(key);
            steps.push(Step::Test {
                key,
                check: Check::new(test, interner),
            });
        }
        Node::Not(inner) => {
            emit(inner, interner, steps);
            steps.push(Step::Flip);
        }
        Node::And(operands) => emit_joined(operands, Step::UnlessSkipTo, interner, steps),
        Node::Or(operands) => emit_joined(operands, Step::IfSkipTo, interner, steps),
    }
}

/// The operands one after the other, with a way out between them. Where the way out leads is known
/// only after the last.
fn emit_joined(operands: &[Node], skip: fn(usize) -> Step, interner: &mut Interner, steps: &mut Vec<Step>) {
    let mut skips = Vec::with_capacity(operands.len());
    for (index, operand) in operands.iter().enumerate() {
        if index > 0 {
            skips.push(steps.len());
            steps.push(skip(0));
        }
        emit(operand, interner, steps);
    }
    let end = steps.len();
    for at in skips {
        steps[at] = skip(end);
    }
}
