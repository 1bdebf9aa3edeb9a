//! Objects that wait for confirmation (`calicoctl apply --confirm-within`): past their deadline this node goes back to
//! what was before, by its own clock and by nobody's leave.

use std::{
    collections::BTreeSet,
    future::pending,
    time::{Duration, Instant},
};

use caracal_api::{Resource, ResourceKey, Trial};
use caracal_store::clock;
use caracal_update::{Trials, Update};

use super::Calc;

/// How often the clock is looked at while an object is on trial. The clock itself, since it may be set meanwhile.
const LOOK: Duration = Duration::from_secs(1);

/// What is on trial, and what says so in a way that cannot be read.
#[derive(Debug)]
pub(super) struct OnTrial {
    trials: Trials,
    /// When the clock is looked at again: other events must not put it off.
    next: Instant,
    bad: BTreeSet<ResourceKey>,
}

impl Default for OnTrial {
    fn default() -> Self {
        Self {
            trials: Trials::default(),
            next: Instant::now(),
            bad: BTreeSet::new(),
        }
    }
}

impl OnTrial {
    /// Waits until the clock is to be looked at; for ever while nothing is on trial and nothing is `kept` for one.
    pub(super) async fn tick(&self, kept: bool) {
        if self.trials.is_empty() && !kept {
            pending::<()>().await;
        }
        tokio::time::sleep_until(self.next.into()).await;
    }
}

impl Calc {
    /// What is in force of an object that changed, where that is not the object as it is written.
    pub(super) fn judge_trial(&mut self, update: &Update) -> Option<Update> {
        let held = self.keepsake.held(&update.key);
        let judged = self.trials.trials.judge(update, clock(), held);
        match judged {
            Ok(other) => {
                if self.trials.bad.remove(&update.key) {
                    self.status.set_invalid(update.key.clone(), None);
                }
                if let Some(other) = other.as_ref().filter(|_| !held) {
                    tell(other);
                }
                other
            }
            Err(e) => {
                tracing::warn!(object = %update.key, reason = %e, "its trial is ignored: it is in force as it is written");
                self.trials.bad.insert(update.key.clone());
                self.status.set_invalid(update.key.clone(), Some(e.to_string()));
                None
            }
        }
    }

    /// Brings into force what the time brought; tells whether that was anything.
    pub(super) fn end_trials(&mut self) -> bool {
        self.trials.next = Instant::now() + LOOK;
        if self.started {
            self.keepsake.tidy();
        }
        let keepsake = &self.keepsake;
        let due = self.trials.trials.due(clock(), |key| keepsake.held(key));
        for update in &due {
            if !update.value.as_deref().is_some_and(on_trial) {
                tell(update);
            }
            self.put_lawful(update);
        }
        !due.is_empty() && (self.in_sync.is_some() || self.started)
    }
}

fn on_trial(object: &Resource) -> bool {
    matches!(Trial::of(object), Ok(Some(_)))
}

fn tell(update: &Update) {
    tracing::warn!(
        object = %update.key,
        exists = update.value.is_some(),
        "not confirmed in time: this node goes back to what was before"
    );
}
