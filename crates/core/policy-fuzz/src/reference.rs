//! The verdict of a packet from the objects alone: nested loops, no sets, no index, nothing shared with the engine or
//! the oracle but the types of the API (`calico-components.md` §3).

mod path;
mod rule;

use std::cmp::Ordering;

use caracal_api::{
    Action, GlobalNetworkPolicySpec, Kind, NetworkPolicySpec, PolicyType, Resource, ResourceKey, Rule,
    StagedAction, TierDefaultAction,
};
use caracal_net::{Cidr, Proto};
use caracal_oracle::{ListKind, Packet};

use crate::{
    Case, Mistake,
    selector::{Labels, Reading, selects},
};

const NS: &str = "projectcalico.org/namespace";
const SA: &str = "projectcalico.org/serviceaccount";
const ORCHESTRATOR: &str = "projectcalico.org/orchestrator";

/// An endpoint or network set with everything that selectors see.
struct Thing {
    key: ResourceKey,
    labels: Labels,
    nets: Vec<Cidr>,
    ports: Vec<(String, Proto, u16)>,
    profiles: Vec<String>,
    /// The node, for endpoints.
    node: String,
    /// The interface, for endpoints.
    interface: String,
}

/// A policy of any kind, with what only global ones can have left empty in others.
struct Policy {
    kind: Kind,
    namespace: String,
    name: String,
    staged: bool,
    spec: GlobalNetworkPolicySpec,
}

/// Reads verdicts from the objects of a case.
pub struct Reference<'a> {
    case: &'a Case,
    mistake: Option<Mistake>,
    things: Vec<Thing>,
    policies: Vec<Policy>,
}

impl<'a> Reference<'a> {
    /// The truth, or what one deliberate mistake makes of it.
    #[must_use]
    pub fn new(case: &'a Case, mistake: Option<Mistake>) -> Self {
        let mut reference = Self {
            case,
            mistake,
            things: Vec::new(),
            policies: Vec::new(),
        };
        reference.things = case.objects.iter().filter_map(|r| reference.thing(r)).collect();
        reference.policies = case.objects.iter().filter_map(policy).collect();
        if mistake == Some(Mistake::StagedDeleteKept) {
            let deleted = case.objects.iter().filter_map(deleted);
            let deleted: Vec<(Kind, ResourceKey)> = deleted.collect();
            reference.policies.retain(|p| {
                let is = |(kind, key): &(Kind, ResourceKey)| {
                    *kind == p.kind && *key.namespace == *p.namespace && *key.name == *p.name
                };
                !deleted.iter().any(is)
            });
        }
        reference
    }

    fn wrong(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    fn thing(&self, resource: &Resource) -> Option<Thing> {
        let key = resource.key();
        let own = resource.metadata().labels.clone();
        let parse = |texts: &[String]| texts.iter().filter_map(|t| t.parse().ok()).collect();
        let proto = |p: &caracal_api::Protocol| p.proto().unwrap_or(Proto::TCP);
        let mut forced = Labels::new();
        let mut thing = Thing {
            labels: Labels::new(),
            nets: Vec::new(),
            ports: Vec::new(),
            profiles: Vec::new(),
            node: String::new(),
            interface: String::new(),
            key,
        };
        match resource {
            Resource::WorkloadEndpoint(w) => {
                let spec = &w.spec;
                forced.insert(ORCHESTRATOR.into(), spec.orchestrator.clone());
                forced.insert(SA.into(), spec.service_account_name.clone());
                thing.nets = parse(&spec.ip_networks);
                let ports = spec.ports.iter();
                thing.ports = ports
                    .map(|p| (p.name.clone(), proto(&p.protocol), p.port))
                    .collect();
                thing.profiles.clone_from(&spec.profiles);
                thing.node.clone_from(&spec.node);
                thing.interface.clone_from(&spec.interface_name);
            }
            Resource::HostEndpoint(h) => {
                let spec = &h.spec;
                thing.nets = parse(&spec.expected_ips);
                let ports = spec.ports.iter();
                thing.ports = ports
                    .map(|p| (p.name.clone(), proto(&p.protocol), p.port))
                    .collect();
                thing.profiles.clone_from(&spec.profiles);
                thing.node.clone_from(&spec.node);
                thing.interface.clone_from(&spec.interface_name);
            }
            Resource::NetworkSet(s) => thing.nets = parse(&s.spec.nets),
            Resource::GlobalNetworkSet(s) => thing.nets = parse(&s.spec.nets),
            _ => return None,
        }
        forced.insert(NS.into(), thing.key.namespace.to_string());
        forced.retain(|_, v| !v.is_empty());
        let mut inherited = Labels::new();
        for name in thing.profiles.iter().rev() {
            if let Some(Resource::Profile(p)) = self.object(Kind::Profile, name) {
                inherited.extend(p.spec.labels_to_apply.clone());
            }
        }
        let mut layers = [inherited, own, forced];
        if self.wrong(Mistake::InheritedLabelsWin) {
            layers.swap(0, 1);
        }
        if self.wrong(Mistake::ForcedLabelsCanBeOverridden) {
            layers.swap(1, 2);
        }
        thing.labels = layers.into_iter().flatten().collect();
        Some(thing)
    }

    fn object(&self, kind: Kind, name: &str) -> Option<&'a Resource> {
        let mut all = self.case.objects.iter();
        all.find(|r| r.kind() == kind && r.metadata().name == name)
    }

