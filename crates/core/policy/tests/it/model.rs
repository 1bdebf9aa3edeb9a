//! What the engine should say, worked out from scratch: nested loops over all objects, selectors scoped by splicing
//! text as Calico does, no index, no ids. IP sets are their members here.

use std::collections::{BTreeMap, BTreeSet};

use caracal_api::{
    Action, EntityRule, Kind, Object, PolicyType, Port, Resource, ResourceKey, StagedAction,
    TierDefaultAction,
};
use caracal_desired::{Desired, IcmpMatch, IpSetMember, List, Rule, Side, TierPolicies};
use caracal_ids::{PolicyId, PolicyKind, ProfileName, TierName};
use caracal_net::{Cidr, Family, Proto};
use caracal_selector::Selector;
use caracal_update::{EndpointSlice, SliceKey};

pub(crate) type Objects = BTreeMap<ResourceKey, Resource>;
pub(crate) type Slices = BTreeMap<SliceKey, EndpointSlice>;
type Labels = BTreeMap<String, String>;
type Members = BTreeSet<IpSetMember>;

/// A rule whose sets are spelled out: (in all of, in none of, named ports, not named ports, ports of
/// services) of each side.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PlainRule {
    pub(crate) rule: Rule,
    pub(crate) src: [Vec<Members>; 5],
    pub(crate) dst: [Vec<Members>; 5],
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PlainPolicy {
    tier: String,
    rules: [Vec<PlainRule>; 2],
    flags: [bool; 2],
}

/// An endpoint's lists: normal, untracked, pre-DNAT, forward; and its profiles.
pub(crate) type Lists = ([Vec<TierPolicies>; 4], Vec<ProfileName>);

/// The desired state with the sets spelled out.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Plain {
    pub(crate) endpoints: BTreeMap<String, Lists>,
    pub(crate) policies: BTreeMap<PolicyId, PlainPolicy>,
    pub(crate) profiles: BTreeMap<ProfileName, [Vec<PlainRule>; 2]>,
    pub(crate) invalid: BTreeSet<ResourceKey>,
}

const NS: &str = "projectcalico.org/namespace";
const SA: &str = "projectcalico.org/serviceaccount";

/// Spells out what an engine said.
pub(crate) fn spell_out(desired: &Desired) -> Plain {
    let members = |ids: &[caracal_ids::IpSetId]| -> Vec<Members> {
        ids.iter().map(|id| desired.ip_sets[id].members.clone()).collect()
    };
    let side = |s: &Side| {
        [
            members(&s.ip_sets),
            members(&s.not_ip_sets),
            members(&s.named_ports),
            members(&s.not_named_ports),
            members(&s.ip_port_sets),
        ]
    };
    let bare_side = |s: &Side| Side {
        ip_sets: List::default(),
        not_ip_sets: List::default(),
        named_ports: List::default(),
        not_named_ports: List::default(),
        ip_port_sets: List::default(),
        ..s.clone()
    };
    let rules = |rules: &[Rule]| -> Vec<PlainRule> {
        let plain = rules.iter().map(|r| PlainRule {
            rule: Rule {
                src: bare_side(&r.src),
                dst: bare_side(&r.dst),
                origin: None,
                ..r.clone()
            },
            src: side(&r.src),
            dst: side(&r.dst),
        });
        plain.collect()
    };
    let workloads = desired.workloads.values().map(|w| {
        let lists = [w.tiers.clone(), vec![], vec![], vec![]];
        (format!("w {}", w.id), (lists, w.profiles.clone()))
    });
    let hosts = desired.host_endpoints.values().map(|h| {
        let lists = [
            h.tiers.clone(),
            h.untracked.clone(),
            h.pre_dnat.clone(),
            h.forward.clone(),
        ];
        (format!("h {}", h.name), (lists, h.profiles.clone()))
    });
    let policy = |p: &caracal_desired::Policy| PlainPolicy {
        tier: p.tier.to_string(),
        rules: [rules(&p.ingress), rules(&p.egress)],
        flags: [p.untracked, p.pre_dnat],
    };
    let profiles = desired.profiles.values();
    Plain {
        endpoints: workloads.chain(hosts).collect(),
        policies: desired
            .policies
            .values()
            .map(|p| (p.id.clone(), policy(p)))
            .collect(),
        profiles: profiles
            .map(|p| (p.name.clone(), [rules(&p.ingress), rules(&p.egress)]))
            .collect(),
        invalid: desired.invalid.keys().cloned().collect(),
    }
}

