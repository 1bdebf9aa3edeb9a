//! JSON merge patches (RFC 7386), and Kubernetes' strategic ones.

use serde_json::Value;

/// Puts the fields of the patch into the target; `null` removes a field.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(into) = target else { return };
    for (name, value) in fields {
        if value.is_null() {
            into.shift_remove(name);
        } else {
            merge(into.entry(name.as_str()).or_insert(Value::Null), value);
        }
    }
}

/// As [`merge`], with the directive `$patch: replace` or `delete` for an object. The lists of Calico's kinds are replaced
/// as a whole, as they are there.
pub(super) fn strategic(target: &mut Value, patch: &Value) -> Result<(), String> {
    let Value::Object(fields) = patch else {
        *target = without_directives(patch)?;
        return Ok(());
    };
    match directive(fields)? {
        Directive::Replace => {
            *target = without_directives(patch)?;
            return Ok(());
        }
        Directive::Delete => {
            *target = Value::Null;
            return Ok(());
        }
        Directive::Merge => {}
    }
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(into) = target else {
        return Ok(());
    };
    for (name, value) in fields.iter().filter(|(name, _)| !name.starts_with('$')) {
        let mut field = into.get(name).cloned().unwrap_or(Value::Null);
        if !value.is_null() {
            strategic(&mut field, value)?;
        }
        if value.is_null() || field.is_null() {
            into.shift_remove(name);
        } else {
            into.insert(name.clone(), field);
        }
    }
    Ok(())
}

enum Directive {
    Merge,
    Replace,
    Delete,
}

fn directive(fields: &serde_json::Map<String, Value>) -> Result<Directive, String> {
    let other = fields.keys().find(|k| k.starts_with('$') && *k != "$patch");
    if let Some(other) = other {
        return Err(format!(
            "the directive {other} is not supported: use --type json to change parts of lists"
        ));
    }
    match fields.get("$patch").map(|v| (v, v.as_str())) {
        None | Some((_, Some("merge"))) => Ok(Directive::Merge),
        Some((_, Some("replace"))) => Ok(Directive::Replace),
        Some((_, Some("delete"))) => Ok(Directive::Delete),
        Some((v, _)) => Err(format!("$patch is {v}: it may be merge, replace or delete")),
    }
}

/// What replaces something is taken as it is; a directive in it would have nothing to work on.
fn without_directives(patch: &Value) -> Result<Value, String> {
    Ok(match patch {
        Value::Object(fields) => {
            directive(fields)?;
            let kept = fields.iter().filter(|(k, _)| k.as_str() != "$patch");
            let kept = kept.map(|(k, v)| Ok((k.clone(), without_directives(v)?)));
            Value::Object(kept.collect::<Result<_, String>>()?)
        }
        Value::Array(items) => {
            // An element that is nothing but the directive says that the list is replaced, which it is anyway.
            let only = |v: &Value| {
                v.as_object()
                    .is_some_and(|o| o.len() == 1 && o.contains_key("$patch"))
            };
            let kept = items.iter().filter(|v| !only(v)).map(without_directives);
            Value::Array(kept.collect::<Result<_, String>>()?)
        }
        other => other.clone(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_merged_and_lists_replaced() {
        let old = json!({"a": {"b": 1, "c": [1, 2]}, "d": 3});
        for (patch, want) in [
            (
                json!({"a": {"b": 2}}),
                json!({"a": {"b": 2, "c": [1, 2]}, "d": 3}),
            ),
            (
                json!({"a": {"c": [9]}, "d": null}),
                json!({"a": {"b": 1, "c": [9]}}),
            ),
            (
                json!({"d": {"e": 1}}),
                json!({"a": {"b": 1, "c": [1, 2]}, "d": {"e": 1}}),
            ),
        ] {
            let (mut m, mut s) = (old.clone(), old.clone());
            merge(&mut m, &patch);
            strategic(&mut s, &patch).unwrap();
            assert_eq!((m, s), (want.clone(), want));
        }
    }

    #[test]
    fn directives_replace_and_delete() {
        let old = json!({"a": {"b": 1}, "d": 3});
        for (patch, want) in [
            (
                json!({"a": {"$patch": "replace", "x": 1}}),
                json!({"a": {"x": 1}, "d": 3}),
            ),
            (json!({"a": {"$patch": "delete"}}), json!({"d": 3})),
            (
                json!({"d": [{"$patch": "replace"}, {"x": 1}]}),
                json!({"a": {"b": 1}, "d": [{"x": 1}]}),
            ),
        ] {
            let mut s = old.clone();
            strategic(&mut s, &patch).unwrap();
            assert_eq!(s, want);
        }
        for bad in [
            json!({"a": {"$patch": "zap"}}),
            json!({"$deleteFromPrimitiveList/d": [3]}),
        ] {
            assert!(strategic(&mut old.clone(), &bad).is_err());
        }
    }
}
