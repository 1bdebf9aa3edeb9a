//! Judges by packets: pods in network namespaces, attached to nodes in namespaces of their own, each with an agent
//! process, over one embedded datastore.
//!
//! - `network`: the nodes and their programs. `pods`: attaching pods with the table's own addresses.
//! - `state`: writes a step's objects and waits until every agent has them in force. `probes`: the packets.
//!
//! Nodes and pods stay from case to case: a step is the difference to the step before, whatever case that was of.
//!
//! **Invariant:** whatever is made ends with the run; what a killed run left is removed by the next one.

mod network;
mod pods;
mod probes;
mod state;

use anyhow::{Context, bail};
use caracal_net::Family;
use caracal_runtime::{Shutdown, on_signals};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::model::{self, Model};
use super::report::{Finding, Judged, Report};
use super::table::{Case, Step};
use network::Network;
use pods::Pods;
use state::State;

/// Sends the packets of all cases, one family after the other.
pub(super) fn check(cases: &[Case], families: &[Family], report: &mut Report) -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("packets need network namespaces: run as root, or use --dataplane model");
    }
    let sockets = raise_limit().context("raising the number of open files")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let shutdown = Shutdown::new();
        let signals = tokio::spawn(on_signals(shutdown.clone()));
        let outcome = tokio::select! {
            outcome = all(cases, families, sockets, report) => outcome,
            () = shutdown.wait() => Err(anyhow::anyhow!("interrupted")),
        };
        signals.abort();
        outcome
    })
}

/// Every socket is a descriptor; the number that may be open afterwards.
fn raise_limit() -> nix::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

async fn all(cases: &[Case], families: &[Family], sockets: u64, report: &mut Report) -> anyhow::Result<()> {
    let network = Network::start().await?;
    let mut run = Run {
        state: State::new(&network).await?,
        pods: Pods::new(&network)?,
        sockets,
    };
    for family in families {
        let mut model = Model::new(*family)?;
        for case in cases {
            for (n, step) in case.steps.iter().enumerate() {
                let place = || format!("{case}, step {}, {family}", n + 1);
                for problem in model.step(step) {
                    report.warn(&format!("{}: {problem}", place()));
                }
                run.step((case, n), *family, &model, report)
                    .await
                    .with_context(place)?;
                report.advance();
            }
        }
    }
    Ok(())
}

struct Run {
    state: State,
    pods: Pods,
    /// The sockets that may be open.
    sockets: u64,
}

impl Run {
    async fn step(
        &mut self,
        (case, place): (&Case, usize),
        family: Family,
        model: &Model,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let step = &case.steps[place];
        self.pods.become_those_of(step, family)?;
        self.state.become_that_of(step, family, &self.pods).await?;
        let judged = judged(step, family, report);
        let results = probes::measure(step, &judged, &self.pods, self.sockets).await?;
        for (n, result) in judged.into_iter().zip(results) {
            let probe = &step.probes[n];
            let right = result.verdict() == probe.combined && result.is_certain();
            report.verdict(right, || {
                let opinion = model.judge(step, probe);
                let decided = format!(
                    "{}; by the model {}: {}",
                    result.words(),
                    opinion.combined(),
                    opinion.explain()
                );
                let verdicts = (probe.combined, result.verdict());
                Finding::new(
                    (case, place),
                    family,
                    (step, probe),
                    Judged::Combined,
                    verdicts,
                    decided,
                )
            });
        }
        Ok(())
    }
}

/// The places of the probes that are judged.
fn judged(step: &Step, family: Family, report: &mut Report) -> Vec<usize> {
    let mut out = Vec::new();
    for (n, probe) in step.probes.iter().enumerate().filter(|(_, p)| !p.is_to_itself()) {
        if model::has_family(step, probe, family) {
            out.push(n);
        } else {
            report.skipped(1);
        }
    }
    out
}
