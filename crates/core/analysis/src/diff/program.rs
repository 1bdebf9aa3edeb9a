//! What an endpoint asks of a packet in one direction, flat: rules in order, each with what to do, and the end.

mod library;

use caracal_api::{Action, TierDefaultAction};
use caracal_desired::{Desired, HostEndpoint, IcmpMatch, Rule, TierPolicies, WorkloadEndpoint};
use caracal_ids::{IpSetId, PolicyId, ProfileName};
use caracal_net::{Cidr, Family, PortRange, Proto};
use caracal_oracle::{Direction, FailsafePort};

pub(crate) use self::library::Library;
use self::library::number;
use crate::map::Map;

/// A question about an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Question {
    /// Is it in one of these?
    Nets(Vec<Cidr>),
    /// Is it in this set, or at which ports?
    Set(IpSetId),
}

/// The number of a question, which is the same in both states.
pub(crate) type QuestionId = u32;

/// Criteria on one side.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct SideCond {
    pub(crate) nets: Option<QuestionId>,
    pub(crate) not_nets: Option<QuestionId>,
    pub(crate) sets: Vec<QuestionId>,
    pub(crate) not_sets: Vec<QuestionId>,
    pub(crate) ports: Vec<PortRange>,
    pub(crate) named: Vec<QuestionId>,
    pub(crate) not_ports: Vec<PortRange>,
    pub(crate) not_named: Vec<QuestionId>,
    pub(crate) services: Vec<QuestionId>,
}

impl SideCond {
    pub(crate) fn questions(&self) -> impl Iterator<Item = QuestionId> + '_ {
        let lists = [
            &self.sets,
            &self.not_sets,
            &self.named,
            &self.not_named,
            &self.services,
        ];
        let nets = self.nets.iter().chain(&self.not_nets);
        nets.chain(lists.into_iter().flatten()).copied()
    }
}

/// The criteria of a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Cond {
    pub(crate) proto: Option<Proto>,
    pub(crate) not_proto: Option<Proto>,
    pub(crate) icmp: Option<IcmpMatch>,
    pub(crate) not_icmp: Option<IcmpMatch>,
    pub(crate) src: SideCond,
    pub(crate) dst: SideCond,
}

/// What follows when a rule matches, or a list ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Then {
    Allow,
    Deny,
    /// Go on at this operation.
    Jump(u32),
}

/// One operation: criteria (none at the end of a list) and what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Op {
    pub(crate) cond: Option<u32>,
    pub(crate) then: Then,
}

/// The number of a program; equal programs have the same.
pub(crate) type ProgramId = u32;

/// A program with the questions that it asks about the two addresses, each once, in order.
#[derive(Debug, Default)]
pub(crate) struct Program {
    pub(crate) ops: Vec<Op>,
    pub(crate) about_src: Vec<QuestionId>,
    pub(crate) about_dst: Vec<QuestionId>,
}

/// A list of policies and profiles as a key.
type Lists = (Vec<TierPolicies>, Vec<ProfileName>);
/// The rules of a policy or profile for a direction and family, those that only log left out.
type Rules = std::rc::Rc<[(u32, Action)]>;

/// Writes the programs of one state.
pub(crate) struct Compiler<'a> {
    library: &'a mut Library,
    desired: &'a Desired,
    policies: Map<(PolicyId, Direction, Family), Rules>,
    profiles: Map<(ProfileName, Direction, Family), Rules>,
    known: Map<Lists, [[ProgramId; 2]; 2]>,
}

/// The programs of an endpoint: by direction (ingress, egress), by family.
pub(crate) type Programs = [[ProgramId; 2]; 2];

/// The place of a direction in [`Programs`].
pub(crate) const DIRECTIONS: [Direction; 2] = [Direction::Ingress, Direction::Egress];

/// Ports of a host that no policy closes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Failsafe {
    pub(crate) inbound: Vec<FailsafePort>,
    pub(crate) outbound: Vec<FailsafePort>,
}

impl<'a> Compiler<'a> {
    pub(crate) fn new(library: &'a mut Library, desired: &'a Desired) -> Self {
        Self {
            library,
            desired,
            policies: Map::default(),
            profiles: Map::default(),
            known: Map::default(),
        }
    }

    /// An endpoint without policy: everything or nothing goes.
    pub(crate) fn constant(&mut self, allow: bool) -> Programs {
        [[self.library.constant(allow); 2]; 2]
    }

    pub(crate) fn workload(&mut self, endpoint: &WorkloadEndpoint) -> Programs {
        let key = (endpoint.tiers.clone(), endpoint.profiles.clone());
        if let Some(programs) = self.known.get(&key) {
            return *programs;
        }
        let programs = DIRECTIONS.map(|direction| {
            Family::BOTH.map(|family| {
                let mut ops = Vec::new();
                self.tiers(&mut ops, &endpoint.tiers, direction, family);
                self.profiles(&mut ops, &endpoint.profiles, direction, family);
                self.library.program(ops)
            })
        });
        self.known.insert(key, programs);
        programs
    }

    pub(crate) fn host(&mut self, endpoint: &HostEndpoint, failsafe: &Failsafe) -> Programs {
        DIRECTIONS.map(|direction| {
            Family::BOTH.map(|family| {
                let mut ops = Vec::new();
                self.failsafe(&mut ops, failsafe, direction, family);
                // Not supported for all interfaces at once.
                if &*endpoint.interface != "*" {
                    self.untracked(&mut ops, endpoint, failsafe, direction, family);
                }
                if direction == Direction::Ingress {
                    self.tiers(&mut ops, &endpoint.pre_dnat, direction, family);
                }
                self.tiers(&mut ops, &endpoint.tiers, direction, family);
                self.profiles(&mut ops, &endpoint.profiles, direction, family);
                self.library.program(ops)
            })
        })
    }

