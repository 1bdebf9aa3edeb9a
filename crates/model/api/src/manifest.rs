//! Manifests: documents of YAML or JSON to objects and back.

mod error;
mod locate;
mod output;
mod split;
mod strict;
mod written;

use std::sync::Arc;

pub use error::{ManifestError, Origin, Problem};
pub use output::{YamlList, json_to_yaml, list_to_yaml, to_yaml, value_to_yaml};
use serde_json::Value;
pub use strict::decode;
pub use written::{Written, written};

use self::{locate::Lines, split::Raw};
use crate::{API_VERSION, FieldPath, Kind, ObjectMeta, Resource, nearest};

/// The Kubernetes objects that a manifest may hold beside Calico's.
const FOREIGN: &[(&str, &str)] = &[
    ("v1", "Namespace"),
    ("v1", "ServiceAccount"),
    ("v1", "Pod"),
    ("v1", "Service"),
    ("discovery.k8s.io/v1", "EndpointSlice"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy"),
];

/// Bookkeeping of a Kubernetes API server that `kubectl get -o yaml` prints and that means nothing when read back.
const SERVER_METADATA: &[&str] = &["managedFields", "selfLink", "deletionGracePeriodSeconds"];

/// An object of a manifest, with the place it was read at.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Where it stands.
    pub origin: Origin,
    /// What it is.
    pub object: ManifestObject,
}

impl Document {
    /// The object's kind, namespace and name, for messages.
    #[must_use]
    pub fn describe(&self) -> String {
        let (kind, meta) = match &self.object {
            ManifestObject::Calico(r) => (r.kind().as_str(), r.metadata()),
            ManifestObject::Foreign(f) => (f.kind.as_str(), &f.metadata),
        };
        match &meta.namespace {
            Some(ns) => format!("{kind} {ns}/{}", meta.name),
            None => format!("{kind} {}", meta.name),
        }
    }

    /// The error of this document for problems found after it was read, for example by validation.
    #[must_use]
    pub fn refuse(&self, problems: Vec<Problem>) -> ManifestError {
        let (kind, meta) = match &self.object {
            ManifestObject::Calico(r) => (r.kind().to_string(), r.metadata()),
            ManifestObject::Foreign(f) => (f.kind.clone(), &f.metadata),
        };
        ManifestError {
            origin: self.origin.clone(),
            kind: Some(kind),
            name: Some(full_name(meta.namespace.as_deref(), &meta.name)),
            problems,
        }
    }
}

/// What a document holds.
#[derive(Debug, Clone, PartialEq)]
pub enum ManifestObject {
    /// An object of `projectcalico.org/v3`. It is neither defaulted nor validated yet.
    Calico(Resource),
    /// An object of Kubernetes.
    Foreign(Box<Foreign>),
}

/// An object of Kubernetes, whose meaning `caracal-convert` knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Foreign {
    /// Group and version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Metadata.
    pub metadata: ObjectMeta,
    /// The whole object.
    pub value: Value,
}

/// Reads all documents of a text: YAML with `---` between them, JSON values one after another, lists of objects. A bad
/// document does not hide the others. Fields that a kind does not have are errors. `FelixConfiguration` has its fields
/// as a map here; `caracal-config` knows which exist.
#[must_use]
pub fn parse(source: &str, text: &str) -> Vec<Result<Document, ManifestError>> {
    let source: Arc<str> = Arc::from(source);
    let mut out = Vec::new();
    for raw in split::documents(text) {
        let origin = Origin {
            source: source.clone(),
            document: raw.number,
            item: None,
            line: raw.first_line,
        };
        let mut lines = LazyLines {
            raw: &raw,
            lines: None,
        };
        match &raw.value {
            Ok(value) => read_value(value, &origin, &FieldPath::root(), &mut lines, &mut out),
            Err(syntax) => out.push(Err(ManifestError {
                origin,
                kind: None,
                name: None,
                problems: vec![Problem {
                    path: FieldPath::root(),
                    line: syntax.line,
                    message: syntax.message.clone(),
                }],
            })),
        }
    }
    out
}

