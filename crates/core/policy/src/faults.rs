//! What is wrong with an object, in words for its owner.

use std::fmt;

/// One mistake: the field and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    field: String,
    why: String,
}

impl Fault {
    pub(crate) fn new(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            why: why.into(),
        }
    }

    /// The same seen from further up.
    pub(crate) fn within(self, place: &str) -> Self {
        Self {
            field: format!("{place}.{}", self.field),
            ..self
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.why)
    }
}

/// The mistakes of one object. An object can hold a million of them; a few are enough to start mending.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    shown: Vec<Fault>,
    more: usize,
}

const SHOWN: usize = 5;

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) {
        if self.shown.len() < SHOWN {
            self.shown.push(fault);
        } else {
            self.more += 1;
        }
    }

    /// The value, or a note of the fault.
    pub(crate) fn take<T>(&mut self, result: Result<T, Fault>) -> Option<T> {
        result.map_err(|fault| self.add(fault)).ok()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.shown.is_empty()
    }

    /// The reason for `Invalid`, if there is any.
    pub(crate) fn into_reason(self) -> Option<String> {
        if self.shown.is_empty() {
            return None;
        }
        let mut text: Vec<String> = self.shown.iter().map(ToString::to_string).collect();
        if self.more > 0 {
            text.push(format!("and {} more", self.more));
        }
        Some(text.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_fields_and_stops_after_a_few() {
        let mut faults = Faults::default();
        assert!(faults.is_empty());
        assert_eq!(faults.take(Ok(1)), Some(1));
        for n in 0..7 {
            assert_eq!(faults.take::<()>(Err(Fault::new(format!("f[{n}]"), "bad"))), None);
        }
        let reason = faults.into_reason().unwrap();
        assert!(reason.starts_with("f[0]: bad; f[1]: bad"), "{reason}");
        assert!(reason.ends_with("f[4]: bad; and 2 more"), "{reason}");
        assert_eq!(Faults::default().into_reason(), None);
    }
}
