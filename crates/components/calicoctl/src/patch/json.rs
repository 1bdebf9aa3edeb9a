//! JSON patches (RFC 6902).

use serde_json::Value;

/// Does the operations one after another; nothing is changed when one cannot be done.
///
/// # Errors
/// With the operation and why it cannot be done.
pub(super) fn apply(target: &mut Value, patch: &Value) -> Result<(), String> {
    let operations = patch
        .as_array()
        .ok_or("--patch of --type json must be a list of operations")?;
    let mut changed = target.clone();
    for (i, operation) in operations.iter().enumerate() {
        one(&mut changed, operation).map_err(|e| format!("operation {} of the patch: {e}", i + 1))?;
    }
    *target = changed;
    Ok(())
}

fn one(target: &mut Value, operation: &Value) -> Result<(), String> {
    let text = |field: &str| {
        operation
            .get(field)
            .and_then(Value::as_str)
            .ok_or_else(|| format!("it needs {field:?}, a text"))
    };
    let value = || {
        operation
            .get("value")
            .cloned()
            .ok_or_else(|| "it needs \"value\"".to_owned())
    };
    let path = text("path")?;
    match text("op")? {
        "add" => add(target, path, value()?),
        "remove" => remove(target, path).map(drop),
        "replace" => {
            *at(target, path)? = value()?;
            Ok(())
        }
        "move" => {
            let from = text("from")?;
            if path.strip_prefix(from).is_some_and(|r| r.starts_with('/')) {
                return Err(format!("{from} cannot be moved into itself"));
            }
            let moved = remove(target, from)?;
            add(target, path, moved)
        }
        "copy" => {
            let copied = at(target, text("from")?)?.clone();
            add(target, path, copied)
        }
        "test" => {
            let (found, want) = (&*at(target, path)?, value()?);
            if same(found, &want) {
                return Ok(());
            }
            Err(format!("{path} is {found}, not {want}"))
        }
        other => Err(format!(
            "there is no {other:?}: it may be add, remove, replace, move, copy or test"
        )),
    }
}

/// Equal, numbers by their value.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| same(v, w)))
        }
        _ => a == b,
    }
}

fn at<'v>(target: &'v mut Value, path: &str) -> Result<&'v mut Value, String> {
    target
        .pointer_mut(path)
        .ok_or_else(|| format!("there is nothing at {path}"))
}

/// The place that holds the path's last step, and that step.
fn holder<'v>(target: &'v mut Value, path: &str) -> Result<(&'v mut Value, String), String> {
    let (before, last) = path
        .rsplit_once('/')
        .ok_or_else(|| format!("{path:?} is no path: it begins with /"))?;
    Ok((at(target, before)?, last.replace("~1", "/").replace("~0", "~")))
}

fn add(target: &mut Value, path: &str, value: Value) -> Result<(), String> {
    if path.is_empty() {
        *target = value;
        return Ok(());
    }
    match holder(target, path)? {
        (Value::Object(fields), name) => {
            fields.insert(name, value);
            Ok(())
        }
        (Value::Array(items), last) => {
            let at = if last == "-" {
                items.len()
            } else {
                position(&last, path)?
            };
            if at > items.len() {
                return Err(format!("{path} is behind the end of a list of {}", items.len()));
            }
            items.insert(at, value);
            Ok(())
        }
        _ => Err(format!("what holds {path} is neither an object nor a list")),
    }
}

fn remove(target: &mut Value, path: &str) -> Result<Value, String> {
    let missing = || format!("there is nothing at {path}");
    match holder(target, path)? {
        (Value::Object(fields), name) => fields.shift_remove(&name).ok_or_else(missing),
        (Value::Array(items), last) => match position(&last, path)? {
            at if at < items.len() => Ok(items.remove(at)),
            _ => Err(missing()),
        },
        _ => Err(missing()),
    }
}

fn position(text: &str, path: &str) -> Result<usize, String> {
    text.parse()
        .map_err(|_| format!("{path}: {text:?} is no position in a list"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn operations_are_done_in_order() {
        let mut v = json!({"a": [1, 2], "b": {"c/d": 1}});
        let patch = json!([
            {"op": "test", "path": "/a/0", "value": 1.0},
            {"op": "add", "path": "/a/1", "value": 9},
            {"op": "add", "path": "/a/-", "value": 3},
            {"op": "remove", "path": "/a/0"},
            {"op": "replace", "path": "/b/c~1d", "value": 2},
            {"op": "copy", "from": "/a/0", "path": "/e"},
            {"op": "move", "from": "/b", "path": "/f"},
        ]);
        apply(&mut v, &patch).unwrap();
        assert_eq!(v, json!({"a": [9, 2, 3], "e": 9, "f": {"c/d": 2}}));
    }

    #[test]
    fn what_cannot_be_done_changes_nothing() {
        let old = json!({"a": [1], "b": {"c": 1}});
        for bad in [
            json!({"op": "add"}),
            json!([{"op": "add", "path": "/a/5", "value": 1}]),
            json!([{"op": "add", "path": "/x/y", "value": 1}]),
            json!([{"op": "add", "path": "/b/d"}]),
            json!([{"op": "remove", "path": "/b/d"}]),
            json!([{"op": "remove", "path": ""}]),
            json!([{"op": "replace", "path": "/z", "value": 1}]),
            json!([{"op": "replace", "path": "/b/c", "value": 2}, {"op": "test", "path": "/b/c", "value": 1}]),
            json!([{"op": "move", "from": "/b", "path": "/b/c"}]),
            json!([{"op": "zap", "path": "/b"}]),
            json!([{"path": "/b"}]),
            json!([{"op": "add", "path": "/a/x", "value": 1}]),
        ] {
            let mut v = old.clone();
            assert!(apply(&mut v, &bad).is_err(), "{bad}");
            assert_eq!(v, old);
        }
    }
}
