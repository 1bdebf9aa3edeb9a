//! Objects on trial: written with a deadline, and without effect after it unless somebody confirmed them.
//!
//! The object carries three annotations: when the trial began, when it ends, and what was there before. What is in
//! force is a function of the object and the clock, so that every node comes to it alone, cut off or not.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Kind, Resource, Stamp};

/// When the trial began, RFC 3339.
pub const TRIAL_SINCE: &str = "confirm.caracal/since";
/// When the trial ends, RFC 3339.
pub const TRIAL_UNTIL: &str = "confirm.caracal/until";
/// What was in force before: `{"spec": …, "labels": …}`, or `null` where there was nothing.
pub const TRIAL_PREVIOUS: &str = "confirm.caracal/previous";

/// How far a node's clock may be from that of whoever applied the object, in seconds. A trial is on from this long
/// before its beginning to this long after its end, by the node's own clock.
pub const TRIAL_ALLOWANCE: i64 = 5;

/// Kinds that can be on trial: those that can cut off a host.
pub const TRIAL_KINDS: &[Kind] = &[Kind::HostEndpoint, Kind::GlobalNetworkPolicy];

/// What an object on trial says of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// When it began.
    pub since: Stamp,
    /// When it ends.
    pub until: Stamp,
    /// What was in force before; nothing where the object did not exist.
    pub previous: Option<Box<Resource>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Previous {
    spec: Value,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
}

/// An annotation of a trial that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("metadata.annotations[{annotation}]: {why}")]
pub struct BadTrial {
    /// Which.
    pub annotation: &'static str,
    /// What is wrong with it.
    pub why: String,
}

impl Trial {
    /// The trial that an object is on, if it is on one.
    ///
    /// # Errors
    /// When its annotations cannot be read, are incomplete, or stand at a kind that is never on trial.
    pub fn of(resource: &Resource) -> Result<Option<Self>, BadTrial> {
        let annotations = &resource.metadata().annotations;
        if annotations.is_empty() {
            return Ok(None);
        }
        let found = [TRIAL_SINCE, TRIAL_UNTIL, TRIAL_PREVIOUS].map(|name| (name, annotations.get(name)));
        let Some((first, _)) = found.iter().find(|(_, value)| value.is_some()) else {
            return Ok(None);
        };
        let bad = |annotation, why: String| BadTrial { annotation, why };
        if !TRIAL_KINDS.contains(&resource.kind()) {
            let kinds = "only a HostEndpoint or GlobalNetworkPolicy can wait for confirmation";
            return Err(bad(first, kinds.to_owned()));
        }
        let text = |at: usize| {
            let (name, value) = found[at];
            let missing = || {
                bad(
                    name,
                    format!("is missing beside {first}; remove all three or none"),
                )
            };
            value.map(|v| (name, v)).ok_or_else(missing)
        };
        let moment = |at: usize| {
            let (name, value) = text(at)?;
            let wrong = || bad(name, format!("{value:?} is no time such as 2026-01-02T03:04:05Z"));
            Stamp::parse(value).ok_or_else(wrong)
        };
        let (since, until) = (moment(0)?, moment(1)?);
        if until < since {
            return Err(bad(
                TRIAL_UNTIL,
                format!("{until} is before {TRIAL_SINCE}, {since}"),
            ));
        }
        let (name, value) = text(2)?;
        let previous = before(resource, value).map_err(|why| bad(name, why))?;
        Ok(Some(Self {
            since,
            until,
            previous,
        }))
    }

    /// Whether the object is in force as it is written.
    #[must_use]
    pub fn is_on(&self, now: Stamp) -> bool {
        now.since(self.since) >= -TRIAL_ALLOWANCE && now.since(self.until) < TRIAL_ALLOWANCE
    }

    /// Whether what is in force may still change without anybody's doing.
    #[must_use]
    pub fn is_open(&self, now: Stamp) -> bool {
        now.since(self.until) < TRIAL_ALLOWANCE
    }
}