    fn failsafe(&mut self, ops: &mut Vec<Op>, failsafe: &Failsafe, direction: Direction, family: Family) {
        let ports = match direction {
            Direction::Ingress => &failsafe.inbound,
            Direction::Egress => &failsafe.outbound,
        };
        for port in ports
            .iter()
            .filter(|p| p.net.is_none_or(|n| n.family() == family))
        {
            let dst = self.port(port);
            let cond = self.peer(port, direction, SideCond::default(), dst);
            ops.push(Op {
                cond: Some(cond),
                then: Then::Allow,
            });
        }
    }

    fn port(&mut self, port: &FailsafePort) -> SideCond {
        SideCond {
            ports: vec![PortRange::single(port.port)],
            ..SideCond::default()
        }
    }

    fn peer(
        &mut self,
        port: &FailsafePort,
        direction: Direction,
        mut src: SideCond,
        mut dst: SideCond,
    ) -> u32 {
        let nets = self.library.nets(port.net.as_slice());
        match direction {
            Direction::Ingress => src.nets = nets,
            Direction::Egress => dst.nets = nets,
        }
        self.library.cond(Cond {
            proto: Some(port.proto),
            src,
            dst,
            ..Cond::default()
        })
    }

    /// Before connection tracking answers look like questions, so the failsafe ports of the other direction pass by
    /// their source port.
    fn untracked(
        &mut self,
        ops: &mut Vec<Op>,
        endpoint: &HostEndpoint,
        failsafe: &Failsafe,
        direction: Direction,
        family: Family,
    ) {
        if endpoint.untracked.is_empty() {
            return;
        }
        let answers = match direction {
            Direction::Ingress => &failsafe.outbound,
            Direction::Egress => &failsafe.inbound,
        };
        let mut jumps = Vec::new();
        for port in answers
            .iter()
            .filter(|p| p.net.is_none_or(|n| n.family() == family))
        {
            let src = self.port(port);
            let cond = self.peer(port, direction, src, SideCond::default());
            jumps.push(ops.len());
            ops.push(Op {
                cond: Some(cond),
                then: Then::Jump(0),
            });
        }
        self.tiers(ops, &endpoint.untracked, direction, family);
        let end = number(ops.len());
        jumps.into_iter().for_each(|at| ops[at].then = Then::Jump(end));
    }

    fn tiers(&mut self, ops: &mut Vec<Op>, tiers: &[TierPolicies], direction: Direction, family: Family) {
        for tier in tiers {
            let ids = match direction {
                Direction::Ingress => &tier.ingress,
                Direction::Egress => &tier.egress,
            };
            let mut enforced = ids.iter().filter(|id| !id.kind.is_staged()).peekable();
            if enforced.peek().is_none() {
                continue;
            }
            let begin = ops.len();
            for id in enforced {
                let rules = self.policy(id, direction, family);
                ops.extend(rules.iter().map(as_op));
            }
            if tier.default_action == TierDefaultAction::Deny {
                ops.push(Op {
                    cond: None,
                    then: Then::Deny,
                });
            }
            pass_to_here(ops, begin);
        }
    }

    fn profiles(&mut self, ops: &mut Vec<Op>, names: &[ProfileName], direction: Direction, family: Family) {
        for name in names {
            let begin = ops.len();
            let rules = self.profile(name, direction, family);
            ops.extend(rules.iter().map(as_op));
            pass_to_here(ops, begin);
        }
        ops.push(Op {
            cond: None,
            then: Then::Deny,
        });
    }

    fn policy(&mut self, id: &PolicyId, direction: Direction, family: Family) -> Rules {
        let key = (id.clone(), direction, family);
        if let Some(rules) = self.policies.get(&key) {
            return Rules::clone(rules);
        }
        let rules = self.desired.policies.get(id).map(|p| match direction {
            Direction::Ingress => &p.ingress,
            Direction::Egress => &p.egress,
        });
        let rules = self.rules(rules, family);
        self.policies.insert(key, Rules::clone(&rules));
        rules
    }

    fn profile(&mut self, name: &ProfileName, direction: Direction, family: Family) -> Rules {
        let key = (name.clone(), direction, family);
        if let Some(rules) = self.profiles.get(&key) {
            return Rules::clone(rules);
        }
        let rules = self.desired.profiles.get(name).map(|p| match direction {
            Direction::Ingress => &p.ingress,
            Direction::Egress => &p.egress,
        });
        let rules = self.rules(rules, family);
        self.profiles.insert(key, Rules::clone(&rules));
        rules
    }

    /// What is missing denies.
    fn rules(&mut self, rules: Option<&Vec<Rule>>, family: Family) -> Rules {
        let Some(rules) = rules else {
            return Rules::from([(self.library.cond(Cond::default()), Action::Deny)]);
        };
        let that_count = |r: &&Rule| r.action != Action::Log && r.applies_to(family);
        let rules = rules.iter().filter(that_count);
        rules.map(|r| (self.library.rule(r), r.action)).collect()
    }
}

/// A pass goes nowhere until it is known where the list ends.
const NOWHERE: Then = Then::Jump(u32::MAX);

fn as_op((cond, action): &(u32, Action)) -> Op {
    let then = match action {
        Action::Allow => Then::Allow,
        Action::Deny => Then::Deny,
        Action::Pass | Action::Log => NOWHERE,
    };
    Op {
        cond: Some(*cond),
        then,
    }
}

fn pass_to_here(ops: &mut [Op], begin: usize) {
    let here = Then::Jump(number(ops.len()));
    for op in &mut ops[begin..] {
        if op.then == NOWHERE {
            op.then = here;
        }
    }
}
