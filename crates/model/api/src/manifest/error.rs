use std::{fmt, sync::Arc};

use crate::FieldPath;

/// What is wrong at one place of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field; the object itself when the path is empty.
    pub path: FieldPath,
    /// The line in the source, counted from 1, where it is known.
    pub line: Option<u64>,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.path.is_root() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Where an object was read: which source, which document of it, from which line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The file's name, or what stands for it.
    pub source: Arc<str>,
    /// The document in the source, counted from 1.
    pub document: usize,
    /// The item of a list in the document, counted from 0.
    pub item: Option<usize>,
    /// The document's first line, counted from 1.
    pub line: u64,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, document {}", self.source, self.document)?;
        if let Some(item) = self.item {
            write!(f, ", item {item}")?;
        }
        Ok(())
    }
}

/// A document that could not be read, with everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ManifestError {
    /// Where it stands.
    pub origin: Origin,
    /// Its `kind`, as far as it could be read.
    pub kind: Option<String>,
    /// `namespace/name` or `name`, as far as it could be read.
    pub name: Option<String>,
    /// What is wrong; never empty.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.origin)?;
        match (&self.kind, &self.name) {
            (Some(kind), Some(name)) => write!(f, ", {kind} {name:?}")?,
            (Some(kind), None) => write!(f, ", {kind} without a name")?,
            (None, Some(name)) => write!(f, ", {name:?}")?,
            (None, None) => {}
        }
        match self.problems.as_slice() {
            [one] => write!(f, ": {one}"),
            many => many.iter().try_for_each(|p| write!(f, "\n  {p}")),
        }
    }
}