fn before(resource: &Resource, text: &str) -> Result<Option<Box<Resource>>, String> {
    let previous: Option<Previous> = serde_json::from_str(text)
        .map_err(|e| format!("is neither null nor {{\"spec\": …, \"labels\": …}}: {e}"))?;
    let Some(Previous { spec, labels }) = previous else {
        return Ok(None);
    };
    let value = json!({"metadata": {}, "spec": spec});
    let mut old = Resource::from_value(resource.kind(), value)
        .map_err(|e| format!("the spec in it is not that of a {}: {e}", resource.kind()))?;
    *old.metadata_mut() = resource.metadata().clone();
    old.metadata_mut().labels = labels;
    end_trial(&mut old);
    Ok(Some(Box::new(old)))
}

/// Puts an object that is to be written on trial. `stored` is what it replaces; if that is on trial itself, what was
/// before it stays what nodes go back to.
///
/// # Errors
/// When `stored` has annotations of a trial that cannot be read.
pub fn begin_trial(
    wanted: &mut Resource,
    stored: Option<&Resource>,
    now: Stamp,
    seconds: i64,
) -> Result<(), BadTrial> {
    let previous = match stored {
        None => None,
        Some(stored) => match Trial::of(stored)? {
            None => Some(stored.clone()),
            Some(trial) => trial.previous.map(|p| *p),
        },
    };
    let previous = previous.map(|p| Previous {
        spec: p.to_value()["spec"].take(),
        labels: p.metadata().labels.clone(),
    });
    let annotations = &mut wanted.metadata_mut().annotations;
    let until = Stamp::from_seconds(now.seconds().saturating_add(seconds));
    annotations.insert(TRIAL_SINCE.to_owned(), now.to_string());
    annotations.insert(TRIAL_UNTIL.to_owned(), until.to_string());
    annotations.insert(TRIAL_PREVIOUS.to_owned(), json!(previous).to_string());
    Ok(())
}

/// Takes the annotations of a trial off: the object is in force as it is written, whatever the time.
pub fn end_trial(resource: &mut Resource) {
    let annotations = &mut resource.metadata_mut().annotations;
    for name in [TRIAL_SINCE, TRIAL_UNTIL, TRIAL_PREVIOUS] {
        annotations.remove(name);
    }
}

/// What of an object is in force.
#[derive(Debug, Clone, PartialEq)]
pub enum InForce {
    /// The object as it is written.
    AsWritten,
    /// What was there before, for the trial is over or, by this clock, has not begun.
    Before(Box<Resource>),
    /// Nothing, for there was nothing before.
    Nothing,
}