/// An endpoint or network set with everything that selectors see.
struct Thing<'a> {
    key: &'a ResourceKey,
    labels: Labels,
    nets: Vec<Cidr>,
    ports: Vec<(String, Proto, u16)>,
    profiles: Vec<String>,
    node: &'a str,
}

struct Scratch<'a> {
    objects: &'a Objects,
    slices: &'a Slices,
    things: Vec<Thing<'a>>,
    invalid: BTreeSet<ResourceKey>,
}

/// A policy of either kind.
struct Written<'a> {
    id: PolicyId,
    tier: String,
    order: f64,
    rules: [&'a [caracal_api::Rule]; 2],
    governs: [bool; 2],
    selector: Option<Selector>,
    flags: [bool; 3],
    hint: bool,
}

/// The whole state for a node.
pub(crate) fn from_scratch(objects: &Objects, slices: &Slices, node: &str) -> Plain {
    let mut scratch = Scratch {
        objects,
        slices,
        things: Vec::new(),
        invalid: BTreeSet::new(),
    };
    scratch.things = objects
        .iter()
        .filter_map(|(k, r)| thing(k, r, &mut scratch.invalid))
        .collect();
    for thing in &mut scratch.things {
        for profile in &thing.profiles {
            let key = ResourceKey::global(Kind::Profile, profile);
            if let Some(Resource::Profile(p)) = objects.get(&key) {
                for (k, v) in &p.spec.labels_to_apply {
                    thing.labels.entry(k.clone()).or_insert(v.clone());
                }
            }
        }
    }
    scratch.desired(node)
}

fn thing<'a>(
    key: &'a ResourceKey,
    resource: &'a Resource,
    invalid: &mut BTreeSet<ResourceKey>,
) -> Option<Thing<'a>> {
    let mut labels = resource.metadata().labels.clone();
    let mut bad = false;
    let (texts, ports, profiles, node): (_, Vec<_>, _, &str) = match resource {
        Resource::WorkloadEndpoint(w) => {
            if w.spec.ip_networks.is_empty() {
                return None;
            }
            labels.insert(NS.into(), key.namespace.to_string());
            if !w.spec.service_account_name.is_empty() {
                labels.insert(SA.into(), w.spec.service_account_name.clone());
            }
            let ports = w
                .spec
                .ports
                .iter()
                .map(|p| (p.name.clone(), p.protocol.proto(), p.port));
            (
                &w.spec.ip_networks,
                ports.collect(),
                w.spec.profiles.clone(),
                &w.spec.node,
            )
        }
        Resource::HostEndpoint(h) => {
            let ports = h
                .spec
                .ports
                .iter()
                .map(|p| (p.name.clone(), p.protocol.proto(), p.port));
            (
                &h.spec.expected_ips,
                ports.collect(),
                h.spec.profiles.clone(),
                &h.spec.node,
            )
        }
        Resource::NetworkSet(s) => {
            bad |= labels.contains_key(NS);
            labels.insert(NS.into(), key.namespace.to_string());
            (&s.spec.nets, Vec::new(), Vec::new(), "")
        }
        Resource::GlobalNetworkSet(s) => {
            bad |= labels.remove(NS).is_some();
            (&s.spec.nets, Vec::new(), Vec::new(), "")
        }
        _ => return None,
    };
    let nets: Vec<Cidr> = texts.iter().filter_map(|t| t.parse().ok()).collect();
    bad |= nets.len() < texts.len();
    if bad {
        invalid.insert(key.clone());
    }
    let ports = ports
        .into_iter()
        .map(|(n, p, port)| (n, p.expect("only good ones are made"), port));
    Some(Thing {
        key,
        labels,
        nets,
        ports: ports.collect(),
        profiles,
        node,
    })
}