    fn selects(&self, text: &str, thing: &Thing, prefix: &str, all_has: &[&str]) -> bool {
        let reading = Reading {
            prefix,
            all_has,
            mistake: self.mistake,
        };
        selects(text, &thing.labels, reading)
    }

    /// A selector of namespaces.
    fn in_namespaces(&self, text: &str, thing: &Thing) -> bool {
        if text == "global()" {
            return self.wrong(Mistake::GlobalIsAll) || !thing.labels.contains_key(NS);
        }
        let everything = self.wrong(Mistake::NamespacesHoldEverything);
        self.selects(text, thing, "pcns.", if everything { &[] } else { &[NS] })
    }

    /// Whether a policy is for an endpoint.
    fn is_for(&self, policy: &Policy, thing: &Thing) -> bool {
        let spec = &policy.spec;
        // Beside a selector of namespaces or accounts, all() means all that are in one.
        let mut all_has = Vec::new();
        if !spec.namespace_selector.is_empty() && spec.namespace_selector != "global()" {
            all_has.push(NS);
        }
        if !spec.service_account_selector.is_empty() {
            all_has.push(SA);
        }
        let own = self.selects(&spec.selector, thing, "", &all_has);
        let namespace = policy.namespace.is_empty() || thing.labels.get(NS) == Some(&policy.namespace);
        let namespaces =
            spec.namespace_selector.is_empty() || self.in_namespaces(&spec.namespace_selector, thing);
        let accounts = spec.service_account_selector.is_empty()
            || self.selects(&spec.service_account_selector, thing, "pcsa.", &[SA]);
        own && namespace && namespaces && accounts
    }

    fn tier(&self, name: &str) -> (bool, f64, TierDefaultAction) {
        match self.object(Kind::Tier, name) {
            Some(Resource::Tier(t)) => {
                let order = t.spec.order.unwrap_or(f64::INFINITY);
                (
                    true,
                    order,
                    t.spec.default_action.unwrap_or(TierDefaultAction::Deny),
                )
            }
            _ if self.wrong(Mistake::MissingTierPasses) => (false, 0.0, TierDefaultAction::Pass),
            _ => (false, 0.0, TierDefaultAction::Deny),
        }
    }

    fn compare(&self, a: &Policy, b: &Policy) -> Ordering {
        let tier = |p: &Policy| {
            let (exists, order, _) = self.tier(&p.spec.tier);
            let order = if self.wrong(Mistake::TierOrderIgnored) {
                0.0
            } else {
                order
            };
            (!exists, order)
        };
        let none = if self.wrong(Mistake::WithoutOrderFirst) {
            f64::NEG_INFINITY
        } else {
            f64::INFINITY
        };
        let order = |p: &Policy| p.spec.order.unwrap_or(none);
        let text = |p: &Policy| format!("{}/{}/{}", p.name, p.namespace, p.kind);
        let parts = |p: &Policy| (p.name.clone(), p.namespace.clone(), p.kind.to_string());
        let by_tier = tier(a).partial_cmp(&tier(b)).unwrap_or(Ordering::Equal);
        by_tier
            .then_with(|| a.spec.tier.cmp(&b.spec.tier))
            .then_with(|| order(a).total_cmp(&order(b)))
            .then_with(|| match self.wrong(Mistake::TieBreakByParts) {
                true => parts(a).cmp(&parts(b)),
                false => text(a).cmp(&text(b)),
            })
    }

    /// Whether a list of an endpoint decides over a packet, and how. `kind` is `Normal` for workloads.
    fn ask(&self, thing: &Thing, kind: ListKind, ingress: bool, packet: &Packet) -> Option<bool> {
        let belongs = |p: &&Policy| {
            let s = &p.spec;
            match kind {
                ListKind::Untracked => s.do_not_track,
                ListKind::PreDnat => s.pre_dnat && ingress,
                ListKind::Normal => !s.do_not_track && !s.pre_dnat,
                ListKind::Forward => {
                    let asked = s.apply_on_forward || self.wrong(Mistake::ForwardWithoutAsking);
                    !s.do_not_track && !s.pre_dnat && asked
                }
            }
        };
        let mut policies: Vec<&Policy> = self.policies.iter().filter(belongs).collect();
        policies.retain(|p| self.is_for(p, thing));
        policies.sort_by(|a, b| self.compare(a, b));
        for tier in policies.chunk_by(|a, b| a.spec.tier == b.spec.tier) {
            if let Some(verdict) = self.ask_tier(tier, kind, ingress, packet) {
                return Some(verdict);
            }
        }
        match kind {
            ListKind::Normal => Some(self.ask_profiles(thing, ingress, packet)),
            ListKind::Untracked if self.wrong(Mistake::UntrackedEndsClosed) => Some(false),
            _ => None,
        }
    }

