//! A dataplane of a real kernel: the host of all cases in a network namespace, its rules written by the agent, and every
//! packet sent and received as it is.
//!
//! - `network`: the host and what is behind its interfaces. `hands`: what brings a case into force.
//! - `packet`: packets as bytes. `wire`: sockets. `conntrack`: connections are forgotten. `throughout`: packets while
//!   something changes.
//!
//! **Invariant:** no two packets whose connections the kernel could take for one another are under way at once, and
//! what it remembers is forgotten before the next ones.

mod conntrack;
mod hands;
mod network;
mod packet;
mod throughout;
#[cfg(test)]
mod why_tests;
mod wire;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use caracal_oracle::Trip;
use caracal_policy_fuzz::{Case, Dataplane, Reference};

use crate::cluster::temporary::Temporary;
use conntrack::Connections;
use hands::{Following, Hands};
use network::Network;
use packet::{Tag, encode, number};
use wire::Wire;

/// Where runs keep what is theirs.
const BASE: &str = "/run/caracal-policy-fuzz";
/// What the names of network namespaces begin with.
const NETNS: &str = "policy-fuzz";

/// How long nothing may arrive until nothing more is expected.
const QUIET: Duration = Duration::from_millis(5);
/// How long an expected packet may take, at first and when it is sent again.
const PATIENCE: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// A host with hands and wires.
struct Node {
    network: Network,
    hands: Hands,
    wire: Wire,
    connections: Connections,
    /// Counts cases: what comes late is of none that is judged.
    cases: u32,
    /// A case lacked packets: those that follow are smaller ones of it, and are not waited for so long.
    lacking: bool,
}

/// The kernel as a dataplane.
pub(super) struct Kernel {
    /// Goes first: its sockets are in namespaces of the run.
    agent: Node,
    driver: Node,
    run: Temporary,
}

impl Kernel {
    /// Makes two hosts: one with an agent, and one with the driver alone, for half of the cases that have endpoints of
    /// services.
    pub(super) fn start() -> anyhow::Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            bail!("packets need network namespaces: run as root, or use --dataplane model");
        }
        let run = Temporary::start(BASE, NETNS)?;
        match Self::hosts(&run) {
            Ok((agent, driver)) => Ok(Self { agent, driver, run }),
            Err(e) => {
                run.end(&[]);
                Err(e)
            }
        }
    }

    fn hosts(run: &Temporary) -> anyhow::Result<(Node, Node)> {
        let network = Network::make(run, "here")?;
        let hands = Hands::Agent(Box::new(Following::start(run, "here")?));
        let agent = Node::new(network, hands)?;
        let network = Network::make(run, "alone")?;
        let hands = Hands::driver(&network.host)?;
        Ok((agent, Node::new(network, hands)?))
    }

    fn node(&mut self, case: &Case) -> &mut Node {
        if case.slices.is_empty() || case.seed.is_multiple_of(2) {
            &mut self.agent
        } else {
            &mut self.driver
        }
    }

    /// Goes from case to case with packets all the while, and compares the end with a start from nothing; how many
    /// packets were sent.
    pub(super) fn history(&mut self, cases: &[Case], kill: bool) -> Result<usize, String> {
        self.follow(cases, kill).map_err(|e| format!("{e:#}"))
    }

    fn follow(&mut self, cases: &[Case], kill: bool) -> anyhow::Result<usize> {
        let sent = self.agent.history(cases, kill)?;
        if let Some(last) = cases.last()
            && let Some((history, scratch)) = self.agent.against_scratch(last)?
        {
            let lines = |of: &str, not: &str| -> String {
                let other: BTreeSet<&str> = not.lines().collect();
                of.lines()
                    .filter(|l| !other.contains(l))
                    .map(|l| format!("  {l}\n"))
                    .collect()
            };
            bail!(
                "the rules at the end of the history are not those of a start from nothing\nonly with the history:\n{}\
                 only from nothing:\n{}",
                lines(&history, &scratch),
                lines(&scratch, &history)
            );
        }
        Ok(sent)
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        let programs = match &self.agent.hands {
            Hands::Agent(following) => following.programs().to_vec(),
            Hands::Driver(_) => Vec::new(),
        };
        self.run.end(&[&programs]);
    }
}

impl Dataplane for Kernel {
    fn verdicts(&mut self, case: &Case) -> Result<Vec<bool>, String> {
        let node = self.node(case);
        node.apply(case)
            .and_then(|()| node.measure(case))
            .map_err(|e| format!("{e:#}"))
    }

    fn refuses(&self) -> bool {
        true
    }

