//! The rules between fields: the part of the Common Expression Language that they are written in, with the functions
//! that Kubernetes adds for addresses.
//!
//! **Invariant:** every expression of a schema here can be read; a test reads them all.

mod eval;
mod lex;
mod net;
mod parse;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use caracal_api::FieldPath;
use serde_json::Value;

pub(crate) use self::eval::Place;
use self::parse::Expr;
use crate::{Finding, Schema};

/// Evaluates every rule of a schema on an object. Where `sound` is false the object has mistakes already, and a rule that
/// cannot be evaluated only shows them again.
pub(crate) fn check(schema: &Schema, object: &Value, sound: bool, findings: &mut Vec<Finding>) {
    visit(schema, object, &FieldPath::root(), &mut |schema, value, path| {
        for rule in schema.rules.iter().filter(|r| !is_about_change(r.expression)) {
            let held = match expression(rule.expression) {
                Ok(e) => eval::holds(&e, Place { value, schema }),
                Err(e) => Err(e.clone()),
            };
            let message = match held {
                Ok(true) => continue,
                Err(_) if !sound => continue,
                Ok(false) => rule.message.to_owned(),
                Err(why) => format!("{} ({why})", rule.message),
            };
            findings.push(Finding {
                path: only_field(rule.expression, value).map_or_else(|| path.clone(), |f| path.key(f)),
                value: String::new(),
                message,
                allowed: String::new(),
                rule: Some(rule.expression),
            });
        }
    });
}

/// The one field that a rule is about, if it is about one and that is there.
fn only_field<'r>(expression: &'r str, value: &Value) -> Option<&'r str> {
    let names = expression.split("self.").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        &rest[..end.unwrap_or(rest.len())]
    });
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.dedup();
    match names.as_slice() {
        [one] if value.get(one).is_some() => Some(one),
        _ => None,
    }
}

/// Whether a rule compares with the version of the object before.
fn is_about_change(expression: &str) -> bool {
    expression.contains("oldSelf")
}

type Parsed = Result<Arc<Expr>, String>;

/// The parsed form of an expression; there are less than a hundred.
fn expression(text: &'static str) -> Parsed {
    static ALL: OnceLock<Mutex<HashMap<&'static str, Parsed>>> = OnceLock::new();
    // Nothing in here can panic half-way.
    let mut all = ALL
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    all.entry(text)
        .or_insert_with(|| parse::parse(text).map(Arc::new))
        .clone()
}

/// Calls `f` for each value with its schema.
fn visit<'v>(
    schema: &'v Schema,
    value: &'v Value,
    path: &FieldPath,
    f: &mut impl FnMut(&'v Schema, &'v Value, &FieldPath),
) {
    if value.is_null() {
        return;
    }
    if !schema.rules.is_empty() {
        f(schema, value, path);
    }
    match value {
        Value::Object(fields) => {
            for (name, v) in fields {
                if let Some(s) = schema.properties.get(name).or(schema.additional.as_deref()) {
                    visit(s, v, &path.key(name), f);
                }
            }
        }
        Value::Array(items) => {
            if let Some(s) = &schema.items {
                for (i, v) in items.iter().enumerate() {
                    visit(s, v, &path.index(i), f);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
