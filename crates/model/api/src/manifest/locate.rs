use std::{collections::HashMap, fmt};

use serde::{Deserialize, Deserializer, de};
use serde_saphyr::Spanned;

use crate::{FieldPath, Step, manifest::split::yaml_options};

/// A document's skeleton: only where things are. Built after an error, never on the good path.
struct Node(Spanned<Inner>);

enum Inner {
    Map(HashMap<String, Node>),
    List(Vec<Node>),
    Scalar,
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Spanned::deserialize(d).map(Node)
    }
}

impl<'de> Deserialize<'de> for Inner {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(InnerVisitor)
    }
}

struct InnerVisitor;

impl<'de> de::Visitor<'de> for InnerVisitor {
    type Value = Inner;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Inner, A::Error> {
        let mut fields = HashMap::new();
        while let Some((k, v)) = map.next_entry()? {
            fields.insert(k, v);
        }
        Ok(Inner::Map(fields))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Inner, A::Error> {
        let mut items = Vec::new();
        while let Some(v) = seq.next_element()? {
            items.push(v);
        }
        Ok(Inner::List(items))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Inner, E> {
        Ok(Inner::Scalar)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Inner, E> {
        Ok(Inner::Scalar)
    }
    fn visit_i128<E>(self, _: i128) -> Result<Inner, E> {
        Ok(Inner::Scalar)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Inner, E> {
        Ok(Inner::Scalar)
    }
    fn visit_u128<E>(self, _: u128) -> Result<Inner, E> {
        Ok(Inner::Scalar)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Inner, E> {
        Ok(Inner::Scalar)
    }
    fn visit_str<E>(self, _: &str) -> Result<Inner, E> {
        Ok(Inner::Scalar)
    }
    fn visit_bytes<E>(self, _: &[u8]) -> Result<Inner, E> {
        Ok(Inner::Scalar)
    }
    fn visit_unit<E>(self) -> Result<Inner, E> {
        Ok(Inner::Scalar)
    }
    fn visit_none<E>(self) -> Result<Inner, E> {
        Ok(Inner::Scalar)
    }
    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Inner, D::Error> {
        Inner::deserialize(d)
    }
}

/// The lines of a document's fields.
pub(super) struct Lines {
    root: Option<Node>,
    first_line: u64,
}

impl Lines {
    /// Of a document that starts at `first_line` of its source. JSON is located as the YAML that it is.
    pub(super) fn of(text: &str, first_line: u64) -> Self {
        Self {
            root: serde_saphyr::from_str_with_options(text, yaml_options()).ok(),
            first_line,
        }
    }

    /// The line of a field, or of the nearest thing above it that exists.
    pub(super) fn line(&self, path: &FieldPath) -> Option<u64> {
        let mut node = self.root.as_ref()?;
        for step in &path.0 {
            let below = match (&node.0.value, step) {
                (Inner::Map(fields), Step::Key(k)) => fields.get(k),
                (Inner::List(items), Step::Index(i)) => items.get(*i),
                _ => None,
            };
            match below {
                Some(n) => node = n,
                None => break,
            }
        }
        let line = node.0.referenced.line();
        (line > 0).then(|| self.first_line + line - 1)
    }
}
