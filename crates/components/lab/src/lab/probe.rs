//! `lab probe`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use caracal_net::Family;
use caracal_oracle::Verdict;
use tokio::task::JoinSet;

use super::cli::Format;
use super::expected::World;
use super::parallel::block_on;
use super::progress::Progress;
use super::state::{Lab, Pod};
use super::{converge, table};
use crate::prober::{Outcome, Patience, Prober, Target};

/// How long differences are measured again: what has no revision (a deleted object) may need a moment.
const AGAIN: Duration = Duration::from_secs(5);

/// One probe.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// `namespace/pod`.
    pub(super) from: String,
    /// `namespace/pod`.
    pub(super) to: String,
    /// Where to.
    pub(super) target: Target,
    /// The port's name, or empty.
    pub(super) port_name: String,
    pub(super) expected: Verdict,
    /// What decided.
    pub(super) why: String,
    pub(super) outcome: Outcome,
}

impl Row {
    pub(super) fn measured(&self) -> Verdict {
        if self.outcome.allowed() {
            Verdict::Allowed
        } else {
            Verdict::Blocked
        }
    }

    pub(super) fn differs(&self) -> bool {
        self.expected != self.measured()
    }
}

/// Probes every pod's ports from every other pod; exit code 1 when something is not as expected.
pub(super) fn probe(name: &str, format: Format) -> anyhow::Result<i32> {
    let mut lab = Lab::open(name)?;
    let progress = Progress::new();
    progress.step("asking the agents");
    let nodes: Vec<String> = lab.state.nodes.iter().map(|n| n.name.clone()).collect();
    let store = lab.datastore().connect()?;
    let (world, complaints) = block_on(async {
        let world = World::read(store.as_ref(), &nodes).await?;
        let complaints = converge::wait(&lab, &world).await;
        Ok((world, complaints))
    })?;
    let mut rows = rows(&lab, &world);
    progress.step(format!("sending {} probes", rows.len()));
    let next_ports = block_on(measure(&lab, &mut rows))?;
    for (id, port) in next_ports {
        if let Some(pod) = lab.state.pods.get_mut(&id) {
            pod.next_port = port;
        }
    }
    lab.save()?;
    drop(progress);
    for complaint in &complaints {
        eprintln!("caracal lab: {complaint}");
    }
    let differences = rows.iter().filter(|r| r.differs()).count();
    match format {
        Format::Json => table::json(&rows, lab.state.settings.dual_stack)?,
        Format::Table => table::print(&rows, lab.state.settings.dual_stack),
    }
    Ok(i32::from(differences > 0))
}

fn rows(lab: &Lab, world: &World) -> Vec<Row> {
    let mut rows = Vec::new();
    for from in lab.state.pods.values() {
        for to in lab.state.pods.values().filter(|to| to.id() != from.id()) {
            for port in &to.ports {
                for (source, addr) in pairs(from, to) {
                    let target = Target {
                        protocol: port.protocol,
                        addr,
                        port: port.port,
                    };
                    let expected = world.judge((from, source), to, &target);
                    rows.push(Row {
                        from: from.id(),
                        to: to.id(),
                        target,
                        port_name: port.name.clone(),
                        expected: expected.verdict,
                        why: expected.why,
                        outcome: Outcome::Silent,
                    });
                }
            }
        }
    }
    rows
}

/// Addresses of two pods that belong together.
fn pairs(from: &Pod, to: &Pod) -> Vec<(IpAddr, IpAddr)> {
    let first = |pod: &Pod, family| pod.addresses.iter().copied().find(|a| Family::of(*a) == family);
    Family::BOTH
        .into_iter()
        .filter_map(|family| Some((first(from, family)?, first(to, family)?)))
        .collect()
}

/// Sends all probes, and those that came out differently again. The next source port of every pod.
async fn measure(lab: &Lab, rows: &mut [Row]) -> anyhow::Result<BTreeMap<String, u16>> {
    let mut probers = BTreeMap::new();
    let mut next_ports = BTreeMap::new();
    for pod in lab.state.pods.values() {
        let prober = Prober::start(lab.open_pod(pod)?, pod.next_port)?;
        probers.insert(pod.id(), Arc::new(prober));
    }
    let deadline = Instant::now() + AGAIN;
    let mut todo: Vec<usize> = (0..rows.len()).collect();
    loop {
        round(&probers, rows, &todo, &mut next_ports).await?;
        todo.retain(|n| rows[*n].differs());
        if todo.is_empty() || Instant::now() > deadline {
            return Ok(next_ports);
        }
    }
}

async fn round(
    probers: &BTreeMap<String, Arc<Prober>>,
    rows: &mut [Row],
    todo: &[usize],
    next_ports: &mut BTreeMap<String, u16>,
) -> anyhow::Result<()> {
    let mut running = JoinSet::new();
    for (id, prober) in probers {
        // What should be answered is quick; what should not takes its time.
        for (verdict, patience) in [
            (Verdict::Allowed, Patience::LONG),
            (Verdict::Blocked, Patience::SHORT),
        ] {
            let mine = |n: &&usize| rows[**n].from == *id && rows[**n].expected == verdict;
            let mine: Vec<usize> = todo.iter().filter(mine).copied().collect();
            if mine.is_empty() {
                continue;
            }
            let targets: Vec<Target> = mine.iter().map(|n| rows[*n].target).collect();
            let (id, prober) = (id.clone(), prober.clone());
            running.spawn(async move {
                let (outcomes, next) = prober.probe(targets, patience).await;
                (id, mine, outcomes, next)
            });
        }
    }
    while let Some(done) = running.join_next().await {
        let (id, mine, outcomes, next) = done?;
        for (n, outcome) in mine.into_iter().zip(outcomes) {
            rows[n].outcome = outcome;
        }
        let highest = next_ports.entry(id).or_insert(next);
        // The later of two orders has the later port; coming round starts low again.
        *highest = if next.abs_diff(*highest) > u16::MAX / 4 {
            next.min(*highest)
        } else {
            next.max(*highest)
        };
    }
    Ok(())
}
