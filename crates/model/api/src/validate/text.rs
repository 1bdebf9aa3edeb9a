//! Which texts are names, labels and so on.

/// One part of a host name: lower-case letters, digits and `-`, no `-` at either end.
pub(super) fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A host name: labels with dots between.
pub(super) fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

/// Letters, digits, `-`, `_`, `.`, beginning and ending with a letter or digit, 63 at most.
pub(super) fn is_label_value(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |b: Option<&u8>| b.is_none_or(u8::is_ascii_alphanumeric);
    text.len() <= 63
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && edge(bytes.first())
        && edge(bytes.last())
}

/// A label's name, with or without a host name and `/` before it.
pub(super) fn is_qualified_name(text: &str) -> bool {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    prefix.is_none_or(|p| p.len() <= 253 && is_subdomain(p)) && !name.is_empty() && is_label_value(name)
}

/// A network interface: as the kernel limits it, and without the characters that would need quoting.
pub(super) fn is_interface(text: &str) -> bool {
    is_made_of(text, "_.-", 15)
}

/// Letters, digits and `extra`, at least one and at most `max`.
pub(super) fn is_made_of(text: &str, extra: &str, max: usize) -> bool {
    (1..=max).contains(&text.len())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
}

/// As IANA names services: 1 to 15 of a-z, 0-9 and `-`, with a letter, no `-` at an end or doubled.
pub(super) fn is_service_name(text: &str) -> bool {
    text.len() <= 15 && is_label(text) && text.bytes().any(|b| b.is_ascii_lowercase()) && !text.contains("--")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_told_apart() {
        for (f, good, bad) in [
            (
                is_label as fn(&str) -> bool,
                vec!["a", "a-b", "1"],
                vec!["", "-a", "a-", "A", "a.b", "ä"],
            ),
            (
                is_subdomain,
                vec!["a", "a.b-c.1"],
                vec!["", ".", "a.", ".a", "a..b", "a_b", "A.b"],
            ),
            (
                is_label_value,
                vec!["", "A", "a_b.c-D"],
                vec!["-a", "a.", "a b", "a/b", "\"", "ü"],
            ),
            (
                is_qualified_name,
                vec!["a", "A_b", "x.y/a"],
                vec!["", "/a", "x/", "X/a", "a/b/c", "a b"],
            ),
            (
                is_interface,
                vec!["eth0", "a.b-c_d"],
                vec!["", "eth0:1", "sixteen-letters-x", "a b", "*"],
            ),
            (
                is_service_name,
                vec!["http", "a-1"],
                vec!["", "1", "HTTP", "a--b", "sixteen-letters-x", "-a"],
            ),
        ] {
            for text in good {
                assert!(f(text), "{text:?}");
            }
            for text in bad {
                assert!(!f(text), "{text:?}");
            }
        }
        assert!(is_label_value(&"a".repeat(63)) && !is_label_value(&"a".repeat(64)));
    }
}
