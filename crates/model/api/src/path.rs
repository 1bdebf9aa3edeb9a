use std::fmt;

/// One step down into an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Into a field or map entry.
    Key(String),
    /// Into a list.
    Index(usize),
}

/// Where something is in an object, written as `spec.ingress[0].source.nets[2]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath(pub Vec<Step>);

impl FieldPath {
    /// The object itself.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// The path of a field of the object: `of("spec.cidr")` is two steps.
    #[must_use]
    pub fn of(dotted: &str) -> Self {
        Self(dotted.split('.').map(|s| Step::Key(s.to_owned())).collect())
    }

    /// One step further, into a field or map entry.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        let mut path = self.clone();
        path.0.push(Step::Key(key.to_owned()));
        path
    }

    /// One step further, into a list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        let mut path = self.clone();
        path.0.push(Step::Index(index));
        path
    }

    /// This path, then the other.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        Self(self.0.iter().chain(&other.0).cloned().collect())
    }

    /// Whether this is the object itself.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(k) if k.contains(['.', '/', ' ']) => write!(f, "[{k:?}]")?,
                Step::Key(k) if i == 0 => f.write_str(k)?,
                Step::Key(k) => write!(f, ".{k}")?,
                Step::Index(n) => write!(f, "[{n}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_like_code() {
        let p = FieldPath::of("spec.ingress").index(0).key("nets").index(2);
        assert_eq!(p.to_string(), "spec.ingress[0].nets[2]");
        let p = FieldPath::of("metadata.labels").key("a.b/c");
        assert_eq!(p.to_string(), "metadata.labels[\"a.b/c\"]");
        assert!(FieldPath::root().is_root());
    }
}
