//! How resources are printed.

mod columns;
mod number;
mod path;
mod table;
mod template;

use caracal_api::{API_VERSION, Kind, Resource, YamlList, to_yaml};
use serde::Serialize;

pub(crate) use self::{
    columns::{Column, Surroundings, Wanted, chosen, columns},
    table::Table,
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
        match self.single() {
            Some(one) => to_yaml(one),
            None => {
                let mut list = YamlList::new(&self.list().kind);
                self.resources.iter().for_each(|r| list.add(r));
                list.finish()
            }
        }
    }

    /// As JSON, indented.
    ///
    /// # Errors
    /// When a value has no form in JSON.
    pub(crate) fn json(&self) -> Result<String, Failure> {
        let text = match self.single() {
            Some(one) => serde_json::to_string_pretty(one),
            None => serde_json::to_string_pretty(&self.list()),
        };
        Ok(text.map_err(std::io::Error::from)? + "\n")
    }

    /// The list: `<Kind>List` if all are of one kind, else `List`.
    fn list(&self) -> List<'_> {
        let mut kinds = self.resources.iter().map(Resource::kind);
        let kind = self.list_of.or(kinds.next());
        List {
            api_version: API_VERSION,
            kind: match kind {
                Some(kind) if kinds.all(|k| k == kind) => format!("{kind}List"),
                _ => "List".to_owned(),
            },
            metadata: NoMetadata {},
            items: &self.resources,
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
            Some(_) => vec![serde_json::to_value(self.list()).map_err(std::io::Error::from)?],
        };
        let text = template.render(&serde_json::Value::Array(data));
        text.map_err(|e| Failure::Usage(format!("go-template: {e}")))
    }
}

/// A list as it is written, without a copy of what is in it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    api_version: &'static str,
    kind: String,
    metadata: NoMetadata,
    items: &'a [Resource],
}

#[derive(Serialize)]
struct NoMetadata {}

#[cfg(test)]
mod tests {
    use caracal_api::{GlobalNetworkSetSpec, Object, TierSpec};

    use super::*;

    fn set(name: &str, text: &str) -> Resource {
        let mut set = Object::<GlobalNetworkSetSpec>::new(name, GlobalNetworkSetSpec::default());
        set.metadata.annotations.insert("a".into(), text.into());
        set.spec.nets = vec!["10.0.0.0/8".into(), "::/0".into()];
        set.into()
    }

    #[test]
    fn what_is_printed_reads_back_the_same() {
        let texts = [
            "",
            "two\nlines\n",
            " # no comment",
            "a: b",
            "- x",
            "0x1F",
            "\u{1b}[31m",
            "ü\t\"'",
        ];
        let found = Found {
            resources: texts.iter().map(|t| set("n", t)).collect(),
            list_of: Some(Kind::GlobalNetworkSet),
        };
        // Item by item it is what it would be at once.
        assert_eq!(found.yaml(), caracal_api::value_to_yaml(&found.list()));
        for text in [found.yaml(), found.json().unwrap()] {
            let read: Vec<Resource> = caracal_api::parse("t", &text)
                .into_iter()
                .map(|d| match d.unwrap().object {
                    caracal_api::ManifestObject::Calico(r) => r,
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(read, found.resources, "{text}");
        }
        let one = Found {
            resources: vec![set("n", "x")],
            list_of: None,
        };
        assert_eq!(one.yaml(), caracal_api::to_yaml(&one.resources[0]));
    }

    #[test]
    fn lists_are_named_after_what_is_in_them() {
        let tier = Resource::from(Object::<TierSpec>::new("t", TierSpec::default()));
        for (resources, list_of, want) in [
            (vec![], Some(Kind::Tier), "TierList"),
            (vec![tier.clone()], Some(Kind::Tier), "TierList"),
            (vec![tier.clone(), tier.clone()], None, "TierList"),
            (vec![tier, set("s", "")], None, "List"),
        ] {
            let found = Found { resources, list_of };
            assert_eq!(found.list().kind, want);
        }
    }
}