/// `text` with all labels prefixed and `all()` replaced, in brackets.
fn prefixed(text: &str, prefix: &str, all: &str) -> Option<String> {
    let selector = Selector::parse(text).ok()?;
    Some(format!(
        "({})",
        selector
            .map_labels(prefix)
            .to_string()
            .replace("all()", &format!("has({all})"))
    ))
}

fn ands(parts: &[String]) -> String {
    parts.join(" && ")
}

impl Scratch<'_> {
    fn desired(mut self, node: &str) -> Plain {
        let mut out = Plain::default();
        let policies: Vec<Written<'_>> = self.objects.iter().filter_map(|(k, r)| written(k, r)).collect();
        let local: Vec<&Thing<'_>> = self
            .things
            .iter()
            .filter(|t| t.node == node && !node.is_empty())
            // A workload with a mistake has no interface that we know.
            .filter(|t| t.key.kind == Kind::HostEndpoint || !self.invalid.contains(t.key))
            .collect();
        for policy in &policies {
            let hosts_only = policy.flags[0] || policy.flags[1];
            let selected = local.iter().any(|t| {
                policy.selector.as_ref().is_some_and(|s| s.matches_map(&t.labels))
                    && (t.key.kind == Kind::HostEndpoint || !hosts_only)
            });
            if selected || policy.hint {
                out.policies
                    .insert(policy.id.clone(), self.plain_policy(policy).0);
            }
        }
        self.marks(&policies, &mut out);
        for thing in &local {
            let text = match thing.key.kind {
                Kind::HostEndpoint => format!("h {}", thing.key.name),
                _ => format!("w {}/{}", thing.key.namespace, thing.key.name),
            };
            let names: Vec<ProfileName> = thing
                .profiles
                .iter()
                .map(|p| ProfileName::new(p).unwrap())
                .collect();
            for name in &names {
                let rules = self.profile(name);
                out.profiles.insert(name.clone(), rules);
            }
            out.endpoints.insert(text, (self.lists(thing, &policies), names));
        }
        let mut invalid = std::mem::take(&mut self.invalid);
        for policy in &policies {
            let kind = Kind::parse(policy.id.kind.as_str()).unwrap();
            if policy.selector.is_none() || self.plain_policy(policy).1 {
                invalid.insert(ResourceKey::of(kind, Some(&policy.id.namespace), &policy.id.name));
            }
        }
        for (key, resource) in self.objects {
            if let Resource::Profile(p) = resource
                && p.spec
                    .ingress
                    .iter()
                    .chain(&p.spec.egress)
                    .any(|r| self.rule(r, "").is_none())
            {
                invalid.insert(key.clone());
            }
        }
        out.invalid = invalid;
        out
    }

    /// Staged policies that would replace or delete one that exists are there, without their rules where they are not
    /// needed for themselves.
    fn marks(&self, policies: &[Written<'_>], out: &mut Plain) {
        for (key, resource) in self.objects {
            let (kind, enforced, action) = match resource {
                Resource::StagedNetworkPolicy(p) => (
                    PolicyKind::StagedNetworkPolicy,
                    Kind::NetworkPolicy,
                    p.spec.staged_action,
                ),
                Resource::StagedGlobalNetworkPolicy(p) => (
                    PolicyKind::StagedGlobalNetworkPolicy,
                    Kind::GlobalNetworkPolicy,
                    p.spec.staged_action,
                ),
                _ => continue,
            };
            if !self
                .objects
                .contains_key(&ResourceKey::of(enforced, Some(&key.namespace), &key.name))
            {
                continue;
            }
            let id = PolicyId::namespaced(kind, &key.namespace, &key.name);
            let written = policies.iter().find(|p| p.id == id);
            assert_eq!(written.is_none(), action == Some(StagedAction::Delete));
            out.policies.entry(id).or_insert_with(|| PlainPolicy {
                tier: written.map_or("default".to_owned(), |w| w.tier.clone()),
                rules: [vec![], vec![]],
                flags: written.map_or([false; 2], |w| [w.flags[0], w.flags[1]]),
            });
        }
    }

    fn profile(&self, name: &ProfileName) -> [Vec<PlainRule>; 2] {
        match self
            .objects
            .get(&ResourceKey::global(Kind::Profile, name.as_str()))
        {
            Some(Resource::Profile(p)) => [&p.spec.ingress, &p.spec.egress].map(|r| self.rules(r, "").0),
            _ => [vec![deny()], vec![deny()]],
        }
    }

    fn plain_policy(&self, policy: &Written<'_>) -> (PlainPolicy, bool) {
        let [(ingress, a), (egress, b)] = policy.rules.map(|r| self.rules(r, &policy.id.namespace));
        let plain = PlainPolicy {
            tier: policy.tier.clone(),
            rules: [ingress, egress],
            flags: [policy.flags[0], policy.flags[1]],
        };
        (plain, a || b)
    }

    fn lists(&self, thing: &Thing<'_>, policies: &[Written<'_>]) -> [Vec<TierPolicies>; 4] {
        let host = thing.key.kind == Kind::HostEndpoint;
        // Normal, untracked, pre-DNAT, forward.
        let places = |p: &Written<'_>| match p.flags {
            [true, _, _] => [false, host, false, false],
            [_, true, _] => [false, false, host, false],
            [_, _, forward] => [true, false, false, forward && host],
        };
        let mut lists: [Vec<TierPolicies>; 4] = Default::default();
        for (n, list) in lists.iter_mut().enumerate() {
            let special = n == 1 || n == 2;
            let mut mine: Vec<&Written<'_>> = policies
                .iter()
                .filter(|p| p.selector.as_ref().is_some_and(|s| s.matches_map(&thing.labels)) && places(p)[n])
                .filter(|p| n != 2 || p.governs[0])
                .collect();
            mine.sort_by(|a, b| {
                let text = |p: &Written<'_>| format!("{}/{}/{}", p.id.name, p.id.namespace, p.id.kind);
                let (ta, tb) = (self.tier(&a.tier), self.tier(&b.tier));
                let tiers = (ta.0, &a.tier).partial_cmp(&(tb.0, &b.tier)).unwrap();
                tiers
                    .then(a.order.partial_cmp(&b.order).unwrap())
                    .then(text(a).cmp(&text(b)))
            });
            for policy in mine {
                let name = TierName::new(&policy.tier).unwrap();
                if list.last().is_none_or(|t| t.name != name) {
                    list.push(TierPolicies {
                        name,
                        default_action: if special {
                            TierDefaultAction::Pass
                        } else {
                            self.tier(&policy.tier).1
                        },
                        ingress: vec![],
                        egress: vec![],
                    });
                }
                let tier = list.last_mut().unwrap();
                if policy.governs[0] {
                    tier.ingress.push(policy.id.clone());
                }
                if policy.governs[1] && n != 2 {
                    tier.egress.push(policy.id.clone());
                }
            }
        }
        lists
    }

    /// Whether the tier is missing, its order, and its default action.
    fn tier(&self, name: &str) -> ((bool, f64), TierDefaultAction) {
        match self.objects.get(&ResourceKey::global(Kind::Tier, name)) {
            Some(Resource::Tier(t)) => (
                (false, t.spec.order.unwrap_or(f64::INFINITY)),
                t.spec.default_action.unwrap_or(TierDefaultAction::Deny),
            ),
            _ => ((true, 0.0), TierDefaultAction::Deny),
        }
    }

    /// The rules, a Deny in place of each bad one, and whether there was a bad one.
    fn rules(&self, rules: &[caracal_api::Rule], ns: &str) -> (Vec<PlainRule>, bool) {
        let each: Vec<Option<PlainRule>> = rules.iter().map(|r| self.rule(r, ns)).collect();
        let bad = each.iter().any(Option::is_none);
        (each.into_iter().map(|r| r.unwrap_or_else(deny)).collect(), bad)
    }

    fn rule(&self, r: &caracal_api::Rule, ns: &str) -> Option<PlainRule> {
        let proto = match &r.protocol {
            Some(p) => Some(p.proto()?),
            None => None,
        };
        let not_protocol = match &r.not_protocol {
            Some(p) => Some(p.proto()?),
            None => None,
        };
        let implied = match proto {
            Some(Proto::ICMP) => Some(4),
            Some(Proto::ICMPV6) => Some(6),
            _ => None,
        };
        if implied.is_some() && r.ip_version.is_some() && implied != r.ip_version {
            return None;
        }
        let family = match r.ip_version.or(implied) {
            Some(4) => Some(Family::V4),
            Some(6) => Some(Family::V6),
            Some(_) => return None,
            None => None,
        };
        let icmp = match &r.icmp {
            None => None,
            Some(_) if implied.is_none() => return None,
            Some(i) => Some(IcmpMatch {
                icmp_type: u8::try_from(i.icmp_type?).ok().filter(|t| *t < 255)?,
                code: match i.code {
                    Some(c) => Some(u8::try_from(c).ok()?),
                    None => None,
                },
            }),
        };
        let (src, src_sets) = self.side(&r.source, proto, ns, true)?;
        let (dst, dst_sets) = self.side(&r.destination, proto, ns, false)?;
        Some(PlainRule {
            rule: Rule {
                family,
                protocol: proto,
                not_protocol,
                icmp,
                src,
                dst,
                ..Rule::new(r.action)
            },
            src: src_sets,
            dst: dst_sets,
        })
    }

    fn side(
        &self,
        e: &EntityRule,
        proto: Option<Proto>,
        ns: &str,
        source: bool,
    ) -> Option<(Side, [Vec<Members>; 5])> {
        let nets = |texts: &[String]| -> Option<Vec<Cidr>> { texts.iter().map(|t| t.parse().ok()).collect() };
        let mut parts = Vec::new();
        let selects = !e.selector.is_empty() || !e.not_selector.is_empty() || e.service_accounts.is_some();
        if e.namespace_selector == "global()" {
            parts.push(format!("!has({NS})"));
        } else if !e.namespace_selector.is_empty() {
            if e.namespace_selector.contains("global()") {
                return None;
            }
            parts.push(prefixed(&e.namespace_selector, "pcns.", NS)?);
        } else if selects && !ns.is_empty() {
            parts.push(format!("{NS} == '{ns}'"));
        }
        if let Some(accounts) = &e.service_accounts {
            if !accounts.names.is_empty() {
                parts.push(format!("{SA} in {{'{}'}}", accounts.names.join("','")));
            }
            if !accounts.selector.is_empty() {
                parts.push(prefixed(&accounts.selector, "pcsa.", SA)?);
            }
        }
        if !e.selector.is_empty() {
            Selector::parse(&e.selector).ok()?;
            parts.push(format!("({})", e.selector));
        }
        let mut negative = None;
        if !e.not_selector.is_empty() {
            let parsed = Selector::parse(&e.not_selector).ok()?;
            if parts.is_empty() {
                negative = Some(parsed);
            } else {
                parts.push(format!("!({})", e.not_selector));
            }
        }
        let positive = (!parts.is_empty()).then(|| Selector::parse(&ands(&parts)).unwrap());
        let (ports, names) = split(&e.ports);
        let (not_ports, not_names) = split(&e.not_ports);
        let any_port = !e.ports.is_empty() || !e.not_ports.is_empty();
        let portless = proto.is_some_and(|p| ![Proto::TCP, Proto::UDP, Proto::SCTP].contains(&p));
        let numbers = !ports.is_empty() || !not_ports.is_empty();
        if (any_port && portless) || (numbers && proto.is_none()) {
            return None;
        }
        let owners = positive.clone().unwrap_or(Selector::parse("all()").unwrap());
        let named = |names: &[String]| {
            names
                .iter()
                .map(|n| self.ports(&owners, proto, n))
                .collect::<Vec<_>>()
        };
        let told = !names.is_empty() && ports.is_empty();
        let mut of_service = [vec![], vec![]];
        if let Some(service) = &e.services {
            let others = EntityRule {
                services: None,
                ..e.clone()
            };
            let only_ports = EntityRule {
                ports: vec![],
                not_ports: vec![],
                ..others.clone()
            };
            let ns = if service.namespace.is_empty() {
                ns
            } else {
                &service.namespace
            };
            if !only_ports.is_empty()
                || (!source && !others.is_empty())
                || ns.is_empty()
                || service.name.is_empty()
            {
                return None;
            }
            of_service[usize::from(!source)].push(self.service(ns, &service.name, !source));
        }
        let [addresses, with_ports] = of_service;
        let sets = [
            positive
                .iter()
                .filter(|_| !told)
                .map(|s| self.members(s))
                .chain(addresses)
                .collect(),
            negative.iter().map(|s| self.members(s)).collect(),
            named(&names),
            named(&not_names),
            with_ports,
        ];
        let side = Side {
            nets: nets(&e.nets)?.into(),
            not_nets: nets(&e.not_nets)?.into(),
            ports: ports.into(),
            not_ports: not_ports.into(),
            ..Side::default()
        };
        Some((side, sets))
    }

    fn service(&self, namespace: &str, name: &str, ports: bool) -> Members {
        let mine = |(key, slice): &(&SliceKey, &EndpointSlice)| {
            *key.namespace == *namespace && *slice.service == *name
        };
        let mut members = Members::new();
        for (_, slice) in self.slices.iter().filter(mine) {
            for a in &slice.addresses {
                if !ports {
                    members.insert(IpSetMember::Net(Cidr::host(*a)));
                }
                let with_port = slice.ports.iter().filter(|_| ports);
                members.extend(with_port.map(|p| IpSetMember::IpPort(*a, p.proto, p.port)));
            }
        }
        members
    }

    fn members(&self, selector: &Selector) -> Members {
        let selected = self.things.iter().filter(|t| selector.matches_map(&t.labels));
        selected
            .flat_map(|t| t.nets.iter().map(|n| IpSetMember::Net(*n)))
            .collect()
    }

    fn ports(&self, selector: &Selector, proto: Option<Proto>, name: &str) -> Members {
        let selected = self.things.iter().filter(|t| selector.matches_map(&t.labels));
        let mut members = Members::new();
        for thing in selected {
            for (n, p, port) in &thing.ports {
                if n == name && proto.is_none_or(|wanted| wanted == *p) {
                    members.extend(
                        thing
                            .nets
                            .iter()
                            .map(|net| IpSetMember::IpPort(net.addr(), *p, *port)),
                    );
                }
            }
        }
        members
    }
}

