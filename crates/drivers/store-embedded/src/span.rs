//! The ranges of keys that requests speak of.

use std::ops::Bound;

use caracal_wire::Bytes;

/// One key, or all keys from one on, up to another or to the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    start: Bytes,
    end: End,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// Only the start itself.
    Single,
    Before(Bytes),
    Never,
}

impl Span {
    /// The span of a request's `key` and `range_end`.
    pub(crate) fn new(key: Bytes, range_end: &Bytes) -> Self {
        let end = match range_end.as_ref() {
            [] => End::Single,
            [0] => End::Never,
            _ => End::Before(range_end.clone()),
        };
        Self { start: key, end }
    }

    /// The key, when the span is of one key only.
    pub(crate) fn single(&self) -> Option<&[u8]> {
        matches!(self.end, End::Single).then_some(self.start.as_ref())
    }

    /// No key can be in it.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(&self.end, End::Before(end) if *end <= self.start)
    }

    /// Whether the key is in it.
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            End::Single => key == self.start.as_ref(),
            End::Before(end) => key >= self.start.as_ref() && key < end.as_ref(),
            End::Never => key >= self.start.as_ref(),
        }
    }

    /// Bounds for an ordered scan. A single key is asked for with a lookup instead.
    pub(crate) fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        let end = match &self.end {
            End::Single => Bound::Included(self.start.as_ref()),
            End::Before(end) => Bound::Excluded(end.as_ref()),
            End::Never => Bound::Unbounded,
        };
        (Bound::Included(self.start.as_ref()), end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(key: &'static str, end: &'static str) -> Span {
        Span::new(
            Bytes::from_static(key.as_bytes()),
            &Bytes::from_static(end.as_bytes()),
        )
    }

    #[test]
    fn the_four_forms() {
        assert_eq!(span("a", "").single(), Some(b"a".as_ref()));
        assert!(span("a", "").contains(b"a") && !span("a", "").contains(b"aa"));
        assert!(span("a", "c").contains(b"bz") && !span("a", "c").contains(b"c"));
        assert!(span("b", "\0").contains(b"zzz") && !span("b", "\0").contains(b"a"));
        assert!(span("\0", "\0").contains(b"\0"));
    }

    #[test]
    fn reversed_ends_are_empty() {
        assert!(span("b", "a").is_empty() && span("b", "b").is_empty());
        assert!(!span("b", "").is_empty() && !span("b", "\0").is_empty());
    }
}