    fn show(&self) -> String {
        let list = || {
            std::process::Command::new("nft")
                .args(["list", "ruleset"])
                .output()
        };
        let one = |node: &Node| match node.network.host.run(list) {
            Ok(Ok(output)) => String::from_utf8_lossy(&output.stdout).into_owned(),
            Ok(Err(e)) => format!("nft list ruleset: {e}"),
            Err(e) => e.to_string(),
        };
        format!(
            "# with an agent\n{}\n# with the driver\n{}",
            one(&self.agent),
            one(&self.driver)
        )
    }
}

impl Node {
    fn new(network: Network, hands: Hands) -> anyhow::Result<Self> {
        Ok(Self {
            wire: Wire::open(&network.host, &network.behind).context("opening raw sockets")?,
            connections: Connections::open(&network.host)?,
            network,
            hands,
            cases: 0,
            lacking: false,
        })
    }

    fn ruleset(&self) -> anyhow::Result<String> {
        self.network.ruleset()
    }

    fn apply(&mut self, case: &Case) -> anyhow::Result<()> {
        self.network.fits(&case.host)?;
        self.network.translate(&case.trips)?;
        self.hands.apply(case)
    }

    /// Sends the packets of a case that is in force; which of them arrived.
    fn measure(&mut self, case: &Case) -> anyhow::Result<Vec<bool>> {
        self.cases += 1;
        // What is expected says only how long to wait.
        let meant = case.in_force();
        let reference = Reference::new(&meant, None);
        let mut test = Test {
            expected: case.trips.iter().map(|t| reference.allows(t)).collect(),
            arrived: vec![false; case.trips.len()],
        };
        let all: Vec<usize> = (0..case.trips.len()).collect();
        let tries = if self.lacking { 2 } else { PATIENCE.len() };
        for patience in PATIENCE.into_iter().take(tries) {
            let left: Vec<usize> = all.iter().copied().filter(|n| test.is_missing(*n)).collect();
            let left = if patience == PATIENCE[0] {
                all.clone()
            } else {
                left
            };
            for round in rounds(&case.trips, &left) {
                self.round(case, &round, patience, &mut test)?;
            }
        }
        // What was on its way still arrives now.
        while let Some(arrival) = self.wire.next(QUIET)? {
            self.take(case, arrival, &mut test)?;
        }
        self.lacking = all.iter().any(|n| test.is_missing(*n));
        Ok(test.arrived)
    }

    fn round(
        &mut self,
        case: &Case,
        round: &[usize],
        patience: Duration,
        test: &mut Test,
    ) -> anyhow::Result<()> {
        self.connections.forget()?;
        for n in round {
            let tag = Tag {
                case: self.cases,
                packet: u32::try_from(*n).context("more packets than can be numbered")?,
                time: 0,
            };
            self.wire.send(&case.trips[*n], &encode(&case.trips[*n], tag))?;
        }
        let deadline = Instant::now() + patience;
        loop {
            let missing = round.iter().any(|n| test.is_missing(*n));
            let wait = if missing {
                deadline.saturating_duration_since(Instant::now())
            } else {
                QUIET
            };
            match self.wire.next(wait.max(QUIET))? {
                Some(arrival) => self.take(case, arrival, test)?,
                None if missing && Instant::now() < deadline => {}
                None => return Ok(()),
            }
        }
    }

    fn take(&self, case: &Case, (place, tag): wire::Arrival, test: &mut Test) -> anyhow::Result<()> {
        let n = tag.packet as usize;
        if tag.case != self.cases || n >= case.trips.len() {
            return Ok(());
        }
        if self.wire.goal(&case.trips[n])? != place {
            bail!("packet {n}: {} arrived at place {place}", case.trips[n].packet);
        }
        test.arrived[n] = true;
        Ok(())
    }
}

/// What is expected and what is known.
struct Test {
    expected: Vec<bool>,
    arrived: Vec<bool>,
}

impl Test {
    fn is_missing(&self, n: usize) -> bool {
        self.expected[n] && !self.arrived[n]
    }
}

/// Packets in groups, none of which has two that could be of one connection.
fn rounds(trips: &[Trip], which: &[usize]) -> Vec<Vec<usize>> {
    let mut rounds: Vec<(BTreeSet<wire::Key>, Vec<usize>)> = Vec::new();
    for n in which {
        let keys = wire::keys(&trips[*n], number(*n));
        let free = rounds
            .iter()
            .position(|(taken, _)| !keys.iter().any(|k| taken.contains(k)));
        let at = free.unwrap_or(rounds.len());
        if at == rounds.len() {
            rounds.push(Default::default());
        }
        rounds[at].0.extend(keys);
        rounds[at].1.push(*n);
    }
    rounds.into_iter().map(|(_, round)| round).collect()
}
