use std::collections::BTreeMap;

use caracal_api::{IpamHandleSpec, Object};

use crate::{Block, PlanError, Step, counted, handle_exact, handle_with};

/// The next steps that move the addresses of `narrow` to `wide`, which covers it; every address keeps its holder. An
/// address is in both blocks before it leaves one. An empty list: `narrow` has no address that `wide` lacks, and none at
/// all. After steps: observe and plan again.
///
/// # Errors
/// [`PlanError::InUse`] when the blocks give one address to two handles: which of them is right must be decided first.
pub fn plan_merge(
    wide: &Block,
    narrow: &Block,
    handles: &BTreeMap<String, Object<IpamHandleSpec>>,
) -> Result<Vec<Step>, PlanError> {
    let mut into = wide.clone();
    let mut moved = Vec::new();
    for a in narrow.allocations().filter(|a| !a.cools()) {
        match wide.attribute(a.addr) {
            Some(w) if w.handle_id == a.attribute.handle_id => {}
            // It rests in one block and is held in the other: held it is.
            Some(w) if w.handle_id.is_none() && w.released_at.is_some() => {
                into.release(a.addr, None, None, None);
                into.adopt(a.addr, a.attribute.clone());
                moved.extend(a.attribute.handle_id.clone());
            }
            Some(w) => {
                return Err(PlanError::InUse {
                    address: a.addr,
                    holder: format!(
                        "{} in block {} and to {} in block {}",
                        w.handle_id.as_deref().unwrap_or("somebody without a handle"),
                        wide.cidr(),
                        a.attribute.handle_id.as_deref().unwrap_or("nobody"),
                        narrow.cidr()
                    ),
                });
            }
            None => {
                into.adopt(a.addr, a.attribute.clone());
                moved.extend(a.attribute.handle_id.clone());
            }
        }
    }
    if into != *wide {
        moved.sort_unstable();
        moved.dedup();
        let mut steps: Vec<Step> = moved
            .iter()
            .map(|h| {
                let count = into.held_by(h).len() as u64;
                Step::PutHandle(handle_with(handles.get(h).cloned(), h, &into.cidr(), count))
            })
            .collect();
        into.seal();
        steps.push(Step::PutBlock(into.into_object()));
        return Ok(steps);
    }
    let mut rest = narrow.clone();
    let names: Vec<String> = narrow
        .allocations()
        .filter_map(|a| a.attribute.handle_id.clone())
        .collect();
    let all: Vec<_> = narrow.allocations().map(|a| a.addr).collect();
    for addr in all {
        rest.release(addr, None, None, None);
    }
    let mut steps = Vec::new();
    if rest != *narrow {
        rest.seal();
        steps.push(Step::PutBlock(rest.into_object()));
    }
    let stale = handles
        .iter()
        .filter(|(name, h)| names.contains(name) && counted(h, &narrow.cidr()) > 0);
    for (_, h) in stale {
        steps.push(match handle_exact(h.clone(), &narrow.cidr(), 0) {
            Some(h) => Step::PutHandle(h),
            None => Step::DeleteHandle(h.clone()),
        });
    }
    Ok(steps)
}
