//! The example of `docs/design/ruleset.md` is what the compiler makes.

use std::sync::Arc;

use caracal_api::{Action, EncapMode, TierDefaultAction};
use caracal_desired::{
    Delta, IpSet, IpSetKind, IpSetMember, Policy, Pool, Profile, Rule, TierPolicies, Vtep, WorkloadEndpoint,
};
use caracal_ids::{IpSetId, NodeName, PolicyId, PolicyKind, ProfileName, TierName, WorkloadId};
use caracal_net::{Family, PerFamily, PortRange, Proto};
use caracal_rules::{Compiler, RulesConfig, ir::render};

const PAGE: &str = include_str!("../../../../../docs/design/ruleset.md");

fn gnp(name: &str) -> PolicyId {
    PolicyId::global(PolicyKind::GlobalNetworkPolicy, name)
}

fn policy(id: PolicyId, tier: &str, ingress: Vec<Rule>, egress: Vec<Rule>) -> Delta {
    Delta::Policy(Arc::new(Policy {
        id,
        tier: TierName::new(tier).unwrap(),
        ingress,
        egress,
        untracked: false,
        pre_dnat: false,
    }))
}

fn tcp(action: Action, first: u16, last: u16) -> Rule {
    let mut rule = Rule::new(action);
    rule.protocol = Some(Proto::TCP);
    rule.dst.ports = [PortRange { first, last }].into();
    rule
}

fn pod(name: &str, interface: &str, addresses: PerFamily<Vec<&str>>) -> Delta {
    let tier = |name: &str, default_action, ingress: &[PolicyId]| TierPolicies {
        name: TierName::new(name).unwrap(),
        default_action,
        ingress: ingress.to_vec(),
        egress: vec![],
    };
    let web = PolicyId::namespaced(PolicyKind::NetworkPolicy, "shop", "web");
    Delta::Workload(Arc::new(WorkloadEndpoint {
        id: WorkloadId::new("shop", name),
        interface: interface.into(),
        container_id: "".into(),
        mac: None,
        addresses: addresses.map(|_, a| a.iter().map(|a| a.parse().unwrap()).collect()),
        nats: vec![],
        allowed_sources: vec![],
        tiers: vec![
            tier("security", TierDefaultAction::Pass, &[gnp("quarantine")]),
            tier("default", TierDefaultAction::Deny, &[web, gnp("monitoring")]),
        ],
        profiles: vec![ProfileName::new("kns.shop").unwrap()],
        qos: None,
    }))
}

fn example() -> Vec<Delta> {
    let mut bad = Rule::new(Action::Deny);
    bad.src.nets = [
        "192.0.2.0/24".parse().unwrap(),
        "198.51.100.0/24".parse().unwrap(),
    ]
    .into();
    let mut from_frontend = tcp(Action::Allow, 8080, 8080);
    let frontend = IpSetId::new("s:frontend");
    from_frontend.src.ip_sets = [frontend.clone()].into();
    let mut ping = Rule::new(Action::Allow);
    ping.protocol = Some(Proto::ICMP);
    ping.family = Some(Family::V4);
    ping.icmp = Some(caracal_desired::IcmpMatch {
        icmp_type: 8,
        code: None,
    });
    let members = ["10.65.1.7/32", "10.65.2.9/32", "fd00:65::7/128"];
    let members = members.map(|m| IpSetMember::Net(m.parse().unwrap()));
    let web = PolicyId::namespaced(PolicyKind::NetworkPolicy, "shop", "web");
    vec![
        Delta::IpSet(
            frontend,
            IpSet {
                kind: IpSetKind::Net,
                members: members.into(),
                about: "role == \"frontend\"".into(),
            },
        ),
        policy(
            gnp("quarantine"),
            "security",
            vec![Rule::new(Action::Log), bad],
            vec![],
        ),
        policy(
            web,
            "default",
            vec![from_frontend, tcp(Action::Allow, 9000, 9009)],
            vec![],
        ),
        policy(
            gnp("monitoring"),
            "default",
            vec![tcp(Action::Allow, 9100, 9100), ping],
            vec![],
        ),
        Delta::Profile(Arc::new(Profile {
            name: ProfileName::new("kns.shop").unwrap(),
            ingress: vec![Rule::new(Action::Allow)],
            egress: vec![Rule::new(Action::Allow)],
        })),
        pod(
            "web-1",
            "cali1111",
            PerFamily {
                v4: vec!["10.65.0.1/32"],
                v6: vec!["fd00:65::1/128"],
            },
        ),
        pod(
            "web-2",
            "cali2222",
            PerFamily {
                v4: vec!["10.65.0.2/32"],
                v6: vec![],
            },
        ),
        Delta::Pool(Pool {
            cidr: "10.64.0.0/10".parse().unwrap(),
            nat_outgoing: true,
            vxlan: EncapMode::Always,
            ipip: EncapMode::Never,
        }),
        Delta::Vtep(Vtep {
            node: NodeName::new("node-2").unwrap(),
            mac: PerFamily::default(),
            tunnel_addr: PerFamily::default(),
            underlay: PerFamily {
                v4: Some("172.30.0.2".parse().unwrap()),
                v6: None,
            },
        }),
    ]
}

#[test]
fn the_page_shows_what_is_made() {
    let mut compiler = Compiler::new(RulesConfig::default());
    compiler.apply_all(&example());
    let tables = compiler.full_state();
    let shown = tables
        .iter()
        .map(|(family, table)| format!("```text\n{}```\n", render(family, "caracal", table)));
    let missing: Vec<String> = shown
        .filter(|text| !PAGE.replace("    ", "\t").contains(&text.replace("    ", "\t")))
        .collect();
    assert!(
        missing.is_empty(),
        "the page does not show:\n{}",
        missing.join("\n")
    );
}
