//! How resources are printed.

mod columns;
mod number;
mod path;
mod table;
mod template;

use caracal_api::{Kind, Resource, list_to_yaml, list_value, to_yaml};

pub(crate) use self::{
    columns::{Column, Surroundings, Wanted, chosen, columns},
    table::table,
    template::Template,
};
use crate::failure::Failure;

/// What was asked for, with `-o`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Format {
    Table { wide: bool },
    Columns(Vec<Wanted>),
    Template(Template),
    Yaml,
    Json,
}

/// The formats, as an error lists them.
const FORMATS: &str = "ps, wide, yaml, json, custom-columns=…, go-template=…, go-template-file=…";

impl Format {
    /// Reads the argument of `-o`, and the file that it may name.
    ///
    /// # Errors
    /// Naming all formats, or what is wrong with a template.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let (name, detail) = match text.split_once('=') {
            Some((name, detail)) => (name, Some(detail)),
            None => (text, None),
        };
        let usage = |e: String| Failure::Usage(format!("-o {name}: {e}"));
        let template = |text: &str| Template::parse(text).map(Self::Template).map_err(usage);
        match (name.to_ascii_lowercase().as_str(), detail) {
            ("ps", None) => Ok(Self::Table { wide: false }),
            ("wide", None) => Ok(Self::Table { wide: true }),
            ("yaml" | "yml", None) => Ok(Self::Yaml),
            ("json", None) => Ok(Self::Json),
            ("custom-columns", Some(list)) => Wanted::parse(list).map(Self::Columns).map_err(usage),
            ("go-template", Some(text)) => template(text),
            ("go-template-file", Some(path)) => {
                let text = std::fs::read_to_string(path);
                template(&text.map_err(|e| usage(format!("cannot read {path}: {e}")))?)
            }
            ("custom-columns" | "go-template" | "go-template-file", None) => {
                Err(usage(format!("it is written {name}=…")))
            }
            _ => Err(Failure::Usage(format!(
                "there is no output format {text:?}: it is one of {FORMATS}"
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

    /// As a template makes it. The template is given what Calico gives one: a list of the objects asked for by name, or of
    /// the one list of a kind.
    ///
    /// # Errors
    /// With what the template cannot do.
    pub(crate) fn rendered(&self, template: &Template) -> Result<String, Failure> {
        let data: Vec<serde_json::Value> = match self.list_of {
            None => self.resources.iter().map(Resource::to_value).collect(),
            Some(kind) if self.resources.is_empty() => vec![empty_list(kind)],
            Some(_) => vec![list_value(&self.resources)],
        };
        let text = template.render(&serde_json::Value::Array(data));
        text.map_err(|e| Failure::Usage(format!("go-template: {e}")))
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
