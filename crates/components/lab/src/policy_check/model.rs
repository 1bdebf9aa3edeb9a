//! Judges by engine and oracle: one engine that has all pods on its node.

use std::sync::Arc;

use caracal_desired::{Desired, WorkloadEndpoint};
use caracal_ids::{BadName, NodeName};
use caracal_net::Family;
use caracal_oracle::{Decider, Decision, Direction, Packet, Verdict, decide};
use caracal_policy::Engine;

use super::mapping;
use super::objects::{self, Objects};
use super::report::{Finding, Judged, Report};
use super::table::{Case, Pod, Probe, Step};

/// The node that all pods are on.
const NODE: &str = "model";

/// A source port; tables say nothing about it.
const SOURCE_PORT: u16 = 40_000;

/// What the model says about a probe.
pub(super) struct Opinion {
    /// At the pod that asks.
    pub(super) egress: Decision,
    /// At the pod that is asked.
    pub(super) ingress: Decision,
}

impl Opinion {
    /// The verdict of both together.
    pub(super) fn combined(&self) -> Verdict {
        self.deciding().verdict
    }

    /// The decision that settles the matter: the first that blocks, else that at the receiver.
    fn deciding(&self) -> &Decision {
        if self.egress.verdict == Verdict::Blocked {
            &self.egress
        } else {
            &self.ingress
        }
    }

    /// What decided in both directions, for people.
    pub(super) fn explain(&self) -> String {
        let one = |d: &Decision| format!("{} {} by {}", d.direction, d.verdict, d.by);
        if self.combined() == Verdict::Blocked {
            one(self.deciding())
        } else {
            format!("{}; {}", one(&self.egress), one(&self.ingress))
        }
    }
}

/// The engine with what it has been told and what it says.
pub(super) struct Model {
    engine: Engine,
    desired: Desired,
    told: Objects,
    family: Family,
}

impl Model {
    /// A model that knows nothing yet.
    pub(super) fn new(family: Family) -> Result<Self, BadName> {
        Ok(Self {
            engine: Engine::new(NodeName::new(NODE)?),
            desired: Desired::default(),
            told: Objects::new(),
            family,
        })
    }

    /// Goes over to a step. What the engine cannot use is told.
    pub(super) fn step(&mut self, step: &Step) -> Vec<String> {
        let new = objects::of_step(step, self.family, &|_| NODE);
        for change in objects::changes(&self.told, &new) {
            self.engine.apply(&change);
        }
        self.told = new;
        self.desired.apply_all(self.engine.flush());
        let invalid = self.desired.invalid.iter();
        invalid.map(|(key, why)| format!("{key}: {why}")).collect()
    }

    /// Judges a probe of the step.
    pub(super) fn judge(&self, step: &Step, probe: &Probe) -> Opinion {
        let (from, to) = (&step.pods[probe.from], &step.pods[probe.to]);
        let packet = Packet::with_ports(
            mapping::address(from.addr, self.family),
            mapping::address(to.addr, self.family),
            probe.protocol.proto(),
            SOURCE_PORT,
            probe.port,
        );
        let at = |pod: &Pod, direction| match self.endpoint(pod) {
            Some(endpoint) => decide(&self.desired, endpoint, direction, &packet),
            None => Decision {
                direction,
                verdict: Verdict::Blocked,
                by: Decider::UnknownEndpoint,
                path: Vec::new(),
            },
        };
        Opinion {
            egress: at(from, Direction::Egress),
            ingress: at(to, Direction::Ingress),
        }
    }

    fn endpoint(&self, pod: &Pod) -> Option<&Arc<WorkloadEndpoint>> {
        self.desired.workloads.get(&objects::endpoint(pod, NODE))
    }
}

/// Whether both ends of a probe have an address of the family.
pub(super) fn has_family(step: &Step, probe: &Probe, family: Family) -> bool {
    [probe.from, probe.to]
        .into_iter()
        .all(|n| Family::of(mapping::address(step.pods[n].addr, family)) == family)
}

/// Judges all probes of a case, three verdicts each.
pub(super) fn check(case: &Case, family: Family, report: &mut Report) -> Result<(), BadName> {
    let mut model = Model::new(family)?;
    for (n, step) in case.steps.iter().enumerate() {
        for problem in model.step(step) {
            report.warn(&format!("{case}, step {}: {problem}", n + 1));
        }
        for probe in step.probes.iter().filter(|p| !p.is_to_itself()) {
            if !has_family(step, probe, family) {
                report.skipped(3);
                continue;
            }
            let opinion = model.judge(step, probe);
            let verdicts = [
                (Judged::Ingress, probe.ingress, opinion.ingress.verdict),
                (Judged::Egress, probe.egress, opinion.egress.verdict),
                (Judged::Combined, probe.combined, opinion.combined()),
            ];
            for (judged, expected, got) in verdicts {
                report.verdict(expected == got, || {
                    let decided = match judged {
                        Judged::Ingress => opinion.ingress.by.to_string(),
                        Judged::Egress => opinion.egress.by.to_string(),
                        Judged::Combined => opinion.explain(),
                    };
                    Finding::new((case, n), family, (step, probe), judged, (expected, got), decided)
                });
            }
        }
    }
    Ok(())
}
