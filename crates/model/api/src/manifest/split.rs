use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed},
};
use serde_json::{Map, Number, Value};

/// A document of a source before anything is known about it.
pub(super) struct Raw<'t> {
    /// Counted from 1.
    pub(super) number: usize,
    /// Counted from 1.
    pub(super) first_line: u64,
    pub(super) text: &'t str,
    pub(super) value: Result<Value, Syntax>,
}

/// Text that is neither YAML nor JSON.
pub(super) struct Syntax {
    /// In the source, counted from 1.
    pub(super) line: Option<u64>,
    pub(super) message: String,
}

/// As Kubernetes reads YAML: old octal numbers, `yes` and `on` are booleans; bounded in depth and alias expansion, not
/// in size.
pub(super) fn yaml_options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: usize::MAX,
            max_events: usize::MAX,
            max_total_scalar_bytes: usize::MAX,
            max_total_comment_bytes: usize::MAX,
            max_recorded_anchor_events: 100_000,
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
        legacy_octal_numbers: true,
        with_snippet: false,
        emit_comments: false,
    }
}

/// Splits a source into its documents and reads each; empty ones are left out.
pub(super) fn documents(text: &str) -> Vec<Raw<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_start().starts_with(['{', '['])
        && let Some(docs) = json_stream(text)
    {
        return docs;
    }
    let mut docs = Vec::new();
    for (number, (first_line, part)) in yaml_parts(text).into_iter().enumerate() {
        if is_blank(part) {
            continue;
        }
        let value = match plain_json(part) {
            Some(value) => Ok(value),
            None => serde_saphyr::from_str_with_options::<Value>(part, yaml_options())
                .map_err(|e| yaml_error(&e, first_line)),
        };
        if !matches!(value, Ok(Value::Null)) {
            docs.push(Raw {
                number: number + 1,
                first_line,
                text: part,
                value,
            });
        }
    }
    docs
}

/// Whether nothing but comments, directives and markers is there.
fn is_blank(part: &str) -> bool {
    part.lines().all(|l| {
        let l = l.trim();
        l.is_empty() || l.starts_with('#') || l.starts_with('%') || l == "..."
    })
}

/// The parts between lines that start with `---`, each with the number of its first line. What follows the marker on
/// its line belongs to the part after it.
fn yaml_parts(text: &str) -> Vec<(u64, &str)> {
    let mut parts = Vec::new();
    let (mut start, mut start_line) = (0, 1);
    let (mut at, mut line) = (0, 1);
    for l in text.split_inclusive('\n') {
        if let Some(rest) = l.strip_prefix("---")
            && (rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r']))
        {
            // A marker at the very start opens the first document instead of ending one.
            if !is_blank(&text[start..at]) || !parts.is_empty() {
                parts.push((start_line, &text[start..at]));
            }
            start = at + 3;
            start_line = line;
        }
        at += l.len();
        line += 1;
    }
    parts.push((start_line, &text[start..]));
    parts
}

fn yaml_error(e: &serde_saphyr::Error, first_line: u64) -> Syntax {
    let text = e
        .without_snippet()
        .render_with_formatter(&serde_saphyr::UserMessageFormatter);
    let at = e.location().filter(|l| l.line() > 0);
    Syntax {
        line: at.map(|l| first_line + l.line() - 1),
        message: without_position(&text, at.map(|l| l.column())),
    }
}

/// The parsers say where in the document an error is; a user looks for the place in the source.
fn without_position(text: &str, column: Option<u64>) -> String {
    let text = text.split(" at line ").next().unwrap_or(text);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match column {
        Some(c) => format!("{text} (column {c})"),
        None => text,
    }
}

/// The value of a document that is JSON and nothing else: YAML would read it the same, many times slower.
fn plain_json(part: &str) -> Option<Value> {
    let text = part.trim();
    if !text.starts_with('{') {
        return None;
    }
    serde_json::from_str(text).map(|NoDuplicates(value)| value).ok()
}

/// The documents of a stream of JSON values; `None` when it may be YAML in flow style.
fn json_stream(text: &str) -> Option<Vec<Raw<'_>>> {
    let mut docs = Vec::new();
    let mut at = 0;
    let (mut counted, mut lines) = (0, 1);
    loop {
        let rest = text[at..].trim_start();
        at = text.len() - rest.len();
        if rest.is_empty() {
            return Some(docs);
        }
        lines += text[counted..at].matches('\n').count() as u64;
        counted = at;
        let first_line = lines;
        if rest.starts_with("---") {
            return None;
        }
        let number = docs.len() + 1;
        let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<NoDuplicates>();
        let next = stream.next()?;
        let end = stream.byte_offset();
        match next {
            Ok(NoDuplicates(value)) => {
                let text = &rest[..end];
                at += end;
                docs.push(Raw {
                    number,
                    first_line,
                    text,
                    value: Ok(value),
                });
            }
            Err(e) if docs.is_empty() && !e.is_data() => return None,
            Err(e) => {
                // After a syntax error nobody knows where the next value starts.
                docs.push(Raw {
                    number,
                    first_line,
                    text: rest,
                    value: Err(Syntax {
                        line: Some(first_line + (e.line() as u64).saturating_sub(1)),
                        message: without_position(&e.to_string(), Some(e.column() as u64)),
                    }),
                });
                return Some(docs);
            }
        }
    }
}

