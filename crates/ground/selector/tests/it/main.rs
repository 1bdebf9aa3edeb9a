//! The language from outside: tables of examples, and properties of random selectors.

mod language;
mod properties;
