use serde_json::Value as Json;

use super::{Kind, OnBadValue, PairsAs, Param, SpecRule, shapes};
use crate::parse::parse;

fn reference() -> Vec<Json> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../testdata/config/felix-config-params.json"
    );
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn text<'a>(row: &'a Json, field: &str) -> &'a str {
    row[field].as_str().unwrap()
}

#[test]
fn every_row_agrees_with_the_reference() {
    let reference = reference();
    let ours: Vec<_> = Param::all().collect();
    assert_eq!(ours.len(), 209);
    assert_eq!(reference.len(), 209);
    for row in &reference {
        let name = text(row, "NameConfigFile");
        let param = Param::by_name(name).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(param.name, name);
        assert_eq!(param.env(), text(row, "NameEnvVar"), "{name}");
        assert_eq!(param.field, text(row, "NameYAML"), "{name}");
        assert_eq!(param.default, text(row, "StringDefault"), "{name}");
        assert_eq!(
            param.on_bad_value == OnBadValue::Exit,
            row["OnParseFailure"] == "Exit",
            "{name}"
        );
        assert_eq!(
            param.local_only,
            row["AllowedConfigSources"] == "LocalOnly",
            "{name}"
        );
        assert_eq!(param.nonzero, row["Required"] == true, "{name}");
        let default = parse(param.kind, param.default).unwrap_or_else(|e| panic!("{name}: {e}"));
        let want: Json = serde_json::from_str(text(row, "ParsedDefaultJSON")).unwrap();
        assert_eq!(default.to_json(), want, "{name}");
        assert!(
            kind_agrees(param.kind, text(row, "StringSchema")),
            "{name}: {:?}",
            param.kind
        );
    }
}

/// Whether a kind is what the reference's words describe. Bounds may be narrower where it gives none.
fn kind_agrees(kind: Kind, schema: &str) -> bool {
    let starts = |s: &str| schema.starts_with(s);
    match kind {
        Kind::Bool | Kind::OptionalBool => starts("Boolean"),
        Kind::Int((low, high)) => {
            let high = if high == i64::MAX {
                "2^63-1".to_owned()
            } else {
                high.to_string()
            };
            schema == "Integer" || starts(&format!("Integer: [{low},{high}]"))
        }
        Kind::Seconds => starts("Seconds"),
        Kind::Millis => starts("Milliseconds"),
        Kind::OneOf(words) => {
            let words: Vec<_> = words.iter().map(|w| format!("`{w}`")).collect();
            schema == format!("One of: {}", words.join(", "))
        }
        Kind::Text => schema == "String",
        Kind::Matching(pattern) => {
            schema == format!("String matching regex `{}`", pattern.replace("[0-9]", "\\d"))
        }
        Kind::Path => schema == "Path to file",
        Kind::ExistingFile => schema == "Path to file, which must exist",
        Kind::Executable => starts("Path to executable"),
        Kind::Regex => schema == "Regular expression",
        Kind::InterfacePatterns => starts("Comma-delimited list of Linux interface names/regex"),
        Kind::Interfaces => starts("Comma-delimited list of strings, each matching the regex"),
        Kind::Cidrs => schema == "Comma-delimited list of CIDRs",
        Kind::Endpoints => starts("List of HTTP endpoints"),
        Kind::ProtoPorts => starts("Comma-delimited list of numeric ports"),
        Kind::PortRange => starts("Port range"),
        Kind::PortRanges => starts("List of port ranges"),
        Kind::TableRange => starts("Range of route table"),
        Kind::TableRanges => starts("Comma or space-delimited list of route table"),
        Kind::Pairs(_) => schema == "Comma-delimited list of key=value pairs",
        Kind::NamedDurations => starts("Comma-delimited list of `<key>=<duration>`"),
        Kind::Ipv4 => schema == "IPv4 address",
        Kind::Ipv6 => schema == "IPv6 address",
        Kind::Dscp => starts("Numeric value: An integer from 0 to 63"),
        Kind::MarkMask => starts("32-bit bitmask"),
        Kind::Region => starts("OpenStack region name"),
    }
}

#[test]
fn every_pattern_compiles() {
    let mut patterns = vec![shapes::SPEC_RATE, shapes::SPEC_LOG_PREFIX];
    for param in Param::all().chain(Param::own()) {
        match param.kind {
            Kind::Matching(p) | Kind::Pairs(PairsAs::Text(p)) => patterns.push(p),
            _ => {}
        }
        if let SpecRule::Matches(p) = param.spec_rule {
            patterns.push(p);
        }
    }
    for pattern in patterns {
        assert!(regex::Regex::new(pattern).is_ok(), "{pattern}");
    }
}

#[test]
fn names_are_unique_and_defaults_parse() {
    let mut seen = std::collections::HashSet::new();
    for param in Param::all().chain(Param::own()) {
        assert!(
            seen.insert(param.name.to_lowercase()),
            "{} is there twice",
            param.name
        );
        assert!(parse(param.kind, param.default).is_ok(), "{}", param.name);
    }
}