    fn governs(&self, policy: &Policy, ingress: bool) -> bool {
        let spec = &policy.spec;
        let (wanted, rules) = match ingress {
            true => (PolicyType::Ingress, &spec.ingress),
            false => (PolicyType::Egress, &spec.egress),
        };
        let typed = spec.types.is_empty() || spec.types.contains(&wanted);
        typed && !(self.wrong(Mistake::TypesByRules) && rules.is_empty())
    }

    fn ask_tier(&self, tier: &[&Policy], kind: ListKind, ingress: bool, packet: &Packet) -> Option<bool> {
        let counts = |p: &&&Policy| !p.staged || self.wrong(Mistake::StagedEnforced);
        let mut governed = false;
        for policy in tier {
            if policy.staged && self.wrong(Mistake::EndOfTierByStaged) {
                governed |= self.governs(policy, ingress);
            }
        }
        for policy in tier.iter().filter(counts) {
            if !self.governs(policy, ingress) {
                governed |= self.wrong(Mistake::EndOfTierByAnyDirection);
                continue;
            }
            governed = true;
            let rules = if ingress {
                &policy.spec.ingress
            } else {
                &policy.spec.egress
            };
            match self.ask_rules(rules, &policy.namespace, packet) {
                Some(Action::Allow) => return Some(true),
                Some(Action::Deny) => return Some(false),
                Some(Action::Pass) => return None,
                Some(Action::Log) | None => {}
            }
        }
        let name = tier.first().map_or("", |p| p.spec.tier.as_str());
        let always_passes = matches!(kind, ListKind::Untracked | ListKind::PreDnat);
        let denies = self.tier(name).2 == TierDefaultAction::Deny && !self.wrong(Mistake::EndOfTierNever);
        (governed && denies && !always_passes).then_some(false)
    }

    /// The action of the first rule that decides.
    fn ask_rules(&self, rules: &[Rule], namespace: &str, packet: &Packet) -> Option<Action> {
        for rule in rules {
            if !self.matches(rule, namespace, packet) {
                continue;
            }
            match rule.action {
                Action::Log if self.wrong(Mistake::LogDecides) => return Some(Action::Allow),
                Action::Log => {}
                Action::Pass if self.wrong(Mistake::PassIsAllow) => return Some(Action::Allow),
                Action::Pass if self.wrong(Mistake::PassIsNext) => {}
                action => return Some(action),
            }
        }
        None
    }

    fn ask_profiles(&self, thing: &Thing, ingress: bool, packet: &Packet) -> bool {
        for name in &thing.profiles {
            let Some(Resource::Profile(p)) = self.object(Kind::Profile, name) else {
                if name == "projectcalico-default-allow" {
                    return true;
                }
                if self.wrong(Mistake::MissingProfileSkipped) {
                    continue;
                }
                return false;
            };
            let rules = if ingress { &p.spec.ingress } else { &p.spec.egress };
            match self.ask_rules(rules, "", packet) {
                Some(Action::Allow) => return true,
                Some(Action::Deny) => return false,
                _ => {}
            }
        }
        self.wrong(Mistake::NoProfileAllows)
    }
}

fn policy(resource: &Resource) -> Option<Policy> {
    let key = resource.key();
    let global = |s: NetworkPolicySpec| GlobalNetworkPolicySpec {
        tier: s.tier,
        order: s.order,
        ingress: s.ingress,
        egress: s.egress,
        selector: s.selector,
        types: s.types,
        service_account_selector: s.service_account_selector,
        performance_hints: s.performance_hints,
        ..GlobalNetworkPolicySpec::default()
    };
    let deletes = |action: Option<StagedAction>| action == Some(StagedAction::Delete);
    let (staged, mut spec) = match resource {
        Resource::NetworkPolicy(p) => (false, global(p.spec.clone())),
        Resource::GlobalNetworkPolicy(p) => (false, p.spec.clone()),
        Resource::StagedNetworkPolicy(p) if !deletes(p.spec.staged_action) => {
            (true, global(p.spec.enforced()))
        }
        Resource::StagedGlobalNetworkPolicy(p) if !deletes(p.spec.staged_action) => (true, p.spec.enforced()),
        _ => return None,
    };
    if spec.tier.is_empty() {
        spec.tier = "default".into();
    }
    Some(Policy {
        kind: key.kind,
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
        staged,
        spec,
    })
}

/// The enforced policy that a staged deletion is about.
fn deleted(resource: &Resource) -> Option<(Kind, ResourceKey)> {
    match resource {
        Resource::StagedNetworkPolicy(p) if p.spec.staged_action == Some(StagedAction::Delete) => {
            Some((Kind::NetworkPolicy, resource.key()))
        }
        Resource::StagedGlobalNetworkPolicy(p) if p.spec.staged_action == Some(StagedAction::Delete) => {
            Some((Kind::GlobalNetworkPolicy, resource.key()))
        }
        _ => None,
    }
}
