//! FelixConfiguration's spec: fields to text, and what is wrong with them.

use std::fmt;

use serde_json::{Map, Value as Json};

use crate::parse::{go_duration, matches, parse, seconds_text};
use crate::table::{Kind, OnBadValue, PairsAs, Param, SpecRule};

/// How bad a problem of a spec is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The object must be refused.
    Error,
    /// The object can be stored, but the agent will not follow this field.
    Warning,
}

/// What is wrong with one field of a FelixConfiguration's spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecProblem {
    /// The field, without `spec.`.
    pub field: String,
    /// What was said.
    pub given: Json,
    /// What is wrong with it and what is allowed.
    pub why: String,
    /// How bad it is.
    pub severity: Severity,
}

impl fmt::Display for SpecProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spec.{} = {}: {}", self.field, self.given, self.why)
    }
}

/// The text that a field's value stands for. `null` is empty text; an empty list is `none`.
///
/// # Errors
/// Says which type the field has.
pub fn spec_to_raw(param: &Param, value: &Json) -> Result<String, String> {
    if value.is_null() {
        return Ok(String::new());
    }
    let wrong = || format!("{} is expected", spec_type(param.kind));
    let text = || value.as_str().ok_or_else(wrong);
    match param.kind {
        Kind::Bool | Kind::OptionalBool => Ok(value.as_bool().ok_or_else(wrong)?.to_string()),
        Kind::Int(_) | Kind::MarkMask => whole(value).ok_or_else(wrong),
        Kind::Seconds => duration(text()?, 9),
        Kind::Millis => duration(text()?, 6),
        Kind::Cidrs | Kind::Interfaces | Kind::Endpoints => {
            joined(value, |v| v.as_str().map(str::to_owned).ok_or_else(wrong)).unwrap_or_else(|| Err(wrong()))
        }
        Kind::ProtoPorts => joined(value, proto_port).unwrap_or_else(|| Err(wrong())),
        Kind::PortRanges => {
            joined(value, |v| number_or_text(v).ok_or_else(wrong)).unwrap_or_else(|| Err(wrong()))
        }
        Kind::PortRange | Kind::Dscp => number_or_text(value).ok_or_else(wrong),
        Kind::TableRange => table_range(value).ok_or_else(wrong),
        Kind::TableRanges => {
            joined(value, |v| table_range(v).ok_or_else(wrong)).unwrap_or_else(|| Err(wrong()))
        }
        Kind::Pairs(PairsAs::Object) => {
            let pairs = value.as_object().ok_or_else(wrong)?.iter();
            let pairs = pairs
                .map(|(k, v)| Some(format!("{k}={}", v.as_str()?)))
                .collect::<Option<Vec<_>>>();
            Ok(none_if_empty(pairs.ok_or_else(wrong)?.join(",")))
        }
        Kind::Pairs(PairsAs::Fields(fields)) => timeouts(value.as_object().ok_or_else(wrong)?, fields),
        Kind::NamedDurations => joined(value, |v| {
            let (name, timeout) = (v["name"].as_str(), v["timeout"].as_str());
            name.zip(timeout)
                .map(|(n, t)| format!("{n}={t}"))
                .ok_or_else(wrong)
        })
        .unwrap_or_else(|| Err(wrong())),
        Kind::Pairs(PairsAs::Text(_))
        | Kind::OneOf(_)
        | Kind::Text
        | Kind::Matching(_)
        | Kind::Path
        | Kind::ExistingFile
        | Kind::Executable
        | Kind::Regex
        | Kind::InterfacePatterns
        | Kind::Ipv4
        | Kind::Ipv6
        | Kind::Region => text().map(str::to_owned),
    }
}

fn none_if_empty(text: String) -> String {
    if text.is_empty() { "none".to_owned() } else { text }
}

/// `None` if it is no array.
fn joined(value: &Json, one: impl FnMut(&Json) -> Result<String, String>) -> Option<Result<String, String>> {
    let parts: Result<Vec<_>, _> = value.as_array()?.iter().map(one).collect();
    Some(parts.map(|parts| none_if_empty(parts.join(","))))
}

fn whole(value: &Json) -> Option<String> {
    value.as_i64().map(|n| n.to_string())
}

fn number_or_text(value: &Json) -> Option<String> {
    whole(value).or_else(|| value.as_str().map(str::to_owned))
}

fn duration(text: &str, digits: usize) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    go_duration(text).map(|nanos| seconds_text(nanos, digits))
}

fn proto_port(value: &Json) -> Result<String, String> {
    let port = value["port"]
        .as_i64()
        .ok_or("each element needs a port (a number)")?;
    let word = |field: &str, default: &'static str| match &value[field] {
        Json::Null => Ok(default.to_owned()),
        Json::String(s) => Ok(s.clone()),
        _ => Err(format!("{field} of an element is a text")),
    };
    let (protocol, net) = (word("protocol", "tcp")?.to_lowercase(), word("net", "")?);
    Ok(match net.as_str() {
        "" => format!("{protocol}:{port}"),
        net if net.contains(':') => format!("{protocol}:[{net}]:{port}"),
        net => format!("{protocol}:{net}:{port}"),
    })
}

fn table_range(value: &Json) -> Option<String> {
    Some(format!("{}-{}", value["min"].as_i64()?, value["max"].as_i64()?))
}

fn timeouts(object: &Map<String, Json>, fields: &[(&str, &str)]) -> Result<String, String> {
    let mut pairs = Vec::new();
    for (field, value) in object {
        let Some((_, key)) = fields.iter().find(|(f, _)| f == field) else {
            let known: Vec<_> = fields.iter().map(|(f, _)| *f).collect();
            return Err(format!("{field:?} is not one of {}", known.join(", ")));
        };
        let text = value
            .as_str()
            .ok_or_else(|| format!("{field} is a text: a duration or Auto"))?;
        if text != "Auto" {
            go_duration(text)?;
        }
        pairs.push(format!("{key}={text}"));
    }
    Ok(pairs.join(","))
}

