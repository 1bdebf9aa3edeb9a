//! What the kernel of this node has, held against what the model says it should have.
//!
//! The same compiler that the agent uses makes the wanted tables from the objects. Compared is what enforces one packet:
//! the element that leads to the endpoint's list, the chains on the packet's way with the order and comments of their
//! rules (each of ours carries a mark), and the sets that those rules look into. Nothing of it depends on settings that
//! only the agent knows.

mod agent;
mod walk;

use std::cell::RefCell;

use caracal_desired::{Delta, Desired};
use caracal_net::{Family, PerFamily};
use caracal_nft::{LiveRule, Reader};
use caracal_oracle::{Decision, Direction, ListKind, Packet, Stage};
use caracal_rules::ir::{ChainName, Data, IfName, Key, SetName, TableState};
use caracal_rules::{Compiler, RulesConfig};

use crate::Io;
use crate::failure::Failure;
use crate::why::{Kernel, Reads};
use crate::world::{Node, World};

/// The kernel of this node, read live.
pub(crate) struct Live {
    /// The node that this is.
    pub(crate) node: String,
    reader: RefCell<Reader>,
}

/// What is asked about.
struct Question<'a> {
    family: Family,
    table: &'a str,
    wanted: &'a TableState,
}

impl Live {
    /// Opens the kernel of this machine, if it is a node and that was asked for. Which node it is says `node`, or else
    /// the agent.
    ///
    /// # Errors
    /// When the kernel must be read and cannot be.
    pub(crate) fn open(io: &mut Io, when: Reads, node: Option<&str>) -> Result<Option<Self>, Failure> {
        if when == Reads::Never {
            return Ok(None);
        }
        let must = when == Reads::Always || node.is_some();
        let name = match node {
            Some(name) => Ok(name.to_owned()),
            None => agent::node(),
        };
        let opened = name.and_then(|node| {
            let reader = Reader::open().map_err(|e| e.to_string())?;
            Ok(Self {
                node,
                reader: RefCell::new(reader),
            })
        });
        match opened {
            Ok(live) => Ok(Some(live)),
            Err(why) if must => Err(Failure::input(format!(
                "the kernel's rules cannot be read: {why}"
            ))),
            Err(why) => {
                // Where no agent ever ran there is nothing to be missed.
                if agent::is_expected() {
                    io.complain(&format!(
                        "caracal why: the kernel's rules are not read: {why}; --node says which node this is"
                    ));
                }
                Ok(None)
            }
        }
    }

    /// What the kernel has for one place on the packet's way; `None` where it is no list of ours.
    pub(crate) fn look(
        &self,
        world: &World,
        node: &Node,
        stage: &Stage,
        decision: Option<&Decision>,
        packet: &Packet,
    ) -> Result<Option<Kernel>, Failure> {
        let direction = decision.map_or(Direction::Ingress, |d| d.direction);
        let Some((map, interface)) = entry(world, node, stage, direction) else {
            return Ok(None);
        };
        let family = packet.family();
        let wanted = tables(&node.desired);
        let wanted = wanted.get(family);
        let Some(table) = self.ask(|r| r.table(family))? else {
            return Ok(Some(Kernel {
                differences: vec![format!("the kernel has no table of ours for {family}")],
                ..Kernel::of(&format!("{} caracal", word(family)))
            }));
        };
        let question = Question {
            family,
            table: &table,
            wanted,
        };
        let mut kernel = Kernel::of(&format!("{} {table}", word(family)));
        let Ok(key) = IfName::exact(&interface).map(Key::from) else {
            kernel
                .differences
                .push(format!("{interface:?} is no name of an interface"));
            return Ok(Some(kernel));
        };
        self.hooks(&question, map, &mut kernel)?;
        if let Some(chain) = self.enter(&question, map, &key, &mut kernel)? {
            self.follow(&question, &chain, packet, &mut kernel)?;
        }
        Ok(Some(kernel))
    }

    fn ask<T>(&self, read: impl FnOnce(&mut Reader) -> Result<T, caracal_nft::Error>) -> Result<T, Failure> {
        read(&mut self.reader.borrow_mut()).map_err(|e| Failure::input(e.to_string()))
    }

    fn chain(&self, question: &Question<'_>, name: &ChainName) -> Result<Option<Vec<LiveRule>>, Failure> {
        self.ask(|r| r.chain(question.family, question.table, name))
    }

