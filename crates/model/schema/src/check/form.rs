//! Forms of texts.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use regex::bytes::{Regex, RegexBuilder};

/// Whether a text matches a pattern of a schema somewhere, by Go's rules: classes such as `\d` are ASCII.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    compiled(pattern).is_some_and(|r| r.is_match(text.as_bytes()))
}

type Compiled = HashMap<String, Option<Arc<Regex>>>;

/// Patterns are few and asked often.
fn compiled(pattern: &str) -> Option<Arc<Regex>> {
    static ALL: OnceLock<Mutex<Compiled>> = OnceLock::new();
    // Nothing in here can panic half-way.
    let mut all = ALL
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    all.entry(pattern.to_owned())
        .or_insert_with(|| {
            RegexBuilder::new(pattern)
                .unicode(false)
                .build()
                .ok()
                .map(Arc::new)
        })
        .clone()
}

/// A pattern for people, where it is one of the usual.
pub(super) fn pattern_in_words(pattern: &str) -> String {
    if let Some(words) = pattern.strip_prefix("^(?i)(").and_then(|p| p.strip_suffix(")?$")) {
        return words.replace('|', ", ");
    }
    if pattern.ends_with("(ms|s|m|h))*$") {
        return "a duration of whole numbers such as 90s or 1m30s".to_owned();
    }
    if pattern.contains("[0-9]{1,3}") && pattern.contains("):(") {
        return "a community: aa:nn of numbers to 65535, or aa:nn:mm of numbers to 4294967295".to_owned();
    }
    match pattern {
        r"^(\d+):(\d+)$|^(\d+):(\d+):(\d+)$" => "a community: aa:nn or aa:nn:mm".to_owned(),
        r"^(host|virtual):[a-zA-Z0-9\.\-_]+$" => "host:NAME or virtual:NAME".to_owned(),
        _ => format!("a text that matches {pattern}"),
    }
}

/// What a text should be that has not the form of this name; none if it has, or if the form is only a hint.
pub(super) fn unlike(format: &str, text: &str) -> Option<&'static str> {
    match format {
        "cidr" if !is_cidr(text) => Some("a range of addresses such as 10.0.0.0/8 or fd00::/64"),
        "date-time" if !is_date_time(text) => Some("a time such as 2006-01-02T15:04:05Z"),
        _ => None,
    }
}

/// As Go reads a CIDR when it is not strict: octets may have zeros in front.
fn is_cidr(text: &str) -> bool {
    let Some((addr, len)) = text.split_once('/') else {
        return false;
    };
    let most = if sloppy_v4(addr) {
        32
    } else if addr.parse::<Ipv6Addr>().is_ok() {
        128
    } else {
        return false;
    };
    let digits = !len.is_empty() && len.len() <= 3 && len.bytes().all(|b| b.is_ascii_digit());
    digits && len.parse::<u32>().is_ok_and(|n| n <= most)
}

fn sloppy_v4(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let octet = |p: &&str| {
        !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u64>().is_ok_and(|n| n <= 255)
    };
    text.parse::<Ipv4Addr>().is_ok() || (parts.len() == 4 && parts.iter().all(octet))
}

/// A date and a time of day with an offset, case aside.
fn is_date_time(text: &str) -> bool {
    const TIME: &str = r"^([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](.[0-9]+)?(z|[+-][0-9]{2}:[0-9]{2})$";
    let text = text.to_lowercase();
    let mut parts = text.split('t');
    match (parts.next(), parts.next()) {
        (Some(date), Some(time)) => is_date(date) && matches(TIME, time),
        _ => false,
    }
}

fn is_date(text: &str) -> bool {
    if !matches("^[0-9]{4}-[0-9]{2}-[0-9]{2}$", text) {
        return false;
    }
    let number = |range: std::ops::Range<usize>| text.get(range).and_then(|t| t.parse::<u32>().ok());
    let (Some(year), Some(month), Some(day)) = (number(0..4), number(5..7), number(8..10)) else {
        return false;
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => return false,
    };
    (1..=days).contains(&day)
}
