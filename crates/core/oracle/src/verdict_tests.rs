use std::sync::Arc;

use caracal_desired::{IcmpMatch, IpSet, IpSetKind, IpSetMember, Policy, Profile, Side};
use caracal_ids::{IpSetId, PolicyId, PolicyKind, WorkloadId};
use caracal_net::{Cidr, Family, PerFamily, PortRange, Proto};

use super::*;
use crate::Criterion;

fn policy(name: &str, ingress: Vec<Rule>) -> Policy {
    Policy {
        id: PolicyId::global(PolicyKind::GlobalNetworkPolicy, name),
        tier: TierName::default_tier(),
        ingress,
        egress: vec![],
        untracked: false,
        pre_dnat: false,
    }
}

fn tier(name: &str, action: TierDefaultAction, ids: &[PolicyId]) -> TierPolicies {
    TierPolicies {
        name: TierName::new(name).unwrap(),
        default_action: action,
        ingress: ids.to_vec(),
        egress: vec![],
    }
}

fn endpoint(tiers: Vec<TierPolicies>, profiles: &[&str]) -> WorkloadEndpoint {
    WorkloadEndpoint {
        id: WorkloadId::new("default", "w"),
        interface: "cali1".into(),
        container_id: "c".into(),
        mac: None,
        addresses: PerFamily::default(),
        nats: vec![],
        allowed_sources: vec![],
        tiers,
        profiles: profiles.iter().map(|p| ProfileName::new(p).unwrap()).collect(),
        qos: None,
    }
}

fn state(policies: Vec<Policy>) -> Desired {
    let mut d = Desired::default();
    for p in policies {
        d.policies.insert(p.id.clone(), Arc::new(p));
    }
    let allow = Profile {
        name: ProfileName::new("allow").unwrap(),
        ingress: vec![Rule::new(Action::Allow)],
        egress: vec![Rule::new(Action::Allow)],
    };
    d.profiles.insert(allow.name.clone(), Arc::new(allow));
    d
}

fn tcp(port: u16) -> Packet {
    Packet::with_ports(
        "10.0.0.1".parse().unwrap(),
        "10.0.0.2".parse().unwrap(),
        Proto::TCP,
        40000,
        port,
    )
}

fn ingress(d: &Desired, e: &WorkloadEndpoint, p: &Packet) -> Decision {
    decide(d, e, Direction::Ingress, p)
}

fn rule(action: Action, change: impl FnOnce(&mut Rule)) -> Rule {
    let mut r = Rule::new(action);
    change(&mut r);
    r
}

#[test]
fn the_first_matching_rule_across_policies_decides() {
    let a = policy(
        "a",
        vec![rule(Action::Allow, |r| {
            r.dst.ports = [PortRange::single(80)].into()
        })],
    );
    let b = policy("b", vec![Rule::new(Action::Deny)]);
    let ids = [a.id.clone(), b.id.clone()];
    let d = state(vec![a, b]);
    let e = endpoint(vec![tier("default", TierDefaultAction::Deny, &ids)], &["allow"]);
    assert_eq!(ingress(&d, &e, &tcp(80)).verdict, Verdict::Allowed);
    let denied = ingress(&d, &e, &tcp(81));
    assert_eq!(denied.verdict, Verdict::Blocked);
    assert_eq!(
        denied.by,
        Decider::Rule(RuleSource::Policy(TierName::default_tier(), ids[1].clone()), 0)
    );
    assert!(matches!(
        denied.path[0],
        Step::Missed(_, 0, Criterion::DestinationPorts)
    ));
}

#[test]
fn the_end_of_a_tier_acts_only_where_it_governs() {
    let a = policy("a", vec![]);
    let id = a.id.clone();
    let d = state(vec![a]);
    let deny = endpoint(
        vec![tier("t", TierDefaultAction::Deny, std::slice::from_ref(&id))],
        &["allow"],
    );
    assert_eq!(ingress(&d, &deny, &tcp(1)).verdict, Verdict::Blocked);
    // The policy governs ingress only: egress goes on to the profiles.
    assert_eq!(
        decide(&d, &deny, Direction::Egress, &tcp(1)).verdict,
        Verdict::Allowed
    );
    let pass = endpoint(vec![tier("t", TierDefaultAction::Pass, &[id])], &["allow"]);
    assert_eq!(ingress(&d, &pass, &tcp(1)).verdict, Verdict::Allowed);
}

#[test]
fn pass_skips_the_rest_of_the_tier_and_staged_policies_count_for_nothing() {
    let a = policy("a", vec![Rule::new(Action::Pass), Rule::new(Action::Deny)]);
    let id = a.id.clone();
    let d = state(vec![a]);
    let e = endpoint(vec![tier("t", TierDefaultAction::Deny, &[id])], &["allow"]);
    assert_eq!(ingress(&d, &e, &tcp(1)).verdict, Verdict::Allowed);
    let staged = PolicyId::global(PolicyKind::StagedGlobalNetworkPolicy, "s");
    let e = endpoint(vec![tier("t", TierDefaultAction::Deny, &[staged])], &["allow"]);
    assert_eq!(ingress(&d, &e, &tcp(1)).verdict, Verdict::Allowed);
}

