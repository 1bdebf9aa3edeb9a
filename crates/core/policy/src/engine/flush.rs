use std::sync::Arc;

use caracal_desired::{Delta, Invalid, Profile};

use super::Engine;
use crate::{
    lists::Ground,
    policy::{Ready, State},
};

/// Deltas by their place in the order that keeps referents where they are referred to.
#[derive(Default)]
struct Stages {
    sets: Vec<Delta>,
    policies: Vec<Delta>,
    profiles: Vec<Delta>,
    endpoints: Vec<Delta>,
    endpoints_gone: Vec<Delta>,
    policies_gone: Vec<Delta>,
    profiles_gone: Vec<Delta>,
    sets_gone: Vec<Delta>,
    service_cidrs: Option<Delta>,
    verdicts: Vec<Delta>,
}

impl Stages {
    fn in_order(self) -> Vec<Delta> {
        let stages = [
            self.sets,
            self.policies,
            self.profiles,
            self.endpoints,
            self.endpoints_gone,
            self.policies_gone,
            self.profiles_gone,
            self.sets_gone,
            self.service_cidrs.into_iter().collect(),
            self.verdicts,
        ];
        stages.into_iter().flatten().collect()
    }
}

impl Engine {
    /// What changed since the last flush, each thing at most once: IP sets, policies, profiles and endpoints that are
    /// new or changed, then endpoints, policies, profiles and IP sets that are gone, then objects that became invalid
    /// or valid. Nothing if nothing changed.
    ///
    /// The caller does not flush before it has the `InSync` token of its feed.
    pub fn flush(&mut self) -> Vec<Delta> {
        let mut out = Stages::default();
        let reached = self.local.policies_with_new_reach();
        self.policies.touched.extend(reached);
        self.flush_policies(&mut out);
        self.flush_profiles(&mut out);
        self.cluster
            .flush(&mut self.voc, &mut out.sets, &mut out.sets_gone);
        self.flush_endpoints(&mut out);
        out.service_cidrs = self.service_cidrs.flush();
        self.flush_verdicts(&mut out);
        self.forget_words();
        out.in_order()
    }

    fn flush_policies(&mut self, out: &mut Stages) {
        let touched = std::mem::take(&mut self.policies.touched);
        let mut touched: Vec<u32> = touched
            .into_iter()
            .filter(|at| self.policies.entries.get(*at).is_some())
            .collect();
        let entries = &self.policies.entries;
        touched.sort_unstable_by(|a, b| entries[*a].id.cmp(&entries[*b].id));
        for at in touched {
            let needed = |s: &State| self.local.reach(s.selector).needs(&s.standing);
            let state = self.policies.entries[at].state.as_ref();
            let wanted = match state {
                Some(s) if needed(s) => Some(s.ready.clone()),
                Some(s) if self.policies.replaces(at) => Some(s.mark()),
                _ => None,
            };
            let entry = &mut self.policies.entries[at];
            match (&entry.emitted, &wanted) {
                (before, Some(ready)) => {
                    let same = |held: &Arc<Ready>| held.policy == ready.policy;
                    if !before.as_ref().is_some_and(same) {
                        out.policies.push(Delta::Policy(ready.policy.clone()));
                    }
                }
                (Some(_), None) => out.policies_gone.push(Delta::PolicyGone(entry.id.clone())),
                (None, None) => {}
            }
            let before = std::mem::replace(&mut entry.emitted, wanted.clone());
            let sets = |ready: Option<Arc<Ready>>| ready.map_or(Box::default(), |r| r.sets.clone());
            self.exchange_sets(&sets(before), &sets(wanted));
            self.policies.drop_if_idle(at);
        }
    }

