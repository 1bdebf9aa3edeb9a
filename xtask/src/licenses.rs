//! Licences and sources of all that is linked in, by the lists of `deny.toml`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::Findings;
use crate::metadata::{load, packages, text};

/// Every dependency has an allowed licence, none is banned, all come from the one registry or the workspace.
pub(crate) fn check(root: &Path) -> Result<Findings> {
    let file = root.join("deny.toml");
    let deny = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let (allowed, banned) = (allow_list(&deny)?, ban_list(&deny));
    let metadata = load(root, true)?;
    let mut findings = Findings::default();
    let mut registry = None;
    for package in packages(&metadata) {
        let name = format!("{} {}", text(package, "name"), text(package, "version"));
        let license = text(package, "license");
        if license.is_empty() {
            findings.errors.push(format!("{name} names no licence"));
        } else if !permitted(license, &allowed) {
            findings.errors.push(format!(
                "{name} is under {license:?}; deny.toml does not allow that"
            ));
        }
        if banned.iter().any(|b| b == text(package, "name")) {
            findings.errors.push(format!("{name} is banned by deny.toml"));
        }
        let source = text(package, "source");
        let expected = registry.get_or_insert_with(|| source.to_owned());
        if expected.is_empty() {
            source.clone_into(expected);
        }
        if !source.is_empty() && (!source.starts_with("registry+") || source != expected) {
            findings.errors.push(format!(
                "{name} comes from {source}, not from the registry that the others come from"
            ));
        }
    }
    Ok(findings)
}

/// The quoted words of `allow = [ … ]` under `[licenses]`.
fn allow_list(deny: &str) -> Result<Vec<String>> {
    let list = deny
        .split("[licenses]")
        .nth(1)
        .and_then(|s| s.split("allow = [").nth(1))
        .and_then(|s| s.split(']').next());
    let words = quoted(list.context("deny.toml has no list allow under [licenses]")?);
    if words.is_empty() {
        bail!("deny.toml allows no licence at all");
    }
    Ok(words)
}

/// The names in `deny = [{ name = "…" }, …]` under `[bans]`.
fn ban_list(deny: &str) -> Vec<String> {
    let list = deny
        .split("[bans]")
        .nth(1)
        .and_then(|s| s.split("deny = [").nth(1))
        .and_then(|s| s.split(']').next());
    list.map(quoted).unwrap_or_default()
}

fn quoted(text: &str) -> Vec<String> {
    text.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether an SPDX expression can be met by allowed licences. `/` is the old way to write OR.
fn permitted(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let verdict = any_of(&tokens, &mut at, allowed);
    verdict && at == tokens.len()
}

fn any_of(tokens: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut verdict = all_of(tokens, at, allowed);
    while tokens.get(*at) == Some(&"OR") {
        *at += 1;
        verdict |= all_of(tokens, at, allowed);
    }
    verdict
}

fn all_of(tokens: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut verdict = one(tokens, at, allowed);
    while tokens.get(*at) == Some(&"AND") {
        *at += 1;
        verdict &= one(tokens, at, allowed);
    }
    verdict
}

fn one(tokens: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let Some(token) = tokens.get(*at) else {
        return false;
    };
    *at += 1;
    if *token == "(" {
        let verdict = any_of(tokens, at, allowed);
        let closed = tokens.get(*at) == Some(&")");
        *at += 1;
        return verdict && closed;
    }
    let mut license = (*token).to_owned();
    if tokens.get(*at) == Some(&"WITH") {
        license = format!("{token} WITH {}", tokens.get(*at + 1).unwrap_or(&""));
        *at += 2;
    }
    allowed.contains(&license)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_judged() {
        let allowed = ["MIT", "BSD-3-Clause", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
        for (expression, want) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("MIT/GPL-3.0", true),
            ("GPL-3.0 OR MIT", true),
            ("MIT AND GPL-3.0", false),
            ("(MIT OR GPL-3.0) AND BSD-3-Clause", true),
            ("MIT OR GPL-3.0 AND LGPL-2.1", true),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("Apache-2.0", false),
            ("(MIT", false),
            ("MIT MIT", false),
            ("", false),
        ] {
            assert_eq!(permitted(expression, &allowed), want, "{expression}");
        }
    }

    #[test]
    fn the_lists_are_read_from_the_file() {
        let deny = include_str!("../../deny.toml");
        assert!(allow_list(deny).unwrap().iter().any(|l| l == "MIT"));
        assert!(ban_list(deny).iter().any(|b| b == "openssl-sys"));
    }
}
