//! Types, bounds, forms and lists.

use std::collections::{HashMap, HashSet};

use caracal_api::{FieldPath, nearest};
use serde_json::Value;

use super::{Finding, form, shown};
use crate::{ListType, Schema, Type};

/// The fields that every object has beside its schema.
const OF_EVERY_OBJECT: &[&str] = &["apiVersion", "kind", "metadata"];

/// Holds a whole object against a schema.
pub(super) fn check(schema: &Schema, object: &Value, findings: &mut Vec<Finding>) {
    let mut walk = Walk {
        path: FieldPath::root(),
        findings,
    };
    walk.value(schema, object);
}

struct Walk<'f> {
    path: FieldPath,
    findings: &'f mut Vec<Finding>,
}

impl Walk<'_> {
    fn refuse(&mut self, value: String, message: impl Into<String>, allowed: impl Into<String>) {
        self.findings.push(Finding {
            path: self.path.clone(),
            value,
            message: message.into(),
            allowed: allowed.into(),
            rule: None,
        });
    }

    fn at(&mut self, path: FieldPath, f: impl FnOnce(&mut Self)) {
        let before = std::mem::replace(&mut self.path, path);
        f(self);
        self.path = before;
    }

    fn value(&mut self, schema: &Schema, value: &Value) {
        if value.is_null() && schema.nullable {
            return;
        }
        if !has_type(schema, value) {
            return self.refuse(shown(value), "has the wrong type", type_name(schema));
        }
        if !schema.words.is_empty() && !schema.words.contains(value) {
            self.refuse(shown(value), "is not possible here", words(schema, value));
        }
        match value {
            Value::String(text) => self.text(schema, text),
            Value::Number(n) => self.number(schema, n),
            Value::Array(items) => self.list(schema, items),
            Value::Object(fields) => self.object(schema, fields),
            _ => {}
        }
    }

    fn text(&mut self, schema: &Schema, text: &str) {
        let chars = text.chars().count();
        let b = &schema.bounds;
        if let Some(max) = b.max_length.filter(|max| chars > *max) {
            self.refuse(
                shown(&text.into()),
                format!("has {chars} characters"),
                format!("{max} at most"),
            );
        }
        if b.min_length.is_some_and(|min| chars < min) {
            self.refuse(String::new(), "is empty", "a text");
        }
        if let Some(pattern) = schema.pattern.as_deref().filter(|p| !form::matches(p, text)) {
            self.refuse(
                shown(&text.into()),
                "has the wrong form",
                form::pattern_in_words(pattern),
            );
        }
        if let Some(format) = schema.format
            && let Some(wanted) = form::unlike(format, text)
        {
            self.refuse(shown(&text.into()), "has the wrong form", wanted);
        }
    }

    fn number(&mut self, schema: &Schema, n: &serde_json::Number) {
        let Some(n) = n.as_f64() else { return };
        let (min, max) = (schema.bounds.minimum, schema.bounds.maximum);
        // The bounds are far below what a float can tell apart.
        let out = min.is_some_and(|min| n < min as f64) || max.is_some_and(|max| n > max as f64);
        if out {
            let allowed = match (min, max) {
                (Some(min), Some(max)) => format!("{min} to {max}"),
                (Some(min), None) => format!("from {min}"),
                _ => format!("up to {}", max.unwrap_or_default()),
            };
            self.refuse(n.to_string(), "is out of bounds", allowed);
        }
    }

    fn list(&mut self, schema: &Schema, items: &[Value]) {
        let (min, max) = (schema.bounds.min_items, schema.bounds.max_items);
        if let Some(max) = max.filter(|max| items.len() > *max) {
            self.refuse(
                String::new(),
                format!("has {} entries", items.len()),
                format!("{max} at most"),
            );
        }
        if let Some(min) = min.filter(|min| items.len() < *min) {
            self.refuse(
                String::new(),
                format!("has {} entries", items.len()),
                format!("at least {min}; leave the list out if there is none"),
            );
        }
        let path = self.path.clone();
        for (i, item) in items.iter().enumerate() {
            if let Some(s) = &schema.items {
                self.at(path.index(i), |w| w.value(s, item));
            }
        }
        match schema.list_type {
            Some(ListType::Set) => self.set(items.iter().map(Some)),
            Some(ListType::Map(key)) => self.set(items.iter().map(|item| item.get(key))),
            _ => {}
        }
    }

    /// Refuses what is there twice.
    fn set<'v>(&mut self, entries: impl Iterator<Item = Option<&'v Value>>) {
        let mut first: HashMap<Option<String>, usize> = HashMap::new();
        let path = self.path.clone();
        for (i, entry) in entries.enumerate() {
            let key = entry.map(Value::to_string);
            match first.get(&key) {
                None => {
                    first.insert(key, i);
                }
                Some(first) => {
                    let message = format!("is there twice: entry {first} is the same");
                    let value = entry.map(shown).unwrap_or_default();
                    self.at(path.index(i), |w| w.refuse(value, message, ""));
                }
            }
        }
    }

    fn object(&mut self, schema: &Schema, fields: &serde_json::Map<String, Value>) {
        let path = self.path.clone();
        for name in schema.required.iter().filter(|n| !fields.contains_key(*n)) {
            let allowed = schema.properties.get(name).map_or_else(String::new, type_name);
            self.at(path.key(name), |w| w.refuse(String::new(), "is missing", allowed));
        }
        let b = &schema.bounds;
        let known: HashSet<&str> = schema.properties.keys().map(String::as_str).collect();
        if b.max_properties.is_some_and(|max| fields.len() > max) {
            let given: Vec<&str> = fields.keys().map(String::as_str).collect();
            self.refuse(
                String::new(),
                format!("has {} fields: {}", fields.len(), given.join(", ")),
                "exactly one of them",
            );
        }
        if b.min_properties.is_some_and(|min| fields.len() < min) {
            let mut known: Vec<&str> = known.iter().copied().collect();
            known.sort_unstable();
            self.refuse(String::new(), "is empty", format!("one of {}", known.join(", ")));
        }
        for (name, value) in fields {
            match schema.properties.get(name).or(schema.additional.as_deref()) {
                // Any object will do: what is in it is judged elsewhere.
                Some(s) if s.properties.is_empty() && s.additional.is_none() && is_metadata(&path, name) => {
                    if !value.is_object() {
                        self.at(path.key(name), |w| w.value(s, value));
                    }
                }
                Some(s) => self.at(path.key(name), |w| w.value(s, value)),
                None if path.is_root() && OF_EVERY_OBJECT.contains(&name.as_str()) => {}
                None => self.at(path.key(name), |w| w.unknown(name, &known)),
            }
        }
    }

    fn unknown(&mut self, name: &str, known: &HashSet<&str>) {
        let mut known: Vec<&str> = known.iter().copied().collect();
        known.sort_unstable();
        let allowed = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean {near:?}?"),
            None if known.len() > 24 => String::new(),
            None => known.join(", "),
        };
        self.refuse(String::new(), "is not a field of this kind", allowed);
    }
}

