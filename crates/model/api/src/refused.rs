//! What stands in for an object that is refused, so that nothing which it might have denied is let through.
//!
//! An object may come to a datastore past everything that would have refused it. It is not believed then: what it would
//! let through is not let through by it. But what it keeps closed must not open because of a slip. So
//!
//! - a policy lets nothing through by itself, and where one of its rules may have denied (or passed on to the next tier)
//!   it denies everything in its place, in that direction, for those whom it selects, as far as that can be read;
//! - a profile denies everything; the labels that it gives stay;
//! - a tier ends in Deny, where it stands;
//! - a pool is only known as addresses of pods: no tunnel, no translation, no new addresses;
//! - a reservation reserves what can be read of it;
//! - a network set, and a host endpoint, are what can be read of them: both close as much as they open;
//! - a node and an IPAM block say where addresses are: of both what can be read counts.

use std::collections::BTreeMap;

use caracal_net::Cidr;
use serde_json::{Map, Value};

use crate::{
    Action, AllocationAttribute, BgpConfigurationSpec, EncapMode, FieldError, GlobalNetworkPolicySpec,
    GlobalNetworkSetSpec, HostEndpointSpec, IpPoolSpec, IpReservationSpec, IpamBlockSpec, Kind,
    NetworkPolicySpec, NetworkSetSpec, NodeAddress, NodeBgpSpec, NodeSpec, NodeWireguardSpec, Object,
    ObjectMeta, PolicyType, ProfileSpec, Resource, Rule, ServiceIpBlock, Spec, TierDefaultAction, TierSpec,
    default_resource, validate_spec,
};

/// What is in force of an object that breaks the rules of its kind.
#[derive(Debug, Clone, PartialEq)]
pub enum StandIn {
    /// The object, as far as it has a meaning.
    Itself,
    /// Something that opens nothing.
    Other(Box<Resource>),
    /// Nothing: it enforces nothing either way.
    Nothing,
}

/// Larger sets are left to who reads them, and names what cannot be read: all else is that an entry is there twice.
const MANY_NETS: usize = 100_000;

/// Why a stored object is refused: what is wrong with its spec once what it leaves out is filled in. Names are older than
/// the rules for them.
#[must_use]
pub fn refusals(resource: &Resource) -> Vec<FieldError> {
    match resource {
        // Written by programs, many, and checked by who reads them.
        Resource::WorkloadEndpoint(_) | Resource::Node(_) => return Vec::new(),
        Resource::NetworkSet(o) if o.spec.nets.len() > MANY_NETS => return Vec::new(),
        Resource::GlobalNetworkSet(o) if o.spec.nets.len() > MANY_NETS => return Vec::new(),
        // Kubernetes' own policies are held to Kubernetes' rules, not to Calico's limits.
        Resource::NetworkPolicy(o) if o.metadata.name.starts_with("knp.") => return Vec::new(),
        Resource::GlobalNetworkPolicy(o) if o.metadata.name.starts_with("kcnp.") => return Vec::new(),
        _ => {}
    }
    // Nearly all are in order as they are; only the others are worth a copy to fill in defaults.
    if validate_spec(resource).is_empty() {
        return Vec::new();
    }
    let mut whole = resource.clone();
    default_resource(&mut whole);
    validate_spec(&whole)
}

/// A selector that selects nothing.
const NOBODY: &str = "!all()";

/// What stands in for an object that could be read and breaks the rules of its kind.
#[must_use]
pub fn stand_in(resource: &Resource) -> StandIn {
    let other = match resource {
        Resource::NetworkPolicy(o) => {
            let mut spec = o.spec.clone();
            close(&mut spec.ingress, &mut spec.egress, &mut spec.performance_hints);
            object(identity(&o.metadata), spec)
        }
        Resource::GlobalNetworkPolicy(o) => {
            let mut spec = o.spec.clone();
            close(&mut spec.ingress, &mut spec.egress, &mut spec.performance_hints);
            object(identity(&o.metadata), spec)
        }
        Resource::Profile(o) => object(
            identity(&o.metadata),
            closed_profile(o.spec.labels_to_apply.clone()),
        ),
        Resource::IpPool(o) => object(identity(&o.metadata), closed_pool(&o.spec.cidr)),
        Resource::StagedNetworkPolicy(_)
        | Resource::StagedGlobalNetworkPolicy(_)
        | Resource::StagedKubernetesNetworkPolicy(_) => return StandIn::Nothing,
        _ => return StandIn::Itself,
    };
    StandIn::Other(Box::new(other))
}

