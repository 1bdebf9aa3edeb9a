//! Files and functions that a reader can hold in mind.

use std::path::Path;

use anyhow::Result;

use crate::{Findings, source};

const WARN_FILE: usize = 600;
const MOST_FILE: usize = 1000;
const WARN_FUNCTION: usize = 100;
const MOST_FUNCTION: usize = 200;

/// Counts lines of product code.
pub(crate) fn check(root: &Path) -> Result<Findings> {
    let mut findings = Findings::default();
    for file in source::product(root)? {
        let path = file
            .path
            .strip_prefix(root)
            .unwrap_or(&file.path)
            .display()
            .to_string();
        let lines = file.code.lines().count();
        if lines > MOST_FILE {
            findings
                .errors
                .push(format!("{path} has {lines} lines; {MOST_FILE} are the most"));
        } else if lines > WARN_FILE {
            findings
                .warnings
                .push(format!("{path} has {lines} lines; aim at 400"));
        }
        for function in functions(&file.code) {
            let say = format!(
                "{path}:{} fn {} has {} lines",
                function.line, function.name, function.lines
            );
            if function.lines > MOST_FUNCTION {
                findings
                    .errors
                    .push(format!("{say}; {MOST_FUNCTION} are the most"));
            } else if function.lines > WARN_FUNCTION {
                findings.warnings.push(format!("{say}; aim at {WARN_FUNCTION}"));
            }
        }
    }
    Ok(findings)
}

#[derive(Debug, PartialEq, Eq)]
struct Function<'a> {
    name: &'a str,
    /// From 1.
    line: usize,
    lines: usize,
}

/// The functions in blanked code that have a body.
fn functions(code: &str) -> Vec<Function<'_>> {
    let starts = code.match_indices("fn ").filter(|(at, _)| {
        let before = code[..*at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && c != '_')
    });
    starts
        .filter_map(|(at, keyword)| function(code, at, at + keyword.len()))
        .collect()
}

fn function(code: &str, at: usize, name_at: usize) -> Option<Function<'_>> {
    let rest = &code[name_at..];
    let name_len = rest.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    if name_len == 0 {
        return None;
    }
    // A semicolon inside brackets belongs to an array type, one outside ends a declaration.
    let (mut depth, mut round) = (0_usize, 0_usize);
    for (i, c) in rest.char_indices() {
        match c {
            '(' | '[' => round += 1,
            ')' | ']' => round = round.saturating_sub(1),
            ';' if depth == 0 && round == 0 => return None,
            '{' => depth += 1,
            '}' if depth > 0 => {
                depth -= 1;
                if depth == 0 && round == 0 {
                    let lines = 1 + code[at..name_at + i].matches('\n').count();
                    let line = 1 + code[..at].matches('\n').count();
                    return Some(Function {
                        name: &rest[..name_len],
                        line,
                        lines,
                    });
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_counted_and_declarations_are_not() {
        let code = "trait T {\n  fn declared(x: [u8; 2]);\n  fn f(g: fn (u8)) -> [u8; 2] {\n    if a { b }\n    c\n  }\n}\nfn one() {}\n";
        let found: Vec<_> = functions(code)
            .into_iter()
            .map(|f| (f.name, f.line, f.lines))
            .collect();
        assert_eq!(found, [("f", 3, 4), ("one", 8, 1)]);
    }
}
