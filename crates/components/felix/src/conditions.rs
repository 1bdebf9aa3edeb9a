//! What the status of an object says while the object is refused, where its kind has conditions (pools and tiers).
//!
//! Every agent knows what it refuses, so any of them may say so. One that finds another condition than it should be waits
//! for a random time and writes then, by compare-and-swap: with many nodes nearly all see the first one's write in the
//! meantime and have nothing to do.
//!
//! **Invariants:** only the condition that is ours is touched. What it should be is a function of the object alone, so
//! that agents agree. Whoever is contradicted writes ever more rarely.

mod ledger;
mod writer;

use caracal_api::{Condition, Kind, Resource};

pub(crate) use writer::Conditions;

/// Ours, beside those of Calico's controllers (`Allocatable` of pools, `Ready` of tiers).
const TYPE: &str = "Accepted";
const STATUS: &str = "False";
const REASON: &str = "Invalid";

/// Bytes of a message: a fault may quote much of the object.
const LONGEST: usize = 2_000;

/// Whether the status of the kind has conditions.
pub(crate) fn has_conditions(kind: Kind) -> bool {
    matches!(kind, Kind::Tier | Kind::IpPool)
}

/// The object with the condition that it should have, if that is not the one it has. `now` is for a condition that was
/// another before.
fn change(object: &Resource, fault: Option<&str>, now: &str) -> Option<Resource> {
    let mut changed = object.clone();
    let generation = object.metadata().generation.max(0);
    let conditions = conditions(&mut changed)?;
    let at = conditions.iter().position(|c| c.condition_type == TYPE);
    match (at, fault) {
        (None, None) => return None,
        (None, Some(fault)) => conditions.push(refusal(fault, generation, now)),
        (Some(at), None) => {
            // One of that name that says something else is not ours.
            if (&*conditions[at].status, &*conditions[at].reason) != (STATUS, REASON) {
                return None;
            }
            conditions.remove(at);
        }
        (Some(at), Some(fault)) => {
            let old = &mut conditions[at];
            let since = match old.status == STATUS {
                true => old.last_transition_time.as_str(),
                false => now,
            };
            let wanted = refusal(fault, generation, since);
            if *old == wanted {
                return None;
            }
            *old = wanted;
        }
    }
    // The revision says which object is meant; a UID may be one that the store derived.
    changed.metadata_mut().uid = None;
    Some(changed)
}

fn conditions(object: &mut Resource) -> Option<&mut Vec<Condition>> {
    match object {
        Resource::Tier(o) => Some(&mut o.status.get_or_insert_default().conditions),
        Resource::IpPool(o) => Some(&mut o.status.get_or_insert_default().conditions),
        _ => None,
    }
}

fn refusal(fault: &str, generation: i64, since: &str) -> Condition {
    let mut message = format!("the agents refuse it: {}", without_place(fault));
    if message.len() > LONGEST {
        message.truncate(message.floor_char_boundary(LONGEST));
        message.push('…');
    }
    Condition {
        condition_type: TYPE.to_owned(),
        status: STATUS.to_owned(),
        reason: REASON.to_owned(),
        message,
        last_transition_time: since.to_owned(),
        observed_generation: generation,
    }
}

