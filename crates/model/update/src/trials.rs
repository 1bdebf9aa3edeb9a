use std::collections::BTreeMap;
use std::sync::Arc;

use caracal_api::{BadTrial, InForce, Resource, ResourceKey, Stamp, Trial, in_force};

use crate::Update;

/// Objects on trial, between a feed and those who must know only what is in force.
///
/// **Invariant:** what [`Trials::judge`] and [`Trials::due`] yielded last for a key is [`in_force`] of its object at the
/// time of the last call; of one that is held back, what was before it.
#[derive(Debug, Default)]
pub struct Trials {
    /// Objects of which another state may come into force by the time alone, with what was yielded last.
    open: BTreeMap<ResourceKey, (Arc<Resource>, InForce)>,
}

impl Trials {
    /// What is in force of an object that changed: the update as it is (`Ok(None)`), or another in its place. One that is
    /// `held` back does not come into force: whoever calls cannot yet promise to go back.
    ///
    /// # Errors
    /// When the object says that it is on trial and this cannot be read. The update is then to be taken as it is.
    pub fn judge(&mut self, update: &Update, now: Stamp, held: bool) -> Result<Option<Update>, BadTrial> {
        self.open.remove(&update.key);
        let Some(object) = update
            .value
            .as_ref()
            .filter(|o| !o.metadata().annotations.is_empty())
        else {
            return Ok(None);
        };
        let Some(trial) = Trial::of(object)? else {
            return Ok(None);
        };
        let now_in_force = effect(object, now, held);
        let other = replaced(&update.key, &now_in_force);
        if trial.is_open(now) {
            self.open
                .insert(update.key.clone(), (object.clone(), now_in_force));
        }
        Ok(other)
    }

    /// What came into force by the time alone, or because it is not `held` back any more.
    pub fn due(&mut self, now: Stamp, held: impl Fn(&ResourceKey) -> bool) -> Vec<Update> {
        let mut changed = Vec::new();
        self.open.retain(|key, (object, last)| {
            let now_in_force = effect(object, now, held(key));
            if *last != now_in_force {
                let written = || Update {
                    key: key.clone(),
                    value: Some(object.clone()),
                };
                changed.push(replaced(key, &now_in_force).unwrap_or_else(written));
                *last = now_in_force;
            }
            matches!(Trial::of(object), Ok(Some(trial)) if trial.is_open(now))
        });
        changed
    }

    /// Whether nothing changes by the time alone: [`Trials::due`] need not be called.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

fn effect(object: &Resource, now: Stamp, held: bool) -> InForce {
    match Trial::of(object) {
        Ok(Some(trial)) if held => trial.previous.map_or(InForce::Nothing, InForce::Before),
        _ => in_force(object, now),
    }
}

fn replaced(key: &ResourceKey, state: &InForce) -> Option<Update> {
    let value = match state {
        InForce::AsWritten => return None,
        InForce::Before(previous) => Some(Arc::new((**previous).clone())),
        InForce::Nothing => None,
    };
    Some(Update {
        key: key.clone(),
        value,
    })
}

#[cfg(test)]
mod tests {
    use caracal_api::{HostEndpointSpec, Object, TRIAL_ALLOWANCE, TRIAL_UNTIL, begin_trial, end_trial};

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn at(seconds: i64) -> Stamp {
        Stamp::from_seconds(NOW + seconds)
    }

    fn host(interface: &str) -> Resource {
        Resource::from(Object::<HostEndpointSpec>::new(
            "h",
            HostEndpointSpec {
                interface_name: interface.into(),
                ..HostEndpointSpec::default()
            },
        ))
    }

    fn never(_: &ResourceKey) -> bool {
        false
    }

    #[test]
    fn what_is_held_back_waits_for_its_release_or_its_end() {
        let (old, mut new) = (host("a"), host("b"));
        begin_trial(&mut new, Some(&old), at(0), 60).unwrap();
        let update = Update::set(new);
        let mut trials = Trials::default();
        assert_eq!(
            trials.judge(&update, at(1), true),
            Ok(Some(Update::set(old.clone())))
        );
        assert!(trials.due(at(2), |_| true).is_empty());
        assert_eq!(trials.due(at(3), never), std::slice::from_ref(&update));
        // Held back again it goes back, and at its end nothing is left to do.
        assert_eq!(trials.due(at(4), |_| true), [Update::set(old)]);
        assert!(trials.due(at(60 + TRIAL_ALLOWANCE), |_| true).is_empty() && trials.is_empty());
    }

    #[test]
    fn the_time_alone_brings_back_what_was() {
        let mut trials = Trials::default();
        let (old, mut new) = (host("a"), host("b"));
        begin_trial(&mut new, Some(&old), at(0), 60).unwrap();
        let update = Update::set(new.clone());
        assert_eq!(trials.judge(&update, at(1), false), Ok(None));
        assert!(!trials.is_empty() && trials.due(at(60), never).is_empty());
        let end = at(60 + TRIAL_ALLOWANCE);
        assert_eq!(trials.due(end, never), [Update::set(old.clone())]);
        assert!(trials.is_empty());
        // Read again, by an agent that was started anew for example, it is the same.
        assert_eq!(
            Trials::default().judge(&update, end, false),
            Ok(Some(Update::set(old)))
        );
        end_trial(&mut new);
        assert_eq!(trials.judge(&Update::set(new), end, false), Ok(None));
    }

    #[test]
    fn confirmed_or_deleted_it_is_no_trial_any_more() {
        let mut new = host("b");
        begin_trial(&mut new, None, at(0), 60).unwrap();
        let update = Update::set(new.clone());
        let key = update.key.clone();
        for after in [
            Update::gone(key.clone()),
            Update::set({
                end_trial(&mut new);
                new
            }),
        ] {
            let mut trials = Trials::default();
            assert_eq!(trials.judge(&update, at(1), false), Ok(None));
            assert_eq!(trials.judge(&after, at(2), false), Ok(None));
            assert!(trials.is_empty() && trials.due(at(600), never).is_empty());
        }
        // A clock far behind does not let it begin.
        let mut trials = Trials::default();
        assert_eq!(trials.judge(&update, at(-60), false), Ok(Some(Update::gone(key))));
        assert_eq!(trials.due(at(0), never), [update]);
    }

    #[test]
    fn what_cannot_be_read_is_told_and_taken_as_it_is() {
        let mut new = host("b");
        begin_trial(&mut new, None, at(0), 60).unwrap();
        new.metadata_mut()
            .annotations
            .insert(TRIAL_UNTIL.into(), "?".into());
        let mut trials = Trials::default();
        let e = trials.judge(&Update::set(new), at(600), false).unwrap_err();
        assert!(e.to_string().contains(TRIAL_UNTIL) && trials.is_empty());
    }
}