/// What of an object is in force at a time. Annotations that cannot be read are as if they were not there.
#[must_use]
pub fn in_force(resource: &Resource, now: Stamp) -> InForce {
    match Trial::of(resource) {
        Ok(Some(trial)) if !trial.is_on(now) => match trial.previous {
            Some(previous) => InForce::Before(previous),
            None => InForce::Nothing,
        },
        _ => InForce::AsWritten,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{GlobalNetworkPolicySpec, HostEndpointSpec, Object, TierSpec, default_resource, validate};

    const NOW: i64 = 1_800_000_000;

    fn host(interface: &str) -> Resource {
        let mut r = Resource::from(Object::<HostEndpointSpec>::new(
            "h",
            HostEndpointSpec {
                node: "n1".into(),
                interface_name: interface.into(),
                ..HostEndpointSpec::default()
            },
        ));
        r.metadata_mut().labels.insert("role".into(), interface.into());
        default_resource(&mut r);
        r
    }

    fn at(seconds: i64) -> Stamp {
        Stamp::from_seconds(seconds)
    }

    #[test]
    fn past_the_deadline_the_object_is_what_it_was() {
        let (old, mut new) = (host("eth0"), host("eth1"));
        begin_trial(&mut new, Some(&old), at(NOW), 60).unwrap();
        assert!(validate(&new).is_empty(), "{:?}", validate(&new));
        assert_eq!(in_force(&new, at(NOW)), InForce::AsWritten);
        assert_eq!(
            in_force(&new, at(NOW + 60 + TRIAL_ALLOWANCE - 1)),
            InForce::AsWritten
        );
        assert_eq!(
            in_force(&new, at(NOW + 60 + TRIAL_ALLOWANCE)),
            InForce::Before(Box::new(old.clone()))
        );
        // A clock that is far behind takes no part.
        assert_eq!(
            in_force(&new, at(NOW - TRIAL_ALLOWANCE - 1)),
            InForce::Before(Box::new(old.clone()))
        );
        end_trial(&mut new);
        assert_eq!(new, host("eth1"));
        assert_eq!(in_force(&new, at(NOW + 3600)), InForce::AsWritten);
    }

    #[test]
    fn a_trial_upon_a_trial_goes_back_to_what_was_confirmed() {
        let (first, mut second, mut third) = (host("a"), host("b"), host("c"));
        begin_trial(&mut second, Some(&first), at(NOW), 60).unwrap();
        begin_trial(&mut third, Some(&second), at(NOW + 30), 60).unwrap();
        let end = in_force(&third, at(NOW + 200));
        assert_eq!(end, InForce::Before(Box::new(first)));
        let mut new = host("a");
        begin_trial(&mut new, None, at(NOW), 60).unwrap();
        assert_eq!(in_force(&new, at(NOW + 200)), InForce::Nothing);
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_name() {
        let mut good = host("a");
        begin_trial(&mut good, Some(&host("b")), at(NOW), 60).unwrap();
        let cases = [
            (TRIAL_UNTIL, Some("soon"), "is no time"),
            (TRIAL_UNTIL, Some("2001-01-01T00:00:00Z"), "is before"),
            (TRIAL_SINCE, None, "is missing"),
            (TRIAL_PREVIOUS, Some("{"), "neither null nor"),
            (
                TRIAL_PREVIOUS,
                Some("{\"spec\":{\"node\":[]}}"),
                "not that of a HostEndpoint",
            ),
            (TRIAL_PREVIOUS, Some("{\"spec\":{},\"lables\":{}}"), "lables"),
            (TRIAL_PREVIOUS, Some("{\"spec\":{\"node\":\"n\"}}"), "was before"),
        ];
        for (name, value, why) in cases {
            let mut bad = good.clone();
            let annotations = &mut bad.metadata_mut().annotations;
            match value {
                Some(v) => annotations.insert(name.to_owned(), v.to_owned()),
                None => annotations.remove(name),
            };
            let errors: Vec<String> = validate(&bad).iter().map(ToString::to_string).collect();
            assert_eq!(errors.len(), 1, "{errors:?}");
            assert!(errors[0].contains(name) && errors[0].contains(why), "{errors:?}");
        }
        let mut tier = Resource::from(Object::<TierSpec>::new("t", TierSpec::default()));
        tier.metadata_mut().annotations = good.metadata().annotations.clone();
        let errors: Vec<String> = validate(&tier).iter().map(ToString::to_string).collect();
        assert!(
            errors.iter().any(|e| e.contains("only a HostEndpoint")),
            "{errors:?}"
        );
    }

    proptest! {
        #[test]
        fn any_clock_has_one_answer_and_none_panics(
            since in any::<i32>(), seconds in 0i64..1_000_000, now in any::<i64>(), text in ".{0,40}",
        ) {
            let mut r = Resource::from(Object::<GlobalNetworkPolicySpec>::new("p", GlobalNetworkPolicySpec::default()));
            begin_trial(&mut r, None, at(since.into()), seconds).unwrap();
            let trial = Trial::of(&r).unwrap().unwrap();
            let expected = if trial.is_on(at(now)) { InForce::AsWritten } else { InForce::Nothing };
            prop_assert_eq!(in_force(&r, at(now)), expected);
            prop_assert!(trial.is_open(at(now)) || !trial.is_on(at(now)));
            for name in [TRIAL_SINCE, TRIAL_UNTIL, TRIAL_PREVIOUS] {
                let mut bad = r.clone();
                bad.metadata_mut().annotations.insert(name.to_owned(), text.clone());
                let _ = in_force(&bad, at(now));
            }
        }
    }
}
