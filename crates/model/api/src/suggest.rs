/// The candidate that a mistyped word most likely means, if any is near.
#[must_use]
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    // Long words make no typo of a short name and would cost a quadratic comparison.
    if word.len() > 64 {
        return None;
    }
    let allowed = 1 + word.chars().count() / 4;
    let lower = word.to_lowercase();
    candidates
        .into_iter()
        .map(|c| (distance(&lower, &c.to_lowercase()), c))
        .filter(|(d, c)| *d <= allowed && *d < c.chars().count())
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// How many characters must be inserted, removed or replaced to get from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replace = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typos_find_their_word_and_strangers_none() {
        let fields = ["selector", "namespaceSelector", "nets", "ports"];
        assert_eq!(nearest("seletcor", fields), Some("selector"));
        assert_eq!(nearest("Nets", fields), Some("nets"));
        assert_eq!(nearest("namespaceselector", fields), Some("namespaceSelector"));
        assert_eq!(nearest("zzzzzz", fields), None);
        assert_eq!(nearest("a", ["b"]), None);
    }
}
