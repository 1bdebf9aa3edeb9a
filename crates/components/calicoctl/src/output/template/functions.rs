//! The functions that a template may call.

use std::cmp::Ordering;

use serde_json::Value;

use super::format::{glimpse, printf, shown};

/// Whether a value counts as true: neither false, zero, empty nor absent.
pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(s) => !s.is_empty(),
        Value::Array(a) => !a.is_empty(),
        Value::Object(o) => !o.is_empty(),
    }
}

/// Calls a function by its name.
///
/// # Errors
/// When there is none of that name, or its arguments do not fit.
pub(super) fn call(name: &str, arguments: Vec<Value>) -> Result<Value, String> {
    let unfit = || {
        format!(
            "{name} cannot take these arguments: {}",
            arguments.iter().map(glimpse).collect::<Vec<_>>().join(" ")
        )
    };
    match (name, arguments.as_slice()) {
        ("call", [Value::Null, ..]) => Err("call: there is nothing to call".to_owned()),
        ("call", [v, ..]) => Err(format!("call: {} is no function; objects hold none", glimpse(v))),
        ("not", [v]) => Ok(Value::Bool(!truth(v))),
        ("len", [v]) => length(v).map(Value::from).ok_or_else(unfit),
        ("index", [v, path @ ..]) => path.iter().try_fold(v.clone(), |v, key| index(&v, key)),
        ("slice", [v, bounds @ ..]) => slice(v, bounds).ok_or_else(unfit),
        ("eq", [a, others @ ..]) if !others.is_empty() => {
            for b in others {
                if same(a, b).ok_or_else(unfit)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        ("ne", [a, b]) => Ok(Value::Bool(!same(a, b).ok_or_else(unfit)?)),
        ("lt" | "le" | "gt" | "ge", [a, b]) => {
            let order = compare(a, b).ok_or_else(unfit)?;
            Ok(Value::Bool(match name {
                "lt" => order == Ordering::Less,
                "le" => order != Ordering::Greater,
                "gt" => order == Ordering::Greater,
                _ => order != Ordering::Less,
            }))
        }
        ("print", _) => Ok(Value::String(print(&arguments))),
        ("println", _) => Ok(Value::String(list(&arguments, " ") + "\n")),
        ("printf", [Value::String(format), values @ ..]) => printf(format, values).map(Value::String),
        ("html" | "js" | "urlquery", _) => {
            let text = print(&arguments);
            Ok(Value::String(match name {
                "html" => html(&text),
                "js" => js(&text),
                _ => url_query(&text),
            }))
        }
        ("join", [Value::Array(items), Value::String(between)]) => Ok(Value::String(list(items, between))),
        ("join", [Value::Null, Value::String(_)]) => Ok(Value::String(String::new())),
        (
            "call" | "not" | "len" | "index" | "slice" | "eq" | "ne" | "lt" | "le" | "gt" | "ge" | "printf"
            | "join",
            _,
        ) => Err(unfit()),
        _ => Err(format!("there is no function {name}")),
    }
}

fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&#34;",
            '\'' => out += "&#39;",
            c => out.push(c),
        }
    }
    out
}

/// For a text in quotes of JavaScript.
fn js(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '\'' | '"' => {
                out.push('\\');
                out.push(c);
            }
            '<' | '>' | '&' | '=' => out += &format!("\\u{:04X}", u32::from(c)),
            c if c.is_control() => out += &format!("\\u{:04X}", u32::from(c)),
            c => out.push(c),
        }
    }
    out
}

/// For a value in the query of an address.
fn url_query(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        match b {
            b' ' => out.push('+'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(b)),
            b => out += &format!("%{b:02X}"),
        }
    }
    out
}

fn list(values: &[Value], between: &str) -> String {
    values.iter().map(shown).collect::<Vec<_>>().join(between)
}

/// As Go's `Sprint`: a space between two values of which neither is a text.
fn print(values: &[Value]) -> String {
    let mut text = String::new();
    for (i, value) in values.iter().enumerate() {
        if i > 0 && !value.is_string() && !values[i - 1].is_string() {
            text.push(' ');
        }
        text += &shown(value);
    }
    text
}

fn length(value: &Value) -> Option<usize> {
    match value {
        Value::String(s) => Some(s.len()),
        Value::Array(a) => Some(a.len()),
        Value::Object(o) => Some(o.len()),
        Value::Null => Some(0),
        Value::Bool(_) | Value::Number(_) => None,
    }
}

fn index(value: &Value, key: &Value) -> Result<Value, String> {
    match (value, key) {
        (Value::Array(items), Value::Number(n)) => n
            .as_u64()
            .and_then(|i| items.get(usize::try_from(i).ok()?))
            .cloned()
            .ok_or_else(|| format!("there is no element {n} in a list of {}", items.len())),
        (Value::Object(fields), Value::String(k)) => Ok(fields.get(k).cloned().unwrap_or(Value::Null)),
        (Value::Null, _) => Ok(Value::Null),
        _ => Err(format!("index cannot find {key} in {}", glimpse(value))),
    }
}

fn slice(value: &Value, bounds: &[Value]) -> Option<Value> {
    let bound = |i: usize| usize::try_from(bounds.get(i)?.as_u64()?).ok();
    let from = if bounds.is_empty() { 0 } else { bound(0)? };
    let to = if bounds.len() > 1 {
        bound(1)?
    } else {
        length(value)?
    };
    match value {
        Value::String(s) => s.get(from..to).map(Value::from),
        Value::Array(a) => a.get(from..to).map(Value::from),
        _ => None,
    }
}

/// Whether two values are equal; nothing when they cannot be compared. Numbers can, whole or not: which they are depends on
/// the object, and whoever writes a template does not see it.
fn same(a: &Value, b: &Value) -> Option<bool> {
    match (a, b) {
        (Value::Null, _) | (_, Value::Null) => Some(a == b),
        (Value::Number(a), Value::Number(b)) => Some(a.as_f64() == b.as_f64()),
        (Value::Bool(_), Value::Bool(_)) | (Value::String(_), Value::String(_)) => Some(a == b),
        _ => None,
    }
}

fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}
