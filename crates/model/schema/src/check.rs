//! What an API server would refuse an object for.

mod defaults;
mod form;
mod meta;
mod walk;

use std::fmt;

use caracal_api::{FieldPath, Kind};
use serde_json::Value;

use crate::{Group, Schema, cel, schema_of};

/// A reason to refuse an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The field.
    pub path: FieldPath,
    /// Its value, shortened; empty where that says nothing.
    pub value: String,
    /// What is wrong.
    pub message: String,
    /// What is allowed instead; empty where the message says it.
    pub allowed: String,
    /// The rule between fields that does not hold, if it is one.
    pub rule: Option<&'static str>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_root() {
            write!(f, "{}: ", self.path)?;
        }
        if !self.value.is_empty() {
            write!(f, "{} ", self.value)?;
        }
        f.write_str(&self.message)?;
        if !self.allowed.is_empty() {
            write!(f, "; allowed: {}", self.allowed)?;
        }
        Ok(())
    }
}

/// Everything that the API server of a group would refuse an object of a kind for, when it is made; none for a kind
/// without a schema. Rules that compare with an earlier version of the object are not asked.
#[must_use]
pub fn check(kind: Kind, group: Group, object: &Value) -> Vec<Finding> {
    schema_of(kind, group).map_or_else(Vec::new, |schema| check_value(schema, object))
}

/// As [`check`], by a schema.
#[must_use]
pub fn check_value(schema: &Schema, object: &Value) -> Vec<Finding> {
    let mut object = object.clone();
    defaults::fill(schema, &mut object);
    let mut findings = Vec::new();
    meta::check(&object, &mut findings);
    walk::check(schema, &object, &mut findings);
    // A rule presupposes that what it looks at has the right type.
    let sound = findings.is_empty();
    cel::check(schema, &object, sound, &mut findings);
    findings
}

/// A value as it is shown in a message.
fn shown(value: &Value) -> String {
    let mut text = value.to_string();
    if let Some((end, _)) = text.char_indices().nth(80) {
        text.truncate(end);
        text.push('…');
    }
    text
}
