//! The label selector language: parser, canonical form, evaluation, analysis.
//!
//! A selector is a boolean expression over the labels of an endpoint, a network set, a node or a
//! namespace: `role == "db" && !has(legacy)`. This crate knows the whole language and nothing else:
//!
//! - [`Selector`]: the expression, from text ([`Selector::parse`]) or from parts
//!   ([`Selector::eq`], [`Selector::and`], …). Scoping (to a namespace, to a service account) is
//!   done on the expression, never on its text.
//! - [`ParseError`]: where the text goes wrong, and what to write instead.
//! - [`Interner`], [`LabelSet`], [`Labels`], [`Compiled`]: evaluation for an index of many
//!   endpoints, on small integers instead of strings.
//! - [`Restrictions`]: what every match must have, so that an index looks only where matches can be.
//!
//! ```
//! use caracal_selector::{Interner, LabelSet, Selector};
//!
//! let selector = Selector::parse("role in {'web', 'db'}")?.and(&Selector::has("team"));
//! assert_eq!(selector.canonical(), r#"(role in {"db", "web"} && has(team))"#);
//!
//! let mut interner = Interner::new();
//! let compiled = selector.compile(&mut interner);
//! let pod = LabelSet::new(&mut interner, [("role", "db")]);
//! let profile = LabelSet::new(&mut interner, [("team", "red")]);
//! assert!(!compiled.matches(&pod, &interner));
//! assert!(compiled.matches(&(&pod, &profile), &interner));
//!
//! let error = Selector::parse("role = 'db'").unwrap_err();
//! assert_eq!((error.position(), error.hint()), (5, Some("to compare, write ==")));
//! # Ok::<(), caracal_selector::ParseError>(())
//! ```
//!
//! # Invariants
//!
//! - The canonical form ([`Selector::canonical`], also `Display`) parses back to an equal selector,
//!   and two selectors are equal exactly when their canonical forms are.
//! - No text makes the parser panic or exhaust the stack: nesting is bounded.
//! - A label set that matches a selector satisfies its [`Restrictions`].
//! - [`Compiled::matches`] and [`Selector::matches_map`] always agree.

mod compiled;
mod error;
mod intern;
mod labels;
mod lexer;
mod node;
mod parser;
mod restrict;
mod selector;

pub use compiled::Compiled;
pub use error::ParseError;
pub use intern::{Interner, Symbol};
pub use labels::{LabelSet, Labels};
pub use lexer::{MAX_LABEL_LENGTH, is_label, is_value};
pub use restrict::{Restriction, Restrictions};
pub use selector::Selector;