fn is_metadata(path: &FieldPath, name: &str) -> bool {
    path.is_root() && name == "metadata"
}

fn has_type(schema: &Schema, value: &Value) -> bool {
    if schema.int_or_string {
        return value.is_string() || is_whole(value);
    }
    match schema.value_type {
        None => true,
        Some(Type::Object) => value.is_object(),
        Some(Type::Array) => value.is_array(),
        Some(Type::String) => value.is_string(),
        Some(Type::Boolean) => value.is_boolean(),
        Some(Type::Number) => value.is_number(),
        Some(Type::Integer) => is_whole(value),
    }
}

/// A number without a fraction, also one that is written with a point, as in JSON Schema.
fn is_whole(value: &Value) -> bool {
    /// From here on a float cannot tell neighbours apart.
    const EXACT: f64 = 9_007_199_254_740_991.0;
    match value.as_f64() {
        Some(_) if value.is_i64() || value.is_u64() => true,
        Some(n) => n.fract() == 0.0 && n.abs() <= EXACT,
        None => false,
    }
}

/// The type of a value, for people.
fn type_name(schema: &Schema) -> String {
    if schema.int_or_string {
        return "a number or a text".to_owned();
    }
    let name = match schema.value_type {
        Some(Type::Object) if schema.additional.is_some() => "a map",
        Some(Type::Object) => "an object",
        Some(Type::Array) => "a list",
        Some(Type::String) => "a text",
        Some(Type::Integer) => "a whole number",
        Some(Type::Number) => "a number",
        Some(Type::Boolean) => "true or false",
        None => "",
    };
    name.to_owned()
}

/// The possible words, the one that was probably meant first.
fn words(schema: &Schema, value: &Value) -> String {
    let known: Vec<String> = schema
        .words
        .iter()
        .map(|w| w.as_str().map_or_else(|| w.to_string(), str::to_owned))
        .collect();
    let near = value
        .as_str()
        .and_then(|v| nearest(v, known.iter().map(String::as_str)))
        .map(|n| format!("{n} (is it that?), "))
        .unwrap_or_default();
    let quoted = known.iter().map(|w| if w.is_empty() { "\"\"" } else { w });
    near + &quoted.collect::<Vec<_>>().join(", ")
}