/// What stands in for an object whose JSON does not fit the types of its kind; nothing where nothing can.
pub(crate) fn salvage(kind: Kind, value: &Value) -> Option<Resource> {
    let spec = value.get("spec")?.as_object()?;
    let metadata = ObjectMeta {
        labels: words(value.pointer("/metadata/labels")),
        ..ObjectMeta::default()
    };
    Some(match kind {
        Kind::NetworkPolicy => {
            let all = policy(spec);
            object(
                metadata,
                NetworkPolicySpec {
                    tier: all.tier,
                    order: all.order,
                    ingress: all.ingress,
                    egress: all.egress,
                    selector: all.selector,
                    types: all.types,
                    service_account_selector: all.service_account_selector,
                    performance_hints: Vec::new(),
                },
            )
        }
        Kind::GlobalNetworkPolicy => object(metadata, policy(spec)),
        Kind::Profile => object(metadata, closed_profile(words(spec.get("labelsToApply")))),
        Kind::Tier => object(metadata, tier(spec)?),
        Kind::NetworkSet => object(
            metadata,
            NetworkSetSpec {
                nets: texts(spec, "nets"),
            },
        ),
        Kind::GlobalNetworkSet => object(
            metadata,
            GlobalNetworkSetSpec {
                nets: texts(spec, "nets"),
            },
        ),
        Kind::HostEndpoint => object(
            metadata,
            HostEndpointSpec {
                node: spec.get("node")?.as_str()?.to_owned(),
                interface_name: text(spec, "interfaceName"),
                expected_ips: texts(spec, "expectedIPs"),
                profiles: texts(spec, "profiles"),
                ..HostEndpointSpec::default()
            },
        ),
        Kind::IpPool => object(metadata, closed_pool(spec.get("cidr")?.as_str()?)),
        Kind::IpReservation => object(metadata, reservation(spec)?),
        Kind::Node => object(metadata, node(spec)),
        Kind::IpamBlock => object(metadata, block(spec)?),
        Kind::BgpConfiguration => object(
            metadata,
            BgpConfigurationSpec {
                service_load_balancer_ips: blocks(spec, "serviceLoadBalancerIPs"),
                service_external_ips: blocks(spec, "serviceExternalIPs"),
                service_cluster_ips: blocks(spec, "serviceClusterIPs"),
                ..BgpConfigurationSpec::default()
            },
        ),
        _ => return None,
    })
}

/// What can be read of a policy, with the fields that only global ones have.
fn policy(spec: &Map<String, Value>) -> GlobalNetworkPolicySpec {
    GlobalNetworkPolicySpec {
        tier: text(spec, "tier"),
        order: order(spec),
        ingress: closed_json(spec.get("ingress")),
        egress: closed_json(spec.get("egress")),
        selector: selector(spec, "selector"),
        types: types(spec),
        do_not_track: spec.get("doNotTrack") == Some(&Value::Bool(true)),
        pre_dnat: spec.get("preDNAT") == Some(&Value::Bool(true)),
        // Who wrote something here meant forwarded traffic, too.
        apply_on_forward: !matches!(
            spec.get("applyOnForward"),
            None | Some(Value::Null | Value::Bool(false))
        ),
        namespace_selector: selector(spec, "namespaceSelector"),
        service_account_selector: selector(spec, "serviceAccountSelector"),
        performance_hints: Vec::new(),
    }
}

fn object<S: Spec>(metadata: ObjectMeta, spec: S) -> Resource
where
    Resource: From<Object<S>>,
{
    Object {
        metadata,
        spec,
        status: None,
    }
    .into()
}

/// Names and labels, and nothing that says something else of the object.
fn identity(meta: &ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        labels: meta.labels.clone(),
        ..ObjectMeta::default()
    }
}

fn deny_all() -> Vec<Rule> {
    vec![Rule::new(Action::Deny)]
}

/// The rules of a policy become ones that deny if these could, and let nothing through; hints are for rules.
fn close<H>(ingress: &mut Vec<Rule>, egress: &mut Vec<Rule>, hints: &mut Vec<H>) {
    let denies = |rule: &Rule| matches!(rule.action, Action::Deny | Action::Pass);
    for rules in [ingress, egress] {
        *rules = match rules.iter().any(denies) {
            true => deny_all(),
            false => Vec::new(),
        };
    }
    hints.clear();
}

