//! Reads a type from a JSON value, noting each field that the type does not know and, on an error, where it is.

use std::{cell::RefCell, fmt};

use serde::{
    de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Unexpected, Visitor},
    forward_to_deserialize_any,
};
use serde_json::{Map, Value};

use crate::{FieldPath, Problem, Step, nearest};

/// Reads a `T`; yields it with a problem for each field that `T` does not have.
///
/// # Errors
/// With the first field whose value does not fit its type, and the unknown fields that came before it.
pub fn decode<T: DeserializeOwned>(value: &Value) -> Result<(T, Vec<Problem>), Vec<Problem>> {
    decode_with(value, |d| T::deserialize(d))
}

/// As [`decode`], with the reading itself as a function.
pub(super) fn decode_with<'a, T>(
    value: &'a Value,
    read: impl FnOnce(Strict<'a, '_>) -> Result<T, Refused>,
) -> Result<(T, Vec<Problem>), Vec<Problem>> {
    let notes = Notes::default();
    let read = read(Strict { value, notes: &notes });
    let (path, mut unknown) = (notes.path.into_inner(), notes.unknown.into_inner());
    match read {
        Ok(t) => Ok((t, unknown)),
        Err(Refused(message)) => {
            unknown.push(Problem {
                path: FieldPath(path),
                line: None,
                message,
            });
            Err(unknown)
        }
    }
}

#[derive(Default)]
struct Notes {
    /// Where the reading is; after an error, where it stopped.
    path: RefCell<Vec<Step>>,
    unknown: RefCell<Vec<Problem>>,
}

impl Notes {
    /// Runs `f` one step down. The step stays on the path when `f` fails: that is where it failed.
    fn within<T>(&self, step: Step, f: impl FnOnce() -> Result<T, Refused>) -> Result<T, Refused> {
        self.path.borrow_mut().push(step);
        let t = f()?;
        self.path.borrow_mut().pop();
        Ok(t)
    }

    fn unknown_field(&self, name: &str, known: &[&str]) {
        let hint = match nearest(name, known.iter().copied()) {
            Some(near) => format!("; did you mean {near:?}?"),
            None if known.is_empty() => String::new(),
            None => format!("; known here: {}", known.join(", ")),
        };
        let path = FieldPath(self.path.borrow().clone()).key(name);
        self.unknown.borrow_mut().push(Problem {
            path,
            line: None,
            message: format!("this field is not known{hint}"),
        });
    }
}

/// Why a value does not fit.
#[derive(Debug)]
pub(super) struct Refused(String);

impl std::error::Error for Refused {}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl de::Error for Refused {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let text = expected.to_string();
        let hint = match found {
            Unexpected::Bool(_) | Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_)
                if text.contains("string") =>
            {
                "; put it in quotes"
            }
            _ => "",
        };
        Self(format!("found {found}, expected {text}{hint}"))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self(format!("{found} is not allowed here, expected {expected}"))
    }

    fn unknown_variant(found: &str, expected: &'static [&'static str]) -> Self {
        let hint = nearest(found, expected.iter().copied())
            .map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
        Self(format!(
            "{found:?} is not allowed here; allowed are {}{hint}",
            expected.join(", ")
        ))
    }

    fn missing_field(field: &'static str) -> Self {
        Self(format!("the field {field:?} is missing"))
    }
}

/// A deserializer over a borrowed value.
#[derive(Clone, Copy)]
pub(super) struct Strict<'a, 'n> {
    value: &'a Value,
    notes: &'n Notes,
}

impl<'a> Strict<'a, '_> {
    fn unexpected(self) -> Unexpected<'a> {
        match self.value {
            Value::Null => Unexpected::Unit,
            Value::Bool(b) => Unexpected::Bool(*b),
            Value::Number(n) => match (n.as_u64(), n.as_i64(), n.as_f64()) {
                (Some(u), ..) => Unexpected::Unsigned(u),
                (_, Some(i), _) => Unexpected::Signed(i),
                (.., Some(f)) => Unexpected::Float(f),
                _ => Unexpected::Other("number"),
            },
            Value::String(s) => Unexpected::Str(s),
            Value::Array(_) => Unexpected::Other("a list"),
            Value::Object(_) => Unexpected::Other("a map"),
        }
    }

    fn map<V: Visitor<'a>>(
        self,
        fields: &'a Map<String, Value>,
        known: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        visitor.visit_map(Fields {
            rest: fields.iter(),
            current: None,
            known,
            notes: self.notes,
        })
    }
}

