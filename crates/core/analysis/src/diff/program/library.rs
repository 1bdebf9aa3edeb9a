//! All programs with their parts.

use caracal_desired::{Rule, Side};
use caracal_ids::IpSetId;
use caracal_net::Cidr;

use super::{Cond, Op, Program, ProgramId, Question, QuestionId, SideCond, Then};
use crate::map::Map;

/// Programs, criteria and questions, each once.
#[derive(Default)]
pub(crate) struct Library {
    pub(crate) questions: Vec<Question>,
    question_ids: Map<Question, QuestionId>,
    pub(crate) conds: Vec<Cond>,
    cond_ids: Map<Cond, u32>,
    pub(crate) programs: Vec<Program>,
    program_ids: Map<Vec<Op>, ProgramId>,
}

pub(super) fn number(len: usize) -> u32 {
    u32::try_from(len).expect("fewer than 2^32 parts of policies fit in memory")
}

impl Library {
    fn question(&mut self, question: Question) -> QuestionId {
        if let Some(id) = self.question_ids.get(&question) {
            return *id;
        }
        let id = number(self.questions.len());
        self.questions.push(question.clone());
        self.question_ids.insert(question, id);
        id
    }

    pub(super) fn nets(&mut self, nets: &[Cidr]) -> Option<QuestionId> {
        let mut nets = nets.to_vec();
        nets.sort();
        nets.dedup();
        (!nets.is_empty()).then(|| self.question(Question::Nets(nets)))
    }

    fn sets(&mut self, ids: &[IpSetId]) -> Vec<QuestionId> {
        ids.iter()
            .map(|id| self.question(Question::Set(id.clone())))
            .collect()
    }

    fn side(&mut self, side: &Side) -> SideCond {
        SideCond {
            nets: self.nets(&side.nets),
            not_nets: self.nets(&side.not_nets),
            sets: self.sets(&side.ip_sets),
            not_sets: self.sets(&side.not_ip_sets),
            ports: side.ports.to_vec(),
            named: self.sets(&side.named_ports),
            not_ports: side.not_ports.to_vec(),
            not_named: self.sets(&side.not_named_ports),
            services: self.sets(&side.ip_port_sets),
        }
    }

    pub(super) fn cond(&mut self, cond: Cond) -> u32 {
        if let Some(id) = self.cond_ids.get(&cond) {
            return *id;
        }
        let id = number(self.conds.len());
        self.conds.push(cond.clone());
        self.cond_ids.insert(cond, id);
        id
    }

    pub(super) fn rule(&mut self, rule: &Rule) -> u32 {
        let cond = Cond {
            proto: rule.protocol,
            not_proto: rule.not_protocol,
            icmp: rule.icmp,
            not_icmp: rule.not_icmp,
            src: self.side(&rule.src),
            dst: self.side(&rule.dst),
        };
        self.cond(cond)
    }

    pub(super) fn program(&mut self, ops: Vec<Op>) -> ProgramId {
        if let Some(id) = self.program_ids.get(&ops) {
            return *id;
        }
        let id = number(self.programs.len());
        let conds = || {
            ops.iter()
                .filter_map(|op| op.cond)
                .map(|c| &self.conds[c as usize])
        };
        let each_once = |mut ids: Vec<QuestionId>| {
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        let program = Program {
            about_src: each_once(conds().flat_map(|c| c.src.questions()).collect()),
            about_dst: each_once(conds().flat_map(|c| c.dst.questions()).collect()),
            ops: ops.clone(),
        };
        self.programs.push(program);
        self.program_ids.insert(ops, id);
        id
    }

    /// The program of one operation.
    pub(crate) fn constant(&mut self, allow: bool) -> ProgramId {
        let then = if allow { Then::Allow } else { Then::Deny };
        self.program(vec![Op { cond: None, then }])
    }
}