fn split(ports: &[Port]) -> (Vec<caracal_net::PortRange>, Vec<String>) {
    let (mut numbers, mut names): (_, Vec<String>) = (Vec::new(), Vec::new());
    for port in ports {
        match port {
            Port::Range(r) => numbers.push(*r),
            Port::Named(n) if !names.contains(n) => names.push(n.clone()),
            Port::Named(_) => {}
        }
    }
    (numbers, names)
}

fn deny() -> PlainRule {
    PlainRule {
        rule: Rule::new(Action::Deny),
        src: Default::default(),
        dst: Default::default(),
    }
}

fn written<'a>(key: &ResourceKey, resource: &'a Resource) -> Option<Written<'a>> {
    let governs = |types: &[PolicyType]| {
        [PolicyType::Ingress, PolicyType::Egress].map(|t| types.is_empty() || types.contains(&t))
    };
    let tier = |t: &str| {
        if t.is_empty() {
            "default".to_owned()
        } else {
            t.to_owned()
        }
    };
    let hint = |hints: &[String]| hints.iter().any(|h| h == "AssumeNeededOnEveryNode");
    Some(match resource {
        Resource::StagedNetworkPolicy(p) if p.spec.staged_action != Some(StagedAction::Delete) => {
            let plain = Object::namespaced(&*key.namespace, &*key.name, p.spec.enforced());
            // Only what is owned by the caller may be borrowed for long.
            let plain: &'a Resource = Box::leak(Box::new(plain.into()));
            let id = PolicyId::namespaced(PolicyKind::StagedNetworkPolicy, &key.namespace, &key.name);
            Written {
                id,
                ..written(key, plain)?
            }
        }
        Resource::StagedGlobalNetworkPolicy(p) if p.spec.staged_action != Some(StagedAction::Delete) => {
            let plain: &'a Resource = Box::leak(Box::new(Object::new(&*key.name, p.spec.enforced()).into()));
            let id = PolicyId::global(PolicyKind::StagedGlobalNetworkPolicy, &key.name);
            Written {
                id,
                ..written(key, plain)?
            }
        }
        Resource::NetworkPolicy(p) => Written {
            id: PolicyId::namespaced(PolicyKind::NetworkPolicy, &key.namespace, &key.name),
            tier: tier(&p.spec.tier),
            order: p.spec.order.unwrap_or(f64::INFINITY),
            rules: [&p.spec.ingress, &p.spec.egress],
            governs: governs(&p.spec.types),
            selector: splice(&p.spec.selector, "", &p.spec.service_account_selector)
                .map(|s| ands(&[format!("({s})"), format!("{NS} == '{}'", key.namespace)]))
                .and_then(|t| Selector::parse(&t).ok()),
            flags: [false; 3],
            hint: hint(&p.spec.performance_hints),
        },
        Resource::GlobalNetworkPolicy(p) => Written {
            id: PolicyId::global(PolicyKind::GlobalNetworkPolicy, &key.name),
            tier: tier(&p.spec.tier),
            order: p.spec.order.unwrap_or(f64::INFINITY),
            rules: [&p.spec.ingress, &p.spec.egress],
            governs: governs(&p.spec.types),
            selector: splice(
                &p.spec.selector,
                &p.spec.namespace_selector,
                &p.spec.service_account_selector,
            )
            .and_then(|t| Selector::parse(&t).ok()),
            flags: [
                p.spec.do_not_track,
                p.spec.pre_dnat && !p.spec.do_not_track,
                p.spec.apply_on_forward,
            ],
            hint: hint(&p.spec.performance_hints),
        },
        _ => return None,
    })
}

/// The policy's selector as text, scoped by splicing; nothing if a part is bad.
fn splice(base: &str, namespaces: &str, accounts: &str) -> Option<String> {
    Selector::parse(base).ok()?;
    let mut text = base.to_owned();
    let join = |extra: String, text: &str| {
        if text.is_empty() {
            extra
        } else {
            format!("({extra}) && ({text})")
        }
    };
    if namespaces == "global()" {
        text = join(format!("!has({NS})"), &text);
    } else if !namespaces.is_empty() {
        text = join(prefixed(namespaces, "pcns.", NS)?, &text).replace("all()", &format!("has({NS})"));
    }
    if !accounts.is_empty() {
        text = join(prefixed(accounts, "pcsa.", SA)?, &text).replace("all()", &format!("has({SA})"));
    }
    Some(if text.is_empty() { "all()".to_owned() } else { text })
}
