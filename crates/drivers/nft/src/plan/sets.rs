//! What is to be done to sets and their elements.

use std::collections::BTreeSet;

use caracal_rules::ir::SetName;

use super::Plan;
use crate::{
    Error, NftTx,
    encode::{WireElement, check_def, def_hash},
    readback,
    state::{FamilyState, SetChange},
    wanted::Problems,
};

impl FamilyState {
    pub(super) fn plan_sets(
        &mut self,
        tx: &mut impl NftTx,
        table: &str,
        plan: &mut Plan,
    ) -> Result<(), Error> {
        let names: BTreeSet<SetName> = self
            .touched_sets
            .keys()
            .chain(&self.stale_sets)
            .cloned()
            .collect();
        for name in names {
            let stale = self.stale_sets.contains(&name);
            if stale {
                match readback::set(tx, self.at(table), &name)? {
                    Some(hash) => self.sets.insert(name.clone(), hash),
                    None => self.sets.remove(&name),
                };
            }
            self.clear_problems(None, Some(&name));
            let known = self.sets.get(&name).copied();
            let mut problems = Problems::new();
            let Some(set) = self.wanted_set(&name) else {
                if known.is_some() {
                    plan.gone_sets.push(name.clone());
                }
                if let Some(why) = self.refused.sets.get(&name) {
                    plan.problems
                        .push((crate::Object::Set(name.clone()), why.clone()));
                }
                continue;
            };
            let mut change = SetChange::default();
            let mut whole = None;
            match known {
                Some(hash) if hash == def_hash(&set.def, self.family) => {
                    if stale {
                        let have = readback::elements(tx, self.at(table), &name)?;
                        change = difference(have, self.wire_all(&name, set, &mut problems));
                    } else {
                        self.element_changes(&name, &mut change, &mut problems);
                    }
                }
                _ => whole = Some(self.wire_all(&name, set, &mut problems).collect::<Vec<_>>()),
            }
            // A member too few may open what should be closed: a plain set is refused as a whole.
            let member = problems
                .first()
                .filter(|_| set.def.data.is_none())
                .map(|(_, why)| why.clone());
            if let Some(why) = check_def(&set.def).err().map(|e| e.to_string()).or(member) {
                self.refuse_set(&name, &why);
                plan.problems.push((crate::Object::Set(name.clone()), why));
                if known.is_some() {
                    plan.gone_sets.push(name);
                }
                continue;
            }
            plan.problems.append(&mut problems);
            match whole {
                Some(elements) => {
                    if known.is_some() {
                        plan.redefined.insert(name.clone());
                    }
                    plan.new_sets.push((name, elements));
                }
                None => {
                    plan.changes.insert(name, change);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn refuse_set(&mut self, name: &SetName, why: &str) {
        self.refused.sets.insert(name.clone(), why.to_owned());
        self.touched_sets.entry(name.clone()).or_default();
        self.touch_referrers(name);
    }

    fn element_changes(&self, name: &SetName, change: &mut SetChange, problems: &mut Problems) {
        let (Some(set), Some(touched)) = (self.desired.sets.get(name), self.touched_sets.get(name)) else {
            return;
        };
        for (key, old) in touched {
            if set.elements.get(key) == old.as_ref() {
                continue;
            }
            if let Some(old) = old {
                let wire = crate::encode::wire_elements(key, old, &set.def, self.family);
                change.del.extend(wire.into_iter().flatten());
            }
            change.add.extend(self.wire(name, set, key, problems));
        }
    }
}

/// What to delete and to add so that the elements `have` become `want`.
fn difference(mut have: Vec<WireElement>, want: impl Iterator<Item = WireElement>) -> SetChange {
    // The kernel may hold an end at the lowest value; it ends nothing, and `nft` writes one to every set.
    have.retain(|e| e.flags != crate::numbers::elem::F_END || e.key.iter().any(|b| *b != 0));
    have.sort_unstable();
    let mut stays = vec![false; have.len()];
    let mut change = SetChange::default();
    for element in want {
        match have.binary_search(&element) {
            Ok(place) => stays[place] = true,
            Err(_) => change.add.push(element),
        }
    }
    let gone = have.into_iter().zip(stays).filter(|(_, stays)| !stays);
    change.del.extend(gone.map(|(element, _)| element));
    change
}