    /// The base chains that look into the map: rules that do so have no comment, and none may be missing.
    fn hooks(&self, question: &Question<'_>, map: &str, kernel: &mut Kernel) -> Result<(), Failure> {
        let map = SetName::from(map);
        for (name, chain) in &question.wanted.chains {
            if chain.base.is_none() || !chain.rules.iter().any(|r| r.sets().any(|s| *s == map)) {
                continue;
            }
            let Some(live) = self.chain(question, name)? else {
                kernel.differences.push(format!(
                    "chain {name} is missing: no packet is led into the lists"
                ));
                continue;
            };
            let wanted = chain.rules.iter().filter(|r| r.comment.is_empty()).count();
            let have = live.iter().filter(|r| r.ours && r.comment.is_empty()).count();
            if have < wanted {
                kernel.differences.push(format!(
                    "chain {name} has {have} of {wanted} rules that lead into the lists of endpoints"
                ));
            }
            let foreign = live.iter().filter(|r| !r.ours);
            kernel.differences.extend(
                foreign.map(|r| format!("chain {name} has a rule that is not ours, handle {}", r.handle)),
            );
        }
        Ok(())
    }

    /// The chain that the interface's element leads to.
    fn enter(
        &self,
        question: &Question<'_>,
        map: &str,
        key: &Key,
        kernel: &mut Kernel,
    ) -> Result<Option<ChainName>, Failure> {
        let name = SetName::from(map);
        let Some(set) = question.wanted.sets.get(&name) else {
            return Ok(None);
        };
        // What has no element of its own is answered by the one for all others: such an endpoint is closed.
        let key = if set.elements.contains_key(key) {
            key
        } else {
            &Key::Any
        };
        let Some(Data::Verdict(verdict)) = set.elements.get(key).and_then(|e| e.data()) else {
            return Ok(None);
        };
        let target = verdict.target().cloned();
        let shown = target
            .as_ref()
            .map_or_else(String::new, |t| format!(" : jump {t}"));
        kernel.entry = Some(format!("map {map} element {key}{shown}"));
        let differs = self.ask(|r| r.set(question.family, question.table, &name, set, Some(key)))?;
        match differs {
            None => kernel.differences.push(format!("map {map} is missing")),
            Some(d) if d.missing > 0 => {
                kernel.differences.push(format!(
                    "map {map} has no element {key}{shown}, or it leads elsewhere"
                ));
            }
            Some(_) => {}
        }
        Ok(target)
    }

    /// Walks the chains as the packet does, comparing each.
    fn follow(
        &self,
        question: &Question<'_>,
        first: &ChainName,
        packet: &Packet,
        kernel: &mut Kernel,
    ) -> Result<(), Failure> {
        let way = walk::walk(question.wanted, first, packet);
        for (n, step) in way.chains.iter().enumerate() {
            let Some(chain) = question.wanted.chains.get(step) else {
                continue;
            };
            let Some(live) = self.chain(question, step)? else {
                kernel.differences.push(format!("chain {step} is missing"));
                continue;
            };
            let texts: Vec<&str> = chain.rules.iter().map(|r| r.comment.as_str()).collect();
            compare(step, &texts, &live, kernel);
            if let Some(place) = way.decided.filter(|_| n + 1 == way.chains.len()) {
                let rule = &chain.rules[place];
                kernel.chain = Some(step.to_string());
                kernel.rule = Some(walk::rule_text(rule));
                // Of rules with one comment the one at the same distance from the first of them.
                let nth = texts[..place].iter().filter(|t| **t == rule.comment).count();
                let found = live
                    .iter()
                    .filter(|r| r.ours && r.comment == rule.comment)
                    .nth(nth);
                kernel.handle = found.map(|r| r.handle);
            }
        }
        for (name, says) in &way.sets {
            let Some(set) = question.wanted.sets.get(name) else {
                continue;
            };
            match self.ask(|r| r.set(question.family, question.table, name, set, None))? {
                None => kernel.differences.push(format!("set {name} is missing")),
                Some(d) if d.missing + d.foreign > 0 => kernel.differences.push(format!(
                    "set {name} lacks {} elements and has {} that should not be there",
                    d.missing, d.foreign
                )),
                Some(_) => {}
            }
            kernel
                .elements
                .extend(says.iter().map(|e| format!("set {name} element {e}")));
        }
        Ok(())
    }
}

