use std::fmt;

use caracal_api::{FieldPath, ObjectMeta, Problem};

/// An object that could not be converted, or not wholly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConvertError {
    /// Its kind.
    pub kind: &'static str,
    /// `namespace/name` or `name`.
    pub name: String,
    /// What is wrong; never empty.
    pub problems: Vec<Problem>,
}

impl ConvertError {
    pub(crate) fn new(kind: &'static str, meta: &ObjectMeta, problems: Vec<Problem>) -> Self {
        let name = match &meta.namespace {
            Some(ns) => format!("{ns}/{}", meta.name),
            None => meta.name.clone(),
        };
        Self { kind, name, problems }
    }
}

impl fmt::Display for ConvertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.kind, self.name)?;
        match self.problems.as_slice() {
            [one] => write!(f, ": {one}"),
            many => many.iter().try_for_each(|p| write!(f, "\n  {p}")),
        }
    }
}

/// A converted object, and the parts of the original that were left out because they are wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Converted<T> {
    /// The result.
    pub object: T,
    /// What was left out, and why.
    pub problems: Vec<Problem>,
}

pub(crate) fn problem(path: &FieldPath, message: impl Into<String>) -> Problem {
    Problem {
        path: path.clone(),
        line: None,
        message: message.into(),
    }
}