/// A fault without the place in the stored text: a write of the status moves it, and it tells nobody anything.
fn without_place(fault: &str) -> &str {
    let place = |at: &(&str, &str)| {
        at.1.split_once(" column ")
            .is_some_and(|(line, column)| [line, column].iter().all(|n| n.parse::<u64>().is_ok()))
    };
    fault
        .rsplit_once(" at line ")
        .filter(place)
        .map_or(fault, |at| at.0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pool(conditions: Value) -> Resource {
        let value = json!({"metadata": {"name": "p", "uid": "u", "resourceVersion": "7"},
            "spec": {"cidr": "10.0.0.1/16"}, "status": {"conditions": conditions}});
        Resource::from_value(Kind::IpPool, value).unwrap()
    }

    fn after(conditions: Value, fault: Option<&str>) -> Option<Value> {
        let changed = change(&pool(conditions), fault, "later")?;
        let value = changed.to_value();
        assert_eq!(value["spec"], pool(json!([])).to_value()["spec"]);
        assert_eq!(value["metadata"], json!({"name": "p", "resourceVersion": "7"}));
        let conditions = value["status"].get("conditions").cloned();
        Some(conditions.unwrap_or_else(|| json!([])))
    }

    fn ours(message: &str, since: &str) -> Value {
        json!({"type": "Accepted", "status": "False", "reason": "Invalid",
            "message": format!("the agents refuse it: {message}"), "lastTransitionTime": since})
    }

    fn other(kind: &str) -> Value {
        json!({"type": kind, "status": "True", "reason": "OK", "message": "", "lastTransitionTime": "once"})
    }

    #[test]
    fn a_fault_is_said_once() {
        let others = [other("Allocatable"), other("Ready")];
        let said = json!([others[0], others[1], ours("f", "later")]);
        assert_eq!(after(json!(others), Some("f")), Some(said.clone()));
        assert_eq!(after(said, Some("f")), None);
        assert_eq!(after(json!([ours("f", "")]), Some("f")), None);
    }

    #[test]
    fn another_fault_is_said_since_the_same_time() {
        let said = json!([ours("g", "once"), other("Ready")]);
        let now = json!([ours("f", "once"), other("Ready")]);
        assert_eq!(after(said, Some("f")), Some(now));
    }

    #[test]
    fn without_a_fault_only_what_is_ours_goes() {
        assert_eq!(after(json!([]), None), None);
        let with = json!([other("Ready"), ours("f", "once")]);
        assert_eq!(after(with, None), Some(json!([other("Ready")])));
        assert_eq!(after(json!([other("Accepted")]), None), None);
        // While there is a fault nothing else may stand in its place.
        let said = json!([ours("f", "later")]);
        assert_eq!(after(json!([other("Accepted")]), Some("f")), Some(said));
    }

    #[test]
    fn the_generation_is_named_where_there_is_one() {
        let value = json!({"metadata": {"name": "default", "generation": 3}, "spec": {"order": 5}});
        let tier = Resource::from_value(Kind::Tier, value).unwrap();
        let said = change(&tier, Some("f"), "now").unwrap();
        assert_eq!(
            said.to_value()["status"]["conditions"][0]["observedGeneration"],
            3
        );
        assert_eq!(change(&said, Some("f"), "later"), None);
    }

    #[test]
    fn a_long_fault_is_cut() {
        let said = after(json!([]), Some(&"ü".repeat(10_000))).unwrap();
        let message = said[0]["message"].as_str().unwrap();
        assert!(
            message.len() < LONGEST + 10 && message.ends_with("ü…"),
            "{message}"
        );
        assert_eq!(after(said.clone(), Some(&"ü".repeat(10_000))), None);
    }

    #[test]
    fn where_the_text_of_the_object_breaks_off_is_not_said() {
        assert_eq!(without_place("found `x` at line 1 column 151"), "found `x`");
        for whole in [
            "found `at line 1`",
            "x at line 1 column 2 or so",
            "x at line a column 2",
        ] {
            assert_eq!(without_place(whole), whole);
        }
    }

    #[test]
    fn other_kinds_have_none() {
        let set = json!({"metadata": {"name": "s"}, "spec": {"nets": ["x"]}});
        let set = Resource::from_value(Kind::GlobalNetworkSet, set).unwrap();
        assert_eq!(change(&set, Some("f"), "now"), None);
        for kind in Kind::ALL {
            let value = json!({"metadata": {"name": "a"}});
            let object = Resource::from_value(*kind, value).ok();
            let changed = object.and_then(|o| change(&o, Some("f"), "now"));
            assert_eq!(changed.is_some(), has_conditions(*kind), "{kind}");
        }
    }
}
