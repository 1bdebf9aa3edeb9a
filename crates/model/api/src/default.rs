use caracal_net::{Cidr, Family};

use crate::{
    AssignIps, AssignmentMode, EncapMode, IpPoolAllowedUse, IpPoolSpec, ObjectMeta, PolicyType, Resource,
    Rule, StagedAction, TierDefaultAction, Toggle,
};

/// The label with a policy's tier, by which Kubernetes can list the policies of one.
pub const LABEL_TIER: &str = "projectcalico.org/tier";

/// The tier of policies that name none.
const DEFAULT_TIER: &str = "default";

/// Order and end-of-tier action of the tiers that always exist.
#[must_use]
pub fn fixed_tier(name: &str) -> Option<(f64, TierDefaultAction)> {
    match name {
        "kube-admin" => Some((1_000.0, TierDefaultAction::Pass)),
        DEFAULT_TIER => Some((1_000_000.0, TierDefaultAction::Deny)),
        "kube-baseline" => Some((10_000_000.0, TierDefaultAction::Pass)),
        _ => None,
    }
}

/// The prefix length of the blocks of a pool that says nothing about them.
#[must_use]
pub fn default_block_size(family: Family) -> u8 {
    match family {
        Family::V4 => 26,
        Family::V6 => 122,
    }
}

/// Fills in what an object leaves out, as the API server does before it stores one. Doing it twice changes nothing.
pub fn default_resource(resource: &mut Resource) {
    match resource {
        Resource::NetworkPolicy(o) => {
            tier(&mut o.metadata, &mut o.spec.tier);
            types(&mut o.spec.types, &o.spec.ingress, &o.spec.egress);
        }
        Resource::GlobalNetworkPolicy(o) => {
            tier(&mut o.metadata, &mut o.spec.tier);
            types(&mut o.spec.types, &o.spec.ingress, &o.spec.egress);
        }
        Resource::StagedNetworkPolicy(o) => {
            tier(&mut o.metadata, &mut o.spec.tier);
            // A staged deletion says nothing but its tier.
            if *o.spec.staged_action.get_or_insert(StagedAction::Set) != StagedAction::Delete {
                types(&mut o.spec.types, &o.spec.ingress, &o.spec.egress);
            }
        }
        Resource::StagedGlobalNetworkPolicy(o) => {
            tier(&mut o.metadata, &mut o.spec.tier);
            if *o.spec.staged_action.get_or_insert(StagedAction::Set) != StagedAction::Delete {
                types(&mut o.spec.types, &o.spec.ingress, &o.spec.egress);
            }
        }
        Resource::StagedKubernetesNetworkPolicy(o) => {
            let action = *o.spec.staged_action.get_or_insert(StagedAction::Set);
            if action != StagedAction::Delete && o.spec.policy_types.is_empty() {
                o.spec.policy_types.push(PolicyType::Ingress);
                if !o.spec.egress.is_empty() {
                    o.spec.policy_types.push(PolicyType::Egress);
                }
            }
        }
        Resource::Tier(o) => {
            let fixed = fixed_tier(&o.metadata.name);
            o.spec
                .default_action
                .get_or_insert(fixed.map_or(TierDefaultAction::Deny, |(_, action)| action));
            o.spec.order = o.spec.order.or(fixed.map(|(order, _)| order));
        }
        Resource::IpPool(o) => pool(&mut o.spec),
        Resource::BgpConfiguration(o) => {
            if o.spec.log_severity_screen.is_empty() {
                "Info".clone_into(&mut o.spec.log_severity_screen);
            }
            o.spec
                .service_load_balancer_aggregation
                .get_or_insert(Toggle::Enabled);
        }
        Resource::KubeControllersConfiguration(o) => {
            o.spec.health_checks.get_or_insert(Toggle::Enabled);
            if let Some(lb) = &mut o.spec.controllers.load_balancer {
                lb.assign_ips.get_or_insert(AssignIps::AllServices);
            }
            if let Some(m) = &mut o.spec.controllers.migration {
                m.policy_name_migrator.get_or_insert(Toggle::Enabled);
            }
        }
        _ => {}
    }
}

fn tier(meta: &mut ObjectMeta, tier: &mut String) {
    if tier.is_empty() {
        DEFAULT_TIER.clone_into(tier);
    }
    meta.labels.insert(LABEL_TIER.to_owned(), tier.clone());
}

/// The directions that have rules; Ingress when none has.
fn types(types: &mut Vec<PolicyType>, ingress: &[Rule], egress: &[Rule]) {
    if !types.is_empty() {
        return;
    }
    if !ingress.is_empty() || egress.is_empty() {
        types.push(PolicyType::Ingress);
    }
    if !egress.is_empty() {
        types.push(PolicyType::Egress);
    }
}

fn pool(spec: &mut IpPoolSpec) {
    if let Ok(range) = spec.cidr.parse::<Cidr>()
        && spec.block_size.is_none_or(|s| s == 0)
    {
        spec.block_size = Some(default_block_size(range.family()));
    }
    spec.vxlan_mode.get_or_insert(EncapMode::Never);
    spec.ipip_mode.get_or_insert(EncapMode::Never);
    spec.assignment_mode.get_or_insert(AssignmentMode::Automatic);
    if spec.node_selector.is_empty() {
        "all()".clone_into(&mut spec.node_selector);
    }
    if spec.allowed_uses.is_empty() {
        spec.allowed_uses.push(IpPoolAllowedUse::Workload);
        // Tunnels have no namespace that could be selected.
        if spec.namespace_selector.is_empty() {
            spec.allowed_uses.push(IpPoolAllowedUse::Tunnel);
        }
    }
}