impl<'de> de::Deserializer<'de> for Strict<'de, '_> {
    type Error = Refused;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(*b),
            Value::Number(n) => match (n.as_u64(), n.as_i64(), n.as_f64()) {
                (Some(u), ..) => visitor.visit_u64(u),
                (_, Some(i), _) => visitor.visit_i64(i),
                (.., Some(f)) => visitor.visit_f64(f),
                _ => Err(Refused("a number that does not fit 64 bits".to_owned())),
            },
            Value::String(s) => visitor.visit_borrowed_str(s),
            Value::Array(items) => visitor.visit_seq(Items {
                rest: items.iter().enumerate(),
                notes: self.notes,
            }),
            Value::Object(fields) => self.map(fields, None, visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        match self.value {
            Value::Object(map) => self.map(map, Some(fields), visitor),
            _ => Err(de::Error::invalid_type(self.unexpected(), &"a map of fields")),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        match self.value {
            Value::String(s) => visitor.visit_enum(s.as_str().into_deserializer()),
            _ => {
                let expected = format!("one of {}", variants.join(", "));
                Err(de::Error::invalid_type(self.unexpected(), &expected.as_str()))
            }
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match self.value {
            // `labels: {a: }`: Kubernetes reads an absent string as the empty one.
            Value::Null => visitor.visit_str(""),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier
    }
}

struct Items<'a, 'n> {
    rest: std::iter::Enumerate<std::slice::Iter<'a, Value>>,
    notes: &'n Notes,
}

impl<'a> de::SeqAccess<'a> for Items<'a, '_> {
    type Error = Refused;

    fn next_element_seed<T: DeserializeSeed<'a>>(&mut self, seed: T) -> Result<Option<T::Value>, Refused> {
        let Some((i, value)) = self.rest.next() else {
            return Ok(None);
        };
        let notes = self.notes;
        notes
            .within(Step::Index(i), || seed.deserialize(Strict { value, notes }))
            .map(Some)
    }
}

struct Fields<'a, 'n> {
    rest: serde_json::map::Iter<'a>,
    current: Option<(&'a String, &'a Value)>,
    /// The struct's fields; none for a map, whose keys are free.
    known: Option<&'static [&'static str]>,
    notes: &'n Notes,
}

impl<'a> de::MapAccess<'a> for Fields<'a, '_> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'a>>(&mut self, seed: K) -> Result<Option<K::Value>, Refused> {
        for (key, value) in self.rest.by_ref() {
            if let Some(known) = self.known {
                if !known.contains(&key.as_str()) {
                    self.notes.unknown_field(key, known);
                    continue;
                }
                // A field that is null is a field that is absent.
                if value.is_null() {
                    continue;
                }
            }
            self.current = Some((key, value));
            return seed.deserialize(key.as_str().into_deserializer()).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<S::Value, Refused> {
        let (key, value) = self
            .current
            .take()
            .ok_or_else(|| Refused("a value was asked for before its key".to_owned()))?;
        let notes = self.notes;
        notes.within(Step::Key(key.clone()), || {
            seed.deserialize(Strict { value, notes })
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::NetworkPolicySpec;

    #[test]
    fn unknown_fields_are_named_with_their_place() {
        let v = json!({"selector": "all()", "ingress": [{"action": "Allow", "source": {"net": ["10.0.0.0/8"]}}], "foo": 1});
        let (spec, unknown) = decode::<NetworkPolicySpec>(&v).unwrap();
        assert_eq!(spec.selector, "all()");
        let text: Vec<String> = unknown.iter().map(ToString::to_string).collect();
        assert!(
            text[0].starts_with("ingress[0].source.net: ") && text[0].contains("\"nets\""),
            "{text:?}"
        );
        assert!(
            text[1].starts_with("foo: ") && text[1].contains("known here"),
            "{text:?}"
        );
    }

    #[test]
    fn a_wrong_value_is_named_with_its_place_and_what_is_allowed() {
        for (v, path, word) in [
            (
                json!({"ingress": [{"action": "allow"}]}),
                "ingress[0].action",
                "Allow, Deny, Log, Pass",
            ),
            (json!({"ingress": [{"action": 1}]}), "ingress[0].action", "one of"),
            (json!({"ingress": [{}]}), "ingress[0]", "action"),
            (json!({"selector": 5}), "selector", "quotes"),
            (json!({"types": "Ingress"}), "types", "sequence"),
            (json!({"order": "first"}), "order", "f64"),
            (
                json!({"ingress": [{"action": "Allow", "destination": {"ports": [80, 70000]}}]}),
                "ingress[0].destination.ports[1]",
                "65535",
            ),
        ] {
            let p = decode::<NetworkPolicySpec>(&v).unwrap_err().remove(0);
            assert_eq!(p.path.to_string(), path, "{p}");
            assert!(p.message.contains(word), "{p}");
        }
    }

    #[test]
    fn null_is_absent() {
        let (spec, unknown) = decode::<NetworkPolicySpec>(&json!({"selector": null, "order": null})).unwrap();
        assert_eq!((spec, unknown.len()), (NetworkPolicySpec::default(), 0));
    }
}
