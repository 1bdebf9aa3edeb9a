use serde_json::Value;

/// Carries fields that we do not know from what is stored into what is to be written.
///
/// `known` is the stored value as we understand it (read into our types and written again), `new` what is to be written.
/// What the caller left as it was stays byte for byte as stored; in what was changed, fields of objects that are stored
/// but not known are kept.
pub(crate) fn keep_unknown(stored: Value, known: &Value, new: Value) -> Value {
    if *known == new {
        return stored;
    }
    match (stored, known, new) {
        (Value::Object(stored), Value::Object(known), Value::Object(mut new)) => {
            for (field, was) in stored {
                match (known.get(&field), new.remove(&field)) {
                    (Some(known), Some(now)) => {
                        new.insert(field, keep_unknown(was, known, now));
                    }
                    // The caller gave a value to a field that we would have left out.
                    (None, Some(now)) => {
                        new.insert(field, now);
                    }
                    (None, None) => {
                        new.insert(field, was);
                    }
                    // The caller took the field away.
                    (Some(_), None) => {}
                }
            }
            Value::Object(new)
        }
        (Value::Array(stored), Value::Array(known), Value::Array(new)) => {
            let mut old = stored.into_iter().zip(known);
            let kept = new.into_iter().map(|now| match old.next() {
                Some((was, known)) if *known == now => was,
                _ => now,
            });
            Value::Array(kept.collect())
        }
        (_, _, new) => new,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn unknown_fields_survive_and_known_ones_obey() {
        let stored =
            json!({"a": 1, "x": "?", "o": {"k": 1, "y": 2}, "gone": 1, "l": [{"r": 1, "z": 9}, {"r": 2}]});
        let known = json!({"a": 1, "o": {"k": 1}, "gone": 1, "l": [{"r": 1}, {"r": 2}]});
        let new = json!({"a": 2, "o": {"k": 3}, "l": [{"r": 1}, {"r": 5}], "n": true});
        let merged = keep_unknown(stored, &known, new);
        let want =
            json!({"a": 2, "x": "?", "o": {"k": 3, "y": 2}, "l": [{"r": 1, "z": 9}, {"r": 5}], "n": true});
        assert_eq!(merged, want);
    }

    #[test]
    fn unchanged_means_untouched() {
        let stored = json!({"b": null, "a": {"x": 1}});
        let known = json!({"a": {}});
        assert_eq!(keep_unknown(stored.clone(), &known, known.clone()), stored);
    }
}
