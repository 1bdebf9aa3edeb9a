//! The packets.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context;
use caracal_oracle::Verdict;
use tokio::task::JoinSet;

use super::pods::Pods;
use crate::policy_check::table::{Pod, Step};
use crate::prober::{Outcome, Patience, Prober, Target};

/// What packets showed.
pub(super) struct Measured(Outcome);

impl Measured {
    /// The verdict. A pod that refused was reached: policy drops, and every port is offered.
    pub(super) fn verdict(&self) -> Verdict {
        match self.0 {
            Outcome::Answered | Outcome::Refused => Verdict::Allowed,
            Outcome::Silent | Outcome::Failed(_) => Verdict::Blocked,
        }
    }

    /// Whether packets were sent at all.
    pub(super) fn is_certain(&self) -> bool {
        !matches!(self.0, Outcome::Failed(_))
    }

    /// For people.
    pub(super) fn words(&self) -> String {
        match &self.0 {
            Outcome::Answered => "answered".to_owned(),
            Outcome::Refused => "refused, so the packet arrived".to_owned(),
            Outcome::Silent => "no answer".to_owned(),
            Outcome::Failed(why) => format!("the probe failed: {why}"),
        }
    }
}

/// Sends the probes with these places in the step; results in the same order. What should have been answered and was
/// not gets a second, longer chance: on a busy machine an answer takes its time.
pub(super) async fn measure(
    step: &Step,
    places: &[usize],
    pods: &Pods,
    sockets: u64,
) -> anyhow::Result<Vec<Measured>> {
    let mut outcomes = send(step, places, pods, sockets, Patience::SHORT).await?;
    let again: Vec<usize> = places
        .iter()
        .zip(&outcomes)
        .enumerate()
        .filter(|(_, (place, outcome))| match outcome {
            Outcome::Answered | Outcome::Refused => false,
            Outcome::Silent => step.probes[**place].combined == Verdict::Allowed,
            Outcome::Failed(_) => true,
        })
        .map(|(n, _)| n)
        .collect();
    if !again.is_empty() {
        let second: Vec<usize> = again.iter().map(|n| places[*n]).collect();
        let results = send(step, &second, pods, sockets, Patience::LONG).await?;
        for (n, outcome) in again.into_iter().zip(results) {
            outcomes[n] = outcome;
        }
    }
    Ok(outcomes.into_iter().map(Measured).collect())
}

/// What one pod is to ask: places in the results, and whom.
type Share = (Vec<usize>, Vec<Target>);

async fn send(
    step: &Step,
    places: &[usize],
    pods: &Pods,
    sockets: u64,
    patience: Patience,
) -> anyhow::Result<Vec<Outcome>> {
    let mut shares: BTreeMap<usize, Share> = BTreeMap::new();
    for (n, place) in places.iter().enumerate() {
        let probe = &step.probes[*place];
        let (_, addr) = attached(pods, &step.pods[probe.to])?;
        let share = shares.entry(probe.from).or_default();
        share.0.push(n);
        share.1.push(Target {
            protocol: probe.protocol,
            addr,
            port: probe.port,
        });
    }
    // A third of the descriptors: the other side of a connection is one, too, and there are others.
    let at_once = usize::try_from(sockets / 3).unwrap_or(usize::MAX) / pods.count().max(1);
    let mut running = JoinSet::new();
    for (from, (numbers, targets)) in shares {
        let (prober, addr) = attached(pods, &step.pods[from])?;
        running.spawn(ask(prober, addr, numbers, targets, at_once.max(1), patience));
    }
    let mut outcomes = vec![Outcome::Silent; places.len()];
    while let Some(done) = running.join_next().await {
        let (addr, next, results) = done.context("a pod's probes")?;
        pods.note_port(addr, next);
        for (n, outcome) in results {
            outcomes[n] = outcome;
        }
    }
    Ok(outcomes)
}

async fn ask(
    prober: Arc<Prober>,
    addr: IpAddr,
    numbers: Vec<usize>,
    targets: Vec<Target>,
    at_once: usize,
    patience: Patience,
) -> (IpAddr, u16, Vec<(usize, Outcome)>) {
    let mut results = Vec::new();
    let mut next = crate::prober::FIRST_PORT;
    for (numbers, targets) in numbers.chunks(at_once).zip(targets.chunks(at_once)) {
        let (outcomes, port) = prober.probe(targets.to_vec(), patience).await;
        next = port;
        results.extend(numbers.iter().copied().zip(outcomes));
    }
    (addr, next, results)
}

fn attached(pods: &Pods, pod: &Pod) -> anyhow::Result<(Arc<Prober>, IpAddr)> {
    pods.prober(pod)
        .with_context(|| format!("pod {} is not attached", pod.id()))
}