/// Reads one object that is already a value, with the same checks as [`parse`].
///
/// # Errors
/// With everything that is wrong with the object.
pub fn parse_value(source: &str, value: &Value) -> Result<ManifestObject, ManifestError> {
    object(value).map_err(|problems| ManifestError {
        origin: Origin {
            source: Arc::from(source),
            document: 1,
            item: None,
            line: 1,
        },
        kind: text_of(value, "/kind"),
        name: name_of(value),
        problems,
    })
}

/// The lines of a document, found when first asked for.
struct LazyLines<'r, 't> {
    raw: &'r Raw<'t>,
    lines: Option<Lines>,
}

impl LazyLines<'_, '_> {
    fn line(&mut self, path: &FieldPath) -> Option<u64> {
        let raw = self.raw;
        self.lines
            .get_or_insert_with(|| Lines::of(raw.text, raw.first_line))
            .line(path)
    }
}

fn read_value(
    value: &Value,
    origin: &Origin,
    at: &FieldPath,
    lines: &mut LazyLines<'_, '_>,
    out: &mut Vec<Result<Document, ManifestError>>,
) {
    if let Some((items, at)) = items_of(value, at) {
        for (i, item) in items.iter().enumerate() {
            let origin = Origin {
                item: Some(origin.item.unwrap_or(i)),
                ..origin.clone()
            };
            read_value(&with_list_type(value, item), &origin, &at.index(i), lines, out);
        }
        return;
    }
    out.push(match object(value) {
        Ok(object) => Ok(Document {
            origin: origin.clone(),
            object,
        }),
        Err(mut problems) => {
            for p in &mut problems {
                p.line = lines.line(&at.join(&p.path));
            }
            Err(ManifestError {
                origin: origin.clone(),
                kind: text_of(value, "/kind"),
                name: name_of(value),
                problems,
            })
        }
    });
}

/// The items of a list of objects and where they are.
fn items_of<'v>(value: &'v Value, at: &FieldPath) -> Option<(&'v [Value], FieldPath)> {
    match value {
        Value::Array(items) => Some((items, at.clone())),
        Value::Object(fields) => {
            let kind = fields.get("kind")?.as_str()?;
            let items = fields.get("items")?.as_array()?;
            kind.ends_with("List")
                .then(|| (items.as_slice(), at.key("items")))
        }
        _ => None,
    }
}

/// An item of a typed list may leave out what the list's own type says.
fn with_list_type(list: &Value, item: &Value) -> Value {
    let mut item = item.clone();
    if let (Some(fields), Some(kind)) = (item.as_object_mut(), text_of(list, "/kind"))
        && let Some(kind) = kind.strip_suffix("List").filter(|k| !k.is_empty())
    {
        if let Some(version) = list.get("apiVersion") {
            fields.entry("apiVersion").or_insert_with(|| version.clone());
        }
        fields.entry("kind").or_insert_with(|| Value::from(kind));
    }
    item
}

fn text_of(value: &Value, pointer: &str) -> Option<String> {
    value.pointer(pointer).and_then(Value::as_str).map(str::to_owned)
}

fn full_name(namespace: Option<&str>, name: &str) -> String {
    namespace.map_or_else(|| name.to_owned(), |ns| format!("{ns}/{name}"))
}

fn name_of(value: &Value) -> Option<String> {
    let name = text_of(value, "/metadata/name")?;
    Some(full_name(text_of(value, "/metadata/namespace").as_deref(), &name))
}

fn problem(path: FieldPath, message: impl Into<String>) -> Problem {
    Problem {
        path,
        line: None,
        message: message.into(),
    }
}

/// Reads the string at a top-level field.
fn required(value: &Value, field: &str, example: &str) -> Result<String, Problem> {
    match value.get(field) {
        Some(Value::String(s)) if !s.is_empty() => Ok(s.clone()),
        Some(Value::Null) | None => Err(problem(
            FieldPath::root(),
            format!("{field} is missing, for example {example:?}"),
        )),
        Some(_) => Err(problem(
            FieldPath::of(field),
            format!("must be a string such as {example:?}"),
        )),
    }
}

