//! The configuration file: `key = value` lines in sections that are merged.

/// What a configuration file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct FileText {
    /// Name and value, in the order of the file.
    pub(crate) pairs: Vec<(String, String)>,
    /// Lines that are nothing known, with their number from 1.
    pub(crate) bad: Vec<(usize, String)>,
}

/// Reads the text of `/etc/calico/felix.cfg`. Section headers, empty lines and comments (`#`, `;`) are skipped; a value
/// may stand in quotes.
pub(crate) fn parse_file(text: &str) -> FileText {
    let mut file = FileText::default();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) || (line.starts_with('[') && line.ends_with(']')) {
            continue;
        }
        match line.split_once(['=', ':']) {
            Some((key, value)) if !key.trim().is_empty() => {
                file.pairs.push((
                    key.trim().to_owned(),
                    unquote(without_comment(value.trim())).to_owned(),
                ));
            }
            _ => file.bad.push((number + 1, line.to_owned())),
        }
    }
    file
}

/// A comment begins at `#` or `;` after a space, outside quotes.
fn without_comment(value: &str) -> &str {
    if value.starts_with(['"', '\'', '#', ';']) {
        let quoted = value.starts_with(['"', '\'']);
        return if quoted { value } else { "" };
    }
    [" #", " ;", "\t#", "\t;"]
        .iter()
        .filter_map(|c| value.find(c))
        .min()
        .map_or(value, |at| value[..at].trim_end())
}

fn unquote(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(rest) = value.strip_prefix(quote) {
            return match rest.find(quote) {
                Some(end) => &rest[..end],
                None => value,
            };
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_merge_and_comments_go() {
        let text = "\u{feff}[global]\n# no\n; no\nHealthPort = 1234\r\n[log]\nLogSeverityScreen: debug ; why\n\
                    LogPrefix = \"a # b\" # c\nEmpty =\nInterfaceExclude='x'\n= 3\njunk\n";
        let FileText { pairs, bad } = parse_file(text);
        let want = [
            ("HealthPort", "1234"),
            ("LogSeverityScreen", "debug"),
            ("LogPrefix", "a # b"),
            ("Empty", ""),
            ("InterfaceExclude", "x"),
        ];
        assert_eq!(pairs, want.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(bad, [(10, "= 3".to_owned()), (11, "junk".to_owned())]);
    }
}