/// Every range that is somewhere in the field, so that none of its addresses is given out because of what is beside it.
/// Nothing where no range can be read.
fn reservation(spec: &Map<String, Value>) -> Option<IpReservationSpec> {
    fn ranges(value: &Value) -> Vec<String> {
        match value {
            Value::String(text) => { text.split([',', ' ']) }
                .filter(|t| t.parse::<Cidr>().is_ok())
                .map(str::to_owned)
                .collect(),
            Value::Array(all) => all.iter().flat_map(ranges).collect(),
            Value::Object(all) => all.values().flat_map(ranges).collect(),
            _ => Vec::new(),
        }
    }
    let reserved_cidrs = ranges(spec.get("reservedCIDRs")?);
    (!reserved_cidrs.is_empty()).then_some(IpReservationSpec { reserved_cidrs })
}

/// What can be read of a node: a field that cannot be counts as not there.
fn node(spec: &Map<String, Value>) -> NodeSpec {
    let bgp = spec.get("bgp").and_then(Value::as_object);
    let wireguard = spec.get("wireguard").and_then(Value::as_object);
    NodeSpec {
        bgp: bgp.map(|bgp| NodeBgpSpec {
            ipv4_address: text(bgp, "ipv4Address"),
            ipv6_address: text(bgp, "ipv6Address"),
            ipv4_ipip_tunnel_addr: text(bgp, "ipv4IPIPTunnelAddr"),
            route_reflector_cluster_id: text(bgp, "routeReflectorClusterID"),
            as_number: None,
        }),
        ipv4_vxlan_tunnel_addr: text(spec, "ipv4VXLANTunnelAddr"),
        vxlan_tunnel_mac_addr: text(spec, "vxlanTunnelMACAddr"),
        ipv6_vxlan_tunnel_addr: text(spec, "ipv6VXLANTunnelAddr"),
        vxlan_tunnel_mac_addr_v6: text(spec, "vxlanTunnelMACAddrV6"),
        wireguard: wireguard.map(|w| NodeWireguardSpec {
            interface_ipv4_address: text(w, "interfaceIPv4Address"),
            interface_ipv6_address: text(w, "interfaceIPv6Address"),
        }),
        addresses: objects(spec, "addresses")
            .map(|a| NodeAddress {
                address: text(a, "address"),
                address_type: text(a, "type"),
            })
            .collect(),
        orch_refs: Vec::new(),
    }
}

/// What can be read of a block: an entry that cannot be says nothing of its address. Only for routes; nobody may write it
/// back.
fn block(spec: &Map<String, Value>) -> Option<IpamBlockSpec> {
    let number = |v: &Value| v.as_u64().and_then(|n| usize::try_from(n).ok());
    let word = |field: &str| spec.get(field).and_then(Value::as_str).map(str::to_owned);
    let list = |field: &str| spec.get(field).and_then(Value::as_array).into_iter().flatten();
    let numbers = spec.get("sequenceNumberForAllocation").and_then(Value::as_object);
    Some(IpamBlockSpec {
        cidr: word("cidr")?,
        affinity: word("affinity"),
        affinity_claim_time: word("affinityClaimTime"),
        allocations: list("allocations").map(number).collect(),
        unallocated: list("unallocated").filter_map(number).collect(),
        // Each stays at its place.
        attributes: list("attributes").map(attribute).collect(),
        sequence_number: spec.get("sequenceNumber").and_then(Value::as_u64).unwrap_or(0),
        sequence_number_for_allocation: { numbers.into_iter().flatten() }
            .filter_map(|(k, v)| Some((k.clone(), v.as_u64()?)))
            .collect(),
        deleted: spec.get("deleted") == Some(&Value::Bool(true)),
        strict_affinity: false,
    })
}

fn attribute(value: &Value) -> AllocationAttribute {
    let word = |field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
    AllocationAttribute {
        handle_id: word("handle_id"),
        secondary: words(value.get("secondary")),
        alternate_owner_attrs: words(value.get("alternateOwnerAttrs")),
        released_at: word("releasedAt"),
    }
}

fn objects<'a>(spec: &'a Map<String, Value>, field: &str) -> impl Iterator<Item = &'a Map<String, Value>> {
    let all = spec.get(field).and_then(Value::as_array).into_iter().flatten();
    all.filter_map(Value::as_object)
}

fn closed_json(rules: Option<&Value>) -> Vec<Rule> {
    let harmless = |rule: &Value| matches!(rule["action"].as_str(), Some("Allow" | "Log"));
    match rules {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(rules)) if rules.iter().all(harmless) => Vec::new(),
        Some(_) => deny_all(),
    }
}

