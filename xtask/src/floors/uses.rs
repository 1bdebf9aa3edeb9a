//! Paths in source code that reach out of a pure crate.

/// Modules and types of the standard library that touch the machine, the network or a clock.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::process",
    "std::env",
    "std::thread",
    "std::os",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "std::net::ToSocketAddrs",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
];

/// A path that a pure crate must not use.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Touch {
    /// From 1.
    pub(super) line: usize,
    pub(super) path: String,
}

/// The impure paths in blanked code, written out or inside the braces of a `use`.
pub(super) fn impure(code: &str) -> Vec<Touch> {
    let starts = code.match_indices("std::").filter(|(at, _)| {
        let before = code[..*at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && c != '_')
    });
    let mut touches = Vec::new();
    for (at, _) in starts {
        let line = 1 + code[..at].matches('\n').count();
        for path in paths(&code[at..]) {
            let forbidden = |p: &&&str| path == **p || path.starts_with(&format!("{p}::"));
            if IMPURE.iter().find(forbidden).is_some() {
                touches.push(Touch { line, path });
            }
        }
    }
    touches
}

/// The paths that a path with a brace tree stands for: `std::{fs, net::{IpAddr, UdpSocket}}` is three.
fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut at = 0;
    tree(code, &mut at, "", &mut found);
    found
}

/// Reads one tree; `prefix` ends in `::` or is empty.
fn tree(code: &str, at: &mut usize, prefix: &str, found: &mut Vec<String>) {
    let mut path = prefix.to_owned();
    loop {
        skip_blanks(code, at);
        let rest = &code[*at..];
        let word = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_' && c != '*')
            .unwrap_or(rest.len());
        path.push_str(&rest[..word]);
        *at += word;
        skip_blanks(code, at);
        if let Some(after) = code[*at..].strip_prefix("::") {
            *at = code.len() - after.len();
            skip_blanks(code, at);
            path.push_str("::");
            if code[*at..].starts_with('{') {
                *at += 1;
                branches(code, at, &path, found);
                return;
            }
            if word > 0 {
                continue;
            }
        }
        found.push(path);
        return;
    }
}

/// Reads trees up to the closing brace.
fn branches(code: &str, at: &mut usize, prefix: &str, found: &mut Vec<String>) {
    while *at < code.len() {
        let before = *at;
        tree(code, at, prefix, found);
        // What follows a path in a tree: a comma, ` as name`, or the end.
        let rest = &code[*at..];
        let stop = rest.find([',', '}', ';']).unwrap_or(rest.len());
        *at += stop;
        match code[*at..].chars().next() {
            Some(',') => *at += 1,
            Some('}') => {
                *at += 1;
                return;
            }
            _ => return,
        }
        if *at == before {
            return;
        }
    }
}

fn skip_blanks(code: &str, at: &mut usize) {
    let rest = &code[*at..];
    *at += rest.len() - rest.trim_start().len();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(code: &str) -> Vec<String> {
        impure(code).into_iter().map(|t| t.path).collect()
    }

    #[test]
    fn plain_and_nested_paths_are_found() {
        assert_eq!(
            found("use std::fs;\nlet a = std::env::var(1);"),
            ["std::fs", "std::env::var"]
        );
        assert_eq!(
            found(
                "use std::{collections::{BTreeMap, HashMap}, net::{IpAddr, UdpSocket as U}, time::Instant, fs::{self}};"
            ),
            ["std::net::UdpSocket", "std::time::Instant", "std::fs::self"]
        );
        assert_eq!(found("use std::{fmt, thread,\n};"), ["std::thread"]);
        assert_eq!(found("use ::std::process::exit;"), ["std::process::exit"]);
    }

    #[test]
    fn pure_paths_pass() {
        for code in [
            "use std::net::{IpAddr, Ipv4Addr};",
            "std::time::Duration::ZERO",
            "nonstd::fs",
            "std::fmt::Debug + 'a",
            "std::",
            "use std::{fmt",
        ] {
            assert_eq!(found(code), [""; 0], "{code}");
        }
    }

    #[test]
    fn the_line_is_told() {
        assert_eq!(impure("\n\nuse std::fs;")[0].line, 3);
    }
}
