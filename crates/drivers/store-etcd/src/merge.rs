use serde_json::Value;

/// Carries fields that we do not know from what is stored into what is to be written.
///
/// `known` is the stored value as we understand it (read into our types and written again), `new` what is to be written.
/// What the caller left as it was stays byte for byte as stored; in what was changed, fields of objects that are stored
/// but not known are kept. That includes the elements of lists, where it is clear which one an element was.
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
            Value::Array(keep_in_list(stored, known, new))
        }
        (_, _, new) => new,
    }
}

/// Fields by which an element of a list is told from the others, where it has one.
const IDENTITIES: [&str; 4] = ["name", "id", "handle_id", "cidr"];

/// An element is taken for the one that is equal to it, else for the one of the same name, else, in a list of the same
/// length, for the one at the same place. No two are taken for the same one.
fn keep_in_list(stored: Vec<Value>, known: &[Value], new: Vec<Value>) -> Vec<Value> {
    let plain = |v: &Value| !(v.is_object() || v.is_array());
    if stored.len() != known.len() || new.iter().all(plain) {
        return new;
    }
    let mut old: Vec<Option<Value>> = stored.into_iter().map(Some).collect();
    let mut kept: Vec<Option<Value>> = vec![None; new.len()];
    for (place, now) in new.iter().enumerate() {
        if known.get(place) == Some(now) {
            kept[place] = old[place].take();
        }
    }
    // What stands before an element is, as a rule, still before it: there it is looked for first.
    let mut expected = 0;
    for (place, now) in new.iter().enumerate().filter(|(_, now)| !plain(now)) {
        if kept[place].is_none() {
            let same = |i: &usize| old[*i].is_some() && known[*i] == *now;
            let mut from_there = (expected..known.len()).chain(0..expected.min(known.len()));
            if let Some(was) = from_there.find(same) {
                kept[place] = old[was].take();
                expected = was + 1;
            }
        }
    }
    let same_length = known.len() == new.len();
    let merged = new.into_iter().enumerate().map(|(place, now)| {
        if let Some(kept) = kept[place].take() {
            return kept;
        }
        let own = identity(&now);
        let was = match own {
            Some(own) => (0..known.len()).find(|i| old[*i].is_some() && identity(&known[*i]) == Some(own)),
            None => same_length.then_some(place),
        };
        match was.and_then(|i| Some((old[i].take()?, &known[i]))) {
            Some((was, known)) => keep_unknown(was, known, now),
            None => now,
        }
    });
    merged.collect()
}

fn identity(element: &Value) -> Option<&Value> {
    IDENTITIES.iter().find_map(|field| element.get(*field))
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

    fn list(stored: Value, known: Value, new: Value) -> Value {
        keep_unknown(stored, &known, new)
    }

    #[test]
    fn an_element_that_changed_at_its_place_keeps_what_is_unknown() {
        let stored = json!([{"p": 1, "x": 1}, {"p": 2, "m": {"k": 1, "y": 2}}, {"p": 3, "x": 3}]);
        let known = json!([{"p": 1}, {"p": 2, "m": {"k": 1}}, {"p": 3}]);
        let new = json!([{"p": 1}, {"p": 9, "m": {"k": 5}}, {"p": 3}]);
        let want = json!([{"p": 1, "x": 1}, {"p": 9, "m": {"k": 5, "y": 2}}, {"p": 3, "x": 3}]);
        assert_eq!(list(stored, known, new), want);
    }

    #[test]
    fn an_element_is_found_by_its_name_wherever_it_is() {
        let stored = json!([{"name": "a", "p": 1, "x": 1}, {"name": "b", "p": 2, "x": 2}]);
        let known = json!([{"name": "a", "p": 1}, {"name": "b", "p": 2}]);
        let new = json!([{"name": "c", "p": 7}, {"name": "b", "p": 5}, {"name": "a", "p": 1}]);
        let want =
            json!([{"name": "c", "p": 7}, {"name": "b", "p": 5, "x": 2}, {"name": "a", "p": 1, "x": 1}]);
        assert_eq!(list(stored, known, new), want);
    }

    #[test]
    fn elements_that_moved_take_what_is_unknown_along_and_new_ones_inherit_nothing() {
        let stored = json!([{"p": 1, "x": 1}, {"p": 2, "x": 2}]);
        let known = json!([{"p": 1}, {"p": 2}]);
        let new = json!([{"p": 0}, {"p": 1}, {"p": 2}]);
        let want = json!([{"p": 0}, {"p": 1, "x": 1}, {"p": 2, "x": 2}]);
        assert_eq!(list(stored.clone(), known.clone(), new), want);
        let swapped = json!([{"p": 2}, {"p": 1}]);
        let want = json!([{"p": 2, "x": 2}, {"p": 1, "x": 1}]);
        assert_eq!(list(stored.clone(), known.clone(), swapped), want);
        // Another name at the same place is another thing.
        let named = json!([{"p": 1}, {"name": "n", "p": 2}]);
        assert_eq!(
            list(stored, known, named),
            json!([{"p": 1, "x": 1}, {"name": "n", "p": 2}])
        );
    }

    #[test]
    fn equal_elements_keep_each_its_own() {
        let stored = json!([{"p": 1, "x": 1}, {"p": 1, "x": 2}, {"p": 1}]);
        let known = json!([{"p": 1}, {"p": 1}, {"p": 1}]);
        let new = json!([{"p": 1}, {"p": 1}, {"p": 4}]);
        let want = json!([{"p": 1, "x": 1}, {"p": 1, "x": 2}, {"p": 4}]);
        assert_eq!(list(stored, known, new), want);
    }

    #[test]
    fn unchanged_means_untouched() {
        let stored = json!({"b": null, "a": {"x": 1}});
        let known = json!({"a": {}});
        assert_eq!(keep_unknown(stored.clone(), &known, known.clone()), stored);
    }
}
