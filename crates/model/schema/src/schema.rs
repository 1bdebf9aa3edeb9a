use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// What a value must be: the part of OpenAPI v3 that a CustomResourceDefinition's structural schema has.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Schema {
    /// The JSON type; none only for what is a number or a text.
    pub value_type: Option<Type>,
    /// A whole number or a text.
    pub int_or_string: bool,
    /// Whether `null` is a value and not an absence.
    pub nullable: bool,
    /// What fills the field when it is absent.
    pub default: Option<Value>,
    /// The values that are possible; empty for all.
    pub words: Vec<Value>,
    /// A named form of text, such as `cidr`.
    pub format: Option<&'static str>,
    /// A regular expression that a text must match somewhere.
    pub pattern: Option<String>,
    /// Bounds of a number, in characters of a text, in entries of a list, in fields of an object.
    pub bounds: Bounds,
    /// The fields of an object.
    pub properties: BTreeMap<String, Schema>,
    /// The fields that an object must have.
    pub required: Vec<String>,
    /// The values of an object whose keys are free.
    pub additional: Option<Box<Schema>>,
    /// The entries of a list.
    pub items: Option<Box<Schema>>,
    /// How the entries of a list belong together.
    pub list_type: Option<ListType>,
    /// Whether an object is replaced as a whole (`atomic`).
    pub atomic: bool,
    /// Rules between fields.
    pub rules: Vec<Rule>,
    /// The type and the field whose documentation describes this.
    pub(crate) doc: Option<(&'static str, &'static str)>,
    /// The object that this is a field of must have it.
    pub(crate) must: bool,
}

/// A JSON type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "JSON's own names")]
pub enum Type {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl Type {
    /// As OpenAPI calls it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

/// How the entries of a list belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListType {
    /// The list is replaced as a whole.
    Atomic,
    /// No entry is there twice.
    Set,
    /// No two entries have the same value in this field.
    Map(&'static str),
}

/// Smallest and largest of everything that has a size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "OpenAPI's own names")]
pub struct Bounds {
    pub minimum: Option<i64>,
    pub maximum: Option<i64>,
    pub min_length: Option<usize>,
    pub max_length: Option<usize>,
    pub min_items: Option<usize>,
    pub max_items: Option<usize>,
    pub min_properties: Option<usize>,
    pub max_properties: Option<usize>,
}

/// A rule in the Common Expression Language, with what to say when it does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The expression; `self` is the value that the rule stands at.
    pub expression: &'static str,
    /// Why an object that breaks it is refused.
    pub message: &'static str,
    /// The kind of mistake, for the API server's answer.
    pub reason: Option<Reason>,
}

/// The kind of mistake that an API server names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The value is wrong.
    Invalid,
    /// The field may not be there.
    Forbidden,
    /// A field is missing.
    Required,
}

impl Reason {
    /// As a CustomResourceDefinition writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "FieldValueInvalid",
            Self::Forbidden => "FieldValueForbidden",
            Self::Required => "FieldValueRequired",
        }
    }
}

impl Schema {
    /// Any value.
    pub(crate) const FREE: Self = Self {
        value_type: None,
        int_or_string: false,
        nullable: false,
        default: None,
        words: Vec::new(),
        format: None,
        pattern: None,
        bounds: Bounds {
            minimum: None,
            maximum: None,
            min_length: None,
            max_length: None,
            min_items: None,
            max_items: None,
            min_properties: None,
            max_properties: None,
        },
        properties: BTreeMap::new(),
        required: Vec::new(),
        additional: None,
        items: None,
        list_type: None,
        atomic: false,
        rules: Vec::new(),
        doc: None,
        must: false,
    };

    /// Any value of a type.
    #[must_use]
    pub fn of_type(value_type: Type) -> Self {
        Self {
            value_type: Some(value_type),
            ..Self::default()
        }
    }

    /// Any text.
    #[must_use]
    pub fn string() -> Self {
        Self::of_type(Type::String)
    }

    /// An object, to which properties are added.
    #[must_use]
    pub fn object() -> Self {
        Self::of_type(Type::Object)
    }