fn object(value: &Value) -> Result<ManifestObject, Vec<Problem>> {
    if !value.is_object() {
        return Err(vec![problem(
            FieldPath::root(),
            "not an object: a document is a map with apiVersion, kind and metadata",
        )]);
    }
    let (version, kind) = match (
        required(value, "apiVersion", API_VERSION),
        required(value, "kind", "NetworkPolicy"),
    ) {
        (Ok(v), Ok(k)) => (v, k),
        (v, k) => return Err([v.err(), k.err()].into_iter().flatten().collect()),
    };
    if version == API_VERSION {
        let Some(kind) = Kind::parse(&kind) else {
            return Err(vec![unknown_kind(&kind)]);
        };
        return calico(kind, value).map(ManifestObject::Calico);
    }
    if FOREIGN.contains(&(version.as_str(), kind.as_str())) {
        return foreign(version, kind, value).map(|f| ManifestObject::Foreign(Box::new(f)));
    }
    Err(vec![wrong_version(&version, &kind)])
}

fn unknown_kind(kind: &str) -> Problem {
    let hint = match nearest(kind, Kind::ALL.iter().map(|k| k.as_str())) {
        Some(near) => format!("; did you mean {near:?}?"),
        None => {
            let known: Vec<&str> = Kind::ALL
                .iter()
                .filter(|k| k.public())
                .map(|k| k.as_str())
                .collect();
            format!("; the kinds are {}", known.join(", "))
        }
    };
    problem(
        FieldPath::of("kind"),
        format!("{API_VERSION} has no kind {kind:?}{hint}"),
    )
}

fn wrong_version(version: &str, kind: &str) -> Problem {
    let mut versions: Vec<&str> = FOREIGN
        .iter()
        .filter(|(_, k)| *k == kind)
        .map(|(v, _)| *v)
        .collect();
    if Kind::parse(kind).is_some() {
        versions.insert(0, API_VERSION);
    }
    let message = if versions.is_empty() {
        let known: Vec<String> = FOREIGN.iter().map(|(v, k)| format!("{v} {k}")).collect();
        format!(
            "{kind} of {version:?} is not supported; supported are the kinds of {API_VERSION} and {}",
            known.join(", ")
        )
    } else {
        format!("{kind} has apiVersion {}, not {version:?}", versions.join(" or "))
    };
    problem(FieldPath::of("apiVersion"), message)
}

/// The object without its type and without a server's bookkeeping.
fn body(value: &Value) -> Value {
    let mut value = value.clone();
    if let Some(fields) = value.as_object_mut() {
        fields.shift_remove("apiVersion");
        fields.shift_remove("kind");
    }
    if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in SERVER_METADATA {
            meta.shift_remove(*field);
        }
    }
    value
}

fn calico(kind: Kind, value: &Value) -> Result<Resource, Vec<Problem>> {
    let body = body(value);
    let (resource, mut problems) = decode_kind(kind, &body)?;
    if let Some(p) = missing_name(resource.metadata()) {
        problems.push(p);
    }
    if problems.is_empty() {
        Ok(resource)
    } else {
        Err(problems)
    }
}

/// As [`decode`], of an object of a known kind.
pub(crate) fn decode_kind(kind: Kind, value: &Value) -> Result<(Resource, Vec<Problem>), Vec<Problem>> {
    strict::decode_with(value, |d| Resource::deserialize_kind(kind, d))
}

fn missing_name(meta: &ObjectMeta) -> Option<Problem> {
    meta.name
        .is_empty()
        .then(|| problem(FieldPath::of("metadata.name"), "an object needs a name"))
}

fn foreign(api_version: String, kind: String, value: &Value) -> Result<Foreign, Vec<Problem>> {
    let (metadata, mut problems) = match body(value).get("metadata") {
        None | Some(Value::Null) => (ObjectMeta::default(), Vec::new()),
        Some(meta) => {
            decode::<ObjectMeta>(meta).map_err(|p| p.into_iter().map(under_metadata).collect::<Vec<_>>())?
        }
    };
    problems = problems.into_iter().map(under_metadata).collect();
    problems.extend(missing_name(&metadata));
    if problems.is_empty() {
        Ok(Foreign {
            api_version,
            kind,
            metadata,
            value: value.clone(),
        })
    } else {
        Err(problems)
    }
}

fn under_metadata(p: Problem) -> Problem {
    Problem {
        path: FieldPath::of("metadata").join(&p.path),
        ..p
    }
}