#[test]
fn log_goes_on() {
    let a = policy("a", vec![Rule::new(Action::Log), Rule::new(Action::Allow)]);
    let id = a.id.clone();
    let d = state(vec![a]);
    let e = endpoint(vec![tier("t", TierDefaultAction::Deny, &[id])], &[]);
    let got = ingress(&d, &e, &tcp(1));
    assert_eq!(got.verdict, Verdict::Allowed);
    assert!(matches!(got.path[0], Step::Matched(_, 0, Action::Log)));
}

#[test]
fn what_is_missing_blocks() {
    let d = state(vec![]);
    let gone = PolicyId::global(PolicyKind::GlobalNetworkPolicy, "gone");
    let e = endpoint(vec![tier("t", TierDefaultAction::Pass, &[gone])], &["allow"]);
    assert_eq!(ingress(&d, &e, &tcp(1)).verdict, Verdict::Blocked);
    assert_eq!(
        ingress(&d, &endpoint(vec![], &["nope", "allow"]), &tcp(1)).verdict,
        Verdict::Blocked
    );
    assert_eq!(
        ingress(&d, &endpoint(vec![], &[]), &tcp(1)).verdict,
        Verdict::Blocked
    );
    for side in [
        Side {
            ip_sets: [IpSetId::new("s:none")].into(),
            ..Side::default()
        },
        Side {
            not_ip_sets: [IpSetId::new("s:none")].into(),
            ..Side::default()
        },
    ] {
        let r = rule(Action::Allow, |r| r.src = side);
        assert!(mismatch(&d, &r, &tcp(1)).is_some());
    }
}

#[test]
fn nets_of_the_other_family_switch_the_rule_off() {
    let d = state(vec![]);
    let cidr = |s: &str| s.parse::<Cidr>().unwrap();
    let only_v6 = rule(Action::Allow, |r| r.src.not_nets = [cidr("fd00::/8")].into());
    assert_eq!(mismatch(&d, &only_v6, &tcp(1)), Some(Criterion::IpVersion));
    let both = rule(Action::Allow, |r| {
        r.src.not_nets = [cidr("fd00::/8"), cidr("192.168.0.0/16")].into()
    });
    assert_eq!(mismatch(&d, &both, &tcp(1)), None);
    let all = rule(Action::Allow, |r| r.dst.not_nets = [cidr("0.0.0.0/0")].into());
    assert_eq!(mismatch(&d, &all, &tcp(1)), Some(Criterion::IpVersion));
    let v6 = rule(Action::Allow, |r| r.family = Some(Family::V6));
    assert_eq!(mismatch(&d, &v6, &tcp(1)), Some(Criterion::IpVersion));
}

#[test]
fn named_and_numeric_ports_are_one_criterion() {
    let mut d = state(vec![]);
    let id = IpSetId::new("n:http");
    let member = IpSetMember::IpPort("10.0.0.2".parse().unwrap(), Proto::TCP, 8080);
    d.ip_sets.insert(
        id.clone(),
        IpSet {
            kind: IpSetKind::IpPort,
            members: [member].into(),
            about: "".into(),
        },
    );
    let r = rule(Action::Allow, |r| {
        r.protocol = Some(Proto::TCP);
        r.dst.ports = [PortRange { first: 1, last: 2 }].into();
        r.dst.named_ports = [id].into();
    });
    assert_eq!(mismatch(&d, &r, &tcp(2)), None);
    assert_eq!(mismatch(&d, &r, &tcp(8080)), None);
    assert_eq!(mismatch(&d, &r, &tcp(3)), Some(Criterion::DestinationPorts));
}

#[test]
fn icmp_by_type_and_code() {
    let d = state(vec![]);
    let mut ping = tcp(0);
    ping.proto = Proto::ICMP;
    ping.icmp = Some((8, 0));
    let r = rule(Action::Allow, |r| {
        r.icmp = Some(IcmpMatch {
            icmp_type: 8,
            code: None,
        })
    });
    assert_eq!(mismatch(&d, &r, &ping), None);
    let r = rule(Action::Allow, |r| {
        r.icmp = Some(IcmpMatch {
            icmp_type: 8,
            code: Some(1),
        })
    });
    assert_eq!(mismatch(&d, &r, &ping), Some(Criterion::Icmp));
    let r = rule(Action::Allow, |r| {
        r.not_icmp = Some(IcmpMatch {
            icmp_type: 8,
            code: None,
        })
    });
    assert_eq!(mismatch(&d, &r, &ping), Some(Criterion::NotIcmp));
    assert_eq!(mismatch(&d, &r, &tcp(1)), Some(Criterion::NotIcmp));
}