fn closed_profile(labels_to_apply: BTreeMap<String, String>) -> ProfileSpec {
    ProfileSpec {
        ingress: deny_all(),
        egress: deny_all(),
        labels_to_apply,
    }
}

fn closed_pool(cidr: &str) -> IpPoolSpec {
    IpPoolSpec {
        cidr: cidr.to_owned(),
        vxlan_mode: Some(EncapMode::Never),
        ipip_mode: Some(EncapMode::Never),
        disabled: true,
        disable_bgp_export: true,
        ..IpPoolSpec::default()
    }
}

/// A tier whose place is known. Of one whose place is not nothing can stand in: its policies are those of a missing tier.
fn tier(spec: &Map<String, Value>) -> Option<TierSpec> {
    let order = match spec.get("order") {
        None | Some(Value::Null) => None,
        Some(order) => Some(order.as_f64()?),
    };
    Some(TierSpec {
        order,
        default_action: Some(TierDefaultAction::Deny),
    })
}

/// A policy whose place cannot be read is the first of its tier: later ones would let through what it denies.
fn order(spec: &Map<String, Value>) -> Option<f64> {
    match spec.get("order") {
        None | Some(Value::Null) => None,
        Some(order) => Some(order.as_f64().unwrap_or(f64::MIN)),
    }
}

/// The directions; both where that cannot be read.
fn types(spec: &Map<String, Value>) -> Vec<PolicyType> {
    let read = |t: &Value| match t.as_str() {
        Some("Ingress") => Some(PolicyType::Ingress),
        Some("Egress") => Some(PolicyType::Egress),
        _ => None,
    };
    let all = spec.get("types").and_then(Value::as_array);
    all.and_then(|all| all.iter().map(read).collect())
        .unwrap_or_default()
}

/// Whom an unreadable selector is for nobody knows: it selects nothing.
fn selector(spec: &Map<String, Value>, field: &str) -> String {
    match spec.get(field) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(s)) => s.clone(),
        Some(_) => NOBODY.to_owned(),
    }
}

fn text(spec: &Map<String, Value>, field: &str) -> String {
    let text = spec.get(field).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}

