use std::{cell::OnceCell, rc::Rc, sync::Arc};

use serde_json::Value;

use super::{
    ManifestError, ManifestObject, Origin, Problem, items_of, locate::Lines, name_of, object, split, text_of,
    with_list_type,
};
use crate::FieldPath;

/// An object of a manifest as it is written, before anything is known about it.
#[derive(Debug)]
pub struct Written {
    /// Where it stands.
    pub origin: Origin,
    /// The object.
    pub value: Value,
    document: Rc<Text>,
    /// Where it is in its document.
    at: FieldPath,
}

/// A document's text; its lines are found when first asked for.
struct Text {
    text: String,
    first_line: u64,
    lines: OnceCell<Lines>,
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "from line {}", self.first_line)
    }
}

impl Written {
    /// The line of a field, or of the nearest thing above it that exists, counted from 1 in the source.
    #[must_use]
    pub fn line(&self, field: &FieldPath) -> Option<u64> {
        let Text {
            text,
            first_line,
            lines,
        } = &*self.document;
        lines
            .get_or_init(|| Lines::of(text, *first_line))
            .line(&self.at.join(field))
    }

    /// `kind`, as far as it can be read.
    #[must_use]
    pub fn kind(&self) -> Option<String> {
        text_of(&self.value, "/kind")
    }

    /// `apiVersion`, as far as it can be read.
    #[must_use]
    pub fn api_version(&self) -> Option<String> {
        text_of(&self.value, "/apiVersion")
    }

    /// `namespace/name` or `name`, as far as it can be read.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        name_of(&self.value)
    }

    /// The object with its types.
    ///
    /// # Errors
    /// With everything that is wrong with it.
    pub fn read(&self) -> Result<ManifestObject, Vec<Problem>> {
        object(&self.value)
    }
}

/// As [`super::parse`], without looking at what the objects are: only text that is neither YAML nor JSON is an error.
#[must_use]
pub fn written(source: &str, text: &str) -> Vec<Result<Written, ManifestError>> {
    let source: Arc<str> = Arc::from(source);
    let mut out = Vec::new();
    for raw in split::documents(text) {
        let origin = Origin {
            source: source.clone(),
            document: raw.number,
            item: None,
            line: raw.first_line,
        };
        match raw.value {
            Ok(value) => {
                let document = Rc::new(Text {
                    text: raw.text.to_owned(),
                    first_line: raw.first_line,
                    lines: OnceCell::new(),
                });
                split_lists(value, &origin, &FieldPath::root(), &document, &mut out);
            }
            Err(syntax) => out.push(Err(ManifestError {
                origin,
                kind: None,
                name: None,
                problems: vec![Problem {
                    path: FieldPath::root(),
                    line: syntax.line,
                    message: syntax.message,
                }],
            })),
        }
    }
    out
}

fn split_lists(
    value: Value,
    origin: &Origin,
    at: &FieldPath,
    document: &Rc<Text>,
    out: &mut Vec<Result<Written, ManifestError>>,
) {
    if let Some((items, at)) = items_of(&value, at) {
        for (i, item) in items.iter().enumerate() {
            let origin = Origin {
                item: Some(origin.item.unwrap_or(i)),
                ..origin.clone()
            };
            split_lists(with_list_type(&value, item), &origin, &at.index(i), document, out);
        }
        return;
    }
    out.push(Ok(Written {
        origin: origin.clone(),
        value,
        document: document.clone(),
        at: at.clone(),
    }));
}
