//! Rust source as the checks see it: which files are the product's, and their text without comments and literals.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A file of the product.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    /// Without comments, the insides of literals, and the test module at the end. Lines keep their numbers.
    pub(crate) code: String,
}

/// The product's files below `dir`: not tests, benches, examples or generated code.
pub(crate) fn product(dir: &Path) -> Result<Vec<Source>> {
    let mut files = Vec::new();
    collect(dir, &mut files)?;
    files.sort();
    let (mut sources, mut tests) = (Vec::new(), BTreeSet::new());
    for path in files {
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        if text.lines().take(5).any(|line| line.contains("@generated")) {
            continue;
        }
        let blank = blank(&text);
        for module in test_modules(&blank) {
            tests.extend(module_files(&path, module));
        }
        let code = without_tests(&blank).to_owned();
        sources.push(Source { path, code });
    }
    sources.retain(|s| {
        !tests
            .iter()
            .any(|t| s.path == *t || s.path.starts_with(t.with_extension("")))
    });
    Ok(sources)
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            if !["target", "tests", "benches", "examples", "fuzz"].contains(&name.as_str())
                && !name.starts_with('.')
            {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// Names of the modules that a `#[cfg(test)]` leaves out of the product and that have a file of their own.
fn test_modules(code: &str) -> impl Iterator<Item = &str> {
    code.split("#[cfg(test)]").skip(1).filter_map(|after| {
        let declaration = after.trim_start().split([';', '{']).next()?;
        let name = declaration.trim().rsplit_once("mod ")?.1;
        after.trim_start()[declaration.len()..]
            .starts_with(';')
            .then_some(name.trim())
    })
}

/// Where the file of a module may be that `parent` declares.
fn module_files(parent: &Path, module: &str) -> [PathBuf; 2] {
    let beside = parent.parent().unwrap_or(parent).join(format!("{module}.rs"));
    [parent.with_extension("").join(format!("{module}.rs")), beside]
}

/// The text before the first test module.
fn without_tests(code: &str) -> &str {
    let mut from = 0;
    while let Some(at) = code[from..].find("#[cfg(test)]").map(|at| from + at) {
        let after = code[at + "#[cfg(test)]".len()..].trim_start();
        if after.starts_with("mod ") || after.starts_with("#[") {
            return &code[..at];
        }
        from = at + 1;
    }
    code
}

/// Comments and the insides of literals become blanks; line breaks stay.
pub(crate) fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => line_end(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => block_comment_end(&chars, at),
            '"' => string_end(&chars, at + 1),
            'r' | 'b' | 'c' if !after_word(&chars, at) => match raw_string_end(&chars, at) {
                Some(end) => end,
                None => at,
            },
            '\'' => char_end(&chars, at),
            _ => at,
        };
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

fn after_word(chars: &[char], at: usize) -> bool {
    at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_')
}

fn line_end(chars: &[char], at: usize) -> usize {
    chars[at..]
        .iter()
        .position(|c| *c == '\n')
        .map_or(chars.len(), |n| at + n)
}

fn block_comment_end(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at.min(chars.len())
}

/// `at` is behind the opening quote.
fn string_end(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// The end of `r"…"`, `br#"…"#` and the like, if that is what stands here.
fn raw_string_end(chars: &[char], at: usize) -> Option<usize> {
    let mut i = at;
    while matches!(chars.get(i), Some('b' | 'c' | 'r')) && i - at < 2 {
        i += 1;
    }
    let raw = chars[at..i].contains(&'r');
    let hashes = chars[i..].iter().take_while(|c| **c == '#').count();
    if chars.get(i + hashes) != Some(&'"') || (hashes > 0 && !raw) {
        return None;
    }
    if !raw {
        return Some(string_end(chars, i + 1));
    }
    let mut end = i + hashes + 1;
    while end < chars.len() {
        if chars[end] == '"'
            && chars[end + 1..]
                .iter()
                .take(hashes)
                .filter(|c| **c == '#')
                .count()
                == hashes
        {
            return Some(end + 1 + hashes);
        }
        end += 1;
    }
    Some(chars.len())
}

/// The end of a character literal; a lifetime is left as it is.
fn char_end(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), Some(_)) => {
            let close = chars[at + 3..].iter().position(|c| *c == '\'');
            close.map_or(at, |n| at + 3 + n + 1)
        }
        (Some(_), Some('\'')) => at + 3,
        _ => at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked() {
        let text =
            "a // {\n/* { /* { */ */ b \"{\\\"{\" 'c' '{' '\\'' '\\u{7b}' r#\"\"{\"# br\"{\" &'a x { }";
        let blank = blank(text);
        assert_eq!(blank.matches('{').count(), 1, "{blank}");
        assert_eq!(blank.lines().count(), text.lines().count());
        assert!(blank.contains("&'a x { }"));
    }

    #[test]
    fn a_test_module_ends_the_product() {
        let code = "fn a() {}\n#[cfg(test)]\nuse x;\nfn b() {}\n#[cfg(test)]\nmod tests;\n#[cfg(test)]\npub(crate) mod fakes;\n";
        assert!(without_tests(code).ends_with("fn b() {}\n"));
        assert_eq!(test_modules(code).collect::<Vec<_>>(), ["tests", "fakes"]);
    }
}
