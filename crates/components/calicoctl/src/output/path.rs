//! Paths to fields, for columns of the user's own.

use serde_json::Value;

/// A path such as `.spec.ingress[0].action` or `.metadata.labels.a\.b`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(usize),
    /// `[*]`: every element.
    All,
}

impl Path {
    /// Reads a path.
    ///
    /// # Errors
    /// With what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let bad = |why: &str| format!("{text:?} is no path ({why}): a path is like .spec.ingress[0].action");
        let mut steps = Vec::new();
        let mut chars = text.strip_prefix('.').unwrap_or(text).chars().peekable();
        let mut name = String::new();
        while let Some(c) = chars.next() {
            match c {
                '\\' => name.push(chars.next().ok_or_else(|| bad("\\ at the end"))?),
                '.' => {
                    // After an index, the point only leads on.
                    if !name.is_empty() {
                        steps.push(Step::Field(std::mem::take(&mut name)));
                    } else if !matches!(steps.last(), Some(Step::Index(_) | Step::All)) {
                        return Err(bad("an empty name"));
                    }
                }
                '[' => {
                    if !name.is_empty() {
                        steps.push(Step::Field(std::mem::take(&mut name)));
                    }
                    let inside: String = chars.by_ref().take_while(|c| *c != ']').collect();
                    steps.push(match inside.as_str() {
                        "*" => Step::All,
                        n => Step::Index(n.parse().map_err(|_| bad("an index is a number or *"))?),
                    });
                }
                c => name.push(c),
            }
        }
        if !name.is_empty() {
            steps.push(Step::Field(name));
        }
        if steps.is_empty() {
            return Err(bad("it is empty"));
        }
        Ok(Self(steps))
    }

    /// What stands there, as text; several values with commas between them.
    pub(crate) fn text(&self, value: &Value) -> String {
        let mut found = vec![value];
        for step in &self.0 {
            found = found
                .into_iter()
                .flat_map(|v| match (step, v) {
                    (Step::Field(name), v) => v.get(name.as_str()).into_iter().collect::<Vec<_>>(),
                    (Step::Index(i), v) => v.get(*i).into_iter().collect(),
                    (Step::All, Value::Array(items)) => items.iter().collect(),
                    (Step::All, Value::Object(fields)) => fields.values().collect(),
                    (Step::All, _) => Vec::new(),
                })
                .collect();
        }
        if found.is_empty() {
            return "<none>".to_owned();
        }
        let texts = found.into_iter().map(|v| match v {
            Value::String(s) => s.clone(),
            other => other.to_string(),
        });
        texts.collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_find_fields() {
        let value = json!({"spec": {"order": 5, "rules": [{"a": "x"}, {"a": "y"}], "nets": ["n"]},
                           "metadata": {"labels": {"a.b": "c"}}});
        for (path, want) in [
            (".spec.order", "5"),
            ("spec.rules[1].a", "y"),
            (".spec.rules[*].a", "x,y"),
            (".spec.nets", "[\"n\"]"),
            (".metadata.labels.a\\.b", "c"),
            (".spec.nope.x", "<none>"),
            (".spec.rules[9]", "<none>"),
        ] {
            assert_eq!(Path::parse(path).unwrap().text(&value), want, "{path}");
        }
        for bad in ["", ".", "a..b", "a[x]", "a\\"] {
            assert!(Path::parse(bad).is_err(), "{bad}");
        }
    }
}