    fn flush_profiles(&mut self, out: &mut Stages) {
        let mut touched: Vec<_> = std::mem::take(&mut self.profiles.touched).into_iter().collect();
        touched.sort_unstable();
        for name in touched {
            let Some(entry) = self.profiles.entries.get_mut(&name) else {
                continue;
            };
            let wanted = entry.wanted(&name);
            let before = entry.emitted.take();
            let held_sets = before
                .as_ref()
                .map_or(Box::default(), |(_, rules)| rules.sets.clone());
            let wanted_sets = wanted.as_ref().map_or(Box::default(), |rules| rules.sets.clone());
            entry.emitted = match (before, wanted) {
                (Some((profile, rules)), Some(wanted))
                    if rules.ingress == wanted.ingress && rules.egress == wanted.egress =>
                {
                    Some((profile, wanted))
                }
                (_, Some(wanted)) => {
                    let profile = Arc::new(Profile {
                        name: name.clone(),
                        ingress: wanted.ingress.clone(),
                        egress: wanted.egress.clone(),
                    });
                    out.profiles.push(Delta::Profile(profile.clone()));
                    Some((profile, wanted))
                }
                (Some(_), None) => {
                    out.profiles_gone.push(Delta::ProfileGone(name.clone()));
                    None
                }
                (None, None) => None,
            };
            self.profiles.drop_if_idle(&name);
            self.exchange_sets(&held_sets, &wanted_sets);
        }
    }

    /// First what is needed now, so that a set needed before and after stays.
    fn exchange_sets(&mut self, before: &[u32], now: &[u32]) {
        if before == now {
            return;
        }
        now.iter().for_each(|set| self.cluster.sets.enlist(*set));
        before.iter().for_each(|set| self.cluster.sets.disuse(*set));
    }

    fn flush_endpoints(&mut self, out: &mut Stages) {
        self.tiers.rank();
        let dirty = self.local.take_dirty();
        let ground = Ground {
            policies: &self.policies,
            tiers: &self.tiers,
        };
        let mut dressed = Vec::with_capacity(dirty.len());
        // Endpoints of a class come together and share the sorting.
        let mut of_class: Option<(u32, Vec<&State>)> = None;
        for at in dirty {
            let Some(state) = &self.local.entries[at].state else {
                dressed.push((at, None));
                continue;
            };
            if of_class.as_ref().is_none_or(|(class, _)| *class != state.class) {
                of_class = Some((state.class, ground.sorted(self.local.policies_of(state.class))));
            }
            let sorted = of_class.as_ref().map_or(&[][..], |(_, sorted)| sorted);
            dressed.push((at, Some(ground.dress(&state.bare, sorted))));
        }
        for (at, endpoint) in dressed {
            let entry = &mut self.local.entries[at];
            if entry.emitted != endpoint {
                match (&entry.emitted, &endpoint) {
                    (_, Some(now)) => out.endpoints.push(now.delta()),
                    (Some(before), None) => out.endpoints_gone.push(before.gone()),
                    (None, None) => {}
                }
                entry.emitted = endpoint;
            }
            self.local.drop_if_idle(at);
        }
    }

    fn flush_verdicts(&mut self, out: &mut Stages) {
        let mut touched: Vec<_> = std::mem::take(&mut self.invalid.touched).into_iter().collect();
        touched.sort_unstable();
        for key in touched {
            let now = self.invalid.reasons.get(&key);
            let before = self.invalid.emitted.get(&key);
            if now == before {
                continue;
            }
            match now.cloned() {
                Some(reason) => {
                    self.invalid.emitted.insert(key.clone(), reason.clone());
                    out.verdicts.push(Delta::Invalid(Invalid { key, reason }));
                }
                None => {
                    self.invalid.emitted.remove(&key);
                    out.verdicts.push(Delta::Valid(key));
                }
            }
        }
    }

    /// Pods come and go with words of their own; now and then, those that nobody uses any more are let go of.
    fn forget_words(&mut self) {
        if self.voc.is_crowded() {
            let live = self.cluster.symbols().chain(self.local.symbols()).collect();
            self.voc.retain(live);
        }
    }
}
