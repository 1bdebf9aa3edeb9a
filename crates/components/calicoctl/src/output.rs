//! How resources are printed.

mod columns;
mod number;
mod table;

use caracal_api::{Kind, Resource, list_to_yaml, list_value, to_yaml};

pub(crate) use self::{
    columns::{Surroundings, columns},
    table::table,
};
use crate::failure::Failure;

/// What was asked for, with `-o`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Format {
    Table { wide: bool },
    Yaml,
    Json,
}

impl Format {
    /// Reads the argument of `-o`.
    ///
    /// # Errors
    /// Naming all formats.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        match text.to_ascii_lowercase().as_str() {
            "ps" => Ok(Self::Table { wide: false }),
            "wide" => Ok(Self::Table { wide: true }),
            "yaml" | "yml" => Ok(Self::Yaml),
            "json" => Ok(Self::Json),
            _ => Err(Failure::Usage(format!(
                "there is no output format {text:?}: it is one of ps, wide, yaml, json"
            ))),
        }
    }
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Found {
    /// In the order that was asked for, or else by namespace and name.
    pub(crate) resources: Vec<Resource>,
    /// The kind, if all of one were asked for: then the result is a list however many there are.
    pub(crate) list_of: Option<Kind>,
}

impl Found {
    /// The one object, if one was asked for.
    fn single(&self) -> Option<&Resource> {
        match (self.list_of, self.resources.as_slice()) {
            (None, [one]) => Some(one),
            _ => None,
        }
    }

    /// As YAML: the object itself, or a list.
    pub(crate) fn yaml(&self) -> String {
        if let Some(one) = self.single() {
            return to_yaml(one);
        }
        match self.list_of {
            Some(kind) if self.resources.is_empty() => caracal_api::value_to_yaml(&empty_list(kind)),
            _ => list_to_yaml(&self.resources),
        }
    }

    /// As JSON, indented.
    pub(crate) fn json(&self) -> String {
        let value = match (self.single(), self.list_of) {
            (Some(one), _) => one.to_value(),
            (None, Some(kind)) if self.resources.is_empty() => empty_list(kind),
            _ => list_value(&self.resources),
        };
        format!("{value:#}\n")
    }
}

fn empty_list(kind: Kind) -> serde_json::Value {
    serde_json::json!({
        "apiVersion": caracal_api::API_VERSION,
        "kind": format!("{kind}List"),
        "metadata": {},
        "items": [],
    })
}
