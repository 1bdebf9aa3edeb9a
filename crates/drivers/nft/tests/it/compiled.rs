//! What the compiler makes is what the kernel takes.

use std::sync::Arc;

use caracal_api::{Action, EncapMode, TierDefaultAction};
use caracal_desired::{Delta, Policy, Pool, Rule, TierPolicies, Vtep, WorkloadEndpoint};
use caracal_ids::{NodeName, PolicyId, PolicyKind, TierName, WorkloadId};
use caracal_net::{Family, PerFamily, PortRange, Proto};
use caracal_rules::{Compiler, RulesConfig, ir::render};
use caracal_testkit::{needs, netns};

use super::kit::*;

fn policy(port: u16) -> Delta {
    let mut rule = Rule::new(Action::Allow);
    rule.protocol = Some(Proto::TCP);
    rule.dst.ports = vec![PortRange::single(port)];
    Delta::Policy(Arc::new(Policy {
        id: PolicyId::namespaced(PolicyKind::NetworkPolicy, "shop", "web"),
        tier: TierName::new("default").expect("a name"),
        ingress: vec![Rule::new(Action::Log), rule],
        egress: vec![Rule::new(Action::Allow)],
        untracked: false,
        pre_dnat: false,
    }))
}

fn world() -> Vec<Delta> {
    let web = PolicyId::namespaced(PolicyKind::NetworkPolicy, "shop", "web");
    let addresses = PerFamily {
        v4: vec!["10.65.0.1/32"],
        v6: vec!["fd00:65::1/128"],
    };
    let pool = |cidr: &str| {
        Delta::Pool(Pool {
            cidr: cidr.parse().expect("a prefix"),
            nat_outgoing: true,
            vxlan: EncapMode::Always,
            ipip: EncapMode::Never,
        })
    };
    vec![
        policy(80),
        Delta::Workload(Arc::new(WorkloadEndpoint {
            id: WorkloadId::new("shop", "web-1"),
            interface: "cali1111".into(),
            container_id: "".into(),
            mac: None,
            addresses: addresses.map(|_, a| a.iter().map(|a| a.parse().expect("a prefix")).collect()),
            nats: vec![],
            allowed_sources: vec![],
            tiers: vec![TierPolicies {
                name: TierName::new("default").expect("a name"),
                default_action: TierDefaultAction::Deny,
                ingress: vec![web.clone()],
                egress: vec![web],
            }],
            profiles: vec![],
            qos: None,
        })),
        pool("10.64.0.0/10"),
        pool("fd00:65::/48"),
        Delta::Vtep(Vtep {
            node: NodeName::new("node-2").expect("a name"),
            mac: PerFamily::default(),
            tunnel_addr: PerFamily::default(),
            underlay: PerFamily {
                v4: Some("172.30.0.2".parse().expect("an address")),
                v6: Some("fd00::2".parse().expect("an address")),
            },
        }),
    ]
}

#[test]
fn netns_compiled_tables_load_and_change() {
    netns!();
    needs!("nft");
    let mut compiler = Compiler::new(RulesConfig::default());
    compiler.apply_all(&world());
    let tables = compiler.full_state();
    let mut driver = open();
    let report = driver
        .start(tables.clone(), &token())
        .expect("the kernel takes it");
    assert_eq!(report.problems, []);
    let by_driver = ruleset().replace("\tcomment \"caracal, layout 1\"\n", "");
    driver.cleanup().expect("all is ours");
    for (family, table) in tables.iter() {
        script(&render(family, "caracal", table));
    }
    assert_eq!(
        objects(&by_driver),
        objects(&ruleset()),
        "the text means the same"
    );
    nft(&["flush", "ruleset"]);
    driver.start(tables, &token()).expect("the kernel takes it");

    compiler.apply(&policy(81));
    let report = driver.apply(compiler.flush(), &token()).expect("a change");
    assert_eq!((report.batches, report.loads), (1, 0), "{report:?}");
    assert_eq!(report.problems, []);
    assert!(
        report.messages <= 4,
        "a rule and its fellow in the other family: {report:?}"
    );
    assert_eq!(driver.desired(Family::V6), &compiler.full_state().v6);
    wrote(
        &open().start(compiler.full_state(), &token()).expect("a restart"),
        0,
    );
}
