//! What a schema refuses the agent refuses too, though it reads objects with types and not with schemas: nothing that is
//! written past an API server gets further than the agent's door.

use std::collections::BTreeMap;

use caracal_api::{Kind, Resource, default_resource, validate};
use caracal_config::{Severity, validate_spec};
use caracal_schema::{Group, check, schema_of};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    corpus,
    dice::{Dice, nightly, seed},
};

/// What the agent takes though the schema does not.
#[derive(Debug, Deserialize)]
struct Explained {
    /// The start of the field's path, after the kind: `IPPool spec.cidr`; `*` for any kind.
    at: String,
    /// Part of what the schema says.
    says: String,
    why: String,
}

/// Why the agent would not use an object; none if it would.
fn refusal(kind: Kind, object: &Value) -> Option<String> {
    let mut resource = match Resource::from_value(kind, object.clone()) {
        Ok(r) => r,
        Err(e) => return Some(e.to_string()),
    };
    default_resource(&mut resource);
    if let Resource::FelixConfiguration(o) = &resource {
        let problems = validate_spec(&o.spec.fields);
        if let Some(p) = problems.iter().find(|p| p.severity == Severity::Error) {
            return Some(p.to_string());
        }
    }
    validate(&resource).first().map(ToString::to_string)
}

#[test]
fn what_a_schema_refuses_the_agent_refuses() {
    let explained: Vec<Explained> = serde_json::from_str(include_str!("lenient.json")).unwrap();
    let mut needed = vec![0; explained.len()];
    let mut dice = Dice::new(seed());
    let mut through: BTreeMap<String, String> = BTreeMap::new();
    let (mut refused, mut seen) = (0, 0);
    for kind in Kind::ALL.iter().filter(|k| schema_of(**k, Group::V3).is_some()) {
        let random = if nightly() { 400 } else { 20 };
        for object in corpus::objects(*kind, Group::V3, &mut dice, random) {
            seen += 1;
            let findings = check(*kind, Group::V3, &object);
            if findings.is_empty() {
                continue;
            }
            refused += 1;
            if refusal(*kind, &object).is_some() {
                continue;
            }
            // Each finding must be one that the agent may overlook.
            for f in findings {
                let (at, says) = (f.path.to_string(), f.to_string());
                let known = explained.iter().position(|e| {
                    let (of, path) = e.at.split_once(' ').unwrap();
                    (of == "*" || of == kind.as_str()) && at.starts_with(path) && says.contains(&e.says)
                });
                match known {
                    Some(i) => needed[i] += 1,
                    None => {
                        through
                            .entry(format!("{kind} {}", without_value(&says)))
                            .or_insert_with(|| object.to_string());
                    }
                }
            }
        }
    }
    println!("{seen} objects, {refused} refused by their schema");
    assert!(refused > 5000, "{refused}");
    let list: Vec<String> = through
        .iter()
        .map(|(what, object)| format!("{what}\n    {object:.300}"))
        .collect();
    assert!(
        list.is_empty(),
        "{} ways past the agent:\n{}",
        list.len(),
        list.join("\n")
    );
    for (e, n) in explained.iter().zip(needed) {
        assert!(n > 0, "no longer needed: {e:?}");
        assert!(e.why.len() > 20, "{e:?}");
    }
}

/// The message with the value cut short, so that one way is listed once.
fn without_value(says: &str) -> String {
    says.chars().take(100).collect()
}