/// How a kind is written in a spec, as the object of "… is expected".
fn spec_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool | Kind::OptionalBool => "true or false",
        Kind::Int(_) | Kind::MarkMask => "a whole number",
        Kind::Seconds | Kind::Millis => "a duration text such as 1m30s",
        Kind::Cidrs | Kind::Interfaces | Kind::Endpoints => "a list of texts",
        Kind::ProtoPorts => "a list of {protocol, port, net}",
        Kind::PortRanges => "a list of ports and texts n:m",
        Kind::PortRange => "a port or a text n:m",
        Kind::Dscp => "a number from 0 to 63 or a DSCP name",
        Kind::TableRange => "an object {min, max}",
        Kind::TableRanges => "a list of {min, max}",
        Kind::Pairs(PairsAs::Object | PairsAs::Fields(_)) => "an object from name to text",
        Kind::NamedDurations => "a list of {name, timeout}",
        _ => "a text",
    }
}

/// Looks at every field of a spec; no field sets another's verdict.
#[must_use]
pub fn validate_spec(spec: &Map<String, Json>) -> Vec<SpecProblem> {
    spec.iter()
        .filter_map(|(field, value)| {
            let (severity, why) = field_problem(field, value)?;
            Some(SpecProblem {
                field: field.clone(),
                given: value.clone(),
                why,
                severity,
            })
        })
        .collect()
}

fn field_problem(field: &str, value: &Json) -> Option<(Severity, String)> {
    let error = |why| Some((Severity::Error, why));
    if field == "nodeSelector" {
        return match value {
            Json::Null => None,
            Json::String(s) if s.chars().count() <= 1024 => None,
            _ => error("a selector text of at most 1024 characters is expected".to_owned()),
        };
    }
    let Some(param) = Param::by_field(field) else {
        let near = nearest(field, Param::all().map(|p| p.field));
        let hint = near.map(|n| format!(" (did you mean {n}?)")).unwrap_or_default();
        return error(format!("FelixConfiguration has no such field{hint}"));
    };
    let raw = match spec_to_raw(param, value) {
        Ok(raw) => raw,
        Err(why) => return error(why),
    };
    if value.is_null() {
        return None;
    }
    if let Some(why) = rule_problem(param, value, &raw) {
        return error(why);
    }
    if raw.is_empty() || (raw.eq_ignore_ascii_case("none") && !param.nonzero) {
        return None;
    }
    let bad = parse(param.kind, &raw).err()?;
    // The schema holds words to their list whatever their case, and addresses to their family, so what is none of them is
    // refused, not just ignored.
    let held = matches!(param.kind, Kind::OneOf(_) | Kind::Ipv4 | Kind::Ipv6);
    if held && param.name != "BPFCTLBLogFilter" {
        return error(bad.to_string());
    }
    let then = match param.on_bad_value {
        OnBadValue::Default => "the agent would use its default",
        OnBadValue::Exit => "the agent would refuse to start",
    };
    Some((Severity::Warning, format!("{bad}; {then}")))
}

fn rule_problem(param: &Param, value: &Json, raw: &str) -> Option<String> {
    match param.spec_rule {
        SpecRule::Exactly(words) if !words.contains(&raw) => {
            Some(format!("one of {} is expected", words.join(", ")))
        }
        SpecRule::Matches(pattern) if !matches(pattern, raw) => {
            Some(format!("a text that matches {pattern} is expected"))
        }
        SpecRule::Within(low, high) if !value.as_i64().is_some_and(|n| (low..=high).contains(&n)) => {
            Some(if high == i64::MAX {
                format!("a number from {low} is expected")
            } else {
                format!("a number from {low} to {high} is expected")
            })
        }
        _ => match param.kind {
            Kind::Pairs(PairsAs::Text(pattern)) if !matches(pattern, raw) => {
                Some(format!("a text that matches {pattern} is expected"))
            }
            Kind::MarkMask => match value.as_i64().map(u32::try_from) {
                Some(Ok(_)) => None,
                _ => Some("a number from 0 to 4294967295 is expected".to_owned()),
            },
            Kind::PortRanges if value.as_array().is_some_and(|a| a.len() > 7) => {
                Some("at most 7 ranges are allowed".to_owned())
            }
            Kind::Ipv4 | Kind::Ipv6 if raw.len() > 45 => Some("at most 45 characters are allowed".to_owned()),
            Kind::TableRange | Kind::TableRanges => table_rule(value),
            _ => None,
        },
    }
}

fn table_rule(value: &Json) -> Option<String> {
    let one = |v: &Json, most: i64| {
        let (min, max) = (v["min"].as_i64()?, v["max"].as_i64()?);
        let why = format!("a range of route tables from 1 to {most}, min not above max, is expected");
        (min < 1 || max < min || max > most).then_some(why)
    };
    match value {
        Json::Array(ranges) => ranges.iter().find_map(|v| one(v, i64::from(u32::MAX))),
        range => one(range, 250),
    }
}

/// The known name nearest to a mistyped one, if it is near enough to be meant.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    known
        .filter(|k| !k.is_empty())
        .map(|k| (distance(&lower, &k.to_lowercase()), k))
        .min()
        .filter(|(d, k)| *d <= 1 + k.len() / 6)
        .map(|(_, k)| k)
}

/// Edit distance, by rows; names beyond any real length are as far as can be.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    if a.len() > 128 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