    /// A list of such values.
    #[must_use]
    pub fn list(items: Self) -> Self {
        Self {
            items: Some(Box::new(items)),
            ..Self::of_type(Type::Array)
        }
    }

    /// An object with free keys and such values.
    #[must_use]
    pub fn map(values: Self) -> Self {
        Self {
            additional: Some(Box::new(values)),
            ..Self::object()
        }
    }

    /// A number or a text; `^.*` is how Calico says that any text will do.
    #[must_use]
    pub fn number_or_text() -> Self {
        Self {
            int_or_string: true,
            pattern: Some("^.*".to_owned()),
            ..Self::default()
        }
    }

    /// With a field.
    #[must_use]
    pub fn with(mut self, name: &str, mut schema: Self) -> Self {
        if std::mem::take(&mut schema.must) {
            self.required.push(name.to_owned());
            self.required.sort();
        }
        self.properties.insert(name.to_owned(), schema);
        self
    }

    /// The field must be there.
    #[must_use]
    pub fn must(self) -> Self {
        Self { must: true, ..self }
    }

    /// What fills the field when it is absent.
    #[must_use]
    pub fn or(self, default: impl Into<Value>) -> Self {
        Self {
            default: Some(default.into()),
            ..self
        }
    }

    /// Only these texts.
    #[must_use]
    pub fn words(self, words: &[&str]) -> Self {
        Self {
            words: words.iter().map(|w| Value::from(*w)).collect(),
            ..self
        }
    }

    /// Only these numbers.
    #[must_use]
    pub fn numbers(self, numbers: &[i64]) -> Self {
        Self {
            words: numbers.iter().map(|n| Value::from(*n)).collect(),
            ..self
        }
    }

    /// Any text or number of the type, not only its words.
    #[must_use]
    pub fn any_word(self) -> Self {
        Self {
            words: Vec::new(),
            ..self
        }
    }

    /// A named form.
    #[must_use]
    pub fn format(self, format: &'static str) -> Self {
        Self {
            format: Some(format),
            ..self
        }
    }

    /// A regular expression.
    #[must_use]
    pub fn pattern(self, pattern: impl Into<String>) -> Self {
        Self {
            pattern: Some(pattern.into()),
            ..self
        }
    }

    /// A number from one to another.
    #[must_use]
    pub fn within(mut self, minimum: i64, maximum: i64) -> Self {
        (self.bounds.minimum, self.bounds.maximum) = (Some(minimum), Some(maximum));
        self
    }

    /// A number from here on.
    #[must_use]
    pub fn at_least(mut self, minimum: i64) -> Self {
        self.bounds.minimum = Some(minimum);
        self
    }

    /// At most so many characters.
    #[must_use]
    pub fn chars(mut self, max: usize) -> Self {
        self.bounds.max_length = Some(max);
        self
    }

    /// At least so many characters.
    #[must_use]
    pub fn min_chars(mut self, min: usize) -> Self {
        self.bounds.min_length = Some(min);
        self
    }

    /// At most so many entries.
    #[must_use]
    pub fn most(mut self, max: usize) -> Self {
        self.bounds.max_items = Some(max);
        self
    }

    /// So many entries, from one to another.
    #[must_use]
    pub fn entries(mut self, min: usize, max: usize) -> Self {
        (self.bounds.min_items, self.bounds.max_items) = (Some(min), Some(max));
        self
    }

    /// Exactly one field.
    #[must_use]
    pub fn one_field(mut self) -> Self {
        (self.bounds.min_properties, self.bounds.max_properties) = (Some(1), Some(1));
        self
    }

    /// At least one field.
    #[must_use]
    pub fn some_field(mut self) -> Self {
        self.bounds.min_properties = Some(1);
        self
    }

    /// Entries of this form instead.
    #[must_use]
    pub fn of(self, items: Self) -> Self {
        Self {
            items: Some(Box::new(items)),
            ..self
        }
    }

    /// The list is replaced as a whole.
    #[must_use]
    pub fn whole(self) -> Self {
        Self {
            list_type: Some(ListType::Atomic),
            ..self
        }
    }

    /// No entry is there twice.
    #[must_use]
    pub fn set(self) -> Self {
        Self {
            list_type: Some(ListType::Set),
            ..self
        }
    }