fn texts(spec: &Map<String, Value>, field: &str) -> Vec<String> {
    let all = spec.get(field).and_then(Value::as_array).into_iter().flatten();
    all.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Ranges of services' addresses.
fn blocks(spec: &Map<String, Value>, field: &str) -> Vec<ServiceIpBlock> {
    let all = spec.get(field).and_then(Value::as_array).into_iter().flatten();
    let cidrs = all.filter_map(|b| b.get("cidr")?.as_str());
    cidrs.map(|c| ServiceIpBlock { cidr: c.to_owned() }).collect()
}

fn words(map: Option<&Value>) -> BTreeMap<String, String> {
    let all = map.and_then(Value::as_object).into_iter().flatten();
    all.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn global(resource: Resource) -> GlobalNetworkPolicySpec {
        let object: Object<GlobalNetworkPolicySpec> = resource.try_into().unwrap();
        object.spec
    }

    fn salvaged(kind: Kind, spec: Value) -> Option<Resource> {
        salvage(
            kind,
            &json!({"metadata": {"name": "a", "labels": {"l": "v", "n": 5}}, "spec": spec}),
        )
    }

    #[test]
    fn a_policy_opens_nothing_and_denies_where_it_may_have() {
        for (actions, ingress) in [
            (&["Allow", "Log"][..], Vec::new()),
            (&["Allow", "Deny"], deny_all()),
            (&["Pass"], deny_all()),
            (&[], Vec::new()),
        ] {
            let rules: Vec<Value> = actions.iter().map(|a| json!({"action": a})).collect();
            let spec = json!({"selector": "has(a)", "tier": "t", "order": 3, "types": ["Ingress"],
                "applyOnForward": true, "ingress": rules, "egress": [{"action": "Allow"}]});
            let whole = Resource::from_value(
                Kind::GlobalNetworkPolicy,
                json!({"metadata": {"name": "a", "annotations": {"x": "y"}}, "spec": spec}),
            )
            .unwrap();
            let StandIn::Other(other) = stand_in(&whole) else {
                panic!("{actions:?}")
            };
            assert_eq!(other.key(), whole.key());
            assert!(other.metadata().annotations.is_empty());
            let got = global(*other);
            let wanted = GlobalNetworkPolicySpec {
                ingress,
                egress: Vec::new(),
                ..global(whole)
            };
            assert_eq!(got, wanted, "{actions:?}");
        }
    }

    #[test]
    fn what_enforces_nothing_is_nothing_and_what_closes_as_much_as_it_opens_stays() {
        for (kind, wanted) in [
            (Kind::StagedNetworkPolicy, StandIn::Nothing),
            (Kind::StagedGlobalNetworkPolicy, StandIn::Nothing),
            (Kind::StagedKubernetesNetworkPolicy, StandIn::Nothing),
            (Kind::NetworkSet, StandIn::Itself),
            (Kind::HostEndpoint, StandIn::Itself),
            (Kind::Tier, StandIn::Itself),
        ] {
            let whole = Resource::from_value(kind, json!({"metadata": {"name": "a"}})).unwrap();
            assert_eq!(stand_in(&whole), wanted, "{kind}");
        }
    }

    #[test]
    fn an_unreadable_policy_denies_where_it_may_have() {
        let of = |spec| global(salvaged(Kind::GlobalNetworkPolicy, spec).unwrap());
        assert_eq!(of(json!({"ingress": [{"action": "Drop"}]})).ingress, deny_all());
        assert_eq!(of(json!({"ingress": [["Deny"]]})).ingress, deny_all());
        assert_eq!(of(json!({"ingress": "all"})).ingress, deny_all());
        assert_eq!(
            of(json!({"ingress": [{"action": "Allow", "protocol": []}]})).ingress,
            []
        );
        let odd = of(
            json!({"selector": 5, "order": "first", "types": ["ingress"], "tier": "t", "applyOnForward": "yes", "preDNAT": 1}),
        );
        assert_eq!(
            (odd.selector.as_str(), odd.order, odd.tier.as_str()),
            (NOBODY, Some(f64::MIN), "t")
        );
        assert!(odd.types.is_empty() && odd.apply_on_forward && !odd.pre_dnat);
        assert_eq!(salvaged(Kind::GlobalNetworkPolicy, json!([])), None);
    }

    #[test]
    fn a_reservation_keeps_every_range_that_can_be_read() {
        for (ranges, kept) in [
            (json!("10.0.0.0/28"), &["10.0.0.0/28"][..]),
            (json!("10.0.0.0/28, fd00::/124"), &["10.0.0.0/28", "fd00::/124"]),
            (
                json!(["10.0.0.0/28", 5, null, ["fd00::/124"], "10.0.1.0/33"]),
                &["10.0.0.0/28", "fd00::/124"],
            ),
            (
                json!([{"cidr": "10.0.0.0/28", "note": "of the gateways"}]),
                &["10.0.0.0/28"],
            ),
        ] {
            let read = salvaged(Kind::IpReservation, json!({"reservedCIDRs": ranges}));
            let Some(Resource::IpReservation(read)) = read else {
                panic!("{ranges}: {read:?}")
            };
            assert_eq!(read.spec.reserved_cidrs, kept, "{ranges}");
        }
        for nothing in [
            json!({"reservedCIDRs": 5}),
            json!({"reservedCIDRs": ["x"]}),
            json!({}),
            json!([]),
        ] {
            assert_eq!(salvaged(Kind::IpReservation, nothing.clone()), None, "{nothing}");
        }
    }

    #[test]
    fn a_node_loses_what_a_bad_field_says_and_no_more() {
        let whole = json!({
            "bgp": {"ipv4Address": "192.0.2.1/24", "ipv6Address": "fd00::1/64", "asNumber": "64512"},
            "ipv4VXLANTunnelAddr": "10.0.0.1", "vxlanTunnelMACAddr": "66:00:00:00:00:01",
            "addresses": [{"address": "192.0.2.1", "type": "InternalIP"}],
        });
        let of = |spec: &Value| {
            let node = salvaged(Kind::Node, spec.clone()).unwrap();
            let node: Object<NodeSpec> = node.try_into().unwrap();
            assert_eq!(node.metadata.labels, BTreeMap::from([("l".into(), "v".into())]));
            node.spec
        };
        let good = of(&whole);
        let bgp = good.bgp.clone().unwrap();
        assert_eq!(
            (bgp.ipv4_address.as_str(), good.ipv4_vxlan_tunnel_addr.as_str()),
            ("192.0.2.1/24", "10.0.0.1")
        );
        for (pointer, lost) in [
            ("/bgp/ipv4Address", {
                let mut lost = good.clone();
                lost.bgp.as_mut().unwrap().ipv4_address.clear();
                lost
            }),
            (
                "/ipv4VXLANTunnelAddr",
                NodeSpec {
                    ipv4_vxlan_tunnel_addr: String::new(),
                    ..good.clone()
                },
            ),
            (
                "/bgp",
                NodeSpec {
                    bgp: None,
                    ..good.clone()
                },
            ),
            (
                "/addresses/0",
                NodeSpec {
                    addresses: Vec::new(),
                    ..good.clone()
                },
            ),
        ] {
            let mut bad = whole.clone();
            *bad.pointer_mut(pointer).unwrap() = json!(5);
            assert_eq!(of(&bad), lost, "{pointer}");
        }
    }

    #[test]
    fn a_block_loses_the_entries_that_cannot_be_read() {
        let block = |change: &dyn Fn(&mut Value)| -> Option<IpamBlockSpec> {
            let mut spec = json!({"cidr": "10.0.0.0/30", "affinity": "host:n1", "allocations": [0, 1, null, null],
                "unallocated": [2, 3], "sequenceNumber": 3, "deleted": false,
                "attributes": [{"handle_id": "a", "secondary": {"node": "n1"}}, {"handle_id": "b", "secondary": {"node": "n2"}}]});
            change(&mut spec);
            let block: Object<IpamBlockSpec> = salvaged(Kind::IpamBlock, spec)?.try_into().unwrap();
            Some(block.spec)
        };
        let whole = block(&|_| ()).unwrap();
        assert_eq!(
            (
                whole.allocations[1],
                whole.attributes[1].secondary["node"].as_str()
            ),
            (Some(1), "n2")
        );
        let handle = block(&|s| s["attributes"][0]["handle_id"] = json!(5)).unwrap();
        assert_eq!(
            (&handle.attributes[0].handle_id, &handle.attributes[1]),
            (&None, &whole.attributes[1])
        );
        assert_eq!(handle.attributes[0].secondary["node"], "n1");
        let pod = block(&|s| s["attributes"][1]["secondary"]["pod"] = json!(7)).unwrap();
        assert_eq!(pod, whole);
        let text = block(&|s| s["allocations"][0] = json!("0")).unwrap();
        assert_eq!(text.allocations, [None, Some(1), None, None]);
        let listed = block(&|s| s["attributes"][0] = json!(["a"])).unwrap();
        assert_eq!(
            (&listed.attributes[0], &listed.attributes[1]),
            (&AllocationAttribute::default(), &whole.attributes[1])
        );
        assert_eq!(block(&|s| s["cidr"] = json!(5)), None);
    }

    #[test]
    fn what_can_be_read_of_other_kinds_is() {
        let Some(Resource::GlobalNetworkSet(set)) =
            salvaged(Kind::GlobalNetworkSet, json!({"nets": ["10.0.0.0/8", 5]}))
        else {
            panic!()
        };
        assert_eq!(set.spec.nets, ["10.0.0.0/8"]);
        assert_eq!(set.metadata.labels, BTreeMap::from([("l".into(), "v".into())]));
        let Some(Resource::HostEndpoint(host)) = salvaged(
            Kind::HostEndpoint,
            json!({"node": "n", "interfaceName": "eth0", "ports": [{"port": 70000}]}),
        ) else {
            panic!()
        };
        assert_eq!(
            (host.spec.interface_name.as_str(), host.spec.ports.len()),
            ("eth0", 0)
        );
        let tier = |spec| match salvaged(Kind::Tier, spec) {
            Some(Resource::Tier(t)) => Some((t.spec.order, t.spec.default_action)),
            _ => None,
        };
        let deny = Some(TierDefaultAction::Deny);
        assert_eq!(
            tier(json!({"order": 5, "defaultAction": "Drop"})),
            Some((Some(5.0), deny))
        );
        assert_eq!(tier(json!({"order": "first"})), None);
        let Some(Resource::Profile(profile)) =
            salvaged(Kind::Profile, json!({"labelsToApply": {"a": "b"}, "ingress": 5}))
        else {
            panic!()
        };
        assert_eq!(
            (profile.spec.labels_to_apply.len(), profile.spec.ingress),
            (1, deny_all())
        );
        assert_eq!(salvaged(Kind::HostEndpoint, json!({"node": 5})), None);
        assert_eq!(salvaged(Kind::BgpPeer, json!({})), None);
    }
}
