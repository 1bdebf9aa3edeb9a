//! The parser's error: place, finding, expectation, hint.

use std::fmt;

/// How much text is shown on either side of the caret.
const CONTEXT: usize = 40;

/// Why a text is no selector, and where.
///
/// `Display` is several lines: the complaint, the text (an excerpt when it is long), and a caret
/// under the offending character. [`ParseError::summary`] is the same in one line, without the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    text: Box<str>,
    position: usize,
    found: Box<str>,
    expected: &'static str,
    hint: Option<Box<str>>,
}

impl ParseError {
    pub(crate) fn new(
        text: &str,
        position: usize,
        found: impl Into<Box<str>>,
        expected: &'static str,
    ) -> Self {
        debug_assert!(
            text.is_char_boundary(position),
            "a position lies between characters"
        );
        Self {
            text: text.into(),
            position,
            found: found.into(),
            expected,
            hint: None,
        }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<Box<str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn with_hint_if(mut self, hint: Option<String>) -> Self {
        self.hint = hint.map(Into::into);
        self
    }

    /// The byte offset in the text at which it goes wrong.
    pub fn position(&self) -> usize {
        self.position
    }

    /// What stands there.
    pub fn found(&self) -> &str {
        &self.found
    }

    /// What could have stood there.
    pub fn expected(&self) -> &str {
        self.expected
    }

    /// How to mend it, when the mistake is a known one.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The complaint in one line, for a status field or a log.
    pub fn summary(&self) -> String {
        let (position, found, expected) = (self.position, &self.found, self.expected);
        match &self.hint {
            Some(hint) => format!("at byte {position}: found {found}, expected {expected}; {hint}"),
            None => format!("at byte {position}: found {found}, expected {expected}"),
        }
    }

    /// The text around the position, and the column of the caret in it.
    fn excerpt(&self) -> (String, usize) {
        let (before, after) = self.text.split_at(self.position);
        let skipped = before.chars().count().saturating_sub(CONTEXT);
        let cut = if after.chars().nth(CONTEXT).is_some() {
            "…"
        } else {
            ""
        };
        let lead = if skipped > 0 { "…" } else { "" };
        // A control character would break the line or move the caret.
        let show = |c: char| match c {
            '\t' => ' ',
            c if c.is_control() => '·',
            c => c,
        };
        let mut line = String::from(lead);
        line.extend(before.chars().skip(skipped).map(show));
        let column = line.chars().count();
        line.extend(after.chars().take(CONTEXT).map(show));
        line.push_str(cut);
        (line, column)
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.excerpt();
        writeln!(f, "bad selector {}", self.summary())?;
        writeln!(f, "  {line}")?;
        write!(f, "  {:column$}^", "")
    }
}

impl std::error::Error for ParseError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_at_the_place() {
        let error = ParseError::new("a = b", 2, "'='", "==").with_hint("write ==");
        assert_eq!(
            error.to_string(),
            "bad selector at byte 2: found '=', expected ==; write ==\n  a = b\n    ^"
        );
    }

    #[test]
    fn long_or_odd_text_stays_on_one_line() {
        let text = format!("{}\n\t@{}", "é".repeat(500), "ü".repeat(500));
        let position = text.find('@').expect("it was put there");
        let shown = ParseError::new(&text, position, "'@'", "an operator").to_string();
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines.len(), 3);
        let column = lines[2].chars().count() - 1;
        assert_eq!(lines[1].chars().nth(column), Some('@'));
        assert!(lines[1].chars().count() < 90, "{}", lines[1]);
    }
}