impl Kernel {
    fn of(table: &str) -> Self {
        Self {
            table: table.to_owned(),
            entry: None,
            chain: None,
            handle: None,
            rule: None,
            elements: Vec::new(),
            differences: Vec::new(),
        }
    }
}

/// What is missing from a chain, what is there and should not be, and whether the rest has another order.
fn compare(name: &ChainName, wanted: &[&str], live: &[LiveRule], kernel: &mut Kernel) {
    // The kernel keeps so much of a comment.
    let wanted: Vec<String> = wanted.iter().map(|t| walk::as_kept(t)).collect();
    let have: Vec<&str> = live
        .iter()
        .filter(|r| r.ours)
        .map(|r| r.comment.as_str())
        .collect();
    let before = kernel.differences.len();
    let mut left = have.clone();
    for text in &wanted {
        match left.iter().position(|h| h == text) {
            Some(at) => {
                left.remove(at);
            }
            None => kernel
                .differences
                .push(format!("chain {name} has lost the rule {text:?}")),
        }
    }
    kernel.differences.extend(
        left.iter()
            .map(|h| format!("chain {name} has a rule too many: {h:?}")),
    );
    let foreign = live.iter().filter(|r| !r.ours);
    kernel.differences.extend(foreign.map(|r| {
        format!(
            "chain {name} has a rule that is not ours, handle {} {:?}",
            r.handle, r.comment
        )
    }));
    if kernel.differences.len() == before && wanted != have {
        kernel
            .differences
            .push(format!("chain {name} has its rules in another order"));
    }
}

fn word(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

/// The map that is asked at a stage, and the interface it is asked for.
fn entry(world: &World, node: &Node, stage: &Stage, direction: Direction) -> Option<(&'static str, String)> {
    match stage {
        Stage::Workload(id) => {
            let known = node
                .desired
                .workloads
                .values()
                .find(|w| w.id.to_string() == *id)?;
            let map = match direction {
                Direction::Ingress => "to-wl",
                Direction::Egress => "from-wl",
            };
            Some((map, known.interface.to_string()))
        }
        Stage::Host(name, list) => {
            let known = node.desired.host_endpoints.get(name)?;
            // Found by address, or for all: which interface that is, is known on the node only.
            let named = !known.interface.is_empty() && &*known.interface != "*";
            let map = match (list, direction) {
                (ListKind::Normal, Direction::Ingress) => "host-in",
                (ListKind::Normal, Direction::Egress) => "host-out",
                (ListKind::Untracked, Direction::Ingress) => "host-raw-in",
                (ListKind::Untracked, Direction::Egress) => "host-raw-out",
                (ListKind::PreDnat, _) => "host-pre-in",
                (ListKind::Forward, Direction::Ingress) => "host-fwd-in",
                (ListKind::Forward, Direction::Egress) => "host-fwd-out",
            };
            let exists = world.hosts().any(|h| h.metadata.name == **name);
            (named && exists).then(|| (map, known.interface.to_string()))
        }
        Stage::Source(_) | Stage::ToHost | Stage::ServiceLoop => None,
    }
}

/// The tables that the agent makes of the same state.
fn tables(desired: &Desired) -> PerFamily<TableState> {
    let mut compiler = Compiler::new(RulesConfig::default());
    let sets = desired
        .ip_sets
        .iter()
        .map(|(id, set)| Delta::IpSet(id.clone(), set.clone()));
    let policies = desired.policies.values().cloned().map(Delta::Policy);
    let profiles = desired.profiles.values().cloned().map(Delta::Profile);
    let workloads = desired.workloads.values().cloned().map(Delta::Workload);
    let hosts = desired.host_endpoints.values().cloned().map(Delta::HostEndpoint);
    for delta in sets.chain(policies).chain(profiles).chain(workloads).chain(hosts) {
        compiler.apply(&delta);
    }
    for host in desired
        .host_endpoints
        .values()
        .filter(|h| !h.interface.is_empty() && &*h.interface != "*")
    {
        compiler.set_interface(&host.interface, Some(host.expected_ips.iter().copied().collect()));
    }
    compiler.full_state()
}