    /// No two entries share the value of this field.
    #[must_use]
    pub fn keyed(self, key: &'static str) -> Self {
        Self {
            list_type: Some(ListType::Map(key)),
            ..self
        }
    }

    /// The object is replaced as a whole.
    #[must_use]
    pub fn atomic(self) -> Self {
        Self { atomic: true, ..self }
    }

    /// `null` is a value.
    #[must_use]
    pub fn nullable(self) -> Self {
        Self {
            nullable: true,
            ..self
        }
    }

    /// With a rule between fields.
    #[must_use]
    pub fn rule(mut self, reason: Reason, expression: &'static str, message: &'static str) -> Self {
        self.rules.push(Rule {
            expression,
            message,
            reason: Some(reason),
        });
        self
    }

    /// With a rule that names no kind of mistake.
    #[must_use]
    pub fn plain_rule(mut self, expression: &'static str, message: &'static str) -> Self {
        self.rules.push(Rule {
            expression,
            message,
            reason: None,
        });
        self
    }

    pub(crate) fn documented(self, type_name: &'static str, field: &'static str) -> Self {
        Self {
            doc: Some((type_name, field)),
            ..self
        }
    }

    /// The schema as a CustomResourceDefinition has it. `describe` yields the description of a type's field, or of the
    /// type itself when the field is empty.
    pub fn to_json(&self, describe: &dyn Fn(&str, &str) -> Option<String>) -> Value {
        let mut out = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                out.insert(key.to_owned(), value);
            }
        };
        put(
            "description",
            self.doc.and_then(|(t, f)| describe(t, f)).map(Value::from),
        );
        put("type", self.value_type.map(|t| t.as_str().into()));
        put("format", self.format.map(Value::from));
        if self.int_or_string {
            put("anyOf", Some(json!([{"type": "integer"}, {"type": "string"}])));
            put("x-kubernetes-int-or-string", Some(true.into()));
        }
        put("nullable", self.nullable.then(|| true.into()));
        put("default", self.default.clone());
        put(
            "enum",
            (!self.words.is_empty()).then(|| self.words.clone().into()),
        );
        put("pattern", self.pattern.clone().map(Value::from));
        let b = &self.bounds;
        put("minimum", b.minimum.map(Value::from));
        put("maximum", b.maximum.map(Value::from));
        put("minLength", b.min_length.map(Value::from));
        put("maxLength", b.max_length.map(Value::from));
        put("minItems", b.min_items.map(Value::from));
        put("maxItems", b.max_items.map(Value::from));
        put("minProperties", b.min_properties.map(Value::from));
        put("maxProperties", b.max_properties.map(Value::from));
        let properties: Map<String, Value> = self
            .properties
            .iter()
            .map(|(k, s)| (k.clone(), s.to_json(describe)))
            .collect();
        put("properties", (!properties.is_empty()).then(|| properties.into()));
        put(
            "required",
            (!self.required.is_empty()).then(|| self.required.clone().into()),
        );
        put(
            "additionalProperties",
            self.additional.as_ref().map(|s| s.to_json(describe)),
        );
        put("items", self.items.as_ref().map(|s| s.to_json(describe)));
        match self.list_type {
            None => {}
            Some(ListType::Atomic) => put("x-kubernetes-list-type", Some("atomic".into())),
            Some(ListType::Set) => put("x-kubernetes-list-type", Some("set".into())),
            Some(ListType::Map(key)) => {
                put("x-kubernetes-list-type", Some("map".into()));
                put("x-kubernetes-list-map-keys", Some(json!([key])));
            }
        }
        put("x-kubernetes-map-type", self.atomic.then(|| "atomic".into()));
        let rules: Vec<Value> = self.rules.iter().map(Rule::to_json).collect();
        put(
            "x-kubernetes-validations",
            (!rules.is_empty()).then(|| rules.into()),
        );
        out.into()
    }
}

impl Rule {
    fn to_json(&self) -> Value {
        let mut out = Map::new();
        out.insert("rule".to_owned(), self.expression.into());
        out.insert("message".to_owned(), self.message.into());
        if let Some(reason) = self.reason {
            out.insert("reason".to_owned(), reason.as_str().into());
        }
        out.into()
    }
}