/// A JSON value in which no object has a key twice: `serde_json` alone would silently keep the last.
struct NoDuplicates(Value);

impl<'de> Deserialize<'de> for NoDuplicates {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Checked.deserialize(d).map(NoDuplicates)
    }
}

struct Checked;

impl<'de> DeserializeSeed<'de> for Checked {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> de::Visitor<'de> for Checked {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(de::Error::custom(format!("the key {key:?} is there twice")));
            }
            let value = access.next_value_seed(Checked)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = access.next_element_seed(Checked)? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(Number::from_f64(v).map_or(Value::Null, Value::Number))
    }
    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> Vec<(usize, u64, bool)> {
        documents(text)
            .iter()
            .map(|d| (d.number, d.first_line, d.value.is_ok()))
            .collect()
    }

    #[test]
    fn documents_are_found_and_counted() {
        assert_eq!(shape(""), []);
        assert_eq!(shape("---\n# nothing\n---\n"), []);
        assert_eq!(shape("a: 1\n---\nb: 2\n"), [(1, 1, true), (2, 2, true)]);
        assert_eq!(
            shape("---\na: 1\n--- # second\nb: 2"),
            [(1, 1, true), (2, 3, true)]
        );
        assert_eq!(shape("%YAML 1.2\n---\na: 1\n...\n"), [(1, 2, true)]);
        assert_eq!(
            shape("a: 1\n---\nb: [\n---\nc: 3\n"),
            [(1, 1, true), (2, 2, false), (3, 4, true)]
        );
        assert_eq!(
            shape("\u{feff}a: 1\r\n---\r\nb: 2\r\n"),
            [(1, 1, true), (2, 2, true)]
        );
        assert_eq!(shape("a: |\n  text\n  ---\n"), [(1, 1, true)]);
    }

    #[test]
    fn json_comes_alone_as_stream_and_as_flow_yaml() {
        assert_eq!(shape("{\"a\":1}"), [(1, 1, true)]);
        assert_eq!(shape("{\"a\":1}\n{\"b\":2}"), [(1, 1, true), (2, 2, true)]);
        assert_eq!(shape("{a: 1}\n---\n{b: 2}\n"), [(1, 1, true), (2, 2, true)]);
        assert_eq!(shape("{\"a\":1}\n{\"b\":"), [(1, 1, true), (2, 2, false)]);
        assert_eq!(shape("{\"a\":1}\n---\n{\"b\":2}\n"), [(1, 1, true), (2, 2, true)]);
        assert_eq!(
            shape("---\n{\"a\":1}\n---\n{\"b\":1,\"b\":2}\n--- # c\n{\"d\": }\n"),
            [(1, 1, true), (2, 3, false), (3, 5, true)]
        );
    }

    #[test]
    fn a_key_twice_is_an_error_in_both_languages() {
        for text in ["{\"a\":1,\"a\":2}", "a: 1\nb: 2\na: 3\n"] {
            let docs = documents(text);
            let e = docs[0].value.as_ref().expect_err("refused");
            assert!(
                e.line.is_some() && !e.message.contains('\n'),
                "{:?} {}",
                e.line,
                e.message
            );
        }
    }

    #[test]
    fn numbers_are_read_as_kubernetes_reads_them() {
        let docs = documents("a: 0755\nb: yes\nc: 1.5\nd: \"on\"\ne: 10\n");
        let v = docs[0].value.as_ref().ok().expect("reads");
        assert_eq!(
            *v,
            serde_json::json!({"a": 493, "b": true, "c": 1.5, "d": "on", "e": 10})
        );
    }
}
