//! Verdicts as text.

use std::fmt::Write;

use caracal_api::value_to_yaml;

use crate::{
    cli::Format,
    judge::{Finding, Judged, Severity},
};

pub(crate) fn text_of(judged: &[Judged], format: Format) -> String {
    match format {
        Format::Text => for_people(judged),
        // The verdicts hold texts and numbers only.
        Format::Json => serde_json::to_string_pretty(judged).unwrap_or_default() + "\n",
        Format::Yaml => value_to_yaml(&judged),
    }
}

fn for_people(judged: &[Judged]) -> String {
    let mut text = String::new();
    for j in judged.iter().filter(|j| !j.findings.is_empty()) {
        text += &title(j);
        for f in &j.findings {
            text += &line(f);
        }
    }
    let warned = judged
        .iter()
        .filter(|j| j.valid && !j.findings.is_empty())
        .count();
    let refused = judged.iter().filter(|j| !j.valid).count();
    let objects = if judged.len() == 1 { "object" } else { "objects" };
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "{} {objects}: {} valid",
        judged.len(),
        judged.len() - refused
    );
    if warned > 0 {
        let _ = write!(text, " ({warned} with warnings)");
    }
    let _ = writeln!(text, ", {refused} refused");
    text
}

fn title(j: &Judged) -> String {
    let mut text = format!("{}, document {}", j.source, j.document);
    if let Some(item) = j.item {
        let _ = write!(text, ", item {item}");
    }
    match (&j.kind, &j.name) {
        (Some(kind), Some(name)) => {
            let _ = write!(text, ", {kind} {name:?}");
        }
        (Some(kind), None) => {
            let _ = write!(text, ", {kind} without a name");
        }
        _ => {}
    }
    let verdict = if j.valid {
        "taken, with warnings"
    } else {
        "refused"
    };
    text + ": " + verdict + "\n"
}

fn line(f: &Finding) -> String {
    let mut text = "  ".to_owned();
    if let Some(line) = f.line {
        let _ = write!(text, "line {line}: ");
    }
    if f.severity == Severity::Warning {
        text += "warning: ";
    }
    if !f.field.is_empty() {
        let _ = write!(text, "{}: ", f.field);
    }
    text += &f.message;
    if !f.allowed.is_empty() {
        let _ = write!(text, "; allowed: {}", f.allowed);
    }
    text + "\n"
}
